from __future__ import annotations

import gc
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from lore_mm.errors import StoreError
from lore_mm.rows import attributes_table, item_to_row, provenance_to_row
from lore_mm.tables import ITEMS
from lore_mm.types import AttributeValue, Evidence, Item, ItemFeatures, Provenance
from stores import online_write, sorted_runs
from stores.features import FeatureStore, open_store
from stores.online import FORMAT, open_online
from stores.online_check import check_online
from stores.online_write import build_online, refresh_online
from stores.snapshot import Snapshot

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SHOE = Item(
    "shoe é",
    "Red shoe 👟",
    "for running",
    "Shoes > Running",
    "Nike",
    {"colour": ("red", "white")},
    59.5,
    "EUR",
    ("a.jpg", "b.jpg"),
    "north",
)
BAG = Item("x" * 700, "Bag")  # an id longer than an LMDB key
RED = AttributeValue(
    "color",
    "color",
    "red",
    share=0.75,
    confidence=0.5,
    extractor="palette",
    evidence=(Evidence("image:0", region=(0.0, 0.25, 0.5, 1.0), confidence=0.5), Evidence("title", "Red", 0, 3)),
)
HEIGHT = AttributeValue("height", "spec", "10 cm", number=10.0, unit="cm")
UNSAID = AttributeValue("material", "material", None, status="not_stated")


def item_rows(*items: Item, failed: tuple[str, ...] = (), hours: int = 0) -> pa.Table:
    provenance = provenance_to_row(Provenance(input_sha="row"), NOON + timedelta(hours=hours))
    rows = [
        item_to_row(i)
        | {
            "image_root": None,
            "status": "failed" if i.item_id in failed else "ok",
            "error": "title is empty" if i.item_id in failed else None,
            "provenance": provenance,
        }
        for i in items
    ]
    return pa.Table.from_pylist(rows, schema=ITEMS)


def attribute_rows(item_id: str, *values: AttributeValue, extractor: str = "merge") -> pa.Table:
    row = {"item_id": item_id, "extractor": extractor, "category": "shoes", "attributes": values, "status": "ok"}
    return attributes_table([row | {"error": None, "provenance": Provenance(input_sha="pixels")}])


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    store = open_store(tmp_path / "store", create=True)
    store.append("items", item_rows(SHOE, BAG, Item("broken", ""), failed=("broken",)))
    store.append("attributes", attribute_rows(SHOE.item_id, RED, HEIGHT, UNSAID))
    store.append("attributes", attribute_rows(SHOE.item_id, HEIGHT, extractor="given"))
    return store


def test_a_view_gives_back_exactly_what_was_stored(store: FeatureStore) -> None:
    view = build_online(store)
    shoe = ItemFeatures(SHOE, (RED, HEIGHT, UNSAID), "pixels")
    bag = ItemFeatures(BAG, (), "row")
    assert view.get([BAG.item_id, "unknown", SHOE.item_id, "broken", "", SHOE.item_id]) == [
        bag,
        None,
        shoe,
        None,
        None,
        shoe,
    ]
    assert (len(view), view.versions) == (2, {"items": 1, "attributes": 2})


def test_a_view_is_of_its_versions_and_swapped_while_read(store: FeatureStore) -> None:
    old = build_online(store)
    store.append("items", item_rows(Item(SHOE.item_id, "New title"), hours=1))
    assert old.get([SHOE.item_id])[0].item.title == "Red shoe 👟"
    new = build_online(store)
    assert new.versions == {"items": 2, "attributes": 2}
    assert new.get([SHOE.item_id]) == [ItemFeatures(Item(SHOE.item_id, "New title"), (RED, HEIGHT, UNSAID), "pixels")]
    assert old.get([SHOE.item_id])[0].item.title == "Red shoe 👟"
    assert open_online(store).get([SHOE.item_id]) == new.get([SHOE.item_id])  # a file opened twice
    past = build_online(store, {"items": 1, "attributes": 0})
    assert past.get([SHOE.item_id]) == [ItemFeatures(SHOE, (), "row")]


def test_a_view_grows_past_its_first_size(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online_write, "_FIRST_SIZE", 1 << 15)
    many = [Item(f"i{n}", "word " * 100) for n in range(2_000)]
    store.append("items", item_rows(*many))
    view = build_online(store)
    assert [f.item for f in view.get([i.item_id for i in many])] == many


