"""The JSON Schema of a model's reading of a query: one for all queries, every text and list bounded.

All keys are required and no key is optional, as strict servers want it; what is seldom said is one null. Whether a
demand is wanted, wished or excluded is one answer, so that a reply cannot contradict itself. This module knows no
model and no query.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from extractors.query.unknown import HEAD_ORDER
from lore_mm.schema import load_dimensions, load_hard_types

__all__ = ["LISTS", "reply_schema"]

LISTS = {"corrections": 4, "demands": 10, "implied": 4, "readings": 3}  # most items of each list

_LARGEST = 999_999_999
_MOST_CITED = 3
_LENGTHS = {"words": 60, "canonical": 48, "typed": 40, "read": 40, "why": 120, "unit": 12, "id": 60}  # characters


@lru_cache(maxsize=1)
def reply_schema() -> Mapping[str, Any]:
    """The schema. The same object each time, so that an engine may know it again."""
    number = {"type": "number", "minimum": 0, "maximum": _LARGEST}
    measure = _object(
        op={"enum": ["eq", "at_least", "at_most", "range", "share"]},
        number=number,
        number_high=_or_null(number),
        unit=_or_null(_text("unit")),
    )
    dimension = {"enum": list(load_dimensions())}
    cited = {"type": "array", "items": _text("id"), "maxItems": _MOST_CITED}
    canonical = _or_null(_text("canonical"))
    head = _object(
        dimension={"enum": list(HEAD_ORDER)},
        words=_text("words"),
        canonical=canonical,
        referent={"enum": ["precise", "generic"]},
        knowledge=cited,
    )
    demand = _object(
        dimension=dimension,
        words=_text("words"),
        canonical=canonical,
        force={"enum": ["wanted", "wished", "excluded"]},
        measure=_or_null(measure),
    )
    implied = _object(dimension=dimension, canonical=_text("canonical"), why=_text("why"), knowledge=cited)
    reading = _object(words=_text("words"), dimension=dimension, canonical=canonical)
    return _object(
        corrections=_list("corrections", _object(typed=_text("typed"), read=_text("read"))),
        head=_or_null(head),
        demands=_list("demands", demand),
        implied=_list("implied", implied),
        readings=_list("readings", reading),
        hard_type={"enum": list(load_hard_types())},
    )


def _object(**properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _list(name: str, items: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items, "maxItems": LISTS[name]}


def _text(kind: str) -> dict[str, Any]:
    """A line of bounded length; a pattern, since not every decoder takes maxLength."""
    return {"type": "string", "pattern": rf"^[^\x00-\x1f\x7f]{{1,{_LENGTHS[kind]}}}$"}


def _or_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"anyOf": [{"type": "null"}, schema]}
