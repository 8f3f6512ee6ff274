"""`lore extract`: rows of every extractor and a verdict; bad pictures, bad rows, what is stale, what is resumed."""

import json

import polars as pl
import pytest
from PIL import Image

from extractors.merge import Merger
from extractors.protocol import Extraction
from jobs import extract_items as job
from jobs import open_extractors as opening
from jobs.extract_items import ExtractItems, extract_items
from jobs.ingest import ingest_items
from jobs.item_input import LoadedItem
from jobs.open_extractors import open_extractors
from jobs.plan import Counts
from jobs.spine import run_job
from lore_mm.console import command_app, run
from lore_mm.errors import InputError, MissingExtraError, ModelError
from lore_mm.fingerprint import sha_of, sha_of_bytes
from lore_mm.images import PicturePolicy
from lore_mm.knowledge import load_knowledge
from lore_mm.schema import load_schemas
from lore_mm.types import AttributeValue, Evidence, Item
from stores.features import open_store


class Reader:
    """Says that the brand is the title's first word; `stumbles` raises at such titles."""

    name, needs_pictures, sha = "given", False, "reader 1"

    def __init__(self, stumbles=(), dies_at=None):
        self.stumbles, self.dies_at, self.seen = stumbles, dies_at, []

    def extract(self, inputs):
        self.seen += [one.item.item_id for one in inputs]
        for one in inputs:
            if one.item.title in self.stumbles:
                raise KeyError(one.item.title)
            if one.item.item_id == self.dies_at:
                raise ModelError("the engine is gone")
        return [Extraction(attributes=(self._brand(one.item),)) for one in inputs]

    def _brand(self, item):
        word = item.title.split()[0]
        evidence = Evidence("title", word, 0, len(word), extractor="given")
        return AttributeValue("brand", "brand", word, confidence=0.9, extractor="given", evidence=(evidence,))


class Looker:
    """Says the colour of the first pixel of the first readable picture."""

    name, needs_pictures, sha = "palette", True, "looker 1"

    def __init__(self):
        self.seen = []

    def extract(self, inputs):
        self.seen += [one.item.item_id for one in inputs]
        return [self._one(one) for one in inputs]

    def _one(self, one):
        seen = [(i, p) for i, p in enumerate(one.pictures) if p is not None]
        if not seen:
            status = "failed" if one.pictures else "skipped"
            return Extraction(status=status, error="; ".join(e for e in one.picture_errors if e) or None)
        place, picture = seen[0]
        name = {(255, 0, 0): "red", (0, 0, 255): "blue"}[picture.getpixel((0, 0))]
        evidence = Evidence(f"image:{place}", extractor="palette")
        value = AttributeValue("color", "color", name, share=1.0, extractor="palette", evidence=(evidence,))
        return Extraction(attributes=(value,))


ITEMS = {
    "red": {"title": "Ikea lamp", "images": ["red.png"]},
    "none": {"title": "Muji chair"},
    "bad": {"title": "Apple cup", "price": "cheap"},
    "broken": {"title": "Sony radio", "images": ["broken.png"]},
    "missing": {"title": "Bose speaker", "images": ["missing.png"]},
    "half": {"title": "Nike shoe", "images": ["broken.png", "blue.png"]},
    "url": {"title": "Lego brick", "images": ["http://127.0.0.1:9/red.png"]},
    "outside": {"title": "Puma shirt", "images": ["../secret.png"]},
}


def write_catalogue(folder, items):
    (folder / "items.jsonl").write_text("".join(json.dumps({"item_id": i} | row) + "\n" for i, row in items.items()))


@pytest.fixture
def shop(tmp_path):
    """A catalogue of eight items, ingested: two good, one bad row, five with something wrong with a picture."""
    folder = tmp_path / "shop"
    folder.mkdir()
    Image.new("RGB", (40, 30), "red").save(folder / "red.png")
    Image.new("RGB", (40, 30), "blue").save(folder / "blue.png")
    Image.new("RGB", (40, 30), "red").save(tmp_path / "secret.png")
    (folder / "broken.png").write_bytes((folder / "red.png").read_bytes()[:60])
    write_catalogue(folder, ITEMS)
    return folder


@pytest.fixture
def store(tmp_path, shop):
    store = open_store(tmp_path / "store", create=True)
    ingest_items(store, shop)
    return store


def work_of(store, *extractors, policy=None):
    merger = Merger(load_knowledge(), load_schemas())
    return ExtractItems(store, extractors or [Reader(), Looker()], merger, policy or PicturePolicy())


def verdicts(store):
    rows = store.latest("attributes").filter(pl.col("extractor") == "merge").collect().to_dicts()
    return {row["item_id"]: row for row in rows}


