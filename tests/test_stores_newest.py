"""Which rows are the newest of their keys, against the plainest way to say it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lore_mm.tables import ATTRIBUTES, LABELS, RUNS
from stores.newest import columns_of, made_at, newest_rows

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
made = st.lists(
    st.tuples(st.sampled_from(["a", "b", "ab"]), st.sampled_from(["", "b", "c"]), st.none() | st.integers(-2, 2)),
    max_size=14,
)


def when(minutes: int | None) -> datetime | None:
    return None if minutes is None else NOON + timedelta(microseconds=minutes)


def reader(rows: pa.Table, at_once: int = 3) -> Callable[[Sequence[str]], Iterator[pa.RecordBatch]]:
    return lambda names: iter(rows.select(list(names)).to_batches(max_chunksize=at_once))


def expected(rows: Sequence[tuple[str, str, int | None]]) -> list[int]:
    """The last of those with the latest time; no time is before all times."""
    best: dict[tuple[str, str], tuple[bool, int, int]] = {}
    for i, (one, two, minutes) in enumerate(rows):
        this = (minutes is not None, minutes or 0, i)
        best[one, two] = max(best.get((one, two), this), this)
    return sorted(i for _, _, i in best.values())


def positions(found: NDArray[Any] | None, n: int) -> list[int]:
    return list(range(n)) if found is None else found.tolist()


@settings(deadline=None)
@given(made)
def test_by_time_then_by_place(rows: list[tuple[str, str, int | None]]) -> None:
    table = pa.Table.from_pylist(
        [{"item_id": i, "extractor": e, "status": "ok", "provenance": {"made_at": when(m)}} for i, e, m in rows],
        schema=ATTRIBUTES,
    )
    assert positions(newest_rows(reader(table), "attributes"), len(rows)) == expected(rows)


@settings(deadline=None)
@given(made)
def test_by_place_alone_where_rows_have_no_time(rows: list[tuple[str, str, int | None]]) -> None:
    table = pa.Table.from_pylist([{"query_id": q, "item_id": i, "grade": "L1"} for q, i, _ in rows], schema=LABELS)
    assert positions(newest_rows(reader(table), "labels"), len(rows)) == expected([(q, i, 0) for q, i, _ in rows])


@settings(deadline=None)
@given(made)
def test_events_by_their_time(rows: list[tuple[str, str, int | None]]) -> None:
    table = pa.Table.from_pylist(
        [{"run_id": r, "job": "j", "event": e, "at": when(m or 0)} for r, e, m in rows], schema=RUNS
    )
    assert positions(newest_rows(reader(table), "runs"), len(rows)) == expected([(r, e, m or 0) for r, e, m in rows])


@settings(deadline=None)
@given(made)
def test_hashes_that_collide_are_told_apart_by_the_second(rows: list[tuple[str, str, int | None]]) -> None:
    """The first hash is of the first letter of a key, so that many collide."""
    table = pa.Table.from_pylist([{"query_id": q, "item_id": i, "grade": "L1"} for q, i, _ in rows], schema=LABELS)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stores.newest.pl.struct", lambda names: SimpleNamespace(hash=_hash))
        found = newest_rows(reader(table), "labels")
    assert positions(found, len(rows)) == expected([(q, i, 0) for q, i, _ in rows])


def _hash(seed: int) -> pl.Expr:
    first = pl.col("query_id").str.head(1).hash(0)
    return first if seed == 0 else pl.concat_str("query_id", pl.lit("\0"), "item_id").hash(1)


def test_nothing_is_held_where_no_key_stands_twice() -> None:
    """Only keys are read, and once."""
    rows = pa.Table.from_pylist([{"query_id": f"q{i}", "item_id": "i", "grade": "L1"} for i in range(9)], schema=LABELS)
    asked: list[Sequence[str]] = []

    def read(names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        asked.append(names)
        yield from reader(rows)(names)

    assert newest_rows(read, "labels") is None
    assert asked == [["query_id", "item_id"]]
    assert newest_rows(reader(rows.slice(0, 0)), "labels") is None


def test_columns_of_some_rows() -> None:
    rows = pa.table({"n": list(range(7))})
    only = np.array([True, False, False, True, True, False, True])
    n, twice = columns_of(reader(rows)(["n"]), [pl.col("n"), (pl.col("n") * 2).alias("twice")], only)
    assert (n.tolist(), twice.tolist()) == ([0, 3, 4, 6], [0, 6, 8, 12])


@pytest.mark.parametrize(("table", "kind"), [("attributes", "provenance"), ("runs", "at"), ("labels", None)])
def test_where_the_time_of_a_row_stands(table: str, kind: str | None) -> None:
    roots = made_at(table).meta.root_names()
    assert roots == ([] if kind is None else [kind])
