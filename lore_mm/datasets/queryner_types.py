"""The entity types of QueryNER beside the demand dimensions: `queryner.toml`, read. It knows no queries and no files of
the data set.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

__all__ = ["EntityType", "entity_types", "negated_type", "type_of_dimension"]


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
def _table() -> Mapping[str, Mapping[str, object]]:
    return tomllib.loads((Path(__file__).parent / "queryner.toml").read_text(encoding="utf-8"))


@lru_cache(maxsize=1)
def entity_types() -> Mapping[str, EntityType]:
    """The 17 types by name, in the order of the table."""
    found: dict[str, EntityType] = {}
    for name, row in _table()["types"].items():
        assert isinstance(row, dict)
        found[name] = EntityType(
            name, row["dimension"], tuple(row.get("also", ())), row["means"], tuple(row.get("takes_along", ()))
        )
    return found


@lru_cache(maxsize=1)
def type_of_dimension() -> Mapping[str, str]:
    """Dimension → the type that its demands are scored as; lossy, since several types share a dimension."""
    return {dimension: str(name) for dimension, name in _table()["dimensions"].items()}


@lru_cache(maxsize=1)
def negated_type() -> str:
    """The type that a negated demand is scored as, whatever its dimension."""
    return str(_table()["negated"]["type"])
