"""Relations of numbers: sizes and quantities, prices, years, and the pieces of a set."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from lore_mm.knowledge import Knowledge
from lore_mm.liquids import is_liquid, read_fluid
from lore_mm.types import Demand, Evidence, Operator
from lore_mm.values import format_number
from relevance.construct import Step
from relevance.evidence import Found, ItemView
from relevance.findings import UNSTATED, Finding, best, unstated
from relevance.follow_sizes import shoe_size
from relevance.priority import believed

FARTHEST = 1000.0  # a miss of more than this share is not told apart: a limit of 0 is missed by it
# Sizes that come in steps of one: letter sizes in notches from M, shoe sizes, and things for so many.
STEPPED = frozenset(("letter", "EU", "UK", "US", "person", "seat", "drawer", "tier"))
__all__ = ["bundle", "deviation", "pieces_of", "price", "spec", "year"]

# Things that are dated: their year is part of what they are (LORE §10.3: wine, electronics, vehicles).
MODEL_YEAR_DEPARTMENTS = frozenset(("electronics", "appliances", "vehicles", "automotive"))
MODEL_YEAR_CATEGORIES = frozenset(("wine", "car", "vehicle", "motorcycle"))


def deviation(demand: Demand, low: float, high: float | None = None) -> float:
    """By what share of the demanded number [low, high] misses it; 0 where it meets it. In the demand's unit."""
    assert demand.number is not None
    high = low if high is None else high
    want_low = want_high = demand.number
    if demand.op == "range" and demand.number_high is not None:
        want_high = demand.number_high
    elif demand.op == "at_least":
        want_high = float("inf")
    elif demand.op == "at_most":
        want_low = float("-inf")
    if low <= want_high and high >= want_low:
        return 0.0
    limit, miss = (want_high, low - want_high) if low > want_high else (want_low, want_low - high)
    return min(miss / abs(limit), FARTHEST) if limit else FARTHEST


def _asked(demand: Demand) -> str:
    number = format_number(demand.number or 0.0)
    unit = f" {demand.unit}" if demand.unit else ""
    words = {"at_least": f"at least {number}", "at_most": f"at most {number}"}
    if demand.op == "range" and demand.number_high is not None:
        return f"{number} to {format_number(demand.number_high)}{unit}"
    return words.get(demand.op, number) + unit


def _numeric(step: Step, founds: Iterable[Found], view: ItemView, knowledge: Knowledge) -> Finding | None:
    """The nearest of the numbers an item states; an item sold in several sizes has several."""
    demand = step.demand
    findings = []
    for found in founds:
        if found.number is None or (demand.unit and found.unit and found.unit != demand.unit):
            continue
        miss = deviation(demand, found.number, found.number_high)
        relation = "within" if miss == 0.0 else "one_step" if _one_step(step, found) else "deviates"
        off = f", {miss:.0%} off" if relation == "deviates" and found.unit != "letter" else ""
        if relation == "deviates" and demand.unit in _USED_UP and _is_one_of(_CONSUMED, view, knowledge):
            packs = _packs(demand, found.number)
            relation, off = ("multiple", f"; {packs} of it make that") if packs else (relation, off)
        elif relation == "deviates" and demand.unit == "cm" and _is_one_of(_BEDS, view, knowledge):
            found = replace(found, attribute="bed_size")
        findings.append(Finding.of(relation, found, f"asks for {demand.value}; it has {found.value}{off}", miss))
    return best(findings)


def _one_step(step: Step, found: Found) -> bool:
    """True where a stepped size is missed by one; a size without a unit is a shoe or clothes size.

    Heels of 5 cm and more come in steps of a cm (LORE §10.3).
    """
    demand = step.demand
    if demand.number is None or found.number is None or demand.op not in ("eq", "range"):
        return False
    stepped = demand.unit in STEPPED or (demand.unit is None and demand.dimension == "spec")
    heel = demand.unit == "cm" and "heel_height" in step.attributes and 5.0 <= demand.number <= _HIGHEST_HEEL
    return (stepped or heel) and abs(demand.number - found.number) <= 1.0 + 1e-9


