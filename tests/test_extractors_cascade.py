import pytest
from PIL import Image

from extractors.cascade import extract_all
from extractors.merge import Merger
from extractors.palette import Palette
from extractors.protocol import Extraction, ExtractorInput
from extractors.zero_shot import ZeroShot
from lore_mm.errors import ModelError
from lore_mm.knowledge import Category, Color, Knowledge
from lore_mm.models import open_embedder
from lore_mm.schema import load_schemas
from lore_mm.types import AttributeValue, Evidence, Item

KNOWLEDGE = Knowledge(
    categories=[Category(id="chair", name="chair", department="furniture"), Category(id="lamp", name="lamp")],
    colors=[Color(name=n, family=n, hex=h) for n, h in (("red", "#c8202a"), ("blue", "#1f5fc4"), ("white", "#ffffff"))],
)
MERGER = Merger(KNOWLEDGE, load_schemas())


class Titles:
    """An extractor that reads the category off the title, and breaks on request."""

    name, needs_pictures, sha = "titles", False, "0"

    def extract(self, inputs):
        if any(one.item.title == "bomb" for one in inputs):
            raise RuntimeError("boom")
        return [self._one(one) for one in inputs]

    def _one(self, one):
        category = one.item.title if one.item.title in KNOWLEDGE.categories else None
        if category is None:
            return Extraction()
        evidence = (Evidence("title", quote=category, start=0, end=len(category)),)
        return Extraction((AttributeValue("category", "category", category, evidence=evidence),), category)


class Watcher:
    """Keeps the categories it was called with."""

    name, needs_pictures, sha = "watcher", False, "0"

    def __init__(self):
        self.seen = []

    def extract(self, inputs):
        self.seen.append([one.category for one in inputs])
        return [Extraction(category=one.category) for one in inputs]


def thing(item_id, title, picture=None, error=None):
    pictures = () if picture is None and error is None else (picture,)
    return ExtractorInput(Item(item_id, title), None, pictures, (error,) if pictures else ())


def red():
    image = Image.new("RGB", (60, 60), "white")
    image.paste("#c8202a", (20, 20, 40, 40))
    return image


def test_the_category_found_first_is_handed_on():
    watcher = Watcher()
    results = extract_all([thing("a", "chair"), thing("b", "?"), thing("c", "lamp")], [Titles(), watcher], MERGER)
    assert watcher.seen == [["chair", None, "lamp"]]
    assert [list(r) for r in results] == [["titles", "watcher", "merge"]] * 3
    assert [r["merge"].category for r in results] == ["chair", None, "lamp"]


def test_from_pictures_and_words_to_one_verdict():
    embedder = open_embedder("scripted:0")
    zero_shot = ZeroShot(embedder, load_schemas(), KNOWLEDGE, {"default": {"threshold": 2}})
    (result,) = extract_all([thing("a", "chair", red())], [Titles(), Palette(KNOWLEDGE), zero_shot], MERGER)
    assert {a.name: (a.value, a.status) for a in result["merge"].attributes} == {
        "category": ("chair", "value"),
        "color": ("red", "value"),
    }
    assert result["palette"].category == result["zero_shot"].category == "chair"


def test_one_bad_row_fails_alone():
    inputs = [thing("a", "chair"), thing("b", "bomb"), thing("c", "lamp", None, "truncated")]
    results = extract_all(inputs, [Titles(), Palette(KNOWLEDGE)], MERGER)
    assert [r["titles"].status for r in results] == ["ok", "failed", "ok"]
    assert results[1]["titles"].error == "RuntimeError: boom"
    assert [(r["merge"].status, r["merge"].error) for r in results] == [
        ("ok", None),
        ("failed", "titles: RuntimeError: boom"),
        ("failed", "palette: truncated"),
    ]
    assert results[2]["merge"].category == "lamp"


def test_a_dead_engine_ends_the_batch():
    class Dead(Watcher):
        def extract(self, inputs):
            raise ModelError("the engine is gone")

    with pytest.raises(ModelError, match="gone"):
        extract_all([thing("a", "chair")], [Dead()], MERGER)


def test_an_extractor_that_loses_rows_fails_them_all_rather_than_shifting_them():
    class Loser(Watcher):
        def extract(self, inputs):
            return [Extraction()]

    results = extract_all([thing("a", "chair"), thing("b", "lamp")], [Loser()], MERGER)
    assert [r["watcher"].error for r in results] == ["watcher gave 1 extractions for 2 items"] * 2


def test_nothing_in_nothing_out():
    assert extract_all([], [Titles(), Palette(KNOWLEDGE)], MERGER) == []
