"""Compaction, vacuum and retention: every row where it was, no file gone that somebody needs, no newest row lost."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError
from hypothesis import given, settings
from hypothesis import strategies as st

import stores.vacuum
from lore_mm.errors import InputError, StoreError
from lore_mm.tables import ATTRIBUTES, LABELS, RUNS
from stores.changes import touched_keys
from stores.compact import compact, foreseen
from stores.features import FeatureStore, open_store
from stores.retention import drop_replaced
from stores.rewrite import Target, Upkeep
from stores.table_files import ordered_files
from stores.vacuum import vacuum

NOON = datetime(2020, 1, 1, 12, tzinfo=UTC)


def label(store: FeatureStore, query: str, grade: str = "L4", rows: int = 1, start: int = 0) -> None:
    made = [{"query_id": query, "item_id": f"i{start + i}", "grade": grade, "reason": None} for i in range(rows)]
    store.append("labels", pa.Table.from_pylist(made, schema=LABELS))


def extract(store: FeatureStore, *made: tuple[str, int, str]) -> None:
    """Rows of ATTRIBUTES: item, minutes after noon, what was found."""
    rows = [
        {
            "item_id": item,
            "extractor": "given",
            "attributes": [{"name": "color", "value": value, "status": "value"}],
            "status": "ok",
            "provenance": {"run_id": "r", "made_at": NOON + timedelta(minutes=minutes)},
        }
        for item, minutes, value in made
    ]
    store.append("attributes", pa.Table.from_pylist(rows, schema=ATTRIBUTES))


def all_rows(store: FeatureStore, table: str) -> pl.DataFrame:
    return store.scan(table).collect()


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return open_store(tmp_path / "store", create=True)


def shift_log(store: FeatureStore, table: str, days: float) -> None:
    """As if everything had happened so many days earlier, for who asks the files and the log."""
    seconds = days * 86_400
    for path in (Path(store.uri) / table).rglob("*"):
        if path.suffix == ".json" and path.name[0].isdigit():
            text = path.read_text()
            for key in ("deletionTimestamp", "modificationTime"):
                parts = text.split(f'"{key}":')
                text = parts[0]
                for part in parts[1:]:
                    digits = part[: len(part) - len(part.lstrip("0123456789"))]
                    text += f'"{key}":{int(digits) - int(seconds * 1000)}{part[len(digits) :]}'
            path.write_text(text)
        if path.is_file():
            then = path.stat().st_mtime - seconds
            os.utime(path, (then, then))


# ---------------------------------------------------------------------------------------------------------- compaction


def test_small_files_become_one_and_every_row_keeps_its_place(store: FeatureStore) -> None:
    for i in range(12):
        label(store, f"q{i % 3}", f"L{i % 4 + 1}", rows=i % 3 + 1)
    before, newest = all_rows(store, "labels"), store.latest("labels").collect()
    assert foreseen(store, "labels").files == 1
    done = compact(store, "labels")
    assert (done.files_before, done.files) == (12, 1)
    assert done.bytes < done.bytes_before
    assert all_rows(store, "labels").equals(before)
    assert store.latest("labels").collect().equals(newest)
    assert pa.Table.from_batches(store.batches("labels")).equals(before.to_arrow().cast(LABELS))
    assert store.count("labels") == before.height
    assert foreseen(store, "labels") == foreseen(store, "labels", Target(rows=1))


def test_what_is_compact_is_left_alone(store: FeatureStore) -> None:
    label(store, "q")
    version = store.version("labels")
    assert compact(store, "labels").files == 1
    label(store, "q")
    compact(store, "labels")
    now = store.version("labels")
    assert now == (version or 0) + 2
    assert compact(store, "labels").files == 1
    assert store.version("labels") == now


def test_large_files_stay_and_only_neighbours_are_merged(store: FeatureStore) -> None:
    for rows in (1, 1, 50, 1, 1, 1, 50, 1):
        label(store, f"q{rows}", rows=rows)
    before, large = all_rows(store, "labels"), [store.files("labels")[i] for i in (2, 6)]
    done = compact(store, "labels", Target(rows=40))
    assert (done.files_before, done.files) == (8, 5)
    assert [file for file in store.files("labels") if file in large] == large
    assert all_rows(store, "labels").equals(before)


def test_files_are_closed_at_their_size(store: FeatureStore) -> None:
    for i in range(20):
        label(store, f"q{i}", rows=10)
    before = all_rows(store, "labels")
    assert compact(store, "labels", Target(rows=45)).files == 4
    assert [file.rows for file in ordered_files(store.open_table("labels"), "labels")] == [50] * 4
    assert all_rows(store, "labels").equals(before)
    assert compact(store, "labels", Target(n_bytes=20_000)).files == 1


def test_files_of_one_millisecond_stay_together(store: FeatureStore) -> None:
    """Their order is that of their names, which the new file has none of."""
    for i in range(6):
        label(store, f"q{i}")
    log = Path(store.uri, "labels", "_delta_log")
    for entry in sorted(log.glob("*.json"))[1:]:
        parts = entry.read_text().split('"modificationTime":')
        entry.write_text(parts[0] + '"modificationTime":1700000000000' + parts[1].lstrip("0123456789"))
    again = open_store(store.uri)
    before = all_rows(again, "labels")
    assert compact(again, "labels", Target(rows=5)).files == 6  # too many rows together to be small
    assert compact(again, "labels").files == 1
    assert all_rows(again, "labels").equals(before)


def test_nothing_was_written_and_all_versions_can_be_read(store: FeatureStore) -> None:
    for i in range(5):
        label(store, f"q{i}")
    old = store.version("labels") or 0
    then = store.scan("labels", old - 2).collect()
    compact(store, "labels")
    now = store.version("labels") or 0
    assert now > old
    touched = touched_keys(store, "labels", old, now)
    assert touched is not None and touched.num_rows == 0
    touched = touched_keys(store, "labels", old - 1, now)
    assert touched is not None and touched["query_id"].to_pylist() == ["q4"]
    assert store.scan("labels", old - 2).collect().equals(then)
    assert store.scan("labels", old).collect().equals(all_rows(store, "labels"))


def test_exactly_once_holds_behind_a_compaction(store: FeatureStore) -> None:
    rows = pa.Table.from_pylist([{"query_id": "q", "item_id": "i", "grade": "L1", "reason": None}], schema=LABELS)
    for n in range(4):
        store.append("labels", rows, ("app", n))
    compact(store, "labels")
    for held in (store, open_store(store.uri)):
        assert held.last_transaction("labels", "app") == 3
        assert held.append("labels", rows, ("app", 3)) is None
    assert store.append("labels", rows, ("app", 4)) is not None
    assert store.count("labels") == 5


def test_a_table_of_an_earlier_version_stays_one(store: FeatureStore) -> None:
    """Columns, and fields within lists, that came later: the merged file has those that the table has."""
    earlier = pa.schema([field for field in RUNS if field.name != "worker"])
    DeltaTable.create(f"{store.uri}/runs", schema=earlier)
    for i in range(3):
        rows = pa.Table.from_pylist([{"run_id": f"r{i}", "job": "j", "event": "e", "at": NOON}], schema=earlier)
        write_deltalake(f"{store.uri}/runs", rows, mode="append")
    before = all_rows(store, "runs")
    assert compact(store, "runs").files == 1
    assert "worker" not in pq.read_schema(store.files("runs")[0]).names
    assert all_rows(store, "runs").equals(before)
    row = {"run_id": "r9", "job": "j", "event": "e", "at": NOON, "worker": "w"}
    store.append("runs", pa.Table.from_pylist([row], schema=RUNS))
    assert compact(store, "runs").files == 1
    assert all_rows(store, "runs")["worker"].to_list() == [None, None, None, "w"]


def test_a_file_that_came_in_between_is_not_moved(store: FeatureStore) -> None:
    """Its writer's clock is behind: it belongs among the files that were being merged."""
    for i in range(4):
        label(store, f"q{i}")
        time.sleep(0.003)
    upkeep = Upkeep(store, "labels")
    late = upkeep.groups[1][0].written_ms
    label(store, "late")
    entry = sorted(Path(store.uri, "labels", "_delta_log").glob("*.json"))[-1]
    parts = entry.read_text().split('"modificationTime":')
    entry.write_text(parts[0] + f'"modificationTime":{late}' + parts[1].lstrip("0123456789"))
    there = sorted(os.listdir(Path(store.uri, "labels")))
    assert upkeep.replace(upkeep.groups, Target()) is None
    assert sorted(os.listdir(Path(store.uri, "labels"))) == there
    again = open_store(store.uri)
    before = all_rows(again, "labels")
    assert before["query_id"].to_list()[-1] != "late"
    assert compact(again, "labels").files == 1
    assert all_rows(again, "labels").equals(before)


