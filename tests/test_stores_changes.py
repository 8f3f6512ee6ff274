from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable

from lore_mm.tables import LABELS
from stores.changes import same_rows, touched_keys
from stores.compact import compact
from stores.features import FeatureStore, open_store


def labelled(store: FeatureStore, *pairs: tuple[str, str], grade: str = "L4") -> None:
    rows = [{"query_id": q, "item_id": i, "grade": grade, "reason": None} for q, i in pairs]
    store.append("labels", pa.Table.from_pylist(rows, schema=LABELS))


def keys(store: FeatureStore, old: int, new: int) -> list[tuple[str, str]] | None:
    found = touched_keys(store, "labels", old, new)
    return None if found is None else [(row["query_id"], row["item_id"]) for row in found.to_pylist()]


def store_of_three(folder: Path) -> FeatureStore:
    store = open_store(folder / "store", create=True)
    labelled(store, ("q1", "a"), ("q1", "b"))
    labelled(store, ("q2", "a"))
    labelled(store, ("q1", "b"), ("q3", "c"), grade="L1")
    return store


def test_what_commits_wrote(tmp_path: Path) -> None:
    store = store_of_three(tmp_path)
    last = store.version("labels")
    assert last is not None
    assert keys(store, last, last) == []
    assert keys(store, last - 1, last) == [("q1", "b"), ("q3", "c")]
    assert keys(store, last - 2, last) == [("q2", "a"), ("q1", "b"), ("q3", "c")]
    assert keys(store, last - 3, last) == [("q1", "a"), ("q1", "b"), ("q2", "a"), ("q3", "c")]
    assert keys(store, last - 2, last - 1) == [("q2", "a")]
    assert keys(store, last, last - 1) is None


def test_compaction_writes_nothing_new(tmp_path: Path) -> None:
    store = store_of_three(tmp_path)
    last = store.version("labels")
    assert last is not None
    DeltaTable(str(tmp_path / "store" / "labels")).optimize.compact()
    labelled(store, ("q9", "z"))
    now = store.version("labels")
    assert now == last + 2
    assert keys(store, last, now) == [("q9", "z")]
    assert keys(store, last - 1, now) == [("q1", "b"), ("q3", "c"), ("q9", "z")]


def test_whether_rows_are_the_same(tmp_path: Path) -> None:
    store = store_of_three(tmp_path)
    last = store.version("labels") or 0
    compact(store, "labels")
    now = store.version("labels") or 0
    assert now == last + 1
    assert same_rows(store, "labels", last, now) and same_rows(store, "labels", now, last)
    assert same_rows(store, "labels", last, last)
    assert not same_rows(store, "labels", last - 1, now)
    labelled(store, ("q9", "z"))
    assert not same_rows(store, "labels", last, now + 1)
    store.filesystem("labels").delete_file(f"_delta_log/{now:020}.json")
    assert not same_rows(store, "labels", last, now)  # it cannot be told


def test_what_was_vacuumed_cannot_be_told(tmp_path: Path) -> None:
    store = store_of_three(tmp_path)
    table = DeltaTable(str(tmp_path / "store" / "labels"))
    last = table.version()
    table.optimize.compact()
    table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
    now = store.version("labels")
    assert now is not None and now > last
    assert keys(store, last - 1, now) is None
    assert keys(store, last, now) == []


def test_a_log_without_an_entry_cannot_be_told(tmp_path: Path) -> None:
    store = store_of_three(tmp_path)
    last = store.version("labels")
    assert last is not None
    system = store.filesystem("labels")
    system.delete_file(f"_delta_log/{last - 1:020}.json")
    assert keys(store, last - 2, last) is None
    assert keys(store, last - 1, last) == [("q1", "b"), ("q3", "c")]
