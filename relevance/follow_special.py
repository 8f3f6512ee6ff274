"""Relations of three dimensions that no table orders by itself: ages in years, parts and accessories, and shops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from lore_mm.knowledge import Knowledge
from lore_mm.types import Demand, Evidence
from lore_mm.values import find_quantities
from relevance.construct import Step
from relevance.evidence import Found, ItemView
from relevance.findings import UNSTATED, Finding, best, unstated, wanted
from relevance.follow_numbers import deviation
from relevance.follow_terms import term
from relevance.follow_trees import goes_with, mains_of

__all__ = ["audience", "component", "store"]

_STAGES = (0.0, 1.0, 3.0, 6.0, 12.0, float("inf"))  # years at which one stage ends and the next begins (LORE §10.3)
_OPEN = 120.0  # years: no upper end


def audience(step: Step, view: ItemView, knowledge: Knowledge) -> Finding:
    """Whom it is for: an age in years where both sides state one, else by the audience terms."""
    demand = step.demand
    if demand.number is not None and demand.unit == "years":
        aged = best(_age(demand, found) for found in _ages(view))
        if aged is not None:
            return aged
    finding = term(step, view, knowledge)
    if finding.relation == "unstated":
        return _plain(demand, view, knowledge) or finding
    if finding.relation in ("contradicts", "far_stage"):
        return _large_enough(demand, finding, view, knowledge) or finding
    return finding


def _plain(demand: Demand, view: ItemView, knowledge: Knowledge) -> Finding | None:
    """A thing for nobody in particular, where things are made for the group: a toothbrush is no child's toothbrush."""
    groups = [t for want in wanted(demand) if (t := knowledge.terms.get(("audience", want)))]
    for kind in view.categories:
        if any(knowledge.is_a(kind.value, made) for group in groups for made in group.dedicated):
            reason = f"asks for {demand.value}; nothing says so, and a {kind.value.replace('_', ' ')} for them would"
            return Finding("plain", reason, confidence=UNSTATED)
    return None


# Body heights in cm at which children's sizes reach grown-ups (LORE §10.3).
_GROWN: Mapping[str, float] = MappingProxyType({"women": 160.0, "men": 170.0, "adults": 160.0})
_CHILDREN = frozenset(("kids", "boys", "girls"))
_TALLEST = 200.0


def _large_enough(demand: Demand, finding: Finding, view: ItemView, knowledge: Knowledge) -> Finding | None:
    """Children's clothes in sizes, by the height of the wearer, that the grown-ups asked for can wear."""
    heights = [_GROWN[want] for want in wanted(demand) if want in _GROWN]
    if not heights or not _CHILDREN.intersection(finding.found):
        return None
    if not any(knowledge.is_a(kind.value, "clothing") for kind in view.categories):
        return None
    for source, q in view.quantities:
        high = q.number if q.number_high is None else q.number_high
        if q.unit == "cm" and min(heights) <= high <= _TALLEST:
            reason = f"asks for {demand.value}; it is for {finding.found[0]}, in sizes up to {q.text}"
            place = Evidence(source, q.text, q.start, q.end)
            return Finding("sizes_reach", reason, (q.text,), (place, *finding.evidence), finding.confidence)
    return None


def _ages(view: ItemView) -> list[Found]:
    stated = [f for f in view.stated("audience") if f.number is not None and f.attribute == "age"]
    return [_as_written(f) for f in stated] or [
        Found(
            value=q.text,
            attribute="age",
            number=q.number,
            number_high=q.number_high if q.op != "at_least" else _OPEN,
            unit=q.unit,
            evidence=(Evidence(source, q.text, q.start, q.end),),
            confidence=0.9 if source == "title" else 0.7,
        )
        for source, q in view.quantities
        if q.kind == "age"
    ]


def _as_written(found: Found) -> Found:
    """An age with the upper end that its words have ("6-8", "3+"): the attribute is only where it begins."""
    if found.number_high is not None:
        return found
    for q in (*find_quantities(found.quote), *find_quantities(f"ages {found.quote}")):  # a field may hold a bare "6-8"
        if q.number == found.number and (q.number_high is not None or q.op == "at_least"):
            return replace(found, value=found.quote, number_high=_OPEN if q.op == "at_least" else q.number_high)
    return found


def _age(demand: Demand, found: Found) -> Finding:
    assert demand.number is not None and found.number is not None
    high = found.number if found.number_high is None else found.number_high
    reason = f"asks for {demand.value}; it is for {found.value}"
    if deviation(demand, found.number, high) == 0.0:
        return Finding.of("exact", found, reason)
    asked = _stages(demand.number, demand.number if demand.number_high is None else demand.number_high)
    too_young = high >= _OPEN and demand.number < found.number  # "3+" says that it is not for younger ones
    same = not too_young and asked & _stages(found.number, high)
    return Finding.of("near_stage" if same else "far_stage", found, reason)


def _stages(low: float, high: float) -> set[int]:
    """The stages that an age or a range of ages touches; who is 6 ends one and begins the next."""
    return {i for i in range(len(_STAGES) - 1) if low <= _STAGES[i + 1] and high >= _STAGES[i]}


def component(step: Step, view: ItemView, knowledge: Knowledge) -> Finding:
    """The thing itself or a part: by what its kind belongs to, then by the words of the item."""
    demand = step.demand
    kinds = [f for f in view.categories if f.value in knowledge.categories]
    hosts = [m.canonical for m in view.scan(demand.value) if m.dimension == "category"]
    if hosts:  # "bag for a laptop": what it should go with
        return goes_with(step, hosts, view, knowledge)
    parts = [found for found in kinds if mains_of(found.value, knowledge)]
    for want in wanted(demand):
        if want == "accessory" and parts:
            return Finding.of("exact", parts[0], f"asks for {demand.value}; it belongs to another thing")
        if want == "main" and kinds and not parts:
            return Finding.of("exact", kinds[0], f"asks for {demand.value}; it is a thing of its own")
    return term(step, view, knowledge)


def store(step: Step, view: ItemView, knowledge: Knowledge) -> Finding:
    """The shop that sells it: the one asked for, another of the item's own brand, or another."""
    demand = step.demand
    here = view.stated("store")
    if not here:
        return unstated(demand)
    found = here[0]
    mentions = view.scan(found.value)
    named = [m.canonical for m in mentions]
    makers = {m.canonical for m in mentions if m.dimension == "brand"}
    own = {f.value for f in view.stated("brand")}
    said = found.value.casefold()
    another = bool(makers) and bool(own) and not makers & own  # the official shop of another maker is not the one
    if not another and any(want in named or want.casefold() in said for want in (*wanted(demand), demand.value)):
        return Finding.of("exact", found, f"asks for {demand.value}; {found.value} sells it")
    if own.intersection(named):
        return Finding.of("brand_store", found, f"asks for {demand.value}; {found.value} is a shop of the brand")
    return Finding(
        "other", f"asks for {demand.value}; {found.value} sells it", (found.value,), found.evidence, UNSTATED
    )