_HIGHEST_HEEL = 20.0
# Beds, and what lies on them, come in fixed widths and lengths.
_BEDS = ("bed", "mattress", "bed_sheet", "fitted_sheet", "duvet", "duvet_cover")
# What is used up, of which several packs are as good as one large one.
_CONSUMED = tuple("food seed soil fertilizer detergent dog_food cat_food cat_litter haircare soap".split())
_USED_UP = ("g", "ml")
_MOST_PACKS = 20
_ROUNDED = 0.02  # two packs of 0.5 l are a quart


def _is_one_of(these: Iterable[str], view: ItemView, knowledge: Knowledge) -> bool:
    kinds = [f.value for f in view.categories if f.value in knowledge.categories]
    return any(knowledge.is_a(kind, one) for kind in kinds for one in these)


def _packs(demand: Demand, number: float) -> int:
    """How many packs of `number` make the demanded amount; 0 where they do not, or nobody would buy so many."""
    if demand.op != "eq" or not demand.number or number <= 0:
        return 0
    packs = demand.number / number
    whole = round(packs) if packs <= _MOST_PACKS + 1 else 0
    return whole if 2 <= whole <= _MOST_PACKS and abs(packs - whole) <= _ROUNDED * whole else 0


def spec(step: Step, view: ItemView, knowledge: Knowledge) -> Finding | None:
    """A quantity against the item's of the same unit; None where the demand has no number (a size in words)."""
    demand = step.demand
    if demand.number is None:
        return None
    stated = [f for f in view.stated("spec") if f.attribute in step.attributes]
    finding = _numeric(step, stated, view, knowledge) or _numeric(step, view.stated("spec"), view, knowledge)
    if finding is None or finding.relation != "within":
        text = _from_text(step, view, knowledge)
        others = (_numeric(step, text, view, knowledge), shoe_size(step, view, knowledge))
        finding = best([x for x in (finding, *others) if x])
    return finding or unstated(demand)


def _from_text(step: Step, view: ItemView, knowledge: Knowledge) -> list[Found]:
    liquid = any(is_liquid(kind.value, knowledge) for kind in view.categories)
    quantities = ((source, read_fluid(q) if liquid else q) for source, q in view.quantities)
    return [
        Found(
            value=q.text,
            attribute=step.attribute,
            number=q.number,
            number_high=q.number_high,
            unit=q.unit,
            evidence=(Evidence(source, q.text, q.start, q.end),),
            confidence=0.9 if source == "title" else 0.7,
        )
        for source, q in quantities
        if q.unit == (step.demand.unit or "")  # a size without a unit
    ]


def price(step: Step, view: ItemView, knowledge: Knowledge) -> Finding:
    """The item's price against the demanded bound or range. Currencies are compared only where both are known."""
    demand = step.demand
    if demand.number is None:
        return unstated(demand)
    here = [f for f in view.stated("price") if f.number is not None]
    item = view.item
    if not here and item.price is not None and math.isfinite(item.price) and item.price >= 0:
        place = Evidence("given.price", f"{item.price:g}")
        here = [Found(f"{item.price:g}", "price", item.price, item.currency, evidence=(place,))]
    if not here:
        return unstated(demand)
    found = here[0]
    currency = found.unit or item.currency
    assert found.number is not None
    have = f"{format_number(found.number)}{f' {currency}' if currency else ''}"
    if demand.unit and currency and demand.unit != currency:
        reason = f"asks for a price of {_asked(demand)}; it costs {have}, in another currency"
        return Finding.of("other_currency", found, reason)
    miss = deviation(demand, found.number)
    off = "" if miss == 0.0 else f", {miss:.0%} off"
    reason = f"asks for a price of {_asked(demand)}; it costs {have}{off}"
    return Finding.of("within" if miss == 0.0 else "deviates", found, reason, miss)


