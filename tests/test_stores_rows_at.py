"""Rows read back by place, and by key: the newest of each, whatever files and row groups they lie in."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stores.features
from jobs.carry import Carry
from lore_mm.errors import StoreError
from lore_mm.tables import QUERIES
from stores.features import open_store
from stores.rows_at import RowsAt


def queries(ids, text):
    return pa.Table.from_pylist([{"query_id": i, "query": f"{text} {i}"} for i in ids], schema=QUERIES)


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Ten keys in three commits; row groups of two rows."""
    monkeypatch.setattr(stores.features, "ROW_GROUP", 2)
    store = open_store(tmp_path / "store", create=True)
    store.append("queries", queries([f"q{i}" for i in range(7)], "first"))
    store.append("queries", queries(["q1", "q5"], "second"))
    store.append("queries", queries(["q7", "q8", "q9", "q0"], "third"))
    return store


def newest(store):
    return [row for batch in store.batches("queries", latest=True) for row in batch.to_pylist()]


@settings(max_examples=60, deadline=None)
@given(places=st.lists(st.integers(0, 9), unique=True))
def test_places_are_those_of_the_newest_rows(tmp_path_factory, places):
    global _made
    if not _made:
        store = open_store(tmp_path_factory.mktemp("store"), create=True)
        store.append("queries", queries([f"q{i}" for i in range(7)], "first"))
        store.append("queries", queries(["q1", "q5"], "second"))
        store.append("queries", queries(["q7", "q8", "q9", "q0"], "third"))
        _made = (store, newest(store))
    store, rows = _made
    taken = store.newest("queries").take(np.array(places, np.int64), ["query_id", "query"])
    wanted = [{name: rows[place][name] for name in ("query_id", "query")} for place in sorted(places)]
    assert taken.to_pylist() == wanted


_made = ()


def test_a_row_group_is_read_once_for_all_that_lie_in_it(store, monkeypatch):
    reader, read = store.newest("queries"), []
    real = RowsAt._fragment
    assert len(reader) == 10
    reader.take(np.arange(10), ["query"])
    # of three files with four, one and two groups; both rows of the first group have newer ones
    assert [key[:2] for key in reader._groups] == [(0, 1), (0, 2), (0, 3), (1, 0), (2, 0), (2, 1)]
    kept = {key: id(rows) for key, rows in reader._groups.items()}
    monkeypatch.setattr(RowsAt, "_fragment", lambda self, file: read.append(file) or real(self, file))
    assert reader.take(np.arange(10), ["query"]).num_rows == 10
    assert {key: id(rows) for key, rows in reader._groups.items()} == kept
    assert reader.take(np.zeros(0, np.int64), ["query"]).num_rows == 0


def test_few_row_groups_are_kept(store, monkeypatch):
    monkeypatch.setattr("stores.rows_at._KEPT_BYTES", 1)
    reader = store.newest("queries")
    assert reader.take(np.arange(10), ["query_id"]).num_rows == 10
    assert len(reader._groups) == 1


def test_rows_by_key(store):
    carry = Carry(store, "queries", "query_id", ["query"], store.version("queries"))
    found = carry.rows(["q0", "q4", "nobody", "q1", "q4"])
    assert [[row["query"] for row in rows] for rows in found] == [
        ["third q0"], ["first q4"], [], ["second q1"], ["first q4"],
    ]  # fmt: skip
    before = Carry(store, "queries", "query_id", ["query"], 1)
    assert [row["query"] for row in before.rows(["q1"])[0]] == ["first q1"]  # as it stood at that version
    assert Carry(store, "queries", "query_id", ["query"], None).rows(["q1"]) == [[]]
    assert carry.rows([]) == []


def test_nothing_is_read_before_it_is_wanted(store, monkeypatch):
    monkeypatch.setattr(type(store), "newest", lambda *args: pytest.fail("read"))
    carry = Carry(store, "queries", "query_id", ["query"], 2)
    assert carry.rows([]) == []


def test_a_file_that_is_gone_is_named(store):
    reader = store.newest("queries")
    for path in (store.folder / "queries").glob("*.parquet"):
        path.unlink()
    with pytest.raises(StoreError, match="cannot read table queries back"):
        reader.take(np.arange(3), ["query"])
