from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from lore_mm.errors import StoreError
from lore_mm.rows import attributes_table, item_to_row, provenance_to_row
from lore_mm.tables import ITEMS
from lore_mm.types import AttributeValue, Evidence, Item, ItemFeatures, Provenance
from stores import online
from stores.features import FeatureStore, open_store
from stores.online import build_online, open_online

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
    assert (len(view), view.versions) == (3, {"items": 1, "attributes": 2})


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
    monkeypatch.setattr(online, "_FIRST_SIZE", 1 << 15)
    many = [Item(f"i{n}", "word " * 100) for n in range(2_000)]
    store.append("items", item_rows(*many))
    view = build_online(store)
    assert [f.item for f in view.get([i.item_id for i in many])] == many


@pytest.mark.parametrize("step", ["_put", "settle", "publish"])
def test_sigkill_while_building_leaves_the_old_view(store: FeatureStore, step: str) -> None:
    build_online(store)
    store.append("items", item_rows(Item(SHOE.item_id, "New title"), hours=1))
    program = f"""
import os, signal
from stores import online
from stores.features import open_store
setattr(online, {step!r}, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
online.build_online(open_store({store.uri!r}))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[1])
    assert done.returncode == -signal.SIGKILL
    assert open_online(store).get([SHOE.item_id])[0].item.title == "Red shoe 👟"
    assert build_online(store).get([SHOE.item_id])[0].item.title == "New title"


def test_missing_and_damaged_views_are_refused(store: FeatureStore) -> None:
    with pytest.raises(StoreError, match="no online view at"):
        open_online(store)
    build_online(store)
    path = store.folder / "online" / (store.folder / "online" / "current").read_text().strip()
    whole = (path / "data.mdb").read_bytes()
    for bad in (whole[:-4096], b"\0" * len(whole)):
        (path / "data.mdb").unlink()  # a new file: the old one may still be mapped
        (path / "data.mdb").write_bytes(bad)
        with pytest.raises(StoreError, match=r"damaged|cannot be read"):
            open_online(store)
    (path / "manifest.json").write_text(json.dumps({"format": "other"}))
    with pytest.raises(StoreError, match="damaged or of another version"):
        open_online(store)
