"""A refreshed view is the view that would be built from nothing; what is compared, swapped and read meanwhile."""

from __future__ import annotations

import gc
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from lore_mm.errors import StoreError
from lore_mm.rows import attributes_table, item_to_row, provenance_to_row, understanding_to_row
from lore_mm.tables import DEMANDS, ITEMS, QUERIES
from lore_mm.types import AttributeValue, Demand, Item, ItemFeatures, Provenance, Query, Understanding
from stores import online_write
from stores.features import FeatureStore, open_store
from stores.online import OnlineView, open_databases, open_online
from stores.online_check import check_online
from stores.online_write import build_online, refresh_online
from stores.snapshot import Snapshot

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
IDS = [*(f"i{n}" for n in range(6)), "x" * 700]
QUERY_IDS = [*(f"q{n}" for n in range(6)), "y" * 700]
TEXTS = ["red sofa", "Red  SOFA", "lamp", "LAMP", "café crème", "w" * 900]


def add_items(store: FeatureStore, *rows: tuple[str, str, bool, int]) -> None:
    """Rows of (item id, title, whether it is good, hours after noon)."""
    made = [
        item_to_row(Item(item_id, title, attributes={"size": (title,)}))
        | {"image_root": None, "status": "ok" if good else "failed", "error": None if good else "no title"}
        | {"provenance": provenance_to_row(Provenance(input_sha=f"row of {title}"), NOON + timedelta(hours=hours))}
        for item_id, title, good, hours in rows
    ]
    store.append("items", pa.Table.from_pylist(made, schema=ITEMS))


def add_verdicts(store: FeatureStore, *rows: tuple[str, str | None, bool, int]) -> None:
    """Rows of (item id, colour, whether it is of merge, hours after noon)."""
    for item_id, color, merged, hours in rows:
        values = () if color is None else (AttributeValue("color", "color", color),)
        row = {"item_id": item_id, "extractor": "merge" if merged else "given", "category": None, "attributes": values}
        table = attributes_table([row | {"status": "ok", "error": None, "provenance": Provenance(input_sha="pixels")}])
        made = table.to_pylist()
        made[0]["provenance"]["made_at"] = NOON + timedelta(hours=hours)
        store.append("attributes", pa.Table.from_pylist(made, schema=table.schema))


def add_understandings(store: FeatureStore, *rows: tuple[str, str, bool, int]) -> None:
    """Rows of (query id, text, whether it was understood, hours after noon)."""
    made = []
    for query_id, text, good, hours in rows:
        demands = (Demand("category", text, confidence=hours / 10, role="head"),) if good else ()
        error = None if good else "no words"
        one = Understanding(Query(query_id, text), text, demands, status="ok" if good else "failed", error=error)
        made.append(understanding_to_row(one, Provenance("run", "tagger")))
        made[-1]["provenance"]["made_at"] = NOON + timedelta(hours=hours) if hours else None
    store.append("demands", pa.Table.from_pylist(made, schema=DEMANDS))


def add_log(store: FeatureStore, *rows: tuple[str, float | None]) -> None:
    log = [{"query_id": query_id, "query": "x", "frequency": frequency} for query_id, frequency in rows]
    store.append("queries", pa.Table.from_pylist(log, schema=QUERIES))


def held(view: OnlineView) -> list[list[tuple[bytes, bytes]]]:
    with view.environment.begin() as transaction:
        return [list(transaction.cursor(database)) for database in open_databases(view.environment)]


HOURS = st.integers(0, 5)
STEPS = st.one_of(
    st.tuples(st.just(add_items), st.tuples(st.sampled_from(IDS), st.sampled_from("abc"), st.booleans(), HOURS)),
    st.tuples(
        st.just(add_verdicts),
        st.tuples(st.sampled_from(IDS), st.sampled_from(["red", "blue", None]), st.booleans(), HOURS),
    ),
    st.tuples(
        st.just(add_understandings),
        st.tuples(st.sampled_from(QUERY_IDS), st.sampled_from(TEXTS), st.sampled_from([True, True, False]), HOURS),
    ),
    st.tuples(
        st.just(add_log), st.tuples(st.sampled_from(QUERY_IDS), st.sampled_from([None, 1.0, 2.0, 3.0, 4.0, 5.0]))
    ),
)


