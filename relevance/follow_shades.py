"""Relations of colours and materials: the same, of the family, near; and how much of the item they cover."""

from __future__ import annotations

from dataclasses import replace

from lore_mm.knowledge import Knowledge
from lore_mm.text import singular, tokens
from lore_mm.types import Demand
from relevance.construct import Step
from relevance.evidence import Found, ItemView
from relevance.findings import UNSTATED, Finding, best, unstated, wanted
from relevance.follow_numbers import deviation, pieces_of
from relevance.priority import believed

__all__ = ["color", "color_relation", "material", "material_relation"]


def color_relation(want: str, have: str, knowledge: Knowledge) -> str:
    """The relation of one colour name to another, by family and neighbourhood.

    A base colour is its own family: it takes every shade (member). A shade is near its neighbours, answered
    by its base colour with a tolerance (base), and otherwise unlike the rest of its family (family).
    """
    if want == have:
        return "exact"
    one, other = knowledge.colors.get(want), knowledge.colors.get(have)
    if one is None or other is None:
        return "other"
    if other.family == want:
        return "member"
    if have in one.near or want in other.near:
        return "near"
    if one.family == have:
        return "base"
    return "family" if one.family == other.family else "other"


def color(step: Step, view: ItemView, knowledge: Knowledge) -> Finding:
    """The item's colours against the demanded one. Several colours: the nearest counts, with the share it covers."""
    demand = step.demand
    here = _shown(view, knowledge)
    findings = []
    for want in wanted(demand):
        for found in here:
            if found.negated:
                continue
            relation = color_relation(want, found.value, knowledge)
            share = _area(want, relation, found, here, knowledge)
            rest = None if share is None else max(0.0, 1.0 - share)
            if share is not None and relation in ("exact", "member") and _covers_a_piece(share, view):
                relation = "on_a_piece"
            findings.append(Finding.of(relation, found, _color_reason(demand.value, relation, found, share), rest))
    return _nearest_shade(findings) or unstated(demand)


def _shown(view: ItemView, knowledge: Knowledge) -> tuple[Found, ...]:
    """The item's colours, by whom they are believed: the seller's field before pictures, pictures before words."""
    if "color" not in view.believed:

        def disagree(one: str, other: str) -> bool:
            return color_relation(one, other, knowledge) == "other" == color_relation(other, one, knowledge)

        view.believed["color"] = believed(view.stated("color") or view.mentioned("color"), "color", disagree)
    return view.believed["color"]


_MANY = 10  # pieces; of more, a colour that covers half of one is not told from a speck


def _covers_a_piece(share: float, view: ItemView) -> bool:
    """True where a colour covers less than half of a set, but as much as half of one of its pieces."""
    if share >= 0.5:
        return False
    pieces = max((2.0 if f.number is None else f.number for f in pieces_of(view) if f.value != "single"), default=1.0)
    return share * min(pieces, _MANY) >= 0.5


def _nearest_shade(findings: list[Finding]) -> Finding | None:
    """The nearest colour; a colour that is only a speck gives way to a neighbouring shade that covers the item."""
    covering = [f for f in findings if f.deviation is None or f.deviation <= 0.8]
    near_enough = [f for f in covering if f.relation not in ("family", "other")]
    return best(near_enough) or best(findings)


def _area(want: str, relation: str, found: Found, here: tuple[Found, ...], knowledge: Knowledge) -> float | None:
    """The share of the item that shows the demanded colour; None where the seller names it, or nobody measured."""
    if relation not in ("exact", "member", "base", "near") or found.share is None:
        return None
    if any(e.source.startswith("given") or e.source == "title" for e in found.evidence):
        return None
    if relation != "member":
        return found.share
    shades = {f.value: f.share for f in here if color_relation(want, f.value, knowledge) in ("exact", "member")}
    return min(1.0, sum(share for share in shades.values() if share is not None))


def _color_reason(value: str, relation: str, found: Found, share: float | None) -> str:
    if share is not None:
        what = {"exact": found.value, "member": f"shades of {value}"}.get(relation, found.value)
        return f"asks for {value}; the picture shows {what} on {share:.0%} of it"
    source = "the picture shows" if found.seen else "it is"
    return {
        "exact": f"asks for {value}; {source} {found.value}",
        "member": f"asks for {value}; {found.value} is a shade of it",
        "near": f"asks for {value}; {source} {found.value}, a neighbouring shade",
        "base": f"asks for {value}; {source} {found.value}, its base colour",
        "family": f"asks for {value}; {source} {found.value}, another shade of the family",
    }.get(relation, f"asks for {value}; {source} {found.value}")


