from __future__ import annotations

import itertools
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

import stores.differences
from lore_mm.errors import InputError
from lore_mm.types import Item
from stores.differences import DIFFERENCES, differences, summary_of
from stores.features import FeatureStore, open_store
from stores.snapshot import Snapshot
from tests.stored_past import at, found, put, put_items, value


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return open_store(tmp_path / "store", create=True)


def told(old: Snapshot, new: Snapshot, *columns: str, **options: object) -> list[tuple[object, ...]]:
    names = columns or ("item_id", "attribute", "change", "old", "new")
    batches = list(differences(old, new, **options))
    assert all(batch.schema == DIFFERENCES for batch in batches)
    return [tuple(row[name] for name in names) for batch in batches for row in batch.to_pylist()]


@pytest.fixture(params=["by key", "by place"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each test is answered in both ways, some items at a time."""
    monkeypatch.setattr(stores.differences, "_ITEMS", 2)
    if request.param == "by place":
        monkeypatch.setattr(stores.differences, "touched_keys", lambda *_: None)
    else:

        def never(*_: object) -> None:
            raise AssertionError("not all rows have to be read")

        monkeypatch.setattr(stores.differences, "_by_place", never)
    return str(request.param)


def fill(store: FeatureStore, n: int = 30) -> None:
    """Rows enough that a change is the smaller part."""
    put_items(store, 0, *(Item(f"x{i}", f"X {i}") for i in range(n)))
    put(store, *(found(f"x{i}", "merge", 0, value("color", "red")) for i in range(n)))


def test_items_and_values(store: FeatureStore, way: str) -> None:
    fill(store)
    put_items(store, 0, Item("a", "Apron", price=5.0, brand="Tuva"), Item("b", "Bag"))
    put(
        store,
        found("a", "given", 0, value("color", "red")),
        found("a", "merge", 0, value("color", "red"), value("fit", "slim"), value("size", None, status="not_stated")),
        found("b", "merge", 0, value("color", "black"), value("color", "white")),
    )
    old = Snapshot(store)
    put_items(store, 1, Item("a", "Apron", price=7.5), Item("c", "Cap"), input_sha="in2")
    put_items(store, 1, Item("b", "Bag"), run="r2")
    put(
        store,
        found("a", "given", 1, value("color", "blue")),
        found("a", "merge", 1, value("color", "blue"), value("size", "M"), run="r2"),
        found("b", "merge", 1, value("color", "white"), value("color", "black", 0.2)),  # another order, less sure
        found("c", "merge", 1, value("color", "grey"), value("fit", None, status="not_stated")),
    )
    new = Snapshot(store)
    assert told(old, new) == [
        ("a", "brand", "removed", "Tuva", None),
        ("a", "price", "changed", "5", "7.5"),
        ("c", None, "added", None, "Cap"),
        ("a", "color", "changed", "red", "blue"),
        ("a", "fit", "removed", "slim", None),
        ("a", "size", "added", None, "M"),
        ("c", "color", "added", None, "grey"),
    ]
    assert told(old, new, "attribute", "why", "changed", "run_id", "at", "extractor", tables=["attributes"])[0] == (
        "color",
        "source changed",
        ["given"],
        "r2",
        at(1),
        "merge",
    )
    assert told(old, new, "item_id", "old_status", "new_status", tables=["attributes"])[2] == (
        "a",
        "not_stated",
        "value",
    )
    assert told(old, new, tables=["attributes"], extractor="given") == [("a", "color", "changed", "red", "blue")]
    assert told(new, old, tables=["attributes"], extractor="given") == [("a", "color", "changed", "blue", "red")]
    assert told(new, new) == []
    assert ("c", None, "gone", "Cap", None) in told(new, old)
    assert summary_of(differences(old, new, ["attributes"])).to_pylist() == [
        {"table": "attributes", "attribute": "color", "change": "added", "why": "first seen", "n": 1},
        {"table": "attributes", "attribute": "color", "change": "changed", "why": "source changed", "n": 1},
        {"table": "attributes", "attribute": "fit", "change": "removed", "why": "run again", "n": 1},
        {"table": "attributes", "attribute": "size", "change": "added", "why": "run again", "n": 1},
    ]


def test_failures(store: FeatureStore, way: str) -> None:
    fill(store)
    put(store, found("a", "merge", 0, value("fit", "slim")), found("b", "merge", 0, error="vlm: timed out"))
    put_items(store, 0, Item("b", "Bag"))
    old = Snapshot(store)
    put(store, found("a", "merge", 1, error="vlm: timed out"), found("b", "merge", 1, value("fit", "wide")))
    put_items(store, 1, Item("b", ""), error="title is empty")
    assert told(old, Snapshot(store), "item_id", "attribute", "change", "old", "new", "old_status", "new_status") == [
        ("b", "title", "removed", "Bag", None, "value", None),
        ("b", "fault", "changed", None, None, None, "failed"),
        ("a", "fit", "removed", "slim", None, "value", "failed"),
        ("b", "fit", "added", None, "wide", "failed", "value"),
    ]


def test_compaction_in_between(store: FeatureStore, way: str) -> None:
    fill(store)
    put(store, found("a", "merge", 0, value("fit", "slim")))
    old = Snapshot(store)
    put(store, found("a", "merge", 1, value("fit", "wide")))
    assert store.folder is not None
    DeltaTable(str(store.folder / "attributes")).optimize.compact()
    middle = Snapshot(store)
    put(store, found("x3", "merge", 1, value("color", "pink")))
    assert told(old, Snapshot(store)) == [
        ("a", "fit", "changed", "slim", "wide"),
        ("x3", "color", "changed", "red", "pink"),
    ]
    assert told(middle, Snapshot(store)) == [("x3", "color", "changed", "red", "pink")]


def test_a_row_made_before_the_one_that_stands_changes_nothing(store: FeatureStore, way: str) -> None:
    fill(store)
    old = Snapshot(store)
    put(store, found("x1", "merge", -5, value("color", "late news")))
    assert told(old, Snapshot(store)) == []


def test_a_table_that_was_not_there(store: FeatureStore) -> None:
    put_items(store, 0, Item("a", "A"))
    old = Snapshot(store)
    put(store, found("a", "merge", 0, value("fit", "slim")))
    assert told(old, Snapshot(store)) == [("a", "fit", "added", None, "slim")]
    assert told(Snapshot(store), old) == [("a", "fit", "removed", "slim", None)]


def test_two_stores(store: FeatureStore, tmp_path: Path) -> None:
    other = open_store(tmp_path / "other", create=True)
    for one, color in ((store, "red"), (other, "blue")):
        put_items(one, 0, Item("a", "A"))
        put(one, found("a", "merge", 0, value("color", color)))
    assert told(Snapshot(store), Snapshot(other)) == [("a", "color", "changed", "red", "blue")]


def test_since(store: FeatureStore) -> None:
    put_items(store, 0, Item("a", "A", price=1.0))
    put_items(store, 1, Item("a", "A", price=2.0))
    snapshot = Snapshot(store)
    put_items(store, 2, Item("a", "A", price=3.0))
    found_ = [row for batch in snapshot.since("items@1") for row in batch.to_pylist()]
    assert [(row["attribute"], row["old"], row["new"]) for row in found_] == [("price", "1", "2")]


def test_there_is_no_such_comparison(store: FeatureStore) -> None:
    put_items(store, 0, Item("a", "A"))
    with pytest.raises(InputError, match=r"no differences of 'item', did you mean 'items'\? legal: items, attributes"):
        differences(Snapshot(store), Snapshot(store), ["item"])


# --- the same as by brute force ---

IDS = ["a", "b", "c", "d"]
ONE = st.tuples(
    st.sampled_from(IDS),
    st.sampled_from(["given", "merge"]),
    st.sampled_from([None, 0, 1, 2]),
    st.dictionaries(st.sampled_from(["color", "fit"]), st.lists(st.sampled_from(["red", "blue", None]), max_size=2)),
    st.sampled_from([None, None, None, "broken"]),
)
ACTS = st.lists(st.one_of(st.lists(ONE, min_size=1, max_size=4), st.just("compact")), min_size=1, max_size=6)


Stated = dict[tuple[str, str], frozenset[tuple[object, ...]]]


def stated(store: FeatureStore, version: int) -> tuple[Stated, set[tuple[str, str]]]:
    """(item, attribute) → what the newest verdict says, from every row read and weighed one by one; and of which it
    speaks at all, as a failed one may not."""
    rows = [row for batch in store.batches("attributes", version=version) for row in batch.to_pylist()]
    newest: dict[str, tuple[object, dict]] = {}
    for row in rows:
        if row["extractor"] != "merge":
            continue
        made = row["provenance"]["made_at"]
        rank = (made is not None, made or 0)
        if row["item_id"] not in newest or newest[row["item_id"]][0] <= rank:
            newest[row["item_id"]] = rank, row
    out: Stated = {}
    spoken: set[tuple[str, str]] = set()
    for item_id, (_, row) in newest.items():
        for name in ("color", "fit"):
            values = [a for a in row["attributes"] if a["name"] == name]
            said = {(a["value"], a["status"]) for a in values if a["status"] == "value"}
            if not values and row["status"] == "failed":
                said = {(None, "failed")}
            if said:
                out[item_id, name] = frozenset(said)
            if values:
                spoken.add((item_id, name))
    return out, spoken


@settings(max_examples=25, deadline=None)
@given(ACTS, st.booleans(), st.data())
def test_the_same_as_by_brute_force(acts: list, by_place: bool, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(stores.differences, "_ITEMS", 2)
        if by_place:
            patch.setattr(stores.differences, "touched_keys", lambda *_: None)
        store = open_store(Path(folder) / "store", create=True)
        put(store, *(found(f"x{i}", "merge", 0, value("color", "red")) for i in range(20)))
        for act in acts:
            if act == "compact":
                DeltaTable(f"{folder}/store/attributes").optimize.compact()
                continue
            rows = [
                found(
                    *(item_id, who, minutes),
                    *(
                        value(name, one, status="value" if one else "not_stated")
                        for name, many in said.items()
                        for one in many
                    ),
                    error=error,
                )
                for item_id, who, minutes, said, error in act
            ]
            put(store, *rows)
        last = store.version("attributes")
        assert last is not None
        pair = [data.draw(st.integers(1, last)) for _ in range(2)]
        old, new = (Snapshot(store, {"attributes": version}) for version in pair)
        (before, spoken), (after, spoken_of) = (stated(store, version) for version in pair)
        want = {key for key in spoken | spoken_of if before.get(key) != after.get(key)}
        got = told(old, new, "item_id", "attribute", "old", "new")
        assert Counter(row[:2] for row in got) == Counter(want)
        for item_id, name, then, now in got:
            for told_, real in ((then, before), (now, after)):
                values = {v for v, _ in real.get((item_id, name), ()) if v is not None}
                assert set(str(told_).split(" | ") if told_ is not None else ()) == values


def test_the_summary_counts_all(store: FeatureStore) -> None:
    fill(store)
    empty = Snapshot(store, {})
    rows = summary_of(differences(empty, Snapshot(store))).to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        ("attributes", "color", "added", "first seen", 30),
        ("items", None, "added", "first seen", 30),
    ]
    assert list(itertools.islice(differences(empty, empty), 1)) == []
