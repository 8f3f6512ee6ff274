"""A query log counted: how often each query was asked, in whatever case and spacing.

A log has a line for every search, or a line for every query with how often it was asked (column `frequency`, `count` or
`requests`). With a column `time`, `timestamp` or `at` the log is also cut at a moment, so that what was frequent before
can be held against what was asked after. It is read row by row; memory holds the distinct queries, some 200 bytes each.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from lore_mm.errors import InputError
from lore_mm.places import Place, place_of
from lore_mm.records import Records, open_records
from stores.features import FeatureStore
from stores.understood import query_key

__all__ = ["COUNTS", "TEXTS", "TIMES", "QueryLog", "log_of_store", "read_log"]

TEXTS = ("query", "search_term", "keyword", "q")
COUNTS = ("frequency", "count", "requests")
TIMES = ("time", "timestamp", "at", "date")
_HOUR_S = 3600
_LONGEST = 10_000  # characters of a query
_EARLIER = 0.8  # of the requests, up to the moment at which a log with times is cut


@dataclass(frozen=True, slots=True)
class QueryLog:
    """A log, counted.

    Attributes:
        queries: `query` (as it was typed most often), `requests` and, where the log has times, `later` (those of them
            from `cut` on); one row a query, the most frequent first, among equals by their text.
        rows: how many rows the log has.
        skipped: how many of them say no query, or were asked no times.
        counted: True where the log has a line a query with its count, False where it has a line a search.
        cut: the moment at which the log is cut.
    """

    queries: pl.DataFrame
    rows: int
    skipped: int
    counted: bool
    cut: datetime | None = None

    @property
    def requests(self) -> float:
        """All requests of the log."""
        return float(self.queries["requests"].sum())


def read_log(path: str | Path | Place) -> QueryLog:
    """Count the log of a file: Parquet, CSV, TSV, JSON lines or JSON, also packed as .gz.

    Raises:
        InputError: it cannot be read, has no column of queries, or no query; a count or a time is none (names the row).
    """
    records = open_records(place_of(path))
    columns = set(records.header) if records.header is not None else _first_columns(records)
    text, count, time = (_column(columns, names) for names in (TEXTS, COUNTS, TIMES))
    if text is None:
        has = ", ".join(sorted(columns)) or "none"
        raise InputError(f"{records.path}: no column of queries; legal: {', '.join(TEXTS)}; it has {has}")
    cut = None if time is None else _cut(_hours(records, text, count, time))
    return _counted(_rows(records, text, count, time), count is not None, cut, str(records.path))


def log_of_store(store: FeatureStore) -> QueryLog:
    """Count the log that was ingested into a store; a query without a frequency counts as asked once.

    Raises:
        InputError: the store has none, or none with a query.
    """
    if store.version("queries") is None:
        raise InputError(f"no queries in {store.uri} yet: name a LOG, or lore ingest --queries FILE")
    rows = store.latest("queries").select("query", pl.col("frequency").fill_null(1.0)).collect()
    return _counted(((text, n, None) for text, n in rows.iter_rows()), True, None, store.uri)


def _first_columns(records: Records) -> set[str]:
    for _, row in records:
        return set(row)
    raise InputError(f"{records.path}: it is empty")


def _column(columns: Iterable[str], names: Iterable[str]) -> str | None:
    lowered = {column.strip().lower(): column for column in columns}
    return next((lowered[name] for name in names if name in lowered), None)


_Row = tuple[str, float, float | None]  # the query, how often, when in seconds since 1970


def _rows(records: Records, text: str, count: str | None, time: str | None) -> Iterator[_Row]:
    for place, row in records:
        n = 1.0 if count is None else _number(row.get(count), records.where(place, count))
        yield str(row.get(text) or ""), n, None if time is None else _seconds(row.get(time), records.where(place, time))


def _number(value: Any, where: str) -> float:
    try:
        n = float(value)
    except (TypeError, ValueError):
        n = math.nan
    if not 0 <= n < math.inf:
        raise InputError(f"{where}: {str(value)[:40]!r} is no count; legal: a number, 0 or more")
    return n


def _seconds(value: Any, where: str) -> float:
    moment = value
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value.strip())
        except ValueError:
            moment = None
    if isinstance(moment, datetime):
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if isinstance(moment, int | float) and not isinstance(moment, bool) and 0 <= moment < 1e17:
        return float(moment) / (1000.0 if moment > 1e11 else 1.0)  # of seconds, 1e11 is the year 5138
    raise InputError(f"{where}: {str(value)[:40]!r} is no time; legal: ISO 8601, or seconds or milliseconds since 1970")


def _hours(records: Records, text: str, count: str | None, time: str) -> Mapping[int, float]:
    """Requests by hour since 1970."""
    hours: defaultdict[int, float] = defaultdict(float)
    for _, n, at in _rows(records, text, count, time):
        hours[int((at or 0) // _HOUR_S)] += n
    return hours


def _cut(hours: Mapping[int, float]) -> datetime | None:
    """The first full hour at which `_EARLIER` of the requests have come; None where all came in one hour."""
    wanted, before = _EARLIER * sum(hours.values()), 0.0
    for hour in sorted(hours)[:-1]:
        before += hours[hour]
        if before >= wanted or hour == sorted(hours)[-2]:
            return datetime.fromtimestamp((hour + 1) * _HOUR_S, UTC)
    return None


def _counted(rows: Iterable[_Row], counted: bool, cut: datetime | None, where: str) -> QueryLog:
    border = math.inf if cut is None else cut.timestamp()
    worded: dict[str, float] = {}  # as it was typed → requests
    later: dict[str, float] = {}
    n_rows = skipped = 0
    for text, n, at in rows:
        n_rows += 1
        text = text.strip()[:_LONGEST]
        if not text or not n:
            skipped += 1
            continue
        worded[text] = worded.get(text, 0.0) + n
        if at is not None and at >= border:
            later[text] = later.get(text, 0.0) + n
    frame = pl.DataFrame(
        {
            "key": [query_key(text) for text in worded],
            "query": list(worded),
            "requests": list(worded.values()),
            "later": [later.get(text, 0.0) for text in worded],
        },
        schema={"key": pl.String, "query": pl.String, "requests": pl.Float64, "later": pl.Float64},
    )
    if frame.is_empty():
        raise InputError(f"{where}: it has no query that was asked")
    typed = pl.col("query").sort_by("requests", "query", descending=[True, False]).first()
    grouped = frame.group_by("key").agg(typed, pl.col("requests", "later").sum())
    ordered = grouped.drop("key").sort("requests", "query", descending=[True, False])
    return QueryLog(ordered if cut else ordered.drop("later"), n_rows, skipped, counted, cut)