def material_relation(want: str, have: str, knowledge: Knowledge) -> str:
    """The relation of one material to another, by umbrella words and kinship."""
    if want == have:
        return "exact"
    one, other = knowledge.materials.get(want), knowledge.materials.get(have)
    if one is None or other is None:
        return "other"
    if want in _umbrellas(have, knowledge):
        return "member"
    if have in _umbrellas(want, knowledge):
        return "base"
    return "kin" if have in one.kin or want in other.kin else "other"


def _umbrellas(name: str, knowledge: Knowledge) -> set[str]:
    """The umbrella words above a material, through all steps; circles are harmless."""
    above: set[str] = set()
    waiting = list(knowledge.materials[name].umbrella)
    while waiting:
        one = waiting.pop()
        if one not in above:
            above.add(one)
            waiting.extend(knowledge.materials[one].umbrella)
    return above


def material(step: Step, view: ItemView, knowledge: Knowledge) -> Finding:
    """What the item is made of against the demanded material, with the stated fraction where there is one."""
    demand = step.demand
    findings = []
    for want in wanted(demand):
        for found in _made_of(view, knowledge):
            relation = material_relation(want, found.value, knowledge)
            rest = None if found.share is None else max(0.0, 1.0 - found.share)
            shared = relation == "exact" or (relation == "member" and rest is not None)
            if shared and "share" in (demand.unit, demand.op):
                relation, rest = _by_share(demand, found, view, knowledge)
            findings.append(Finding.of(relation, found, _material_reason(demand.value, relation, found), rest))
    nearest = best(findings)
    if nearest is None or nearest.relation in _NOT_IT:
        nearest = _in_its_name(step, view, knowledge) or nearest
    if demand.op == "at_most" and (nearest is None or nearest.relation in _NOT_IT):
        return Finding("within", f"asks for {demand.value}; nothing says that it has any", confidence=UNSTATED)
    return nearest or unstated(demand)


_NOT_IT = frozenset(("base", "kin", "other"))
_IN_NAME = 0.7  # how far the name of a kind is believed about what the thing is made of


def _in_its_name(step: Step, view: ItemView, knowledge: Knowledge) -> Finding | None:
    """A material that the title names as part of a kind's name: leather in "Leather Jacket with cotton lining"."""
    for found in view.mentioned("category", title_only=True):
        words = {singular(t.text) for t in tokens(found.quote)} if " " in found.quote else set()
        for want in wanted(step.demand) if words else ():
            entry = knowledge.materials.get(want)
            for text in (want, *(entry.terms if entry else ())):
                if {singular(t.text) for t in tokens(text)} < words:
                    reason = f"asks for {step.demand.value}; it is called {found.quote!r}"
                    return Finding("exact", reason, (want,), found.evidence, found.confidence * _IN_NAME)
    return None


def _made_of(view: ItemView, knowledge: Knowledge) -> tuple[Found, ...]:
    """The item's materials, by whom it is believed: its text before the seller's field."""
    if "material" not in view.believed:

        def disagree(one: str, other: str) -> bool:
            same = ("exact", "member", "base")
            return material_relation(one, other, knowledge) not in same

        here = [f for f in view.stated("material") or view.mentioned("material") if not f.negated]
        view.believed["material"] = believed(here, "material", disagree)
    return view.believed["material"]


_SMALL_WEAR = ("socks", "tights")  # not made without some elastic thread


def _by_share(demand: Demand, found: Found, view: ItemView, knowledge: Knowledge) -> tuple[str, float | None]:
    """The relation and deviation where a share of the material is demanded: all of it, or so much."""
    if demand.op == "share" and (demand.number is None or demand.number >= 1.0):
        kinds = [f.value for f in view.categories if f.value in knowledge.categories]
        small = any(knowledge.is_a(kind, one) for kind in kinds for one in _SMALL_WEAR)
        return "pure_small" if small else "pure", None if found.share is None else max(0.0, 1.0 - found.share)
    if found.share is None:
        return "exact", None
    least = replace(demand, op="at_least") if demand.op == "share" else demand
    miss = deviation(least, found.share)
    return ("within" if miss == 0.0 else "deviates"), miss


def _material_reason(value: str, relation: str, found: Found) -> str:
    source = "the picture shows" if found.seen else "it is"
    if found.share is not None:
        return f"asks for {value}; {source} {found.share:.0%} {found.value}"
    return {
        "exact": f"asks for {value}; {source} {found.value}",
        "pure": f"asks for {value}; {source} {found.value}, of no stated share",
        "pure_small": f"asks for {value}; {source} {found.value}, of no stated share",
        "member": f"asks for {value}; {found.value} is one",
        "base": f"asks for {value}; {source} {found.value}, which may be that",
        "kin": f"asks for {value}; {source} {found.value}, a related material",
    }.get(relation, f"asks for {value}; {source} {found.value}")
