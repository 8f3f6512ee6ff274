"""pytest tests/test_jobs_build_online.py"""

import json

import pytest

from jobs.build_online import main
from jobs.ingest import ingest_items
from lore_mm.console import command_app
from lore_mm.errors import StoreError
from stores.features import open_store
from stores.online import open_online
from stores.snapshot import Snapshot


def write(path, *titles):
    rows = [{"item_id": title.lower(), "title": title} for title in titles]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_view_is_of_the_present_snapshot_and_says_so(tmp_path, capsys):
    store = open_store(tmp_path / "store", create=True)
    ingest_items(store, write(tmp_path / "items.jsonl", "Lamp", "Chair"))
    door = command_app(main, "online")
    with pytest.raises(SystemExit) as stop:
        door(["--store", store.uri])
    assert stop.value.code == 0
    said = json.loads(capsys.readouterr().out)
    assert said.pop("anew").startswith("no online view at")
    none = {"items": 0, "queries": 0}
    counted = {"items": 2, "queries": 0}
    assert said == counted | {"versions": {"items": store.version("items")}, "put": counted, "deleted": none}
    lamp, nobody = open_online(store).get(["lamp", "nobody"])
    assert (lamp.item.title, nobody) == ("Lamp", None)
    assert Snapshot(store).get(["chair"])[0].item.title == "Chair"

    ingest_items(store, write(tmp_path / "items.jsonl", "Lamp", "Chair", "Desk"))
    assert open_online(store).get(["desk"]) == [None]  # old until it is built again
    assert Snapshot(store).get(["desk"])[0].item.title == "Desk"  # and not used for what it does not hold


def test_without_a_store_it_says_how_to_make_one(tmp_path):
    with pytest.raises(StoreError, match="make one with `lore ingest` or `lore demo`"):
        command_app(main, "online")(["--store", str(tmp_path / "none")])