def values(row):
    return {a["name"]: a["value"] for a in row["attributes"] or () if a["value"] is not None}


def test_without_torch_the_message_names_both_ways_on(monkeypatch):
    def missing(address):
        raise MissingExtraError("torch", "cpu")

    monkeypatch.setattr(opening, "open_embedder", missing)
    with pytest.raises(MissingExtraError) as error:
        open_extractors(["zero_shot", "given"], "open_clip:x", load_knowledge(), load_schemas())
    assert str(error.value).endswith("pip install 'lore-mm[cpu]'; or go without zero_shot: --extractors given")
    with pytest.raises(MissingExtraError, match=r"\[cpu\]'$"):
        open_extractors(["zero_shot"], "open_clip:x", load_knowledge(), load_schemas())


def test_of_many_pictures_that_cannot_be_read_five_are_named():
    faults = tuple(None if i == 2 else f"{i}.png: gone" for i in range(300))
    named = "; ".join(f"image:{i}: {i}.png: gone" for i in (0, 1, 3, 4, 5))
    assert LoadedItem(Item("a", "A"), picture_errors=faults).picture_fault == f"{named}; and {300 - 1 - 5} more"


def test_every_item_has_its_rows(store):
    assert run_job(store, work_of(store), batch_rows=3) == Counts(8, 2, 6, 0)
    rows = store.latest("attributes").collect()
    found = {}
    for item_id, extractor in rows.select("item_id", "extractor").iter_rows():
        found.setdefault(item_id, []).append(extractor)
    assert found == {i: ["merge"] if i == "bad" else ["given", "palette", "merge"] for i in ITEMS}
    assert list(verdicts(store)) == list(ITEMS)  # the order of the catalogue


def test_what_is_wrong_is_said_and_the_rest_is_kept(store, shop):
    run_job(store, work_of(store))
    found = verdicts(store)
    assert {i: row["status"] for i, row in found.items()} == {
        i: "ok" if i in ("red", "none") else "failed" for i in ITEMS
    }
    assert values(found["red"]) | {"brand": "Ikea", "color": "red"} == values(found["red"])
    # once, though the extractor that looks at pictures says it too
    assert found["missing"]["error"] == f"image:0: missing.png: no such file in {shop}"
    assert found["broken"]["error"].count("broken.png") == 1 and found["broken"]["error"].startswith("image:0: ")
    assert "image:0: broken.png: " in found["half"]["error"]
    assert "pictures by URL are off" in found["url"]["error"]
    assert "'..'" in found["outside"]["error"]
    assert found["bad"]["error"].startswith("price: 'cheap' is not a number")
    for item_id, brand in {"broken": "Sony", "missing": "Bose", "url": "Lego", "outside": "Puma"}.items():
        assert values(found[item_id])["brand"] == brand
        assert "color" not in values(found[item_id])
    assert values(found["half"])["color"] == "blue"  # the other picture was read
    assert values(found["bad"]) == {}


def test_provenance_names_what_a_row_was_made_from(store, shop):
    work = work_of(store)
    run_job(store, work)
    items = {row["item_id"]: row["provenance"]["input_sha"] for row in store.latest("items").collect().to_dicts()}
    for row in store.latest("attributes").collect().to_dicts():
        made = row["provenance"]
        shas = {"none": [], "half": ["broken.png", "blue.png"], "red": ["red.png"]}.get(row["item_id"])
        if shas is not None:
            pictures = [sha_of_bytes((shop / name).read_bytes()) for name in shas]
            assert made["input_sha"] == sha_of([items[row["item_id"]], *pictures])
        assert made["maker"] == row["extractor"]
        assert made["settings_sha"] == {"given": "reader 1", "palette": "looker 1"}.get(
            row["extractor"], work.settings_sha
        )


def test_nothing_changed_nothing_is_read(store):
    run_job(store, work_of(store))
    before, reader = store.snapshot(), Reader()
    assert run_job(store, work_of(store, reader, Looker())) == Counts(8, 0, 0, 8, n_still_failed=6)
    assert reader.seen == []
    assert store.snapshot() == before


def test_only_changed_content_is_extracted_again(store, shop):
    run_job(store, work_of(store))
    Image.new("RGB", (40, 30), "blue").save(shop / "red.png")  # other pixels under the same name
    Image.new("RGB", (40, 30), "red").save(shop / "missing.png")  # a picture that came late
    write_catalogue(shop, ITEMS | {"none": {"title": "Aiaiai chair"}, "bad": {"title": "Apple cup", "price": 3}})
    ingest_items(store, shop)
    reader = Reader()
    assert run_job(store, work_of(store, reader, Looker())) == Counts(8, 4, 0, 4, n_still_failed=4)
    assert sorted(reader.seen) == ["bad", "missing", "none", "red"]
    found = verdicts(store)
    assert values(found["red"])["color"] == "blue"
    assert values(found["missing"])["color"] == "red"
    assert values(found["none"])["brand"] == "Aiaiai"
    assert values(found["bad"])["brand"] == "Apple"


