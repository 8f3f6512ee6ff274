"""Run: pytest tests/test_jobs_judge_necessity.py

Pairs judged on text alone, on pictures alone and on both: what is taken away, what is left, and what the shares say.
"""

import json

import pyarrow as pa
import pytest
from PIL import Image

from extractors.merge import Merger
from jobs.evaluate_judge import evaluation_tables
from jobs.judge_datasets import evaluate_set
from jobs.judge_material import read_set, read_store
from jobs.judge_necessity import restricted
from jobs.judge_systems import open_judges
from lore_mm.datasets.relevance import open_relevance
from lore_mm.errors import InputError
from lore_mm.knowledge import load_knowledge
from lore_mm.rows import attributes_table, item_to_row, provenance_to_row
from lore_mm.schema import load_schemas
from lore_mm.tables import ITEMS, LABELS, QUERIES
from lore_mm.types import Provenance
from stores.features import open_store

KNOWLEDGE = load_knowledge()
RED, BLUE = (200, 10, 10), (10, 10, 200)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("seen")
    for name, color in (("red", RED), ("blue", BLUE)):
        Image.new("RGB", (64, 64), color).save(made / f"{name}.png")
    return made


@pytest.fixture(scope="module")
def data(folder):
    rows = [
        {"query": "red sofa", "item_id": "a", "title": "Velvet sofa", "grade": "L4", "image": "red.png"},
        {"query": "red sofa", "item_id": "b", "title": "Velvet sofa", "grade": "L2", "image": "blue.png"},
        {"query": "red sofa", "item_id": "c", "title": "Red sofa", "grade": "L4"},
    ]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return open_relevance(str(folder / "pairs.jsonl"))


@pytest.fixture(scope="module")
def material(data):
    return read_set(data, KNOWLEDGE, extractors=["given", "palette"])


def names(material, item_id):
    return {a.name: a.value for a in material.features[item_id].attributes}


def test_each_side_keeps_what_rests_on_it(material):
    merger = Merger(KNOWLEDGE, load_schemas())
    assert names(material, "a") == {"category": "sofa", "material": "velvet", "color": "red"}
    text, image = restricted(material, "text", merger), restricted(material, "image", merger)
    assert names(text, "a") == {"category": "sofa", "material": "velvet"}
    assert text.features["a"].item.images == () and text.features["a"].item.title == "Velvet sofa"
    assert names(image, "a") == {"color": "red"}
    assert image.features["a"].item.title == "" and image.features["a"].item.images == ("red.png",)
    assert names(image, "c") == {}  # its colour stood in the title


def test_what_only_the_picture_settles(data, material):
    found = evaluate_set(data, material=material, knowledge=KNOWLEDGE, embedders=[], resamples=20, necessity=True)
    seen = found.result["visual_necessity"]["rules"]
    # the colour is in the pictures alone: on text both are L3, on both they are right, L4 and L2
    assert [seen[side]["metrics"]["acc_4"]["value"] for side in ("text", "image", "both")] == [0.0, 0.0, 1.0]
    assert [seen[side]["metrics"]["acc_2"]["value"] for side in ("text", "both")] == [0.5, 1.0]
    assert seen["only_picture"]["level"]["value"] == 1.0 and seen["only_picture"]["side"]["value"] == 0.5
    assert seen["misled_by_picture"]["level"]["value"] == 0.0
    assert seen["text_minus_both"]["acc_4"]["value"] == -1.0
    assert seen["note"] == "2 pairs with pictures, 1 without are left out"
    assert len(evaluation_tables(found.result)) == 6  # one more


def test_a_judge_that_is_given_no_picture_says_so(data):
    blind = read_set(data, KNOWLEDGE)
    found = evaluate_set(data, material=blind, knowledge=KNOWLEDGE, embedders=[], resamples=20, necessity=True)
    seen = found.result["visual_necessity"]["rules"]
    assert seen["note"].endswith("no grade of rules changes without them: it was given nothing that a picture shows")
    assert seen["text"]["metrics"] == seen["both"]["metrics"] and seen["only_picture"]["level"]["value"] == 0.0


