"""`lore embed`: unit vectors with the arithmetic they promise, failed rows that keep theirs, the index over them."""

import json

import numpy as np
import pytest
from PIL import Image

from jobs.embed_items import EmbedItems, embed_items, item_text, mean_direction
from jobs.ingest import ingest_items
from jobs.item_index import build_item_index
from jobs.plan import Counts
from jobs.spine import run_job
from lore_mm.errors import ModelError, StoreError
from lore_mm.images import PicturePolicy
from lore_mm.models import open_embedder
from lore_mm.types import Item
from stores.features import open_store
from stores.snapshot import Snapshot
from stores.vectors import open_index

ITEMS = [
    {"item_id": "one", "title": "Red lamp", "description": "It shines.", "images": ["red.png"]},
    {"item_id": "two", "title": "Two faces", "images": ["red.png", "blue.png"]},
    {"item_id": "none", "title": "No picture"},
    {"item_id": "broken", "title": "Broken picture", "images": ["gone.png"]},
    {"item_id": "half", "title": "Half broken", "images": ["gone.png", "blue.png"]},
    {"item_id": "bad", "title": "", "images": ["red.png"]},
]


@pytest.fixture
def embedder():
    return open_embedder("scripted:7")


@pytest.fixture
def store(tmp_path):
    shop = tmp_path / "shop"
    shop.mkdir()
    Image.new("RGB", (40, 30), "red").save(shop / "red.png")
    Image.new("RGB", (40, 30), "blue").save(shop / "blue.png")
    (shop / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ITEMS))
    store = open_store(tmp_path / "store", create=True)
    ingest_items(store, shop)
    return store


def vectors(store):
    return {row["item_id"]: row for row in store.latest("embeddings").collect().to_dicts()}


def unit(vector):
    return np.asarray(vector) / np.linalg.norm(vector)


def test_vectors_are_what_they_say(store, embedder):
    assert embed_items(store, embedder=embedder, batch_rows=4) == Counts(6, 3, 3, 0)
    found = vectors(store)
    assert list(found) == ["one", "two", "none", "broken", "half", "bad"]
    pictures = [Image.new("RGB", (40, 30), color) for color in ("red", "blue")]
    red, blue = embedder.embed_images(pictures)
    (text,) = embedder.embed_texts(["Red lamp. It shines."])
    np.testing.assert_allclose(found["one"]["image"], red, atol=1e-6)
    np.testing.assert_allclose(found["one"]["text"], text, atol=1e-6)
    np.testing.assert_allclose(found["two"]["image"], unit((red + blue) / 2), atol=1e-6)
    assert found["none"]["image"] is None
    assert found["none"]["status"] == "ok"
    for row in found.values():
        for name in ("image", "text"):
            assert row[name] is None or np.linalg.norm(row[name]) == pytest.approx(1, abs=1e-6)


def test_failed_rows_say_why_and_keep_what_there_is(store, embedder):
    embed_items(store, embedder=embedder)
    found = vectors(store)
    assert {i for i, row in found.items() if row["status"] == "failed"} == {"broken", "half", "bad"}
    assert found["broken"]["error"].startswith("image:0: gone.png: no such file")
    assert found["broken"]["image"] is None
    np.testing.assert_allclose(found["broken"]["text"], embedder.embed_texts(["Broken picture"])[0], atol=1e-6)
    blue = embedder.embed_images([Image.new("RGB", (40, 30), "blue")])[0]
    np.testing.assert_allclose(found["half"]["image"], blue, atol=1e-6)
    assert (found["bad"]["image"], found["bad"]["text"]) == (None, None)
    assert found["bad"]["error"] == "title: empty"


def test_the_index_holds_the_mean_of_both(store, embedder):
    embed_items(store, embedder=embedder)
    index = open_index(store.folder / "vectors" / "items", embedder.name, embedder.sha)
    assert sorted(index.ids) == ["broken", "half", "none", "one", "two"]
    found = vectors(store)
    for item_id in ("one", "half"):
        mean = unit(np.add(found[item_id]["image"], found[item_id]["text"]) / 2)
        ((best, similarity),) = index.search(mean, 1)[0]
        assert best == item_id
        assert similarity == pytest.approx(1, abs=1e-5)
    assert index.manifest["table_version"] == store.version("embeddings")
    [(hit, *_)] = Snapshot(store).search(text="No picture", k=2, embedder=embedder)
    assert hit[0] == "none"
    assert hit[1] == pytest.approx(1, abs=1e-5)


def test_a_second_time_nothing_is_done(store, embedder):
    embed_items(store, embedder=embedder)
    before = store.snapshot()
    current = (store.folder / "vectors" / "items" / "current").read_text()
    assert embed_items(store, embedder=embedder) == Counts(6, 0, 0, 6, n_still_failed=3)
    assert store.snapshot() == before
    assert (store.folder / "vectors" / "items" / "current").read_text() == current


