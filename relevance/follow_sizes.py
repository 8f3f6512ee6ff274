"""Relations of shoe sizes: in one system by their numbers, between EU, UK and US by the length of the foot."""

from __future__ import annotations

from collections.abc import Iterator

from lore_mm.knowledge import Knowledge
from lore_mm.shoe_sizes import SYSTEMS, ShoeSize, foot_lengths, has_shoe_sizes, sizes_apart, system_of, wearer
from lore_mm.types import Evidence
from relevance.construct import Step
from relevance.evidence import Found, ItemView
from relevance.findings import Finding, best

__all__ = ["shoe_size"]

# In sizes, EU ones between systems. A conversion is never exact: what rounds to the same half size meets, one more or
# less is near.
_MEETS, _NEAR = 0.25, 1.0
_PER_CM = 1.5  # EU sizes a cm


def shoe_size(step: Step, view: ItemView, knowledge: Knowledge) -> Finding | None:
    """The nearest of an item's sizes that are not of the very system the demand names; None where there is none.

    A plain number is taken to be of the system beside it where it can be ("size 9" and UK 9), and EU where it is large.
    Whose US size it is tells the item's audience: the query's is compared with it by itself.
    """
    demand = step.demand
    if demand.number is None or demand.op not in ("eq", "range") or not _is_size(demand.unit):
        return None
    if not any(has_shoe_sizes(kind.value, knowledge) for kind in view.categories):
        return None
    high = demand.number if demand.number_high is None else demand.number_high
    asked = ShoeSize(demand.number, high, demand.unit or None)
    audiences = (*view.stated("audience"), *view.mentioned("audience", title_only=True))
    group = wearer(f.value for f in audiences)
    findings = []
    for found in _sizes(view):
        assert found.number is not None
        here = ShoeSize(found.number, found.number_high or found.number, found.unit or None)
        if (demand.unit or None) == here.system:
            continue  # compared by their numbers already
        systems = [system_of(a.low, a.system, group, b.system) for a, b in ((asked, here), (here, asked))]
        same = systems[0] == systems[1]
        apart = _gap(asked, here) if same else sizes_apart(asked, here, group)
        if apart is None:
            continue
        relation = "within" if apart <= _MEETS else "one_step" if apart <= _NEAR else "deviates"
        reason = f"asks for {demand.value}; it has {found.value}"
        if not same:
            off = "the same" if relation == "within" else f"{apart:.1f} EU sizes off"
            reason += f", {off} by the length of the foot"
        base = asked.low if same else foot_lengths(asked.low, asked.system, group)[0] * _PER_CM
        miss = 0.0 if relation == "within" else apart / (base or 1.0)
        findings.append(Finding.of(relation, found, reason, miss))
    return best(findings)


def _gap(one: ShoeSize, other: ShoeSize) -> float:
    """How many sizes lie between two of one system."""
    return max(other.low - one.high, one.low - other.high, 0.0)


def _is_size(unit: str | None) -> bool:
    return not unit or unit in SYSTEMS


def _sizes(view: ItemView) -> Iterator[Found]:
    """The sizes that the item states, then those in its text."""
    yield from (f for f in view.stated("spec") if f.number is not None and _is_size(f.unit))
    for source, q in view.quantities:
        if q.kind in ("size", "shoe_size") and _is_size(q.unit):
            place = (Evidence(source, q.text, q.start, q.end),)
            sure = 0.9 if source == "title" else 0.7
            yield Found(q.text, "size", q.number, q.unit, evidence=place, confidence=sure, number_high=q.number_high)
