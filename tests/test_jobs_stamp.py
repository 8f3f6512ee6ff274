"""The provenance of rows a job made: of the right input row, later than what it replaces, with the work's own sha."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from jobs.stamp import stamp
from lore_mm.tables import ATTRIBUTES, ITEMS

WORK: Any = SimpleNamespace(job="scripted", key=("item_id",), settings_sha="the work's")


def given(n: int) -> pa.Table:
    return pa.Table.from_pylist([{"item_id": f"i{i}", "title": "t", "status": "ok"} for i in range(n)], schema=ITEMS)


def made(*of: int, settings: dict[int, str] | None = None, pieces: int = 1) -> pa.Table:
    rows = [
        {
            "item_id": f"i{i}",
            "extractor": f"x{k}",
            "status": "ok",
            "provenance": {"maker": f"maker {k}", "settings_sha": (settings or {}).get(k), "run_id": "another"},
        }
        for k, i in enumerate(of)
    ]
    step = max(1, len(rows) // pieces)
    tables = [pa.Table.from_pylist(rows[k : k + step], schema=ATTRIBUTES) for k in range(0, len(rows), step)]
    return pa.concat_tables(tables) if tables else ATTRIBUTES.empty_table()


def told(rows: pa.Table, name: str) -> list[Any]:
    return [(row or {})[name] for row in rows["provenance"].to_pylist()]


def test_one_row_for_each_in_their_order() -> None:
    before = datetime.now(UTC)
    rows = stamp(WORK, "run-1", made(0, 1, 2), given(3), ["a", "b", "c"], None)
    after = datetime.now(UTC)
    assert rows.schema == ATTRIBUTES
    assert told(rows, "input_sha") == ["a", "b", "c"]
    assert told(rows, "run_id") == ["run-1"] * 3
    assert told(rows, "maker") == ["maker 0", "maker 1", "maker 2"]
    assert told(rows, "settings_sha") == ["the work's"] * 3
    (at,) = set(told(rows, "made_at"))
    assert before - timedelta(microseconds=1) <= at <= after


@pytest.mark.parametrize("pieces", [1, 3])
def test_several_rows_for_some_in_any_order(pieces: int) -> None:
    of = [2, 0, 0, 1, 2, 2]
    random.Random(1).shuffle(of)
    rows = stamp(WORK, "run-1", made(*of, pieces=pieces), given(3), ["a", "b", "c"], None)
    assert told(rows, "input_sha") == ["abc"[i] for i in of]
    assert rows["item_id"].to_pylist() == [f"i{i}" for i in of]
    assert rows.drop_columns("provenance").equals(made(*of).drop_columns("provenance"))


def test_settings_of_a_rows_own_are_kept() -> None:
    rows = stamp(WORK, "run-1", made(0, 1, 2, settings={1: "its own", 2: ""}), given(3), ["a", "b", "c"], None)
    assert told(rows, "settings_sha") == ["the work's", "its own", "the work's"]


def test_later_than_what_it_may_replace() -> None:
    """The newest row wins by its time, and a clock may have been set back."""
    future = datetime.now(UTC) + timedelta(days=400)
    rows = stamp(WORK, "run-1", made(0), given(1), ["a"], future)
    assert told(rows, "made_at") == [future + timedelta(microseconds=1)]
    past = datetime(2020, 1, 1, tzinfo=UTC)
    assert told(stamp(WORK, "run-1", made(0), given(1), ["a"], past), "made_at")[0] > past + timedelta(days=1)


def test_a_row_of_nothing_that_was_given() -> None:
    with pytest.raises(RuntimeError, match="scripted made a row with the key of none of its input rows"):
        stamp(WORK, "run-1", made(0, 5), given(2), ["a", "b"], None)


def test_nothing_made() -> None:
    rows = stamp(WORK, "run-1", made(), given(2), ["a", "b"], None)
    assert (rows.num_rows, rows.schema) == (0, ATTRIBUTES)