def test_a_changed_item_is_embedded_again_and_found(store, embedder, tmp_path):
    embed_items(store, embedder=embedder)
    shop = tmp_path / "shop"
    (shop / "items.jsonl").write_text(json.dumps({"item_id": "none", "title": "Another title"}) + "\n")
    ingest_items(store, shop)
    assert embed_items(store, embedder=embedder) == Counts(6, 1, 0, 5, n_still_failed=3)
    assert Snapshot(store).search(text="Another title", k=1, embedder=embedder)[0][0][0] == "none"


def test_another_model_stands_beside_and_takes_the_index(store, embedder):
    embed_items(store, embedder=embedder)
    other = open_embedder("scripted:8")
    assert embed_items(store, embedder=other) == Counts(6, 3, 3, 0)
    assert set(store.latest("embeddings").collect()["model"]) == {"scripted:7", "scripted:8"}
    assert open_index(store.folder / "vectors" / "items").manifest["model"] == "scripted:8"
    assert build_item_index(store, embedder)  # and back
    assert not build_item_index(store, embedder)


def test_a_dead_model_loses_nothing(store, embedder):
    work = EmbedItems(store, embedder, PicturePolicy())
    process, calls = work.process, []

    def dies(rows, loaded):
        calls.append(len(loaded))
        if len(calls) == 2:
            raise ModelError("out of reach")
        return process(rows, loaded)

    work.process = dies
    with pytest.raises(ModelError):
        run_job(store, work, batch_rows=2)
    assert list(vectors(store)) == ["one", "two"]
    assert embed_items(store, embedder=embedder, batch_rows=2) == Counts(6, 3, 3, 0)
    assert list(vectors(store)) == [row["item_id"] for row in ITEMS]


def test_no_embeddings_no_index(store, embedder):
    with pytest.raises(StoreError, match=r"no embeddings in .* yet: run `lore embed`"):
        build_item_index(store, embedder)


def test_item_text_is_cut_between_words():
    assert item_text(Item("i", "Lamp")) == "Lamp"
    assert item_text(Item("i", "Lamp", "A  bright\nlamp.")) == "Lamp. A bright lamp."
    words = "word " * 60  # 300 characters; 40 whole words are 40 * 5 - 1 = 199 of them
    assert item_text(Item("i", "Lamp", words)) == "Lamp. " + " ".join(["word"] * 40)
    assert item_text(Item("i", "Lamp", "x" * 300)) == "Lamp. " + "x" * 200


def test_mean_direction():
    x, y = np.eye(2, dtype=np.float32)
    np.testing.assert_allclose(mean_direction(np.stack([x, y])), [2**-0.5, 2**-0.5], atol=1e-7)
    np.testing.assert_allclose(mean_direction(np.stack([x, x, y])), np.array([2, 1]) / 5**0.5, atol=1e-7)
    np.testing.assert_array_equal(mean_direction(np.stack([x, -x])), x)  # they cancel out: the first


def test_only_the_vector_of_what_changed_is_made_again(store, embedder, tmp_path, monkeypatch):
    def as_before(found):
        return {
            i: {name: row[name] for name in ("image", "text", "status", "error", "made_from")}
            for i, row in found.items()
        }

    embed_items(store, embedder=embedder)
    before, seen = vectors(store), []
    images, texts = type(embedder).embed_images, type(embedder).embed_texts
    monkeypatch.setattr(type(embedder), "embed_images", lambda self, some: seen.append(len(some)) or images(self, some))
    monkeypatch.setattr(type(embedder), "embed_texts", lambda self, some: seen.append(some) or texts(self, some))
    shop = tmp_path / "shop"
    rows = [row | ({"title": "Green lamp"} if row["item_id"] == "one" else {}) for row in ITEMS]
    (shop / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ingest_items(store, shop)
    assert embed_items(store, embedder=embedder) == Counts(6, 1, 0, 5, n_still_failed=3)
    assert seen == [["Green lamp. It shines."]]
    after = vectors(store)
    assert after["one"]["image"] == before["one"]["image"]
    assert after["one"]["text"] != before["one"]["text"]
    seen.clear()
    Image.new("RGB", (40, 30), "green").save(shop / "blue.png")
    embed_items(store, embedder=embedder)
    assert seen == [3]  # the two of "two", the other one of "half"; no text
    fresh = open_store(tmp_path / "fresh", create=True)
    ingest_items(fresh, shop)
    embed_items(fresh, embedder=embedder)
    assert as_before(vectors(store)) == as_before(vectors(fresh))
    seen.clear()
    embed_items(store, embedder=open_embedder("scripted:8"))  # another model: nothing of the other's is taken
    assert len(seen) == 2
