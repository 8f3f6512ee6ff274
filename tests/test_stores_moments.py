from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from deltalake import DeltaTable

from lore_mm.errors import InputError, LoreError, StoreError
from lore_mm.types import Item
from stores.compact import compact
from stores.features import FeatureStore, open_store
from stores.moments import Commit, commits, moment_of, versions_at
from stores.retention import drop_replaced
from stores.snapshot import Snapshot
from stores.vacuum import vacuum
from tests.stored_past import at, found, put, put_items, set_clock, value


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    """Items at minutes 0 (made), 1 and 4; attributes at 2 (made), 3 and 5."""
    store = open_store(tmp_path / "store", create=True)
    put_items(store, 1, Item("a", "A"))
    put(store, found("a", "merge", 3, value("color", "red")))
    put_items(store, 4, Item("a", "New A"), Item("b", "B"))
    put(store, found("a", "merge", 5, value("color", "blue")), found("b", "merge", 5, value("color", "grey")))
    set_clock(store, "items", {0: at(0), 1: at(1), 2: at(4)})
    set_clock(store, "attributes", {0: at(2), 1: at(3), 2: at(5)})
    return store


def message(kind: type[LoreError], call) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_versions_at_a_time(store: FeatureStore) -> None:
    assert versions_at(store, at(0)) == {"items": 0}
    assert versions_at(store, at(1.5)) == {"items": 1}
    assert versions_at(store, at(2)) == {"items": 1, "attributes": 0}
    assert versions_at(store, at(4)) == {"items": 2, "attributes": 1}
    assert versions_at(store, at(4) - timedelta(milliseconds=1)) == {"items": 1, "attributes": 1}
    assert versions_at(store, at(600)) == store.snapshot() == {"items": 2, "attributes": 2}
    assert versions_at(store, "2026-03-01T12:03") == {"items": 1, "attributes": 1}
    assert versions_at(store, "2026-03-01T13:03+01:00") == {"items": 1, "attributes": 1}
    assert versions_at(store, " 2026-03-01 12:03:00Z") == {"items": 1, "attributes": 1}
    assert versions_at(store, "2026-03-02") == {"items": 2, "attributes": 2}
    assert versions_at(store, datetime(2026, 3, 1, 12, 3)) == {"items": 1, "attributes": 1}
    east = datetime(2026, 3, 1, 21, 3, tzinfo=timezone(timedelta(hours=9)))
    assert versions_at(store, east) == {"items": 1, "attributes": 1}


def test_versions_at_a_commit(store: FeatureStore) -> None:
    assert versions_at(store, "attributes@1") == {"items": 1, "attributes": 1}
    assert versions_at(store, "items@2") == {"items": 2, "attributes": 1}
    assert versions_at(store, "items@0") == {"items": 0}
    assert versions_at(store, "attributes@2") == {"items": 2, "attributes": 2}
    assert str(moment_of(store, "attributes@2")) == "attributes@2"
    assert moment_of(store, "attributes@2").at == at(5)


def test_clocks_that_go_backwards(store: FeatureStore) -> None:
    put(store, found("b", "merge", 6, value("color", "black")))
    put(store, found("b", "merge", 7, value("color", "white")))
    set_clock(store, "attributes", {1: at(10), 2: at(3), 3: at(9), 4: at(11)})  # the first one was an hour too fast
    assert [one.at for one in commits(store, "attributes")] == [at(2), at(10), at(10), at(10), at(11)]
    assert versions_at(store, at(9.5))["attributes"] == 0
    assert versions_at(store, at(10))["attributes"] == 3
    assert versions_at(store, "attributes@2") == {"items": 2, "attributes": 2}  # of three of one time, this one
    # what was visible at a moment is never less than what was visible before
    seen = [versions_at(store, at(minute)).get("attributes", -1) for minute in range(13)]
    assert seen == sorted(seen)


def test_a_snapshot_as_of(store: FeatureStore) -> None:
    then = Snapshot.as_of(store, "2026-03-01T12:04:30Z")
    assert then.versions == {"items": 2, "attributes": 1}
    features = then.get(["a", "b"])
    assert [one and one.item.title for one in features] == ["New A", "B"]
    assert [[v.value for v in one.attributes] for one in features if one] == [["red"], []]
    assert Snapshot.as_of(store, "items@1").sql("SELECT item_id, title FROM items").to_pylist() == [
        {"item_id": "a", "title": "A"}
    ]


def test_commits(store: FeatureStore) -> None:
    assert store.folder is not None
    table = DeltaTable(str(store.folder / "attributes"))
    table.optimize.compact()
    table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
    put(store, found("a", "given", 8, value("color", "red")))
    told = commits(store, "attributes")
    assert [(one.version, one.kind, one.rows) for one in told] == [
        (0, "created", 0),
        (1, "append", 1),
        (2, "append", 2),
        (3, "compaction", 0),
        (4, "vacuum", 0),
        (5, "vacuum", 0),
        (6, "append", 1),
    ]
    assert told[1] == Commit(1, at(3), "append", 1)
    assert versions_at(store, told[3].at) == {"items": 2, "attributes": 3}


