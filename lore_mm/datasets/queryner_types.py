"""The entity types of QueryNER beside the demand dimensions: `queryner.toml`, read. It knows no queries and no files of
the data set.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

__all__ = ["EntityType", "entity_types", "negated_type", "type_of"]


@dataclass(frozen=True, slots=True)
class EntityType:
    """One type: the dimension its words belong to, others they may turn out to be, and what it means in a sentence.

    `takes_along`: words that the annotators count in where they stand right before the span.
    """

    name: str
    dimension: str
    also: tuple[str, ...]
    means: str
    takes_along: tuple[str, ...] = ()


@lru_cache(maxsize=1)
def _table() -> Mapping[str, Mapping[str, Any]]:
    return tomllib.loads((Path(__file__).parent / "queryner.toml").read_text(encoding="utf-8"))


@lru_cache(maxsize=1)
def entity_types() -> Mapping[str, EntityType]:
    """The 17 types by name, in the order of the table."""
    found: dict[str, EntityType] = {}
    for name, row in _table()["types"].items():
        found[name] = EntityType(
            name, row["dimension"], tuple(row.get("also", ())), row["means"], tuple(row.get("takes_along", ()))
        )
    return found


def type_of(dimension: str, canonical: str | None = None) -> str:
    """The type that a demand is scored as; lossy, since several types share a dimension."""
    return _types_of_values().get((dimension, canonical)) or str(_table()["dimensions"][dimension])


@lru_cache(maxsize=1)
def _types_of_values() -> Mapping[tuple[str, str | None], str]:
    """(dimension, canonical value) → type, of the values that go elsewhere than their dimension."""
    return {
        (dimension, value): kind
        for dimension, kinds in _table()["values"].items()
        for kind, values in kinds.items()
        for value in values
    }


@lru_cache(maxsize=1)
def negated_type() -> str:
    """The type that a negated demand is scored as, whatever its dimension."""
    return str(_table()["negated"]["type"])