@pytest.mark.parametrize("step", ["_copy", "_File.write", "settle", "publish", "clean"])
def test_sigkill_while_refreshing_leaves_one_whole_view(store: FeatureStore, step: str) -> None:
    build_online(store)
    store.append("items", item_rows(Item(SHOE.item_id, "New title"), hours=1))
    program = f"""
import os, signal
from stores import online_write
from stores.features import open_store
online_write.{step} = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
online_write.refresh_online(open_store({store.uri!r}))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[1])
    assert done.returncode == -signal.SIGKILL
    swapped = step == "clean"
    assert open_online(store).get([SHOE.item_id])[0].item.title == ("New title" if swapped else "Red shoe 👟")
    again = refresh_online(store)
    assert (again.anew, again.unchanged) == (None, swapped)
    assert again.view.get([SHOE.item_id])[0].item.title == "New title"


def test_missing_and_damaged_views_are_refused(store: FeatureStore) -> None:
    with pytest.raises(StoreError, match="no online view at"):
        open_online(store)
    build_online(store)
    path = store.folder / "online" / (store.folder / "online" / "current").read_text().strip()
    whole = (path / "data.mdb").read_bytes()
    for bad in (whole[:-4096], b"\0" * len(whole), os.urandom(len(whole))):
        (path / "data.mdb").unlink()  # a new file: the old one may still be mapped
        (path / "data.mdb").write_bytes(bad)
        with pytest.raises(StoreError, match=r"damaged|cannot be read"):
            open_online(store)
        assert Snapshot(store).get([SHOE.item_id])[0].item == SHOE  # from the tables
        with pytest.raises(StoreError, match=r"damaged|cannot be read"):
            check_online(store)
    for foreign in ({"format": "other"}, [], {"format": FORMAT, "tables": {}}):
        (path / "manifest.json").write_text(json.dumps(foreign))
        with pytest.raises(StoreError, match="damaged or of another version"):
            open_online(store)
    made = refresh_online(store)
    assert "is damaged or of another version" in made.anew
    assert made.view.get([SHOE.item_id])[0].item == SHOE


@pytest.mark.parametrize("damage", ["page", "entry"])
def test_damage_within_the_data(store: FeatureStore, damage: str) -> None:
    """What was whole at the opening: a clear error from the view, the tables' answer from a snapshot, a new view."""
    many = [Item(f"i{n:04}", f"title {n} " * 20) for n in range(2_000)]
    store.append("items", item_rows(*many))
    path = build_online(store).path / "data.mdb"
    whole = path.read_bytes()
    gc.collect()
    if damage == "page":
        middle = len(whole) // 2 // 4096 * 4096
        bad = b"".join((whole[: 4096 * 4], os.urandom(middle), whole[4096 * 4 + middle :]))
    else:
        bad = whole.replace(b"\xa5title", b"\xc1title")  # a byte that MessagePack never uses
    path.unlink()
    path.write_bytes(bad)
    view, ids = open_online(store), [item.item_id for item in many]
    with pytest.raises(StoreError, match="damaged"):
        view.get(ids)
    snapshot = Snapshot(store)
    assert snapshot._online is not None
    assert [f.item for f in snapshot.get(ids)] == many
    store.append("items", item_rows(Item("i0000", "another"), hours=1))
    made = refresh_online(store)
    assert made.anew is not None
    assert "damaged" in made.anew
    assert check_online(store).different == 0
    assert made.view.get(["i0000"])[0].item.title == "another"


def test_a_table_made_again_is_not_served_from_the_view_of_the_old(store: FeatureStore) -> None:
    build_online(store)
    shutil.rmtree(store.folder / "items")
    again = open_store(store.uri)
    again.append("items", item_rows(Item(SHOE.item_id, "Another life"), BAG))
    assert again.version("items") == 1  # as before
    assert Snapshot(again).get([SHOE.item_id])[0].item.title == "Another life"
    with pytest.raises(StoreError, match="not the one that the online view was made from"):
        check_online(again)
    made = refresh_online(again)
    assert made.anew == "table items was made anew"
    assert made.view.get([SHOE.item_id])[0].item.title == "Another life"


def test_what_the_classes_do_not_foresee_comes_back_as_from_the_tables(store: FeatureStore) -> None:
    """An earlier version left fields empty: the view gives what the tables give."""
    odd = replace(RED, kind=None, status="of another version", confidence=math.inf)  # type: ignore[arg-type]
    store.append("attributes", attribute_rows(BAG.item_id, odd))
    assert Snapshot(store).get([BAG.item_id])[0].attributes == (odd,)
    build_online(store)
    assert open_online(store).get([BAG.item_id])[0].attributes == (odd,)


def test_many_ids_at_once(store: FeatureStore) -> None:
    many = [Item(f"i{n}", f"title {n}") for n in range(300)]
    store.append("items", item_rows(*many))
    view = build_online(store)
    asked = [*(item.item_id for item in many), "none", "i7"]
    assert [f.item if f else None for f in view.get(asked)] == [*many, None, many[7]]
    assert gc.isenabled()
    gc.disable()
    try:
        view.get(asked)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_more_than_memory_holds_is_sorted_on_disk(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    many = [Item(f"i{n * 7 % 500}", f"title {n}") for n in range(500)]
    store.append("items", item_rows(*many))
    before = build_online(store).path.joinpath("data.mdb").read_bytes()
    monkeypatch.setattr(sorted_runs, "_HELD_BYTES", 20_000)
    view = build_online(store)
    assert view.path.joinpath("data.mdb").read_bytes() == before
    assert [f.item for f in view.get([i.item_id for i in many])] == many
    assert sorted(p.name for p in view.path.iterdir()) == ["data.mdb", "manifest.json"]