def test_commits_of_upkeep(store: FeatureStore) -> None:
    before = store.version("attributes")
    assert before is not None
    compact(store, "attributes")
    told = commits(store, "attributes")[before + 1 :]
    assert told and {(one.kind, one.rows) for one in told} == {("compaction", 0)}
    compacted = store.version("attributes")
    assert compacted is not None
    assert drop_replaced(store, "attributes", 0) == 1
    told = commits(store, "attributes")[compacted + 1 :]
    assert told and {(one.kind, one.rows) for one in told} == {("retention", 0)}
    assert versions_at(store, f"attributes@{before}")["attributes"] == before
    assert Snapshot(store).history("a", "color")["value"].to_pylist() == ["blue"]
    assert Snapshot.as_of(store, "attributes@1").history("a", "color")["value"].to_pylist() == ["red"]
    vacuum(store, "attributes", 0)
    then, vacuumed = (
        Snapshot.as_of(store, "attributes@1"),
        "version 1 of attributes was vacuumed: its files are deleted",
    )
    for ask in (then.history, then.lineage):
        assert message(StoreError, lambda ask=ask: ask("a", "color")).startswith(vacuumed)
    assert message(StoreError, lambda: list(Snapshot(store).since("attributes@1"))).startswith(vacuumed)
    assert Snapshot(store).history("a", "color")["value"].to_pylist() == ["blue"]


def test_what_is_no_moment(store: FeatureStore) -> None:
    before = message(StoreError, lambda: versions_at(store, "2026-03-01T11:59:59Z"))
    assert before == (
        f"there was no store at {store.uri} at 2026-03-01T11:59:59+00:00: it began at 2026-03-01T12:00:00+00:00"
    )
    legal = "; legal: a time such as 2026-11-24 or 2026-11-24T09:30+01:00 (UTC unless it says otherwise), or a commit"
    for wrong in ("yesterday", "", "12", "2026-13-01", "0001-01-01T00:00+14:00", "Attributes@2"):
        assert message(InputError, lambda wrong=wrong: versions_at(store, wrong)).startswith(
            f"{wrong!r} is no moment{legal}"
        )
    assert message(StoreError, lambda: versions_at(store, "attribute@1")).startswith(
        "no table 'attribute', did you mean 'attributes'? legal tables: items,"
    )
    assert message(StoreError, lambda: versions_at(store, "labels@1")).startswith("no table labels in ")
    for wrong in ("7", "-1", "x", "1@2", "1.0", "٣", "9" * 5000):
        assert message(StoreError, lambda wrong=wrong: versions_at(store, f"items@{wrong}")) == (
            f"table items has versions 0 to 2, not {wrong}"
        )
    assert message(StoreError, lambda: versions_at(store, "items@")) == "table items has versions 0 to 2, not none"


def test_a_log_that_was_trimmed(store: FeatureStore) -> None:
    assert store.folder is not None
    DeltaTable(str(store.folder / "attributes")).create_checkpoint()
    for version in (0, 1):
        (store.folder / "attributes" / "_delta_log" / f"{version:020}.json").unlink()
    assert versions_at(store, at(5)) == {"items": 2, "attributes": 2}
    assert [one.version for one in commits(store, "attributes")] == [2]
    assert message(StoreError, lambda: versions_at(store, at(4))) == (
        f"what attributes in {store.uri} held at 2026-03-01T12:04:00+00:00 is not known: its log begins with version 2,"
        " of 2026-03-01T12:05:00+00:00"
    )
    assert message(StoreError, lambda: versions_at(store, "attributes@1")) == (
        "when attributes@1 was committed is not known: its entry of the log is gone"
    )


def test_an_entry_that_says_no_time_has_that_of_its_file(store: FeatureStore) -> None:
    assert store.folder is not None
    entry = store.folder / "attributes" / "_delta_log" / f"{2:020}.json"
    lines = [line for line in entry.read_text().splitlines() if "commitInfo" not in line]
    entry.write_text("\n".join(lines))
    os.utime(entry, (at(90).timestamp(), at(90).timestamp()))
    assert commits(store, "attributes")[-1] == Commit(2, at(90), "unknown", 2)
    assert versions_at(store, at(60)) == {"items": 2, "attributes": 1}


def test_a_broken_entry(store: FeatureStore) -> None:
    assert store.folder is not None
    (store.folder / "items" / "_delta_log" / f"{1:020}.json").write_text('{"commitInfo": ')
    for call in (lambda: versions_at(store, at(3)), lambda: commits(store, "items")):
        assert message(StoreError, call).startswith("cannot read ")
