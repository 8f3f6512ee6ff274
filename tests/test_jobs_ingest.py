"""`lore ingest`: new and changed rows are appended, the rest is skipped; bad files change nothing."""

import json
import shutil

import pytest

from jobs import ingest
from jobs.ingest import ingest_items, ingest_labels, ingest_queries
from jobs.plan import Counts
from lore_mm.console import command_app, run
from lore_mm.errors import InputError
from stores.features import open_store


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "store", create=True)


LAMP = {"item_id": "lamp", "title": "Oak lamp", "price": 12.5, "images": ["a.png"], "attributes": {"Wood": "oak"}}
SOFA = {"item_id": "sofa", "title": "Red sofa"}
BAD = {"item_id": "bad", "title": "Cheap", "price": -1}


def test_items_go_in_with_their_faults(store, tmp_path):
    path = write(tmp_path / "items.jsonl", LAMP, BAD, SOFA)
    assert ingest_items(store, path, batch_rows=2) == Counts(3, 2, 1, 0)
    lamp, bad, sofa = store.latest("items").collect().to_dicts()
    assert (lamp["item_id"], bad["item_id"], sofa["item_id"]) == ("lamp", "bad", "sofa")
    assert (lamp["price"], lamp["images"], lamp["image_root"]) == (12.5, ["a.png"], str(tmp_path))
    assert lamp["attributes"] == [{"name": "Wood", "values": ["oak"]}]
    assert (bad["status"], bad["error"]) == ("failed", "price: -1 is negative")
    assert lamp["provenance"]["maker"] == "catalogue"
    assert lamp["provenance"]["run_id"].startswith("ingest-")


def test_only_what_changed_goes_in_again(store, tmp_path):
    path = write(tmp_path / "items.jsonl", LAMP, BAD, SOFA)
    ingest_items(store, path)
    before = store.snapshot()
    assert ingest_items(store, path) == Counts(3, 0, 0, 3, n_still_failed=1)
    assert store.snapshot() == before
    write(path, LAMP, {**BAD, "price": 1}, {**SOFA, "title": "Blue sofa"}, {"item_id": "new", "title": "New"})
    assert ingest_items(store, path) == Counts(4, 3, 0, 1)
    rows = store.latest("items").collect()
    assert dict(zip(rows["item_id"], rows["title"], strict=True)) == {
        "lamp": "Oak lamp",
        "bad": "Cheap",
        "sofa": "Blue sofa",
        "new": "New",
    }
    assert store.count("items") == 3 + 3


def test_a_catalogue_that_moved_finds_its_pictures_anew(store, tmp_path):
    (tmp_path / "old").mkdir()
    write(tmp_path / "old" / "items.jsonl", LAMP)
    ingest_items(store, tmp_path / "old")
    shutil.move(tmp_path / "old", tmp_path / "new")
    assert ingest_items(store, tmp_path / "new") == Counts(1, 1, 0, 0)
    assert store.latest("items").collect()["image_root"].to_list() == [str(tmp_path / "new")]


def test_an_interrupted_ingest_does_not_stand_in_the_way_of_another_file(store, tmp_path, monkeypatch):
    path = write(tmp_path / "items.jsonl", LAMP, SOFA)
    process = ingest._Ingest.process

    def interrupted(self, rows, loaded):
        if "sofa" in rows.column("item_id").to_pylist():
            raise KeyboardInterrupt
        return process(self, rows, loaded)

    monkeypatch.setattr(ingest._Ingest, "process", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ingest_items(store, path, batch_rows=1)
    monkeypatch.setattr(ingest._Ingest, "process", process)
    other = write(tmp_path / "other.jsonl", {"item_id": "cup", "title": "Cup"})
    assert ingest_items(store, other) == Counts(1, 1, 0, 0)
    assert ingest_items(store, path) == Counts(2, 1, 0, 1)
    assert sorted(store.latest("items").collect()["item_id"]) == ["cup", "lamp", "sofa"]


def test_queries_and_labels(store, tmp_path):
    queries = write(
        tmp_path / "queries.jsonl",
        {"query_id": "q1", "query": "red sofa", "frequency": 3},
        {"query_id": "q2", "query": "lamp"},
    )
    labels = write(tmp_path / "labels.jsonl", {"query_id": "q1", "item_id": "sofa", "grade": "L4", "reason": "it is"})
    assert ingest_queries(store, queries) == Counts(2, 2, 0, 0)
    assert ingest_labels(store, labels) == Counts(1, 1, 0, 0)
    assert ingest_queries(store, queries) == Counts(2, 0, 0, 2)
    assert ingest_labels(store, labels) == Counts(1, 0, 0, 1)
    write(
        labels,
        {"query_id": "q1", "item_id": "sofa", "grade": "L3"},
        {"query_id": "q1", "item_id": "lamp", "grade": "L1"},
    )
    assert ingest_labels(store, labels) == Counts(2, 2, 0, 0)
    found = store.latest("labels").collect().rows()
    assert sorted(found) == [("q1", "lamp", "L1", None), ("q1", "sofa", "L3", None)]
    assert store.latest("queries").collect()["frequency"].to_list() == [3.0, None]


def test_one_bad_file_leaves_the_store_as_it_was(store, tmp_path):
    items = write(tmp_path / "items.jsonl", LAMP)
    labels = write(tmp_path / "labels.jsonl", {"query_id": "q1", "item_id": "sofa", "grade": "L5"})
    with pytest.raises(InputError, match=r"L5.*legal values: L1, L2, L3, L4"):
        ingest.main(items, labels=labels, store=store.uri)
    assert store.tables() == []
    with pytest.raises(InputError, match="nothing to read"):
        ingest.main(store=store.uri)


def test_the_command(tmp_path, capsys):
    items = write(tmp_path / "items.jsonl", LAMP, BAD)
    address = str(tmp_path / "store")
    with pytest.raises(SystemExit) as done:
        run(command_app(ingest.main, "lore ingest"), [str(items), "--store", address])
    assert done.value.code == 0  # rows that failed are rows all the same
    out, err = capsys.readouterr()
    assert out == ""
    assert f"ingest: 2 in = 1 ok + 1 failed + 0 skipped; what failed and why: lore status --store {address}" in err
    with pytest.raises(SystemExit) as wrong:
        run(command_app(ingest.main, "lore ingest"), [str(tmp_path / "none.jsonl"), "--store", address])
    assert wrong.value.code == 2
    assert "none.jsonl" in capsys.readouterr().err
