from __future__ import annotations

import json
import multiprocessing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError
from hypothesis import given, settings
from hypothesis import strategies as st

from lore_mm.errors import LoreError, StoreError, TableError
from lore_mm.rows import item_to_row, provenance_to_row
from lore_mm.tables import ITEMS, KEYS, LABELS, TABLES
from lore_mm.types import Item, Provenance
from stores import features
from stores.features import FeatureStore, open_store

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def items(*titles: str, made_at: datetime | None = NOON, first: int = 0) -> pa.Table:
    """Items i0, i1 … of these titles."""
    provenance = None if made_at is None else provenance_to_row(Provenance(run_id="r"), made_at)
    rows = [
        item_to_row(Item(f"i{first + n}", title, attributes={"colour": ("red", "blue")}))
        | {"image_root": None, "status": "ok", "error": None, "provenance": provenance}
        for n, title in enumerate(titles)
    ]
    return pa.Table.from_pylist(rows, schema=ITEMS)


def labels(*pairs: tuple[str, str]) -> pa.Table:
    rows = [{"query_id": q, "item_id": "i", "grade": g, "reason": None} for q, g in pairs]
    return pa.Table.from_pylist(rows, schema=LABELS)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return open_store(tmp_path / "a store", create=True)


def titles(store: FeatureStore, **options: object) -> list[str]:
    return [t for batch in store.batches("items", ["title"], **options) for t in batch["title"].to_pylist()]  # type: ignore[arg-type]


def message(call) -> str:
    with pytest.raises(LoreError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_store_says_how_to_make_one(tmp_path: Path) -> None:
    assert message(lambda: open_store(tmp_path / "no")) == (
        f"no store at {tmp_path / 'no'}: make one with `lore ingest` or `lore demo`"
    )
    assert not (tmp_path / "no").exists()
    open_store(tmp_path / "no", create=True)
    assert "no store at" in message(lambda: open_store(tmp_path / "no"))  # an empty folder is none yet


@pytest.mark.parametrize("name", ["a[1]", "a|b", "a^b", "a\\b", "a%20b"])
def test_paths_that_the_library_would_mangle_are_refused(tmp_path: Path, name: str) -> None:
    assert "a store's path may not hold" in message(lambda: open_store(tmp_path / name, create=True))


def test_a_place_that_cannot_be_a_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot make a store at" in message(lambda: open_store(tmp_path / "file" / "x", create=True))


def test_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert FeatureStore("x").uri == str(tmp_path / "x")
    assert FeatureStore((tmp_path / "ü b").as_uri()).uri == str(tmp_path / "ü b")
    remote = FeatureStore("s3://bucket/store/", {"aws_region": "eu"})
    assert (remote.uri, remote.folder) == ("s3://bucket/store", None)


def test_what_is_written_is_read_back(store: FeatureStore) -> None:
    written = items("one", "zwei", "三", "")
    assert store.append("items", written) == 1
    read = pa.Table.from_batches(list(store.batches("items")))
    assert read.equals(written)
    assert store.scan("items").collect().to_arrow().cast(ITEMS).equals(written)
    assert (store.tables(), store.version("items"), store.count("items")) == (["items"], 1, 4)
    assert store.snapshot() == {"items": 1}
    assert store.version("labels") is None
    again = open_store(store.uri)
    assert pa.Table.from_batches(list(again.batches("items"))).equals(written)


def test_every_table_of_the_house_can_be_stored(store: FeatureStore) -> None:
    for table, schema in TABLES.items():
        store.append(table, schema.empty_table())
        assert list(store.batches(table)) == []
        assert store.scan(table).collect().columns == schema.names
        assert store.latest(table).collect().columns == schema.names
    assert store.tables() == list(TABLES)


def test_columns_may_come_in_any_order(store: FeatureStore) -> None:
    store.append("items", items("a").select(ITEMS.names[::-1]))
    assert titles(store) == ["a"]


def test_a_transaction_is_applied_once(store: FeatureStore) -> None:
    assert store.last_transaction("items", "job/0") is None
    assert store.append("items", items("a"), ("job/0", 0)) == 1
    assert store.append("items", items("never"), ("job/0", 0)) is None  # replayed
    assert store.append("items", items("b"), ("job/0", 1)) == 2
    assert store.append("items", items("never"), ("job/0", 0)) is None  # replayed out of order
    assert store.append("items", items("c"), ("job/1", 0)) == 3  # another application counts for itself
    assert titles(store) == ["a", "b", "c"]
    assert (store.last_transaction("items", "job/0"), store.last_transaction("items", "job/1")) == (1, 0)
    assert store.append("items", ITEMS.empty_table(), ("job/0", 2)) == 4  # a batch without rows is done as well
    assert store.last_transaction("items", "job/0") == 2


@settings(deadline=None, max_examples=10)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=8))
def test_any_sequence_of_replays_leaves_each_rising_number_once(tmp_path_factory, numbers: list[int]) -> None:
    store = open_store(tmp_path_factory.mktemp("replay"), create=True)
    for n in numbers:
        store.append("labels", labels((f"q{n}", "L1")), ("app", n))
    kept = [n for i, n in enumerate(numbers) if n > max(numbers[:i], default=-1)]
    assert [q for b in store.batches("labels") for q in b["query_id"].to_pylist()] == [f"q{n}" for n in kept]