def test_of_two_who_merge_the_same_files_one_does(store: FeatureStore) -> None:
    for i in range(4):
        label(store, f"q{i}")
    before = all_rows(store, "labels")
    first, second = Upkeep(store, "labels"), Upkeep(store, "labels")
    assert first.replace(first.groups, Target()) is not None
    assert second.replace(second.groups, Target()) is None
    assert all_rows(store, "labels").equals(before)
    assert len(list(Path(store.uri, "labels").glob("*merged*"))) == 1


def test_a_commit_whose_answer_was_lost_is_seen(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on the way to a bucket: it stands, and the file that it names must not be deleted."""
    for i in range(4):
        label(store, f"q{i}")
    before, upkeep = all_rows(store, "labels"), Upkeep(store, "labels")
    real = upkeep._delta

    class Lossy:
        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

        def create_write_transaction(self, *arguments: object, **options: object) -> None:
            real.create_write_transaction(*arguments, **options)  # type: ignore[arg-type]
            raise CommitFailedError("no answer")

    monkeypatch.setattr(upkeep, "_delta", Lossy())
    monkeypatch.setattr("stores.rewrite.stamp_of", lambda delta, system: (1, 1))
    upkeep._stamp = (1, 1)
    assert upkeep.replace(upkeep.groups, Target()) is not None
    assert all_rows(store, "labels").equals(before)


def _append_many(uri: str, name: str, n: int) -> None:
    store = open_store(uri)
    for i in range(n):
        label(store, name, rows=2, start=2 * i)


def _compact_till(uri: str, stop: str) -> None:
    store = open_store(uri)
    while not Path(stop).exists():
        compact(store, "labels")


@pytest.mark.parametrize(
    ("worker", "n"),
    [(threading.Thread, 6), pytest.param(multiprocessing.get_context("spawn").Process, 25, marks=pytest.mark.slow)],
    ids=["threads", "processes"],
)
def test_four_append_and_two_compact(store: FeatureStore, tmp_path: Path, worker: Any, n: int) -> None:
    label(store, "first")
    stop = tmp_path / "stop"
    writers = [worker(target=_append_many, args=(store.uri, f"w{i}", n)) for i in range(4)]
    others = [worker(target=_compact_till, args=(store.uri, str(stop))) for _ in range(2)]
    for one in (*writers, *others):
        one.start()
    for one in writers:
        one.join(120)
    stop.touch()
    for one in others:
        one.join(120)
    assert not any(getattr(one, "exitcode", 0) for one in (*writers, *others))
    rows = all_rows(store, "labels")
    for i in range(4):  # nothing lost, nothing twice, and each writer's rows in the order of its commits
        assert rows.filter(query_id=f"w{i}")["item_id"].to_list() == [f"i{k}" for k in range(2 * n)]
    assert rows.height == 4 * 2 * n + 1
    compact(store, "labels")
    assert all_rows(store, "labels").equals(rows)
    assert len(store.files("labels")) == 1


def test_what_cannot_be_compacted(store: FeatureStore, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no table labels in"):
        compact(store, "labels")
    for i in range(3):
        label(store, f"q{i}")
    upkeep = Upkeep(store, "labels")
    shutil.copytree(store.uri, tmp_path / "copy")
    shutil.rmtree(store.uri)
    with pytest.raises(StoreError, match="cannot compact labels in"):
        upkeep.replace(upkeep.groups, Target())
    assert not Path(store.uri).exists()
    for i in range(3):
        label(open_store(store.uri, create=True), f"other {i}")
    with pytest.raises(StoreError, match="cannot compact labels in"):
        upkeep.replace(upkeep.groups, Target())
    shutil.rmtree(store.uri)
    shutil.copytree(tmp_path / "copy", store.uri)
    Path(store.files("labels")[1]).write_bytes(b"PAR1 no more")
    with pytest.raises(StoreError, match="cannot compact labels in") as caught:
        compact(store, "labels")
    assert "\n" not in str(caught.value)
    assert not list(Path(store.uri, "labels").glob("*merged*"))


# -------------------------------------------------------------------------------------------------------------- vacuum


def data_files(store: FeatureStore) -> set[str]:
    return {path.name for path in Path(store.uri, "labels").glob("*.parquet")}


def test_only_what_was_taken_out_long_enough_ago_is_deleted(store: FeatureStore) -> None:
    for i in range(3):
        label(store, f"q{i}")
    old = store.version("labels") or 0
    compact(store, "labels")
    label(store, "q9")
    before, there = all_rows(store, "labels"), data_files(store)
    assert vacuum(store, "labels", 1).files == 0
    would = vacuum(store, "labels", 0, dry_run=True)
    assert (would.files, data_files(store)) == (3, there)
    assert store.scan("labels", old).collect().height == 3
    assert vacuum(store, "labels", 0) == would
    assert data_files(store) == {Path(file).name for file in store.files("labels")}
    assert all_rows(store, "labels").equals(before)
    assert vacuum(store, "labels", 0).files == 0


def test_after_days(store: FeatureStore) -> None:
    for i in range(3):
        label(store, f"q{i}")
    compact(store, "labels")
    shift_log(store, "labels", 5)
    label(store, "q3")
    compact(store, "labels")
    assert vacuum(store, "labels", 6).files == 0
    assert vacuum(store, "labels", 4).files == 3 + 1  # and a checkpoint that another has followed
    assert store.scan("labels").collect().height == 4


def test_a_vacuumed_version_says_so(store: FeatureStore) -> None:
    from stores.snapshot import Snapshot

    for i in range(3):
        label(store, f"q{i}")
    old = store.version("labels") or 0
    pinned = Snapshot(store)
    compact(store, "labels")
    now = store.version("labels") or 0
    vacuum(store, "labels", 0)
    said = f"version {old} of labels was vacuumed: its files are deleted; versions from {now} on can be read"
    for ask in (
        lambda: list(store.batches("labels", version=old)),
        lambda: list(store.batches("labels", version=old, latest=True)),
        lambda: store.scan("labels", old),
        lambda: store.latest("labels", old),
        lambda: store.newest("labels", old),
        lambda: store.files("labels", old),
        lambda: Snapshot(store, {"labels": old}).sql("SELECT * FROM labels"),
        lambda: pinned.sql("SELECT * FROM labels"),
    ):
        with pytest.raises(StoreError, match=said):
            ask()
    assert store.scan("labels", now).collect().height == 3
    assert store.scan("labels", 0).collect().height == 0  # it needed none
    assert touched_keys(store, "labels", old - 1, now) is None
    with pytest.raises(StoreError, match="versions 0 to"):
        store.scan("labels", now + 1)


def test_a_version_that_goes_while_it_is_read(store: FeatureStore) -> None:
    for i in range(3):
        label(store, f"q{i}", rows=100)
    reading = store.batches("labels", version=store.version("labels"), rows=10)
    next(reading)
    compact(store, "labels")
    vacuum(store, "labels", 0)
    with pytest.raises(StoreError, match="was vacuumed"):
        list(reading)


def test_versions_that_are_kept(store: FeatureStore) -> None:
    for i in range(6):
        label(store, f"q{i}")
        if i % 2:
            compact(store, "labels")
    versions = range((store.version("labels") or 0) + 1)
    before = {v: store.scan("labels", v).collect() for v in versions}
    vacuum(store, "labels", 0, keep=[2, 8])
    for v in (2, 8, versions[-1]):
        assert store.scan("labels", v).collect().equals(before[v])
    with pytest.raises(StoreError, match="version 4 of labels was vacuumed"):
        store.scan("labels", 4)


def test_what_dead_writers_left_goes_after_a_day(store: FeatureStore) -> None:
    label(store, "q")
    folder = Path(store.uri, "labels")
    left = [folder / name for name in ("part-0-dead.parquet", "part-0-dead.parquet#1", "_delta_log/1.json.tmp")]
    for path in left:
        path.write_bytes(b"half")
    strange = folder / "notes.txt"
    strange.write_text("somebody's own")
    assert vacuum(store, "labels", 0).files == 0  # they may be of a writer at work
    for path in (*left, strange):
        os.utime(path, (time.time() - 2 * 86_400,) * 2)
    assert vacuum(store, "labels", 3).files == 0
    assert vacuum(store, "labels", 0).files == 3
    assert not any(path.exists() for path in left)
    assert strange.exists()
    assert all_rows(store, "labels").height == 1


def test_old_checkpoints_go_and_every_version_can_still_be_read(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores.vacuum, "_KEPT_CHECKPOINTS", 4)
    for i in range(7):
        label(store, f"q{i}")
        store.open_table("labels").create_checkpoint()
    shift_log(store, "labels", 2)
    assert vacuum(store, "labels", 1).files == 5
    log = Path(store.uri, "labels", "_delta_log")
    assert sorted(int(p.name[:20]) for p in log.glob("*.checkpoint.parquet")) == [3, 7]
    for version in range(8):
        assert open_store(store.uri).scan("labels", version).collect().height == version


@pytest.mark.parametrize("days", [-1, float("nan"), float("inf")])
def test_no_number_of_days(store: FeatureStore, days: float) -> None:
    label(store, "q")
    with pytest.raises(InputError, match="legal: 0 and more"):
        vacuum(store, "labels", days)
    with pytest.raises(InputError, match="legal: 0 and more"):
        drop_replaced(store, "labels", days)


# ----------------------------------------------------------------------------------------------------------- retention


def test_replaced_rows_go_and_the_newest_stay(store: FeatureStore) -> None:
    extract(store, ("a", 0, "red"), ("b", 0, "red"))
    extract(store, ("a", 2, "blue"), ("c", 0, "red"))
    extract(store, ("a", 1, "older, and came later"))
    extract(store, ("d", 0, "red"))
    newest, old = store.latest("attributes").collect(), store.version("attributes") or 0
    alone = store.files("attributes")[3]
    assert drop_replaced(store, "attributes", 0, dry_run=True) == 2
    assert store.version("attributes") == old
    assert drop_replaced(store, "attributes", 0) == 2
    assert store.latest("attributes").collect().equals(newest)
    assert all_rows(store, "attributes").equals(newest)
    assert store.files("attributes")[-1] == alone
    assert store.scan("attributes", old).collect().height == 6
    touched = touched_keys(store, "attributes", old, store.version("attributes") or 0)
    assert touched is not None and set(touched["item_id"].to_pylist()) >= {"a"}
    assert drop_replaced(store, "attributes", 0) == 0


def test_a_file_of_which_nothing_stays(store: FeatureStore) -> None:
    label(store, "q", "L1", rows=3)
    label(store, "q", "L2", rows=3)
    assert drop_replaced(store, "labels", 0) == 3
    assert all_rows(store, "labels")["grade"].to_list() == ["L2"] * 3
    assert len(store.files("labels")) == 1


def test_what_was_replaced_lately_stays(store: FeatureStore) -> None:
    for grade in ("L1", "L2"):
        label(store, "q", grade)
    shift_log(store, "labels", 10)
    again = open_store(store.uri)
    label(again, "q", "L3")
    assert drop_replaced(again, "labels", 11) == 0
    assert drop_replaced(again, "labels", 9) == 1  # L1, and not L2, which was the newest nine days ago
    assert all_rows(again, "labels")["grade"].to_list() == ["L2", "L3"]


def test_compaction_does_not_make_rows_young(store: FeatureStore) -> None:
    """Where rows say when they were made; where they do not, they count as old as the last of their file."""
    extract(store, ("a", 0, "red"), ("a", 1, "blue"))
    label(store, "q", "L1")
    label(store, "q", "L2")
    for table in ("attributes", "labels"):
        shift_log(store, table, 10)
    again = open_store(store.uri)
    now = (datetime.now(UTC) - NOON).total_seconds() // 60
    extract(again, ("a", int(now), "green"))
    label(again, "p", "L3")
    for table in ("attributes", "labels"):
        assert compact(again, table).files == 1
    assert drop_replaced(again, "attributes", 5) == 1
    assert [row["attributes"][0]["value"] for row in all_rows(again, "attributes").to_dicts()] == ["blue", "green"]
    assert drop_replaced(again, "labels", 5) == 0
    assert drop_replaced(again, "labels", 0) == 1


def test_events_replace_nothing(store: FeatureStore) -> None:
    row = {"run_id": "r", "job": "j", "event": "resumed", "at": NOON}
    for _ in range(3):
        store.append("runs", pa.Table.from_pylist([row], schema=RUNS))
    assert drop_replaced(store, "runs", 0) == 0
    assert store.count("runs") == 3


steps = st.lists(
    st.one_of(
        st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 3), st.sampled_from("xyz")), min_size=1, max_size=4),
        st.sampled_from(["compact", "drop", "vacuum"]),
    ),
    min_size=3,
    max_size=9,
)


@settings(max_examples=12, deadline=None)
@given(steps=steps)
def test_in_whatever_order(steps: list[object], tmp_path_factory: pytest.TempPathFactory) -> None:
    """`latest` is what a model says it is, and the order of all rows never changes."""
    store = open_store(tmp_path_factory.mktemp("any") / "store", create=True)
    extract(store, ("z", 0, "first"))
    rows: list[tuple[str, int, str]] = [("z", 0, "first")]
    for step in steps:
        if isinstance(step, list):
            extract(store, *step)
            rows += step
        elif step == "compact":
            compact(store, "attributes", Target(rows=20))
        elif step == "vacuum":
            vacuum(store, "attributes", 0)
        else:
            rows = [row for i, row in enumerate(rows) if i in newest_of(rows)]
            drop_replaced(store, "attributes", 0, Target(rows=3))
        assert told(all_rows(store, "attributes")) == rows
    assert told(store.latest("attributes").collect()) == [row for i, row in enumerate(rows) if i in newest_of(rows)]


def newest_of(rows: list[tuple[str, int, str]]) -> set[int]:
    best: dict[str, tuple[int, int]] = {}
    for i, (item, minutes, _) in enumerate(rows):
        best[item] = max(best.get(item, (-1, -1)), (minutes, i))
    return {i for _, i in best.values()}


def told(rows: pl.DataFrame) -> list[tuple[str, int, str]]:
    return [
        (row["item_id"], (row["provenance"]["made_at"] - NOON).seconds // 60, row["attributes"][0]["value"])
        for row in rows.to_dicts()
    ]
