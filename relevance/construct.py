"""Path construction: each demand of a query → the item attribute that would answer it, and whom to believe about it.

It knows the attribute schemas and the 18 dimensions, not items: what the item says is the follower's business.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from lore_mm.knowledge import Knowledge
from lore_mm.quantities import kind_of_unit
from lore_mm.schema import AttributeSchema, Schemas, load_dimensions, load_schemas
from lore_mm.types import Demand, Understanding
from relevance.relations import DIMENSIONS

__all__ = ["Step", "construct", "spelling"]

# Where a number's unit leaves several attributes open, all of them may answer it; these answer a demand without a unit.
_MAIN_ATTRIBUTE = {"spec": "size", "special": "condition", "style_detail": "style_detail"}

_OPEN: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Step:
    """One demand with the attributes that would answer it.

    `attribute` is the one named where nothing is found; `attributes` are all that may answer. Where `closed`, the
    demanded value is one of the legal values of a single-valued attribute, so that another value there rules it out;
    `legal` then maps every folded spelling to its value.
    `sources` is the order in which evidence is believed. `impossible` names the other demand of the query that excludes
    this one, where there is one: nothing can meet both. `accessory`: the query's head is an accessory or part, so that
    makers, models and kinds beside it say what it is for.
    """

    demand: Demand
    attribute: str
    attributes: tuple[str, ...]
    closed: bool
    legal: Mapping[str, str]
    sources: tuple[str, ...]
    impossible: str = ""
    accessory: bool = False


def construct(understanding: Understanding, knowledge: Knowledge, schemas: Schemas | None = None) -> tuple[Step, ...]:
    """The steps of a query: the head first, then in the order of the dimensions. Empty where nothing is demanded.

    The attributes are those of the schema of the query's head category, or the common ones where it has none.

    Raises:
        ValueError: a demand's number or confidence is none.
    """
    for demand in understanding.demands:
        _check(demand)
    head = understanding.head
    category = head.canonical if head and head.dimension == "category" else None
    schema = (schemas or load_schemas()).for_category(category, knowledge)
    place = {dimension: i for i, dimension in enumerate(DIMENSIONS)}
    demands = sorted(understanding.demands, key=lambda d: (d.role != "head", place[d.dimension]))
    clashes = {id(d): _wish(other) for d in demands for other in demands if d is not other and _exclude(d, other)}
    kinds = (category, *knowledge.ancestors(category)) if category and category in knowledge.categories else ()
    part = any(knowledge.categories[kind].accessory_of for kind in kinds)
    return tuple(replace(_step(d, schema), impossible=clashes.get(id(d), ""), accessory=part) for d in demands)


def _check(demand: Demand) -> None:
    for name, number in (("number", demand.number), ("number_high", demand.number_high)):
        if number is not None and not math.isfinite(number):
            raise ValueError(f"the demand {demand.value[:80]!r} has the {name} {number}, which is none")
    if not 0 <= demand.confidence <= 1 + 1e-6:
        raise ValueError(f"the demand {demand.value[:80]!r} has the confidence {demand.confidence}, which is none")


def _exclude(one: Demand, other: Demand) -> bool:
    """True where no item can meet both: a value wanted and refused, or bounds that leave nothing between them."""
    if one.dimension != other.dimension:
        return False
    if one.polarity != other.polarity:
        return _meaning(one) == _meaning(other) and not (one.alternatives or other.alternatives)
    if one.polarity < 0 or one.number is None or other.number is None or one.unit != other.unit:
        return False
    bounds = {one.op, other.op} == {"at_least", "at_most"}  # two plain sizes may be width and height
    (low, high), (least, most) = _interval(one), _interval(other)
    return (bounds or one.dimension == "price") and (low > most or least > high)


def _wish(demand: Demand) -> str:
    return demand.value if demand.polarity > 0 else f"no {demand.value}"


def _meaning(demand: Demand) -> tuple[object, ...]:
    value = spelling(demand.canonical or demand.value)
    return value, demand.number, demand.number_high, demand.unit


def _interval(demand: Demand) -> tuple[float, float]:
    assert demand.number is not None
    if demand.op == "at_least":
        return demand.number, float("inf")
    if demand.op == "at_most":
        return float("-inf"), demand.number
    return demand.number, demand.number if demand.number_high is None else demand.number_high


def _step(demand: Demand, schema: AttributeSchema) -> Step:
    dimension = demand.dimension
    specs = [s for s in schema.specs.values() if s.dimension == dimension]
    closed, legal, main = False, _OPEN, None
    if demand.number is not None and demand.unit:
        measured = [s for s in specs if s.type == "number" and s.unit == demand.unit]
        if dimension == "spec" and not measured:
            main = kind_of_unit(demand.unit)  # a quantity that the schema of this kind of thing does not ask for
        specs = measured or specs
    elif dimension in ("style_detail", "special", "function", "spec"):
        known = sorted((s for s in specs if s.type == "choice" and _says(demand) in s.lookup), key=lambda s: s.multi)
        if known:
            closed, legal = not known[0].multi, known[0].lookup
        specs = known or specs
    names = tuple(s.name for s in specs)
    if main is None:
        main = names[0] if closed else _MAIN_ATTRIBUTE.get(dimension, dimension)
        main = main if main in names or not names else names[0]
    return Step(demand, main, names or (dimension,), closed, legal, load_dimensions()[dimension].evidence)


def _says(demand: Demand) -> str:
    return spelling(demand.canonical or demand.value)


def spelling(text: str) -> str:
    """A value as the keys of `legal` are written: lower case, hyphens and underscores as spaces."""
    return text.casefold().replace("-", " ").replace("_", " ")
