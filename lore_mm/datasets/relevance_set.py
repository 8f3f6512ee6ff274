"""What every set of graded query–item pairs becomes, and the one place where its rows are checked.

A pair that stands twice with one label counts once; with two it is an error. A pair whose item is not there, or cannot
be used, is kept: it is told and never scored. This module knows no file format and no judge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lore_mm.datasets.relevance_scales import Scale
from lore_mm.errors import InputError, nearest
from lore_mm.fingerprint import sha_of, sha_of_bytes, sha_of_file
from lore_mm.item_rows import key_fault, number_of, read_item, read_text
from lore_mm.types import Grade, Item, Query

__all__ = ["GradedPair", "PairReader", "RelevanceSet", "Wanted", "fields", "item_of", "query_id_of"]


@dataclass(frozen=True, slots=True)
class GradedPair:
    """A query and an item with the level that people gave it. `kind` is a slice that the set itself names."""

    query: Query
    item_id: str
    grade: Grade
    kind: str | None = None
    split: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of a set: one split, one locale, the scale of labels; None where nothing is said."""

    split: str | None = None
    locale: str | None = None
    scale: str | None = None


@dataclass(frozen=True)
class RelevanceSet:
    """Graded pairs with their items.

    `items` are those of the pairs; `titles` may have those of the whole catalogue besides, for how common words are.
    `unusable` (item_id → why) are items that are in the set and cannot be used. `raters` (name → pair → level): what
    single people said, where the set tells. `notes` are for whoever reads the figures. `picture_root` is the folder
    that the items' pictures are relative to. `content_sha` identifies pairs that stand in no file.
    """

    name: str
    scale: Scale
    pairs: tuple[GradedPair, ...]
    items: Mapping[str, Item]
    files: tuple[Path, ...]
    unusable: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    titles: Mapping[str, str] = field(default_factory=dict)
    raters: Mapping[str, Mapping[tuple[str, str], Grade]] = field(default_factory=dict)
    picture_root: Path | None = None
    content_sha: str = ""

    @property
    def sha(self) -> str:
        """Identifies the pairs: the files, and how their labels are read."""
        own = [self.content_sha] if self.content_sha else []
        return sha_of([self.scale.sha, *own, *(sha_of_file(path) for path in self.files)])

    def of_split(self, split: str | None) -> RelevanceSet:
        """The pairs of one split; all of them for None.

        Raises:
            InputError: the set has no such split.
        """
        if split is None:
            return self
        splits = sorted({pair.split for pair in self.pairs if pair.split})
        if split not in splits:
            raise InputError(
                f"{self.name}: no split {split!r}{nearest(split, splits)}; it has: {', '.join(splits) or 'none'}"
            )
        return replace(self, pairs=tuple(pair for pair in self.pairs if pair.split == split))

    def sample(self, queries: int | None) -> RelevanceSet:
        """The pairs of so many queries, chosen by lot, always the same; all of them for None."""
        if queries is None:
            return self
        ids = {pair.query.query_id for pair in self.pairs}
        kept = set(sorted(ids, key=lambda query_id: sha_of_bytes(query_id.encode("utf-8", "replace")))[:queries])
        return replace(self, pairs=tuple(pair for pair in self.pairs if pair.query.query_id in kept))


class PairReader:
    """Takes the labelled rows of a file one by one and checks each; `pairs` are those so far."""

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self.repeated = 0  # rows that said once more what an earlier one had said
        self._pairs: dict[tuple[str, str], tuple[GradedPair, str]] = {}
        self._texts: dict[str, tuple[str, str]] = {}

    @property
    def pairs(self) -> tuple[GradedPair, ...]:
        """In the order of the file."""
        return tuple(pair for pair, _ in self._pairs.values())

    def add(self, where: str, row: Mapping[str, Any], columns: Mapping[str, str]) -> GradedPair:
        """A row; `columns` says which of its columns are query, item_id and label, and maybe query_id, kind, split,
        frequency.

        Raises:
            InputError: a key or a label is missing or unknown, a query id stands for two queries, or a pair has two
                labels. It names the row and the column.
        """
        text = _text(row, columns["query"], where)
        query_id = _key(row, columns["query_id"], where) if "query_id" in columns else query_id_of(text)
        first, place = self._texts.setdefault(query_id, (text, where))
        if first != text:
            at = f"{where}, column {columns['query_id']!r}"
            raise InputError(f"{at}: {query_id!r} is {text[:60]!r} here, but {first[:60]!r} in {place}")
        pair = GradedPair(
            Query(query_id, text, _frequency(row, columns.get("frequency"), where)),
            _key(row, columns["item_id"], where),
            self.scale.grade(row.get(columns["label"]), f"{where}, column {columns['label']!r}"),
            _maybe(row, columns.get("kind")),
            _maybe(row, columns.get("split")),
        )
        key = (query_id, pair.item_id)
        if key in self._pairs:
            before, place = self._pairs[key]
            if before.grade != pair.grade:
                at = f"{where}, column {columns['label']!r}"
                told = f"query {text[:60]!r} and item {pair.item_id!r} are {pair.grade} here, but {before.grade}"
                raise InputError(f"{at}: {told} in {place}")
            self.repeated += 1
            return before
        self._pairs[key] = (pair, where)
        return pair

    def notes(self) -> tuple[str, ...]:
        """What a reader should know of the rows."""
        return (f"{self.repeated} rows repeat a pair with the same label; each counts once",) if self.repeated else ()


def query_id_of(text: str) -> str:
    """An id made of the query's text, for sets that name none."""
    return "q-" + sha_of_bytes(text.encode("utf-8", "replace"))[:12]


def item_of(
    row: Mapping[str, Any], where: str, items: dict[str, Item], unusable: dict[str, str], textual: bool = False
) -> None:
    """Read a row of the columns of `lore_mm.item_rows` into `items`, or into `unusable` with the reason.

    Raises:
        InputError: its id is unfit, or there twice.
    """
    if fault := key_fault(row.get("item_id"), "item_id"):
        raise InputError(f"{where}: {fault}")
    item, error = read_item(row, textual)
    if item.item_id in items or item.item_id in unusable:
        raise InputError(f"{where}: item_id {item.item_id!r} is there twice")
    if error:
        unusable[item.item_id] = error
    else:
        items[item.item_id] = item


def fields(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Fields named more than once, as lists."""
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        if name.strip() and value.strip():
            found.setdefault(name.strip(), []).append(value.strip())
    return found


def _key(row: Mapping[str, Any], column: str, where: str) -> str:
    value = row.get(column)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if fault := key_fault(value, column):
        raise InputError(f"{where}, column {column!r}: {fault}")
    return str(value).strip()


def _text(row: Mapping[str, Any], column: str, where: str) -> str:
    faults: list[str] = []
    value = row.get(column)
    text = read_text(str(value) if isinstance(value, int) else value, column, faults, kept=False)
    if faults or text is None or not text.strip():
        raise InputError(f"{where}, column {column!r}: {faults[0] if faults else 'empty'}; legal: a query's text")
    return text.strip()


def _maybe(row: Mapping[str, Any], column: str | None) -> str | None:
    value = row.get(column) if column else None
    return None if value in (None, "") else str(value).strip()[:200] or None


def _frequency(row: Mapping[str, Any], column: str | None, where: str) -> float | None:
    value = row.get(column) if column else None
    if value in (None, ""):
        return None
    number = number_of(value)
    if number is None or not 0 <= number < float("inf"):
        raise InputError(
            f"{where}, column {column!r}: {value!r:.60} is not a count; legal: a number from 0, or nothing"
        )
    return number
