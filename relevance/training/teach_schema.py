"""The JSON Schemas of a teacher's second and third step: the evidence for each demand, and the ruling on it.

Both are cut from the schema of a whole path (`relevance.path_schema`), so that the two together are one: the same
keys in the same order, the same relations. All keys are required and every text is bounded. This module knows no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from lore_mm.types import Grade
from relevance.path_schema import GRADE, LegKind, keys_of, reply_schema

__all__ = ["Open", "evidence_schema", "ruling_schema"]

Open = tuple[tuple[str, LegKind], ...]  # the legs that a teacher rules on: key and kind
_LEVELS = [grade.name for grade in Grade]
_CITED = 64  # characters of a rule's id


@lru_cache(maxsize=1024)
def evidence_schema(kinds: tuple[LegKind, ...]) -> Mapping[str, Any]:
    """Source, quote and found for each leg. The same object each time, so that an engine may know it again."""
    legs = reply_schema(kinds)["properties"]
    return _object({key: _object(_parts(legs[key], "source", "quote", "found")) for key in keys_of(kinds)})


@lru_cache(maxsize=4096)
def ruling_schema(legs: Open) -> Mapping[str, Any]:
    """The relation, the rule and the level of each leg, and the grade. The same object each time."""
    ruled: dict[str, Any] = {}
    for key, kind in legs:
        (leg,) = (one for name, one in reply_schema((kind,))["properties"].items() if name != GRADE)
        rule = {"type": "string", "pattern": rf"^[A-Za-z0-9_.\-]{{0,{_CITED}}}$"}
        ruled[key] = _object({**_parts(leg, "relation"), "rule": rule, "level": {"enum": _LEVELS}})
    return _object({**ruled, GRADE: {"enum": _LEVELS}})


def _parts(leg: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: leg["properties"][name] for name in names}


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }
