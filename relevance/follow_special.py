"""Relations of three dimensions that no table orders by itself: ages in years, parts and accessories, and shops."""

from __future__ import annotations

from lore_mm.knowledge import Knowledge
from lore_mm.types import Demand, Evidence
from relevance.construct import Step
from relevance.evidence import Found, ItemView
from relevance.findings import UNSTATED, Finding, best, unstated, wanted
from relevance.follow_numbers import deviation
from relevance.follow_terms import term
from relevance.follow_trees import goes_with, mains_of

__all__ = ["audience", "component", "store"]

_STAGES = (1.0, 3.0, 6.0, 12.0)  # years at which the next stage begins (LORE §10.3)


def audience(step: Step, view: ItemView, knowledge: Knowledge) -> Finding:
    """Whom it is for: an age in years where both sides state one, else by the audience terms."""
    demand = step.demand
    if demand.number is not None and demand.unit == "years":
        aged = best(_age(demand, found) for found in _ages(view))
        if aged is not None:
            return aged
    return term(step, view, knowledge)


def _ages(view: ItemView) -> list[Found]:
    stated = [f for f in view.stated("audience") if f.number is not None and f.attribute == "age"]
    return stated or [
        Found(
            value=q.text,
            attribute="age",
            number=q.number,
            number_high=q.number_high if q.op != "at_least" else 120.0,
            unit=q.unit,
            evidence=(Evidence(source, q.text, q.start, q.end),),
            confidence=0.9 if source == "title" else 0.7,
        )
        for source, q in view.quantities
        if q.kind == "age"
    ]


def _age(demand: Demand, found: Found) -> Finding:
    assert demand.number is not None and found.number is not None
    high = found.number if found.number_high is None else found.number_high
    reason = f"asks for {demand.value}; it is for {found.value}"
    if deviation(demand, found.number, high) == 0.0:
        return Finding.of("exact", found, reason)
    same = _stage(demand.number) in range(_stage(found.number), _stage(high) + 1)
    return Finding.of("near_stage" if same else "far_stage", found, reason)


def _stage(years: float) -> int:
    return sum(years >= begins for begins in _STAGES)


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
    named = [m.canonical for m in view.scan(found.value)]
    said = found.value.casefold()
    if any(want in named or want.casefold() in said for want in (*wanted(demand), demand.value)):
        return Finding.of("exact", found, f"asks for {demand.value}; {found.value} sells it")
    if any(f.value in named for f in view.stated("brand")):
        return Finding.of("brand_store", found, f"asks for {demand.value}; {found.value} is a shop of the brand")
    return Finding(
        "other", f"asks for {demand.value}; {found.value} sells it", (found.value,), found.evidence, UNSTATED
    )