def year(step: Step, view: ItemView, knowledge: Knowledge) -> Finding:
    """The item's year against the demanded one; on things dated by their year, another one is another thing."""
    demand = step.demand
    dated = any(_is_dated(f.value, knowledge) for f in view.categories)
    if demand.number is None:
        return unstated(demand, "unstated_model_year" if dated else "unstated")
    stated = [f for f in view.stated("year") if f.number is not None]
    if not dated:  # a year in a seller's field is that of the listing as often as that of the thing
        stated = [f for f in stated if any(e.source == "title" for e in f.evidence)]
    titled = [
        Found(q.text, "year", q.number, evidence=(Evidence("title", q.text, q.start, q.end),), confidence=0.9)
        for source, q in view.quantities
        if q.kind == "year" and source == "title" and not any(f.number == q.number for f in stated)
    ]
    here = believed((*stated, *titled), "year", str.__ne__)
    if not here:
        return unstated(demand, "unstated_model_year" if dated else "unstated")
    findings = []
    for found in here:
        assert found.number is not None
        same = deviation(demand, found.number) == 0.0
        relation = "within" if same else ("other_model_year" if dated else "other_year")
        reason = f"asks for {_asked(demand)}; it is of {format_number(found.number)}"
        findings.append(Finding.of(relation, found, reason))
    return best(findings) or unstated(demand)


def _is_dated(kind: str, knowledge: Knowledge) -> bool:
    if kind not in knowledge.categories:
        return False
    above = {kind, *knowledge.ancestors(kind)}
    return bool(above & MODEL_YEAR_CATEGORIES) or knowledge.department(kind) in MODEL_YEAR_DEPARTMENTS


# What the words for sets mean in pieces: a set is two or more.
_WORDS: Mapping[str, tuple[Operator, float]] = MappingProxyType(
    {"single": ("eq", 1.0), "pair": ("eq", 2.0), "set": ("at_least", 2.0)}
)


_COLLECTIONS = frozenset(("collection", "assortment", "assorted"))  # of single things, each of which is one


def bundle(step: Step, view: ItemView, knowledge: Knowledge) -> Finding | None:
    """The number of pieces against the demanded one; None where the demand's words are not about pieces."""
    demand = step.demand
    if demand.number is None:
        if demand.canonical is None or demand.canonical not in _WORDS:
            return None
        op, number = _WORDS[demand.canonical]
        if demand.value.casefold() in _COLLECTIONS and not pieces_of(view):
            return Finding("member", f"asks for a {demand.value}; it is one for it", confidence=UNSTATED)
        demand = replace(demand, op=op, number=number)
    assert demand.number is not None
    here = pieces_of(view)
    if here:
        return best(_pieces(demand, found) for found in here)
    if demand.number <= 1:
        return Finding("exact", f"asks for {demand.value}; nothing says that it is a set", confidence=UNSTATED)
    if demand.op == "eq" and step.demand.number is not None:
        reason = f"asks for {demand.value}; it is sold singly, and several of it make that"
        return Finding("multiple", reason, confidence=UNSTATED)
    return unstated(demand)


def pieces_of(view: ItemView) -> list[Found]:
    """The numbers of pieces that the item states; a set of unsaid size has none."""
    stated = [f for f in view.stated("bundle") if f.number is not None]
    counted = [
        Found(q.text, "bundle", q.number, evidence=(Evidence(source, q.text, q.start, q.end),), confidence=0.8)
        for source, q in view.quantities
        if q.kind == "count" and q.unit in _PIECES and source == "title"
    ]
    worded = [f for f in (*view.stated("bundle"), *view.mentioned("bundle", title_only=True)) if f.value in _WORDS]
    return stated or counted or worded


_PIECES = frozenset(("pack", "piece", "pieces", "set", "pair"))


def _pieces(demand: Demand, found: Found) -> Finding:
    assert demand.number is not None
    reason = f"asks for {demand.value}; it is {found.quote}"
    if found.number is None and found.value == "set":
        relation = "exact" if demand.op == "at_least" else "set_of_single" if demand.number <= 1 else "other_count"
        return Finding.of(relation, found, reason)
    have = _WORDS[found.value][1] if found.number is None else found.number
    if deviation(demand, have) == 0.0:
        relation = "exact"
    elif demand.op == "eq" and 1 < have < demand.number and demand.number % have == 0:
        relation = "multiple"
    elif have <= 1:
        relation = "part_of_set"
    else:
        relation = "set_of_single" if demand.number <= 1 else "other_count"
    return Finding.of(relation, found, reason)