@pytest.mark.parametrize("examples", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_a_refreshed_view_is_one_built_from_nothing(examples: int) -> None:
    rounds = st.lists(st.lists(STEPS, min_size=1, max_size=5), min_size=1, max_size=3)
    settings(max_examples=examples, deadline=None)(given(rounds, st.sampled_from([None, 3]))(refreshed_or_built))()


def refreshed_or_built(rounds: list, head: int | None) -> None:
    """Random changes, refreshed after each few of them."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder) / "store", create=True)
        add_items(store, ("i0", "first", True, 1))
        add_verdicts(store, ("i0", "red", True, 1))
        add_understandings(store, ("q0", "red sofa", True, 1), ("q1", "RED sofa", True, 2), ("q2", "lamp", True, 1))
        add_log(store, ("q0", 5.0), ("q1", 4.0), ("q2", 4.0), ("q3", 1.0))
        build_online(store, queries=head)
        for steps in rounds:
            for add, row in steps:
                add(store, row)
            made = refresh_online(store, queries=head)
            assert made.anew is None
            assert check_online(store).first == ()
            tables = Snapshot(store)
            tables._online = tables._online_queries = None
            assert made.view.get(IDS) == tables.get(IDS)
            if head is None:
                assert made.view.served(TEXTS) == tables.served(TEXTS)
        refreshed = held(made.view)
        assert refreshed == held(build_online(store, queries=head))


def test_it_says_what_it_did(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store", create=True)
    add_items(store, ("i1", "a", True, 0), ("i2", "b", True, 0), ("i3", "c", True, 0))
    first = refresh_online(store)
    assert (first.anew or "").startswith("no online view at")
    assert dict(first.put) == {"items": 3}
    again = refresh_online(store)
    assert (again.unchanged, again.anew, again.view.path) == (True, None, first.view.path)
    add_items(store, ("i1", "new", True, 1), ("i2", "b", False, 1), ("i4", "d", True, 1))
    add_verdicts(store, ("i3", "red", False, 1), ("nobody", "red", True, 1))
    second = refresh_online(store)
    assert (second.anew, dict(second.put), second.deleted["items"]) == (None, {"items": 2}, 1)
    assert (len(first.view), len(second.view)) == (3, 3)
    DeltaTable(str(tmp_path / "store" / "items")).optimize.compact()
    third = refresh_online(store)
    assert (third.anew, third.unchanged, third.put, third.deleted) == (None, False, {}, {})
    assert third.view.versions["items"] == store.version("items")


def test_when_it_is_built_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path / "store", create=True)
    add_items(store, ("i1", "a", True, 0), ("i2", "b", True, 0))
    build_online(store)
    add_understandings(store, ("q1", "lamp", True, 0))
    add_log(store, ("q1", 1.0))
    assert refresh_online(store).anew is None
    assert refresh_online(store, queries=5).anew == (
        "the view before is of other queries: all of them, or the most frequent ones"
    )
    assert refresh_online(store, queries=0).view.queries == 0
    assert refresh_online(store).view.queries == 1
    past = refresh_online(store, {"items": 0})
    assert past.anew == "the view before is of items 1, later than 0"
    assert len(past.view) == 0
    build_online(store)
    assert refresh_online(store, {"items": 1}).anew == "table demands is gone"
    refresh_online(store, {"items": 0})
    monkeypatch.setattr(online_write, "_FEW", 1)
    assert refresh_online(store).anew == "2 items were written since, and the view before holds 0"
    add_items(store, ("i3", "c", True, 0))
    assert refresh_online(store).anew is None
    table = DeltaTable(str(tmp_path / "store" / "items"))
    table.optimize.compact()
    table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
    add_items(store, ("i4", "d", True, 0))
    assert refresh_online(store).anew is None  # what was vacuumed lies before the view
    assert check_online(store).different == 0


def test_one_that_differs_is_never_swapped_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path / "store", create=True)
    add_items(store, *((f"i{n}", "a", True, 0) for n in range(50)))
    before = build_online(store)
    add_items(store, ("i1", "new", True, 1))

    everything = online_write._everything
    monkeypatch.setattr(online_write, "_everything", lambda source: list(everything(source))[:-1])
    with pytest.raises(StoreError, match="differs from the tables, and is not used: 49 items in the view, 50 in"):
        build_online(store)
    monkeypatch.setattr(
        online_write,
        "_everything",
        lambda source: ((name, key, value.replace(b"new", b"old")) for name, key, value in everything(source)),
    )
    with pytest.raises(StoreError, match="item 'i1': the view holds something else than the tables"):
        build_online(store)
    assert open_online(store).path == before.path
    assert [p.name for p in before.path.parent.glob("tmp-*")] == []
    # a refresh that misses what was written is found out, and made good
    monkeypatch.undo()
    real = online_write.touched_keys
    monkeypatch.setattr(online_write, "touched_keys", lambda *of: real(*of).slice(0, 0))
    made = refresh_online(store)
    assert "item 'i1': the view holds something else" in (made.anew or "")
    assert made.view.get(["i1"])[0] == ItemFeatures(Item("i1", "new", attributes={"size": ("new",)}), (), "row of new")


def test_every_difference_is_found(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store", create=True)
    add_items(store, *((f"i{n}", "a", True, 0) for n in range(20)))
    add_understandings(store, ("q1", "red sofa", True, 0), ("q2", "lamp", True, 0))
    view = build_online(store)
    assert (check_online(store).different, check_online(store).first) == (0, ())
    path = view.path
    del view
    gc.collect()
    with online_write._File(path / "data.mdb") as file:  # as nobody does
        with file.environment.begin() as transaction:
            value = transaction.get(b"=i3", None, file.databases["items"])
        file.write(
            [
                ("items", b"=i3", value.replace(b"row of a", b"row of b")),
                ("items", b"=i4", None),
                ("items", b"=i99", value),
                ("queries", b"=lamp", None),
                ("asked", b"=q2", b"=red sofa"),
            ]
        )
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["bytes"] = (path / "data.mdb").stat().st_size
    (path / "manifest.json").write_text(json.dumps(manifest))
    checked = check_online(store)
    assert checked.different == 5
    assert checked.first == (
        "item 'i3': the view holds something else than the tables",
        "item 'i4': not in the view",
        "item 'i3': in the view, not in the tables",
        "query 'lamp': not in the view",
        "2 query ids in the view do not lead to their queries: the next refresh would go wrong",
    )


READER = """
import sys, time
from pathlib import Path
from stores.features import open_store
from stores.online import open_online
store, ids = open_store(sys.argv[1]), [f"i{n}" for n in range(40)]
seen, reads = set(), 0
view = open_online(store)
print("reads", flush=True)
while not Path(sys.argv[2]).exists():
    if reads % 3 == 0:
        view = open_online(store)
    found = view.get(ids)
    titles = {one.item.title for one in found}
    assert len(titles) == 1, titles  # every commit gives all of them the same title
    [title] = titles
    assert title == "t0" or {a.value for one in found for a in one.attributes} == {title}
    seen.add(title)
    reads += 1
    time.sleep(0.005)
print(len(seen), reads)
"""


@pytest.mark.parametrize(("refreshes", "n_readers"), [(4, 2), pytest.param(20, 4, marks=pytest.mark.slow)])
def test_readers_while_views_are_swapped(tmp_path: Path, refreshes: int, n_readers: int) -> None:
    """Processes read in a loop during refreshes: never an error, never one view's entries among another's."""
    store, stop = open_store(tmp_path / "store", create=True), tmp_path / "stop"
    add_items(store, *((f"i{n}", "t0", True, 0) for n in range(40)))
    build_online(store)
    command = [sys.executable, "-c", READER, store.uri, str(stop)]
    readers = [
        subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(n_readers)
    ]
    try:
        for reader in readers:
            assert reader.stdout is not None
            assert reader.stdout.readline() == b"reads\n"
        for n in range(1, refreshes + 1):
            versions = store.snapshot()
            add_items(store, *((f"i{i}", f"t{n}", True, n) for i in range(40)))
            rows = [
                {"item_id": f"i{i}", "extractor": "merge", "category": None, "status": "ok", "error": None}
                | {"attributes": (AttributeValue("color", "color", f"t{n}"),), "provenance": Provenance()}
                for i in range(40)
            ]
            store.append("attributes", attributes_table(rows))
            assert versions != store.snapshot()
            assert refresh_online(store).anew is None
    finally:
        stop.touch()
        ends = [reader.communicate(timeout=60) for reader in readers]
    assert [(reader.returncode, err.decode()[-2000:]) for reader, (_, err) in zip(readers, ends, strict=True)] == [
        (0, "")
    ] * n_readers
    assert all(int(out.split()[0]) > 1 for out, _ in ends)


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(n, marks=pytest.mark.slow) for n in range(2, 20))])
def test_sigkill_at_any_instant_of_a_refresh(tmp_path: Path, seed: int) -> None:
    """The view before stays whole, or the new one stands whole; the next refresh works."""
    store = open_store(tmp_path / "store", create=True)
    add_items(store, *((f"i{n}", "old", True, 0) for n in range(3_000)))
    add_understandings(store, *((f"q{n}", f"lamp {n}", True, 1) for n in range(200)))
    build_online(store)
    add_items(store, *((f"i{n}", "new", True, 1) for n in range(0, 3_000, 4)))
    program = f"""
from stores.online_write import refresh_online
from stores.features import open_store
store = open_store({store.uri!r})
print("ready", flush=True)
refresh_online(store)
"""
    child = subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parents[1], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    time.sleep(random.Random(seed).uniform(0, 0.4))
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert check_online(store).different == 0
    made = refresh_online(store)
    assert made.anew is None
    assert check_online(store).different == 0
    assert [one.item.title for one in made.view.get(["i0", "i1", "i4"])] == ["new", "old", "new"]
