"""Queries with gold demands: the project's own format, a line a query.

`query_id`, `query`, `split` (dev or test), `hard_type`, `referent` (precise, generic or null), `normalized` only where
its spelling is put right, and `demands`: objects of `dimension`, `words` as they stand in the query (with `start` where
they occur more than once), `canonical` (a value of the knowledge tables, several that are right, null where the tables
have none; not judged where the key is missing), `op`, `number`, `number_high`, `unit`, `polarity`, `strictness`, `role`
and `latent`. See examples/queries/README.md. It knows no engine and no metric.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

from lore_mm.errors import InputError, nearest
from lore_mm.records import kind_of, open_records
from lore_mm.schema import load_dimensions, load_hard_types
from lore_mm.types import Operator, Referent, Role, Strictness

__all__ = ["GOLD_SPLITS", "GoldDemand", "GoldQuery", "read_gold"]

GOLD_SPLITS = ("dev", "test")
_QUERY_KEYS = ("query_id", "query", "split", "hard_type", "referent", "normalized", "demands", "note")
_DEMAND_KEYS = (
    "dimension", "words", "start", "canonical", "op", "number", "number_high", "unit", "polarity", "strictness", "role",
    "latent", "note",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class GoldDemand:
    """One demand that is meant. [start, end) are characters of the query; a latent one has none.

    `canonical`: the values that are right, None among them where having none is; None as a whole where it is not
    judged. `number`, `number_high`, `unit`: None where not judged; `unit_judged` tells a unit that must be None from
    one that is not judged.
    """

    dimension: str
    words: str | None = None
    start: int | None = None
    end: int | None = None
    canonical: tuple[str | None, ...] | None = None
    op: Operator = "eq"
    number: float | None = None
    number_high: float | None = None
    unit: str | None = None
    unit_judged: bool = False
    polarity: int = 1
    strictness: Strictness = "hard"
    role: Role = "modifier"
    latent: bool = False


@dataclass(frozen=True, slots=True)
class GoldQuery:
    """A query with what is meant by it."""

    query_id: str
    text: str
    split: str
    hard_type: str
    referent: Referent | None
    normalized: str | None  # where its spelling is put right
    demands: tuple[GoldDemand, ...]

    @property
    def heads(self) -> tuple[GoldDemand, ...]:
        """The thing wanted, where it is said; two of them in a comparison, or where either will do."""
        return tuple(d for d in self.demands if d.role == "head" and not d.latent)


def read_gold(path: Path, split: str | None = None) -> list[GoldQuery]:
    """The queries of a file, of one split where it is named.

    Raises:
        InputError: no such file or split, or a row is wrong; it names the line, the key and the legal values.
    """
    if split is not None and split not in GOLD_SPLITS:
        raise InputError(f"split {split!r}{nearest(split, GOLD_SPLITS)}; legal: {', '.join(GOLD_SPLITS)}")
    records = open_records(path)
    queries: dict[str, GoldQuery] = {}
    for place, row in records:
        where = records.where(place)
        query = _query(row, where)
        if query.query_id in queries:
            raise InputError(f"{where}, column 'query_id': {query.query_id!r} is there twice")
        queries[query.query_id] = query
    chosen = [query for query in queries.values() if split in (None, query.split)]
    if not chosen:
        raise InputError(f"{path}: holds no queries" + (f" of split {split!r}" if queries else ""))
    return chosen


def _query(row: Mapping[str, Any], where: str) -> GoldQuery:
    _only(row, _QUERY_KEYS, where)
    text = _text(row, "query", where)
    demands = row.get("demands")
    if not isinstance(demands, list) or not all(isinstance(one, Mapping) for one in demands):
        raise InputError(f"{where}, column 'demands': {kind_of(demands)}; legal: a list of objects")
    referent = row.get("referent")
    if referent is not None:
        referent = _choice(row, "referent", get_args(Referent), where, None)
    normalized = row.get("normalized")
    if normalized is not None:
        normalized = _text(row, "normalized", where)
    found = tuple(_demand(one, text, f"{where}, demand {n}") for n, one in enumerate(demands, 1))
    _check_apart(found, where)
    return GoldQuery(
        _text(row, "query_id", where),
        text,
        _choice(row, "split", GOLD_SPLITS, where, None),
        _choice(row, "hard_type", tuple(load_hard_types()), where, None),
        referent,
        normalized,
        found,
    )


def _demand(row: Mapping[str, Any], text: str, where: str) -> GoldDemand:
    _only(row, _DEMAND_KEYS, where)
    latent = row.get("latent", False)
    if not isinstance(latent, bool):
        raise InputError(f"{where}, key 'latent': {kind_of(latent)}; legal: true or false")
    start, end = (None, None) if latent else _span(row, text, where)
    if latent and ("words" in row or "start" in row):
        raise InputError(f"{where}: a latent demand stands on no words of the query")
    if latent and "canonical" not in row and row.get("number") is None:
        raise InputError(f"{where}: a latent demand needs 'canonical' or 'number'")
    if row.get("polarity", 1) not in (1, -1):
        raise InputError(f"{where}, key 'polarity': {row['polarity']!r}; legal: 1, -1")
    unit = row.get("unit")
    if unit is not None and not isinstance(unit, str):
        raise InputError(f"{where}, key 'unit': {kind_of(unit)}; legal: text or null")
    return GoldDemand(
        dimension=_choice(row, "dimension", tuple(load_dimensions()), where, None),
        words=row.get("words"),
        start=start,
        end=end,
        canonical=_canonical(row, where),
        op=_choice(row, "op", get_args(Operator), where, "eq"),
        number=_number(row, "number", where),
        number_high=_number(row, "number_high", where),
        unit=unit,
        unit_judged="unit" in row,
        polarity=row.get("polarity", 1),
        strictness=_choice(row, "strictness", get_args(Strictness), where, "hard"),
        role=_choice(row, "role", get_args(Role), where, "modifier"),
        latent=latent,
    )


def _check_apart(demands: Sequence[GoldDemand], where: str) -> None:
    """No two demands stand on the same characters."""
    said = sorted((d.start, d.end, d.words) for d in demands if d.start is not None and d.end is not None)
    for (_, end, words), (start, _, others) in pairwise(said):
        if start < end:
            raise InputError(f"{where}: the demands on {words!r} and {others!r} overlap")


def _span(row: Mapping[str, Any], text: str, where: str) -> tuple[int, int]:
    """Where the words stand in the query."""
    words = _text(row, "words", where)
    start = row.get("start")
    if start is None:
        if text.count(words) > 1:
            raise InputError(f"{where}: {words!r} occurs more than once in {text!r}; say which by 'start'")
        start = text.find(words)
    elif isinstance(start, bool) or not isinstance(start, int):
        raise InputError(f"{where}, key 'start': {kind_of(start)}; legal: a whole number")
    if start < 0 or not text.startswith(words, start):
        raise InputError(f"{where}: {words!r} does not stand in {text!r}" + (f" at {start}" if start >= 0 else ""))
    return start, start + len(words)


def _canonical(row: Mapping[str, Any], where: str) -> tuple[str | None, ...] | None:
    if "canonical" not in row:
        return None
    given = row["canonical"]
    values = given if isinstance(given, list) else [given]
    if not values or not all(value is None or (isinstance(value, str) and value) for value in values):
        raise InputError(f"{where}, key 'canonical': legal: a text, null, or a list of these that is not empty")
    return tuple(values)


def _number(row: Mapping[str, Any], key: str, where: str) -> float | None:
    value = row.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{where}, key {key!r}: {kind_of(value)}; legal: a number")
    if not abs(value) <= sys.float_info.max:
        raise InputError(f"{where}, key {key!r}: not a finite number; legal: a number")
    return float(value)


def _text(row: Mapping[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where}, {key!r}: {'missing' if key not in row else kind_of(value)}; legal: text")
    return value


def _choice(row: Mapping[str, Any], key: str, legal: Sequence[str], where: str, default: str | None) -> Any:
    value = row.get(key, default)
    if not isinstance(value, str) or value not in legal:
        said = "missing" if key not in row else f"{value!r}{nearest(str(value), legal)}"
        raise InputError(f"{where}, {key!r}: {said}; legal: {', '.join(legal)}")
    return value


def _only(row: Mapping[str, Any], legal: Sequence[str], where: str) -> None:
    for key in row:
        if key not in legal:
            raise InputError(f"{where}: no key {key!r}{nearest(key, legal)}; legal: {', '.join(legal)}")