def _append_all(uri: str, worker: int, start) -> None:
    store = open_store(uri, create=True)
    start.wait()
    for app in (f"worker-{worker}", "shared"):
        for n in range(4):
            store.append("labels", labels((f"{app}-{n}", "L1")), (app, n))


def test_eight_processes_append_at_once_without_loss_or_doubling(tmp_path: Path) -> None:
    """Also the very first commit, which makes the table; and all race to do the same batches: one does each."""
    spawn = multiprocessing.get_context("spawn")
    start = spawn.Barrier(8)
    uri = str(tmp_path / "store")
    workers = [spawn.Process(target=_append_all, args=(uri, w, start)) for w in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(240)
    assert [w.exitcode for w in workers] == [0] * 8
    store = open_store(uri)
    found = [q for b in store.batches("labels") for q in b["query_id"].to_pylist()]
    apps = ["shared", *(f"worker-{w}" for w in range(8))]
    assert sorted(found) == sorted(f"{app}-{n}" for app in apps for n in range(4))
    assert store.version("labels") == 9 * 4  # a commit each, and the making
    assert store.last_transactions("labels", apps) == [3] * 9
    for app in apps[1:]:  # one writer's rows keep their order
        assert [q for q in found if q.startswith(app)] == [f"{app}-{n}" for n in range(4)]


def test_a_writer_that_looked_before_another_committed_does_not_double(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.append("labels", labels(("q", "L1")))
    write, raced = features._write, []

    def slow(delta, rows, transaction):
        if not raced:  # between our look and our commit, another process commits the same batch
            raced.append(True)
            other = DeltaTable(f"{store.uri}/labels")
            write(other, rows, transaction)
        write(delta, rows, transaction)

    monkeypatch.setattr(features, "_write", slow)
    assert store.append("labels", labels(("r", "L2")), ("app", 0)) is None  # the other one has it
    assert [q for b in store.batches("labels") for q in b["query_id"].to_pylist()] == ["q", "r"]


def test_batches_are_even_stable_and_pinned(store: FeatureStore) -> None:
    for start in range(0, 10, 3):
        store.append("items", items(*(f"t{n}" for n in range(start, start + 3)), first=start))
    wanted = [f"t{n}" for n in range(12)]
    for rows in (1, 2, 5, 7, 12, 100):
        batches = list(store.batches("items", ["title", "item_id"], rows=rows))
        assert [t for b in batches for t in b["title"].to_pylist()] == wanted
        assert [b.num_rows for b in batches] == [rows] * (12 // rows) + ([12 % rows] if 12 % rows else [])
        assert all(b.schema.names == ["title", "item_id"] for b in batches)
    assert store.scan("items").collect()["title"].to_list() == wanted
    for version in range(1, 5):
        assert titles(store, version=version) == wanted[: 3 * version]
        assert store.latest("items", version).collect()["title"].to_list() == wanted[: 3 * version]
        assert store.count("items", version) == 3 * version
    assert titles(store, version=0) == []  # the table's making


def test_a_store_that_may_only_be_read_is_refused_in_one_line(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = LABELS.empty_table()
    before = store.append("labels", rows, transaction=("a", 0))
    # the superuser, as whom tests may run, may write everywhere
    monkeypatch.setattr("stores.address.os.access", lambda path, mode: False)
    assert store.append("labels", rows, transaction=("a", 0)) is None  # done already: nothing is to be written
    with pytest.raises(StoreError, match=r"^cannot append to labels in .*: no permission to write there$"):
        store.append("labels", rows, transaction=("a", 1))
    assert store.version("labels") == before
    assert capfd.readouterr().err == ""


def test_a_store_that_cannot_be_looked_at_is_one_plain_line(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> bool:
        raise DeltaError("Generic error\n  \x1b[31m↳\x1b[0m Permission denied")

    monkeypatch.setattr("stores.features.DeltaTable.is_deltatable", refused)
    with pytest.raises(StoreError) as error:
        store.tables()
    assert str(error.value) == f"cannot read {store.uri}: Generic error ↳ Permission denied"


def test_a_reader_is_not_disturbed_by_a_writer(store: FeatureStore) -> None:
    store.append("items", items("a", "b"))
    reader = store.batches("items", ["title"], rows=1)
    first = next(reader)["title"].to_pylist()
    store.append("items", items("c", first=2))
    assert first + [t for b in reader for t in b["title"].to_pylist()] == ["a", "b"]


def test_large_tables_stream_through_several_row_groups(store: FeatureStore) -> None:
    n = 2 * features.ROW_GROUP + 5
    store.append("labels", labels(*((f"q{i}", "L1") for i in range(n))))
    found = [q for b in store.batches("labels", ["query_id"], rows=10_000) for q in b["query_id"].to_pylist()]
    assert found == [f"q{i}" for i in range(n)]


def test_latest_is_the_last_made(store: FeatureStore) -> None:
    hour = timedelta(hours=1)
    store.append("items", items("a0", "b0", "c0", made_at=NOON))
    store.append("items", items("a1", "b1", made_at=NOON + hour))
    store.append("items", items("a2", made_at=NOON - hour))  # a late comer that was made before
    store.append("items", items("b3", made_at=None, first=1))  # a row without a time is the oldest
    assert store.latest("items").collect()["title"].to_list() == ["c0", "a1", "b1"]
    assert titles(store, latest=True) == ["c0", "a1", "b1"]
    assert titles(store, latest=True, rows=2) == ["c0", "a1", "b1"]
    assert titles(store, latest=True, version=1) == ["a0", "b0", "c0"]
    assert titles(store) == ["a0", "b0", "c0", "a1", "b1", "a2", "b3"]  # nothing is ever gone


def test_ties_go_to_the_later_commit_then_the_lower_row(store: FeatureStore) -> None:
    store.append("items", pa.concat_tables([items("first"), items("second")]))
    assert titles(store, latest=True) == ["second"]
    store.append("items", items("third"))
    assert titles(store, latest=True) == ["third"]
    store.append("labels", labels(("q", "L1"), ("r", "L1")))  # a table without times
    store.append("labels", labels(("q", "L4")))
    assert store.latest("labels").collect().select("query_id", "grade").rows() == [("r", "L1"), ("q", "L4")]
    assert KEYS["labels"] == ("query_id", "item_id")


def test_wrong_rows_are_refused_and_nothing_is_written(store: FeatureStore) -> None:
    with pytest.raises(TableError, match="append to items: missing column 'title'"):
        store.append("items", items("a").drop_columns(["title"]))
    with pytest.raises(TableError, match="unknown column 'colour'"):
        store.append("items", items("a").append_column("colour", pa.array(["red"])))
    with pytest.raises(TableError, match="column 'title' is empty in row 1"):
        store.append("items", items("a", "b").set_column(1, "title", pa.array(["a", None])))
    assert store.tables() == []
    assert "did you mean 'items'?" in message(lambda: store.append("itmes", items("a")))


def test_what_is_not_there_is_named(store: FeatureStore) -> None:
    store.append("items", items("a"))
    assert message(lambda: store.scan("runs")) == f"no table runs in {store.uri} yet; tables there: items"
    assert message(lambda: store.scan("items", 7)) == "table items has versions 0 to 1, not 7"
    assert message(lambda: titles(store, version=-1)) == "table items has versions 0 to 1, not -1"
    assert message(lambda: list(store.batches("items", ["titel"]))) == (
        "table items has no column 'titel', did you mean 'title'?"
    )


def test_tables_of_another_shape_are_refused_by_column(store: FeatureStore) -> None:
    newer = LABELS.append(pa.field("colour", pa.string())).set(2, pa.field("grade", pa.int64()))
    write_deltalake(f"{store.uri}/labels", newer.remove(1).empty_table())
    text = message(lambda: store.version("labels"))
    for fault in ("unknown column 'colour'", "no column 'item_id'", "column 'grade' is int64, not string"):
        assert fault in text
    assert "written by another version of lore-mm" in text
    assert "unknown column 'colour'" in message(lambda: store.append("labels", labels(("q", "L1"))))


def test_a_table_of_before_a_column_came_is_read_and_goes_on(store: FeatureStore) -> None:
    older = labels(("q", "L1")).drop_columns(["reason"])
    write_deltalake(f"{store.uri}/labels", older)
    assert [b.to_pylist() for b in store.batches("labels")] == [
        [{"query_id": "q", "item_id": "i", "grade": "L1", "reason": None}]
    ]
    assert store.latest("labels").collect()["reason"].to_list() == [None]
    rows = labels(("r", "L2")).set_column(3, LABELS.field("reason"), pa.array(["why"]))
    store.append("labels", rows)
    assert store.scan("labels").collect()["reason"].to_list() == [None, "why"]
    assert [r for b in store.batches("labels") for r in b["reason"].to_pylist()] == [None, "why"]


def test_a_log_that_points_outside_is_refused(store: FeatureStore, tmp_path: Path) -> None:
    store.append("labels", labels(("q", "L1")))
    (data,) = Path(store.uri, "labels").glob("*.parquet")
    data.rename(tmp_path / "elsewhere.parquet")
    log = Path(store.uri, "labels", "_delta_log", "00000000000000000001.json")
    for path in ("../../elsewhere.parquet", str(tmp_path / "elsewhere.parquet")):
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        for line in lines:
            if "add" in line:
                line["add"]["path"] = path
        log.write_text("".join(json.dumps(line) + "\n" for line in lines))
        with pytest.raises(StoreError, match="outside of its folder"):
            list(store.batches("labels"))
        with pytest.raises(StoreError, match="outside of its folder"):
            store.latest("labels")


def test_a_damaged_log_is_one_line(store: FeatureStore) -> None:
    store.append("labels", labels(("q", "L1")))
    Path(store.uri, "labels", "_delta_log", "00000000000000000001.json").write_text("{not json\n")
    assert "labels" in message(lambda: store.version("labels"))


def test_history_is_not_trimmed(store: FeatureStore) -> None:
    store.append("labels", labels(("q", "L1")))
    assert DeltaTable(f"{store.uri}/labels").metadata().configuration["delta.enableExpiredLogCleanup"] == "false"


def test_a_log_is_summed_up_now_and_then(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each twentieth commit of a small table is a checkpoint; one that cannot be written costs no row."""
    log = Path(store.uri, "labels", "_delta_log")
    for n in range(25):
        store.append("labels", labels((f"q{n}", "L1")), ("a job", n))
    assert [path.name[:20].lstrip("0") for path in log.glob("*.checkpoint.parquet")] == ["19"]

    def fails(delta: DeltaTable) -> None:
        raise DeltaError("No space left on device")

    monkeypatch.setattr(DeltaTable, "create_checkpoint", fails)
    for n in range(25, 45):
        store.append("labels", labels((f"q{n}", "L1")), ("a job", n))
    assert len(list(log.glob("*.checkpoint.parquet"))) == 1
    again = open_store(store.uri)
    assert again.version("labels") == 45 and again.last_transaction("labels", "a job") == 44
    assert again.scan("labels").collect()["query_id"].to_list() == [f"q{n}" for n in range(45)]


def test_object_store_reading_goes_through_the_delta_client(store: FeatureStore) -> None:
    """The way that s3:// and the like are read, tried on a local folder."""
    store.append("items", items("a", "b", made_at=NOON))
    store.append("items", items("c", made_at=NOON + timedelta(1)))
    store.uri, store.folder = Path(store.uri).as_uri(), None
    assert titles(store) == ["a", "b", "c"]
    assert titles(store, latest=True) == ["b", "c"]