def test_other_extractors_make_all_stale(store):
    run_job(store, work_of(store))
    other = Reader()
    other.sha = "reader 2"
    assert run_job(store, work_of(store, other, Looker())) == Counts(8, 2, 6, 0)
    # without extractors that look, pictures are not opened, and cannot fail an item
    assert run_job(store, work_of(store, Reader())) == Counts(8, 7, 1, 0)


def test_retry_failed_takes_those_that_failed(store, shop):
    run_job(store, work_of(store))
    reader, looker = Reader(), Looker()
    assert run_job(store, work_of(store, reader, looker), retry_failed=True) == Counts(8, 0, 6, 2)
    assert sorted(looker.seen) == ["broken", "missing", "outside", "url"]  # of "half" the other picture was looked at
    assert reader.seen == []  # what was read of them stands


def test_urls_once_allowed_are_tried(store):
    run_job(store, work_of(store))
    reader = Reader()
    work = work_of(store, reader, Looker(), policy=PicturePolicy(allow_urls=True))
    assert run_job(store, work) == Counts(8, 0, 1, 7, n_still_failed=5)
    assert reader.seen == ["url"]
    assert "not a public address" in verdicts(store)["url"]["error"] or "port" in verdicts(store)["url"]["error"]


def test_an_extractor_that_stumbles_fails_one_item(store):
    assert run_job(store, work_of(store, Reader(stumbles=["Ikea lamp"]), Looker())) == Counts(8, 1, 7, 0)
    assert "KeyError: 'Ikea lamp'" in verdicts(store)["red"]["error"]


def test_a_dead_engine_stops_and_the_same_command_goes_on(store):
    with pytest.raises(ModelError):
        run_job(store, work_of(store, Reader(dies_at="missing"), Looker()), batch_rows=2)
    assert list(verdicts(store)) == ["red", "none", "bad", "broken"]
    reader = Reader()
    assert run_job(store, work_of(store, reader, Looker()), batch_rows=2) == Counts(8, 2, 6, 0)
    assert sorted(reader.seen) == ["half", "missing", "outside", "url"]
    assert list(verdicts(store)) == list(ITEMS)
    assert store.count("attributes") == 7 * 3 + 1  # none doubled


def test_extractors_by_name():
    knowledge, schemas = load_knowledge(), load_schemas()
    (palette,) = open_extractors(["palette"], "scripted:1", knowledge, schemas)
    assert palette.name == "palette"
    with pytest.raises(InputError, match=r"no extractor 'pallete', did you mean 'palette'.*legal: given, palette"):
        open_extractors(["pallete"], "scripted:1", knowledge, schemas)
    with pytest.raises(InputError, match="no extractors named"):
        open_extractors([], "scripted:1", knowledge, schemas)


def test_the_command_ingests_first(tmp_path, shop, capsys):
    address = str(tmp_path / "fresh")
    arguments = [str(shop), "--store", address, "--extractors", "palette", "--batch-rows", "3"]
    for _ in range(2):
        with pytest.raises(SystemExit) as done:
            run(command_app(job.main, "lore extract"), arguments)
        assert done.value.code == 0
    err = capsys.readouterr().err
    assert "ingest: 8 in = 7 ok + 1 failed + 0 skipped" in err
    assert "extract_items: 8 in = 2 ok + 6 failed + 0 skipped" in err
    assert "extract_items: 8 in = 0 ok + 0 failed + 8 skipped; nothing had changed" in err
    red = next(a for a in verdicts(open_store(address))["red"]["attributes"] if a["name"] == "color")
    assert (load_knowledge().colors[red["value"]].family, red["evidence"][0]["source"]) == ("red", "image:0")
    with pytest.raises(SystemExit) as wrong:
        run(command_app(job.main, "lore extract"), ["--store", str(tmp_path / "nowhere")])
    assert wrong.value.code == 1
    assert "no store at" in capsys.readouterr().err


def test_verdicts_that_lose_an_extractor_are_announced(store, capsys):
    extract_items(store, extractors=["given", "palette"])
    assert "will do without" not in capsys.readouterr().err
    extract_items(store, extractors=["given"])
    said = "the verdicts in this store were made with palette too; the new ones will do without"
    assert said in capsys.readouterr().err.splitlines()
    older = store.latest("attributes").collect().filter(extractor="palette")
    assert older["item_id"].n_unique() > 0