def test_a_set_without_pictures_says_so(tmp_path):
    rows = [{"query": "sofa", "item_id": "a", "title": "Sofa", "grade": "L4"}]
    (tmp_path / "pairs.jsonl").write_text(json.dumps(rows[0]), encoding="utf-8")
    bare = open_relevance(str(tmp_path / "pairs.jsonl"))
    with pytest.raises(InputError, match="no item has a picture, so there is no visual necessity to measure"):
        evaluate_set(bare, knowledge=KNOWLEDGE, embedders=[], resamples=5, necessity=True)


def test_an_unreadable_picture_is_told_and_the_text_still_judged(data, folder, tmp_path):
    (tmp_path / "pairs.jsonl").write_text((folder / "pairs.jsonl").read_text(encoding="utf-8"), encoding="utf-8")
    lost = open_relevance(str(tmp_path / "pairs.jsonl"))
    material = read_set(lost, KNOWLEDGE, extractors=["given", "palette"])
    assert names(material, "a") == {"category": "sofa", "material": "velvet"}
    assert material.notes[0].startswith("2 pictures cannot be read, such as: ")


def test_pictures_go_to_judges_that_look_at_them(data, material):
    """What the set gives is what a vision judge sees; an item without pictures has none."""
    shown = {item_id: material.pictures(data.items[item_id]) for item_id in "abc"}
    assert [len(some) for some in shown.values()] == [1, 1, 0]
    assert shown["a"][0].getpixel((3, 3)) == RED
    with open_judges(["direct-vision:scripted:7"], KNOWLEDGE, pictures=material.pictures) as judges:
        [judge] = judges.values()
        found = evaluate_set(
            data, ["direct-vision:scripted:7"], material=material, embedders=[], resamples=5, necessity=True
        )
        assert judge.mode == "direct-vision"
    seen = found.result["visual_necessity"]["direct-vision:scripted:7"]
    assert found.result["n"] == 3 and seen["both"]["n"] == 2 and seen["text"]["n"] == 2


def test_a_store_tells_what_each_extractor_found(data, material, folder, tmp_path):
    """The same pairs through a store: the rows before the merge are what is told apart."""
    store = open_store(tmp_path / "store", create=True)
    ok = {"status": "ok", "error": None, "provenance": Provenance()}
    items = [
        item_to_row(item) | ok | {"image_root": str(folder), "provenance": provenance_to_row(Provenance())}
        for item in data.items.values()
    ]
    store.append("items", pa.Table.from_pylist(items, schema=ITEMS))
    queries = {pair.query.query_id: pair.query.text for pair in data.pairs}
    asked = [{"query_id": query_id, "query": text} for query_id, text in queries.items()]
    store.append("queries", pa.Table.from_pylist(asked, schema=QUERIES))
    labels = [{"query_id": p.query.query_id, "item_id": p.item_id, "grade": str(p.grade)} for p in data.pairs]
    store.append("labels", pa.Table.from_pylist(labels, schema=LABELS))
    found = [
        {"item_id": item_id, "extractor": name, "category": None, "attributes": attributes} | ok
        for item_id, known in material.features.items()
        for name, attributes in {
            **{name: one.attributes for name, one in material.findings[item_id].items()},
            "merge": known.attributes,
        }.items()
    ]
    store.append("attributes", attributes_table(found))
    stored, told = read_store(store, KNOWLEDGE, apart=True)
    assert set(told.findings["a"]) == {"given", "palette"} and len(told.pictures(stored.items["b"])) == 1
    measured = evaluate_set(stored, material=told, knowledge=KNOWLEDGE, embedders=[], resamples=20, necessity=True)
    seen = measured.result["visual_necessity"]["rules"]
    assert seen["only_picture"]["level"]["value"] == 1.0 and seen["image"]["n"] == 2
    assert read_store(store, KNOWLEDGE)[1].findings == {}
