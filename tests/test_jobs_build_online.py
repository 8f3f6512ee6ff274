"""pytest tests/test_jobs_build_online.py"""

import gc
import json

import pytest

from jobs.build_online import main
from jobs.ingest import ingest_items
from lore_mm.console import command_app
from lore_mm.errors import InputError, StoreError
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


def online(capsys, store, *options):
    """Run the command: its exit code, what it gave, what it said."""
    with pytest.raises(SystemExit) as stop:
        command_app(main, "online")(["--store", store.uri, *options])
    out, err = capsys.readouterr()
    return stop.value.code, json.loads(out), err


def test_it_says_what_was_refreshed_and_why_not(tmp_path, capsys):
    store = open_store(tmp_path / "store", create=True)
    ingest_items(store, write(tmp_path / "items.jsonl", "Lamp", "Chair"))
    online(capsys, store)
    code, gave, said = online(capsys, store)
    assert (code, gave["put"], gave["anew"]) == (0, {"items": 0, "queries": 0}, None)
    assert "nothing was written since the view before: it stays" in said

    ingest_items(store, write(tmp_path / "items.jsonl", "Lamp", "Chair", "Desk"))
    code, gave, said = online(capsys, store)
    assert (code, gave["items"], gave["put"], gave["anew"]) == (0, 3, {"items": 1, "queries": 0}, None)
    assert "refreshed; items: 1 put, 0 deleted; queries: 0 put, 0 deleted; counts and up to 1,000 items" in said

    code, gave, said = online(capsys, store, "--anew")
    assert (gave["put"], gave["anew"]) == ({"items": 3, "queries": 0}, "it was asked for")
    assert "built anew: it was asked for; counts and" in said


def test_the_view_is_compared_with_the_tables(tmp_path, capsys):
    store = open_store(tmp_path / "store", create=True)
    ingest_items(store, write(tmp_path / "items.jsonl", "Lamp", "Chair"))
    online(capsys, store)
    code, gave, said = online(capsys, store, "--check")
    assert (code, gave["different"], gave["first"], gave["behind"]) == (0, 0, [], [])
    assert "2 items and 0 queries compared with items 1; none differs" in " ".join(said.split())

    ingest_items(store, write(tmp_path / "items.jsonl", "Lamp", "Chair", "Desk"))
    code, gave, said = online(capsys, store, "--check")  # of its own versions it is right
    assert (code, gave["different"], gave["behind"]) == (0, 0, ["items"])
    assert "the view is not of the present items: `lore online` makes it so" in said

    data = open_online(store).path / "data.mdb"
    bad = data.read_bytes().replace(b"Lamp", b"Limp")
    data.unlink()
    data.write_bytes(bad)
    gc.collect()
    code, gave, said = online(capsys, store, "--check")
    assert (code, gave["different"]) == (1, 1)
    assert gave["first"] == ["item 'lamp': the view holds something else than the tables"]
    assert "item 'lamp': the view holds something else" in said
    assert "1 differ: run `lore online --anew`" in said
    assert online(capsys, store, "--anew")[0] == 0
    assert online(capsys, store, "--check")[0] == 0

    with pytest.raises(InputError, match="leave out --anew and --queries"):
        command_app(main, "online")(["--store", store.uri, "--check", "--anew"])
