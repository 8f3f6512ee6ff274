"""Relations of colours and materials: the same, of the family, near; and how much of the item they cover."""

from __future__ import annotations

from lore_mm.knowledge import Knowledge
from relevance.construct import Step
from relevance.evidence import Found, ItemView
from relevance.findings import Finding, best, unstated, wanted

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
    here = view.stated("color") or view.mentioned("color")
    findings = []
    for want in wanted(demand):
        for found in here:
            if found.negated:
                continue
            relation = color_relation(want, found.value, knowledge)
            share = _area(want, relation, found, here, knowledge)
            deviation = None if share is None else max(0.0, 1.0 - share)
            findings.append(Finding.of(relation, found, _color_reason(demand.value, relation, found, share), deviation))
    return _nearest_shade(findings) or unstated(demand)


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
    here = [f for f in view.stated("material") or view.mentioned("material") if not f.negated]
    pure = demand.op == "share"
    findings = []
    for want in wanted(demand):
        for found in here:
            relation = material_relation(want, found.value, knowledge)
            deviation = None if found.share is None else max(0.0, 1.0 - found.share)
            if relation == "exact" and pure:
                relation = "pure"
            findings.append(Finding.of(relation, found, _material_reason(demand.value, relation, found), deviation))
    return best(findings) or unstated(demand)


def _material_reason(value: str, relation: str, found: Found) -> str:
    source = "the picture shows" if found.seen else "it is"
    if found.share is not None:
        return f"asks for {value}; {source} {found.share:.0%} {found.value}"
    return {
        "exact": f"asks for {value}; {source} {found.value}",
        "pure": f"asks for {value}; {source} {found.value}, of no stated share",
        "member": f"asks for {value}; {found.value} is one",
        "base": f"asks for {value}; {source} {found.value}, which may be that",
        "kin": f"asks for {value}; {source} {found.value}, a related material",
    }.get(relation, f"asks for {value}; {source} {found.value}")
