"""What students learn from: a teacher's judgment of a pair, and the two texts that a student reads of it.

A judgment says how likely each level is and, on the legs of its path, what it thinks of each dimension that the query
demands. What cannot teach (a failed judgment, one without probabilities, an item without words) is left out and
counted; what cannot be read is refused with its place. This module knows no model and opens no store.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lore_mm.catalogue import read_items, read_labels
from lore_mm.errors import InputError, nearest
from lore_mm.fingerprint import sha_of
from lore_mm.records import open_records
from lore_mm.rows import item_from_row
from lore_mm.schema import load_dimensions
from lore_mm.text import fold, normalize
from lore_mm.types import Grade, ItemFeatures
from relevance.pair_text import item_text
from relevance.show import SHA_DIGITS

__all__ = [
    "Places",
    "Taught",
    "TaughtPair",
    "dimensions",
    "item_texts",
    "labels_of",
    "read_judgments",
    "split",
    "taught",
]

Places = Iterator[tuple[str, Mapping[str, Any]]]  # (where the row stands, as errors name it; the row of JUDGMENTS)
Key = tuple[str, str]  # query_id, item_id
_NEEDED = ("query_id", "item_id", "grade", "probabilities", "status")
_STATUS = ("ok", "failed", "skipped")


@dataclass(frozen=True, slots=True)
class TaughtPair:
    """A pair as it is taught. Levels are 1–4; 0 where there is none.

    `likely`: P(L1) … P(L4) by the teacher, whose grade is `grade`. `label` is people's. `levels`: by dimension, in the
    order of `dimensions()`, the worst level of its legs; 0 where the query does not demand it.
    """

    query_id: str
    item_id: str
    query: str
    item: str
    likely: tuple[float, float, float, float]
    grade: int
    label: int = 0
    levels: tuple[int, ...] = ()


@dataclass(frozen=True)
class Taught:
    """The pairs that can be learnt from, and the counts: of rows read, and of those left out by reason.

    `teachers`: the mode and the first digits of the sha of each judge that taught.
    """

    pairs: tuple[TaughtPair, ...]
    counts: Mapping[str, int] = field(default_factory=dict)
    teachers: tuple[str, ...] = ()


def dimensions() -> tuple[str, ...]:
    """The demand dimensions, in the order in which students are taught them."""
    return tuple(load_dimensions())


def read_judgments(paths: Sequence[str | Path]) -> Places:
    """The rows of files of judgments, as `lore judge --json` prints them or a table of JUDGMENTS holds them.

    Raises:
        InputError: a file cannot be read, or is of a kind that holds no paths.
    """
    for path in paths:
        records = open_records(Path(path))
        if records.textual:
            raise InputError(f"{path}: a table of texts holds no judgments; legal: .parquet, .jsonl, .json")
        for place, row in records:
            yield records.where(place), row


def item_texts(path: str | Path) -> dict[str, str]:
    """item_id → the text that a student reads, of a catalogue's file or folder; empty for an item without words.

    Raises:
        InputError: it cannot be read.
    """
    texts: dict[str, str] = {}
    for table in read_items(path):
        for row in table.to_pylist():
            texts[row["item_id"]] = "" if row["status"] != "ok" else item_text(ItemFeatures(item_from_row(row)))
    return texts


def labels_of(rows: Iterable[Mapping[str, Any]] | str | Path) -> dict[Key, int]:
    """People's grades, 1–4, by pair: of rows of LABELS, or of a file of them.

    Raises:
        InputError: a grade outside the scale, naming file, row and column.
    """
    listed = read_labels(rows).to_pylist() if isinstance(rows, str | Path) else rows
    return {(row["query_id"], row["item_id"]): int(Grade[row["grade"]]) for row in listed}


def taught(
    judgments: Places,
    items: Mapping[str, str],
    labels: Mapping[Key, int] | None = None,
    *,
    mode: str | None = None,
    queries: Mapping[str, str] | None = None,
) -> Taught:
    """What judgments teach; `queries` are texts that are read otherwise than they were typed (spelling).

    Raises:
        InputError: a row cannot be read, a pair is judged twice, several modes judged and none is named, or nothing is
            left.
    """
    counts: Counter[str] = Counter()
    seen: dict[Key, str] = {}
    modes: set[str] = set()
    teachers: set[str] = set()
    pairs = []
    for where, row in judgments:
        counts["rows"] += 1
        judged_by = str(row.get("mode") or "rules")
        modes.add(judged_by)
        if mode not in (None, judged_by):
            counts["of another mode"] += 1
            continue
        if mode is None and len(modes) > 1:
            raise InputError(f"{where}: judged by {judged_by}, others by another mode: name the teacher's by --mode")
        read = _pair(row, where, queries or {})
        key = read.query_id, read.item_id
        if key in seen:
            raise InputError(f"{where}: {key[0]} – {key[1]} is judged again; first: {seen[key]}")
        seen[key] = where
        if reason := _useless(row, read, items):
            counts[reason] += 1
            continue
        pairs.append(replace(read, item=items[read.item_id], label=(labels or {}).get(key, 0)))
        sha = (row.get("provenance") or {}).get("settings_sha") or ""
        teachers.add(f"{judged_by} {sha[:SHA_DIGITS]}".strip())
    if not pairs:
        others = f"; modes here: {', '.join(sorted(modes))}" if mode and mode not in modes else ""
        said = ", ".join(f"{n} {name}" for name, n in counts.items()) or "no rows"
        raise InputError(f"no judgment to learn from ({said}){others}")
    counts["taught"] = len(pairs)
    counts["labelled"] = sum(pair.label > 0 for pair in pairs)
    return Taught(tuple(pairs), dict(counts), tuple(sorted(teachers)))


def split(pairs: Sequence[TaughtPair], share: float, seed: int) -> tuple[list[TaughtPair], list[TaughtPair]]:
    """Pairs to learn from and pairs to measure on. A query is on one side, by lot of its text, whatever else there is.

    Raises:
        InputError: there are too few queries for both.
    """
    learn: list[TaughtPair] = []
    tell: list[TaughtPair] = []
    for pair in pairs:
        lot = int(sha_of([seed, fold(pair.query)])[:8], 16) / 16**8
        (tell if lot < share else learn).append(pair)
    if not learn or not tell:
        found = len({fold(pair.query) for pair in pairs})
        raise InputError(f"{found} queries cannot be split into those to learn from and {share:.0%} to measure on")
    return learn, tell


def _useless(row: Mapping[str, Any], read: TaughtPair, items: Mapping[str, str]) -> str | None:
    """Why a row that can be read teaches nothing."""
    if row["status"] != "ok":
        return "failed"
    if row["probabilities"] is None:
        return "without probabilities"
    if not read.query:
        return "without a query's text"
    return None if items.get(read.item_id) else "without an item's text"


def _pair(row: Mapping[str, Any], where: str, queries: Mapping[str, str]) -> TaughtPair:
    """A row as a pair without its item's text; all zeros where it did not come to a grade.

    Raises:
        InputError: what is wrong, and where.
    """
    for name in _NEEDED:
        if name not in row:
            raise InputError(f"{where}: no column {name!r}{nearest(name, row)}; it is no judgment")
    for name in ("query_id", "item_id"):
        if not isinstance(row[name], str) or not row[name]:
            raise InputError(f"{where}, column {name!r}: {row[name]!r:.60} is no id")
    if row["status"] not in _STATUS:
        raise InputError(f"{where}, column 'status': {row['status']!r:.60}; legal: {', '.join(_STATUS)}")
    typed = row.get("query") or ""
    if not isinstance(typed, str):
        raise InputError(f"{where}, column 'query': {typed!r:.60} is no text")
    ok = row["status"] == "ok"
    return TaughtPair(
        query_id=row["query_id"],
        item_id=row["item_id"],
        query=queries.get(typed) or normalize(typed),
        item="",
        likely=_likely(row["probabilities"], where),
        grade=_level(row["grade"], f"{where}, column 'grade'") if ok else 0,
        levels=_levels(row.get("legs"), where),
    )


def _likely(given: object, where: str) -> tuple[float, float, float, float]:
    if given is None:
        return 0.0, 0.0, 0.0, 0.0
    if isinstance(given, Sequence) and not isinstance(given, str) and len(given) == len(Grade):
        numbers = [float(one) for one in given if isinstance(one, int | float)]
        total = sum(numbers)
        if len(numbers) == len(Grade) and min(numbers) >= 0 and math.isfinite(total) and abs(total - 1) < 1e-3:
            p1, p2, p3, p4 = (one / total for one in numbers)
            return p1, p2, p3, p4
    raise InputError(
        f"{where}, column 'probabilities': {given!r:.80}; legal: 4 numbers from 0 that sum to 1, or nothing"
    )


def _level(given: object, where: str) -> int:
    if not isinstance(given, str) or given not in Grade.__members__:
        raise InputError(f"{where}: {given!r:.60} is no grade; legal: {', '.join(Grade.__members__)}")
    return int(Grade[given])


def _levels(legs: object, where: str) -> tuple[int, ...]:
    """The worst level of the legs of each dimension; a leg without a level says nothing."""
    names = dimensions()
    worst = [0] * len(names)
    if not isinstance(legs, list | tuple | None):
        raise InputError(f"{where}, column 'legs': {legs!r:.60} is no list")
    for number, leg in enumerate(legs or (), 1):
        here = f"{where}, column 'legs', leg {number}"
        demand = leg.get("demand") if isinstance(leg, Mapping) else None
        name = demand.get("dimension") if isinstance(demand, Mapping) else None
        if name not in names:
            raise InputError(f"{here}: dimension {name!r:.60}{nearest(str(name), names)}; legal: {', '.join(names)}")
        if leg.get("level") is not None:
            at, level = names.index(name), _level(leg["level"], here)
            worst[at] = min(worst[at] or level, level)
    return tuple(worst)
