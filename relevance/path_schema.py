"""The JSON Schema of a path that a model writes: one leg a demand, in order, and at the end the grade it would give.

The demands are given, by the keys of the schema; a model cannot leave one out, add one or change their order. A leg
says where it looked, quotes it, says what is there, and then names one of the relations that its dimension has, so that
the evidence stands before the verdict. A schema depends on the kinds of the legs alone and not on the query: few
distinct schemas serve a whole log, which matters to decoders that compile each.

All keys are required and every text is bounded, as strict servers want it. This module knows no model and no item.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

from lore_mm.types import Demand, Grade
from relevance.relations import LEGAL

__all__ = ["GRADE", "SOURCES", "LegKind", "keys_of", "kind_of", "offered", "reply_schema"]

GRADE = "grade"  # the key of the model's own grade; all others are legs
SOURCES = ("title", "text", "given", "image", "none")
LENGTHS: Mapping[str, int] = MappingProxyType({"quote": 80, "found": 48})  # characters

_EXCLUDED = ("satisfied_negation", "negation_unstated", "violated_negation")
# Numbers are held against numbers, and we do the sums; what else a dimension knows is for demands in words.
_NUMBERED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "bundle": ("exact", "multiple", "other_count", "part_of_set", "set_of_single", "unstated"),
        "price": ("within", "deviates", "other_currency", "unstated"),
        "spec": ("within", "one_step", "multiple", "deviates", "unstated"),
        "year": ("within", "other_year", "other_model_year", "unstated_model_year", "unstated"),
    }
)
# What nobody asked for, what needs a number, and (a model knows words that no table has) what only the tables say.
_NOT_ASKED = frozenset(
    "impossible niche second_rate within one_step deviates other_currency other_year other_model_year "
    "unstated_model_year".split()
).union(_EXCLUDED)
_OF_THE_TABLES = "words_"


class LegKind(NamedTuple):
    """What the schema of a leg depends on: the dimension, whether it is excluded, and whether it is a number."""

    dimension: str
    excluded: bool = False
    numbered: bool = False


def kind_of(demand: Demand) -> LegKind:
    """The kind of the leg that answers a demand."""
    excluded = demand.polarity < 0
    return LegKind(
        demand.dimension, excluded, demand.number is not None and demand.dimension in _NUMBERED and not excluded
    )


def offered(kind: LegKind) -> tuple[str, ...]:
    """The relations that a model may choose from for such a leg, in the order of the vocabulary."""
    if kind.excluded:
        return _EXCLUDED
    if kind.numbered:
        return tuple(relation for relation in _NUMBERED[kind.dimension] if relation in LEGAL[kind.dimension])
    legal = LEGAL[kind.dimension]
    return tuple(one for one in legal if one not in _NOT_ASKED and not one.startswith(_OF_THE_TABLES))


def keys_of(kinds: Sequence[LegKind]) -> tuple[str, ...]:
    """The keys of the legs: dimension and place, so that two demands of a dimension are two keys."""
    return tuple(f"{kind.dimension}_{i}" for i, kind in enumerate(kinds, start=1))


@lru_cache(maxsize=1024)
def reply_schema(kinds: tuple[LegKind, ...]) -> Mapping[str, Any]:
    """The schema for legs of these kinds. The same object each time, so that an engine may know it again."""
    legs = {key: _leg(kind) for key, kind in zip(keys_of(kinds), kinds, strict=True)}
    return _object({**legs, GRADE: {"enum": [grade.name for grade in Grade]}})


def _leg(kind: LegKind) -> dict[str, Any]:
    return _object(
        {
            "source": {"enum": list(SOURCES)},
            "quote": _text("quote"),
            "found": _text("found"),
            "relation": {"enum": list(offered(kind))},
        }
    )


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def _text(name: str) -> dict[str, Any]:
    """A line of bounded length; a pattern, since not every decoder takes maxLength."""
    return {"type": "string", "pattern": rf"^[^\x00-\x1f\x7f]{{0,{LENGTHS[name]}}}$"}
