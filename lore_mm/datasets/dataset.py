"""What every labelled data set becomes: items, the truth about their attributes, and schemas that ask for just these.

Nothing of an item's truth stands in the item itself, so that no extractor can read it off. This module knows no file
format (one module a format does) and no extractor.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from lore_mm.errors import InputError, nearest
from lore_mm.schema import Schemas
from lore_mm.types import Item

__all__ = ["SPLITS", "Dataset", "Truth", "in_test"]

SPLITS = ("train", "test")
_TEST_SHARE = 5  # one group in so many is for testing


@dataclass(frozen=True, slots=True)
class Truth:
    """What is true of one attribute of one item.

    `values` are in the schema's own words: several are a set (all of them are true together), but with `any_of` they
    are ways to say the same, or equally good answers. A status other than `value` has none: the right answer is
    silence.
    """

    item_id: str
    attribute: str
    values: tuple[str, ...] = ()
    status: Literal["value", "not_stated", "not_applicable"] = "value"
    any_of: bool = False


@dataclass(frozen=True)
class Dataset:
    """A labelled data set. `schemas` has every attribute that `truth` names, under any category, and no other.

    `groups` (item_id → name) are the units that are independent of one another: colour variants of one product share
    one; an item that is not named is its own group. `splits` (item_id → train or test) never parts a group. Relative
    picture paths of `items` start at `picture_root`.
    """

    name: str
    items: tuple[Item, ...]
    truth: tuple[Truth, ...]
    schemas: Schemas
    splits: Mapping[str, str]
    groups: Mapping[str, str]
    picture_root: Path | None = None

    def group(self, item_id: str) -> str:
        """The independent unit that an item belongs to."""
        return self.groups.get(item_id, item_id)

    def of_split(self, split: str | None) -> Dataset:
        """The items of one split, with their truth; everything for None.

        Raises:
            InputError: no such split, or no item is in it.
        """
        if split is None:
            return self
        if split not in SPLITS:
            raise InputError(f"no split {split!r}{nearest(split, SPLITS)}; legal: {', '.join(SPLITS)}")
        kept = self.in_split(split)
        if not kept.items:
            raise InputError(f"{self.name}: no item is in split {split!r}")
        return kept

    def in_split(self, split: str) -> Dataset:
        """The items of one split, with their truth; there may be none."""
        return self._of(i.item_id for i in self.items if self.splits[i.item_id] == split)

    def first(self, n: int | None) -> Dataset:
        """The first n items, with their truth; everything for None."""
        return self if n is None else self._of(item.item_id for item in self.items[:n])

    def only(self, attributes: Sequence[str]) -> Dataset:
        """The truth of these attributes, and the items that have any.

        Raises:
            InputError: an attribute that the data set does not have.
        """
        known = {row.attribute for row in self.truth}
        for name in attributes:
            if name not in known:
                raise InputError(
                    f"{self.name} has no attribute {name!r}{nearest(name, known)}; it has: {', '.join(sorted(known))}"
                )
        truth = tuple(row for row in self.truth if row.attribute in attributes)
        kept = {row.item_id for row in truth}
        return replace(self, truth=truth, items=tuple(i for i in self.items if i.item_id in kept))

    def _of(self, item_ids: Iterable[str]) -> Dataset:
        kept = set(item_ids)
        items = tuple(i for i in self.items if i.item_id in kept)
        return replace(self, items=items, truth=tuple(row for row in self.truth if row.item_id in kept))


def in_test(group: str) -> bool:
    """Whether a group belongs to the test split, where a data set has no split of its own: a fifth, by its sha256."""
    return hashlib.sha256(group.encode("utf-8")).digest()[0] % _TEST_SHARE == 0
