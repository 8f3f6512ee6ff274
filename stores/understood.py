"""Stored understandings found by a query's text, and fitted to the text as it was asked.

Two texts are the same query where their keys are: `query_key` folds compatibility forms, case and Latin accents, and
makes each run of white space and control characters one space. Spans and words are then moved to the text asked, so
that "Red  Sofa" is served what was read of "red sofa". It does not know where rows lie (`stores.online` for LMDB,
`stores.snapshot` for the tables), nor who reads what is not found.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lore_mm.rows import provenance_from_row, understanding_from_row
from lore_mm.text import fold, normalize
from lore_mm.types import Demand, OtherReading, Provenance, Query, Understanding

__all__ = ["QueryIndex", "Understood", "fitted", "newer", "query_key", "understood_from_row"]

_Part = TypeVar("_Part", Demand, OtherReading)
_CLUSTER = re.compile("[^\u0300-\u036f][\u0300-\u036f]*|[\u0300-\u036f]+", re.DOTALL)  # a letter with its accents

_ASCII_RUN = re.compile(r"[^\s\x00-\x1f\x7f]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Understood:
    """An understanding from the store with what made it, and when (UTC)."""

    understanding: Understanding
    provenance: Provenance
    made_at: datetime | None = None


def query_key(text: str) -> str:
    """What a query is found by; texts of the same key are the same query. Empty for a text without letters."""
    return fold(normalize(text))


def understood_from_row(row: Mapping[str, Any]) -> Understood:
    """From a row of DEMANDS; the time may be in ISO 8601."""
    given = row.get("provenance") or {}
    made_at = given.get("made_at")
    if isinstance(made_at, str):
        made_at = datetime.fromisoformat(made_at)
    if made_at is not None and made_at.tzinfo is None:
        made_at = made_at.replace(tzinfo=UTC)
    return Understood(understanding_from_row(row), provenance_from_row(given), made_at)


def newer(one: Understood, other: Understood) -> Understood:
    """Which of two rows of the same key stands: the later made, and among those of one time the higher query id."""
    return max(
        one, other, key=lambda u: (u.made_at or datetime.min.replace(tzinfo=UTC), u.understanding.query.query_id)
    )


def fitted(found: Understood, text: str) -> Understood | None:
    """The understanding as one of `text`, which has the same key: spans and words are those of `text`.

    None where it has another key, or where the letters of the two texts cannot be laid beside one another.
    """
    understanding = found.understanding
    stored = understanding.query.text
    if stored == text:
        return found
    key = query_key(text)
    old, new = _places(stored, key), _places(text, key)
    if not old or not new:
        return None
    starts, ends = [start for start, _ in old], [end for _, end in old]

    def moved(start: int, end: int) -> tuple[int, int]:
        first, last = bisect_right(ends, start), bisect_left(starts, end) - 1
        return (new[first][0], new[last][1]) if first <= last else (new[0][0], new[0][0])

    def word(typed: str) -> str:
        at = stored.find(typed)
        return typed if at < 0 or not typed else text[slice(*moved(at, at + len(typed)))]

    def one(part: _Part) -> _Part:
        if part.start is None or part.end is None:
            return part
        start, end = moved(part.start, part.end)
        value = text[start:end] if part.value == stored[part.start : part.end] else part.value
        return replace(part, start=start, end=end, value=value)

    moved_there = replace(
        understanding,
        query=Query(understanding.query.query_id, text, understanding.query.frequency),
        normalized=understanding.normalized if understanding.corrections else normalize(text),
        demands=tuple(one(d) for d in understanding.demands),
        readings=tuple(one(r) for r in understanding.readings),
        corrections=tuple((word(typed), read) for typed, read in understanding.corrections),
    )
    return replace(found, understanding=moved_there)


def _places(text: str, key: str) -> list[tuple[int, int]] | None:
    """The span in the text of each letter of its key; None where the key is not made letter by letter."""
    letters: list[str] = []
    places: list[tuple[int, int]] = []
    if text.isascii():
        for run in _ASCII_RUN.finditer(text):
            if places:
                places.append((places[-1][1], run.start()))
            places += [(at, at + 1) for at in range(*run.span())]
        return places
    space: int | None = None
    for cluster in _CLUSTER.finditer(text):
        piece = query_key(cluster.group())
        if not piece:
            space = cluster.start() if space is None else space
            continue
        if space is not None and letters:
            letters.append(" ")
            places.append((space, cluster.start()))
        space = None
        letters += piece
        places += [cluster.span()] * len(piece)
    return places if "".join(letters) == key else None


class QueryIndex:
    """Which query ids have a text of a given key: one scan, then kept, in 16 bytes a query beside its id."""

    def __init__(self, batches: Iterable[pa.RecordBatch]) -> None:
        """From batches with the columns query_id, query and status; rows that failed are left out."""
        hashes: list[NDArray[np.int64]] = []
        ids: list[pa.Array[Any]] = []
        for batch in batches:
            good = batch.filter(pc.equal(batch.column("status"), pa.scalar("ok")))
            keys = (hash(query_key(text)) for text in map(str, good.column("query").to_pylist()))
            hashes.append(np.fromiter(keys, np.int64, good.num_rows))
            ids.append(good.column("query_id"))
        found = np.concatenate(hashes) if hashes else np.empty(0, np.int64)
        self._order = np.argsort(found, kind="stable")
        self._hashes = found[self._order]
        self._ids = pa.chunked_array(ids, pa.string())

    def __len__(self) -> int:
        """How many different keys there are."""
        return len(np.unique(self._hashes))

    def candidates(self, keys: Iterable[str]) -> list[str]:
        """The ids of all queries whose key is likely one of these: equal in a hash of 64 bits. Sorted."""
        wanted = np.array([hash(key) for key in keys], np.int64)
        lows, highs = (np.searchsorted(self._hashes, wanted, side) for side in ("left", "right"))
        rows = {int(row) for low, high in zip(lows, highs, strict=True) for row in self._order[low:high]}
        return sorted(str(self._ids[row]) for row in rows)
