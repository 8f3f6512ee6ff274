"""Tables kept open between appends: never another table than the one that is there, never behind it."""

from __future__ import annotations

import pickle
import shutil
import threading
from pathlib import Path

import pyarrow as pa
import pytest

from lore_mm.errors import StoreError
from lore_mm.tables import LABELS
from stores.compact import compact
from stores.features import FeatureStore, open_store
from stores.handles import Handles, stamp_of


def label(store: FeatureStore, query: str) -> int | None:
    row = {"query_id": query, "item_id": "i", "grade": "L1", "reason": None}
    return store.append("labels", pa.Table.from_pylist([row], schema=LABELS))


def queries(store: FeatureStore) -> list[str]:
    return store.scan("labels").collect()["query_id"].to_list()


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    store = open_store(tmp_path / "store", create=True)
    label(store, "q1")
    return store


@pytest.fixture
def folder(store: FeatureStore) -> Path:
    return Path(store.uri, "labels")


def test_kept_is_lent_once_and_at_the_present_version(store: FeatureStore) -> None:
    system, handles = store.filesystem("labels"), Handles()
    assert handles.take("labels", system) is None
    delta = store.open_table("labels")
    handles.keep("labels", delta, system)
    label(open_store(store.uri), "q2")  # by another
    taken = handles.take("labels", system)
    assert taken is delta
    assert taken.version() == 2
    assert handles.take("labels", system) is None


def test_given_up_at_a_checkpoint(store: FeatureStore, folder: Path) -> None:
    system, handles = store.filesystem("labels"), Handles()
    while not (written := list(folder.glob("_delta_log/*.checkpoint.parquet"))):
        handles.keep("labels", store.open_table("labels"), system)
        assert store.version("labels") != 100
        label(store, "q")
    assert handles.take("labels", system) is None
    handles.keep("labels", store.open_table("labels"), system)  # at the checkpoint itself
    assert store.version("labels") == int(written[0].name[:20])
    assert handles.take("labels", system) is None
    label(store, "q")
    handles.keep("labels", store.open_table("labels"), system)
    assert handles.take("labels", system) is not None


@pytest.mark.parametrize("remade", [False, True])
def test_a_table_that_was_deleted_between_two_appends(store: FeatureStore, folder: Path, remade: bool) -> None:
    """What the caller had appended is gone, and the rest alone must not look whole."""
    label(store, "q2")
    shutil.rmtree(folder)
    if remade:
        other = open_store(store.uri, create=True)
        for i in range(3):
            label(other, f"other {i}")
    with pytest.raises(StoreError, match="deleted, replaced or set back while in use"):
        label(store, "q3")
    assert folder.exists() == remade
    if remade:
        assert queries(store) == ["other 0", "other 1", "other 2"]
    label(open_store(store.uri, create=True), "who opens it anew may go on")


def test_a_table_that_was_set_back_between_two_appends(store: FeatureStore, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "earlier")
    label(store, "q2")
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "earlier", folder)
    with pytest.raises(StoreError, match="deleted, replaced or set back while in use"):
        label(store, "q3")
    assert queries(open_store(store.uri)) == ["q1"]


def test_a_table_that_was_put_back_as_it_was(store: FeatureStore, folder: Path, tmp_path: Path) -> None:
    """From a copy, whatever its files' times: the same rows are there, and it goes on."""
    label(store, "q2")
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copy)
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "copy", folder, copy_function=shutil.copy)
    assert label(store, "q3") == 3
    assert queries(store) == ["q1", "q2", "q3"]


def test_a_table_that_was_compacted_between_two_appends(store: FeatureStore) -> None:
    label(store, "q2")
    compact(open_store(store.uri), "labels")
    label(store, "q3")
    assert queries(store) == ["q1", "q2", "q3"]
    assert len(store.files("labels")) == 2


def test_many_threads_append_by_one_store(store: FeatureStore) -> None:
    def some(name: str) -> None:
        for i in range(4):
            label(store, f"{name} {i}")

    threads = [threading.Thread(target=some, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = queries(store)
    assert sorted(found) == sorted(["q1", *(f"t{n} {i}" for n in range(4) for i in range(4))])
    for n in range(4):
        assert [q for q in found if q.startswith(f"t{n} ")] == [f"t{n} {i}" for i in range(4)]


def test_what_tells_a_commit_from_another(store: FeatureStore, folder: Path) -> None:
    delta, system = store.open_table("labels"), store.filesystem("labels")
    first = stamp_of(delta, system)
    assert first is not None
    assert stamp_of(delta, system) == first
    entry = folder / "_delta_log" / f"{1:020}.json"
    entry.write_bytes(entry.read_bytes() + b"\n")
    assert stamp_of(delta, system) not in (None, first)
    entry.unlink()
    assert stamp_of(delta, system) is None


def test_another_process_opens_its_own(store: FeatureStore) -> None:
    handles = Handles()
    handles.keep("labels", store.open_table("labels"), store.filesystem("labels"))
    assert pickle.loads(pickle.dumps(handles)).take("labels", store.filesystem("labels")) is None
    assert pickle.loads(pickle.dumps(store)).version("labels") == 1
