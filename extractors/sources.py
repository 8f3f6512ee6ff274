"""The pieces of a seller's text, and which attribute a field of the seller's stands for (fields.toml).

This module reads nothing into them.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

from lore_mm.fingerprint import sha_of
from lore_mm.text import fold
from lore_mm.types import Item

__all__ = ["LONGEST_TEXT", "LONGEST_TITLE", "MOST_FIELDS", "Source", "fields_of", "fields_sha"]

LONGEST_TITLE, LONGEST_TEXT = 5_000, 20_000  # characters that are read; what comes after is no longer about the item
MOST_FIELDS = 1_000  # values of the seller's fields that are read


@dataclass(frozen=True, slots=True)
class Source:
    """A piece of the seller's text; `field` is the attribute that a field of that name stands for, where known."""

    name: str  # title | text | given.<key>
    text: str
    field: str | None = None

    @property
    def kind(self) -> str:
        """One of title, text and given."""
        return self.name.split(".", 1)[0]


def fields_of(item: Item) -> Iterator[Source]:
    """The seller's own fields, one source a value, the first `MOST_FIELDS` of them."""
    return islice(_all_fields(item), MOST_FIELDS)


def _all_fields(item: Item) -> Iterator[Source]:
    for key, values in item.attributes.items():
        field = _field_names().get(re.sub(r"[\s_-]+", " ", fold(key)).strip())
        for value in values:
            if value and value.strip():
                yield Source(f"given.{key}", value[:LONGEST_TEXT], field)


@lru_cache(maxsize=1)
def _field_table() -> dict[str, list[str]]:
    return tomllib.loads((Path(__file__).parent / "fields.toml").read_text(encoding="utf-8"))


@lru_cache(maxsize=1)
def _field_names() -> dict[str, str]:
    return {name: attribute for attribute, names in _field_table().items() for name in names}


def fields_sha() -> str:
    """Identifies the table of field names."""
    return sha_of(_field_table())
