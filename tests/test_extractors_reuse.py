"""What is taken over of earlier extractions, through their rows and back: by what is read, and answer by answer."""

from dataclasses import replace

import pytest
from PIL import Image

from extractors.cascade import extract_all
from extractors.gate import Gate
from extractors.given import Given
from extractors.merge import Merger
from extractors.protocol import Earlier, Extraction, ExtractorInput, PackLine
from extractors.reuse import PARTS, content_of, parts_read
from extractors.vlm import Vlm
from extractors.zero_shot import ZeroShot
from jobs.extraction_rows import earlier_from_rows, extraction_row
from lore_mm.knowledge import Category, Knowledge, Material
from lore_mm.models.scripted import ScriptedEmbedder
from lore_mm.models.scripted_chat import Rule, ScriptedChat
from lore_mm.rows import attributes_table
from lore_mm.schema import load_schemas
from lore_mm.types import AttributeValue, Evidence, Item

SCHEMAS = load_schemas()
CLOTHING = [
    Category(id="clothing", name="clothing", department="fashion", generic=True),
    Category(id="dress", name="dress", parent="clothing"),
    Category(id="shirt", name="shirt", parent="clothing"),
    Category(id="mug", name="mug", department="home"),
]
WORDS = [Material(name="cotton"), Material(name="wool")]
KNOWLEDGE = Knowledge(categories=CLOTHING, materials=WORDS)
PICTURE = Image.new("RGB", (32, 24), "red")
ITEM = Item("a", "A soft thing", "Not cotton!")


class Pack:
    """Reads lines off the pack: `lines` are what stands there."""

    name, needs_pictures, depends_on, sha = "ocr", True, ("pictures",), "pack 1"

    def __init__(self, *lines):
        self.lines, self.calls = lines, 0

    def extract(self, inputs):
        self.calls += len(inputs)
        lines = tuple(PackLine(text, 0, (0.0, 0.1, 0.5, 0.25), 0.875) for text in self.lines)
        return [Extraction(pack=lines) for _ in inputs]


class Kind:
    """Says what kind of thing it is; settles what it is told to."""

    name, needs_pictures, depends_on, sha = "given", False, ("words",), "kind 1"

    def __init__(self, kind, **stated):
        self.kind, self.stated = kind, stated

    def extract(self, inputs):
        values = tuple(
            AttributeValue(name, name, value, confidence=0.95, extractor="given",
                           evidence=(Evidence(f"given.{name}", value, 0, len(value)),))
            for name, value in self.stated.items()
        )  # fmt: skip
        return [Extraction(values, self.kind) for _ in inputs]


class Engine(ScriptedChat):
    def __init__(self, **answers):
        super().__init__([Rule(answer=answers)])
        self.asked = []

    def generate(self, requests):
        self.asked += [tuple(request.json_schema["properties"]) for request in requests]
        return super().generate(requests)


def model(engine, knowledge=KNOWLEDGE, fields=("category", "material"), **settings):
    return Vlm(engine, SCHEMAS, knowledge, fields=fields, **settings)


def extracted(extractors, earlier=None, item=ITEM, pixels="x", again=False, knowledge=KNOWLEDGE):
    """Extractions by name, and what stands then, as a store gives it back."""
    stand = {name: replace(one, again=again) for name, one in (earlier or {}).items()}
    one = ExtractorInput(item, None, (PICTURE,), (None,), content=content_of(item, [pixels]), earlier=stand)
    (found,) = extract_all([one], extractors, Merger(knowledge, SCHEMAS), Gate())
    shas = {extractor.name: extractor.sha for extractor in extractors}
    rows = [extraction_row(item.item_id, n, e, shas[n]) for n, e in found.items() if n != "merge"]
    kept = {row["extractor"]: row for row in attributes_table(rows).to_pylist()}
    back = earlier_from_rows(kept.values(), False)
    new = {n: one for n, one in back.items() if n not in stand or found[n] is not stand[n].extraction}
    return found, {**stand, **new}


def test_a_row_comes_back_as_it_went():
    engine = Engine(category="clothing", material=["wool"])
    found, stand = extracted([Kind("dress"), Pack("100% wool"), model(engine)])
    for name in ("given", "ocr", "vlm"):
        before = replace(found[name], asked=(), settled=(), usage=stand[name].extraction.usage)
        assert stand[name].extraction == before
    assert stand["ocr"].extraction.made_from == {"pictures": content_of(ITEM, ["x"])["pictures"]}
    assert set(stand["vlm"].extraction.asked_with) == {"category", "material"}


def test_text_on_the_pack_is_handed_on_by_a_row_that_stands():
    pack = Pack("100% wool")
    _, stand = extracted([pack])
    engine = Engine(material=["wool"])
    found, stand = extracted([pack, model(engine, fields=("material",))], stand)
    assert (pack.calls, len(engine.asked)) == (1, 1 + 2)  # the kind was not known: asked in two steps, then the rest
    (value,) = [a for a in found["vlm"].attributes if a.name == "material"]
    assert value.evidence[0].region == (0.0, 0.1, 0.5, 0.25)
    engine.asked.clear()
    again, _ = extracted([pack, model(engine, fields=("material",))], stand)
    assert again["vlm"] is stand["vlm"].extraction
    other = Pack("100% cotton")
    other.sha = "pack 2"
    extracted([other, model(engine, fields=("material",))], stand)
    assert ("material",) in engine.asked  # what the model is shown has changed


def test_a_tree_of_categories_that_grows_asks_for_the_kind_where_its_answers_changed():
    engine = Engine(category="clothing", material=["wool"])
    _, stand = extracted([model(engine)])
    assert engine.asked == [("category",), ("category",), ("material",)]

    def grown(*more):
        known = Knowledge(categories=[*CLOTHING, *more], materials=WORDS)
        engine.asked.clear()
        return extracted([model(engine, known)], stand, knowledge=known)

    grown(Category(id="cup", name="cup", parent="mug"))  # below another root
    assert engine.asked == []
    found, _ = grown(Category(id="skirt", name="skirt", parent="clothing"))
    assert engine.asked == [("category",), ("category",)]  # the same kind is found, and what is known of it stands
    assert found["vlm"].category == "clothing"
    grown(Category(id="chair", name="chair", department="home"))  # another root to choose from
    assert engine.asked == [("category",), ("category",)]


def test_another_kind_of_thing_is_asked_anew():
    engine = Engine(material=["wool"])
    _, stand = extracted([Kind("dress"), model(engine, fields=("material",))])
    engine.asked.clear()
    shirt = Kind("shirt")
    shirt.sha = "kind 2"
    extracted([shirt, model(engine, fields=("material",))], stand)
    assert engine.asked == [("material",)]


def test_what_is_settled_leaves_and_comes_back():
    engine = Engine(material=["wool"])
    both = ("material", "neckline")
    _, stand = extracted([Kind("dress"), model(engine, fields=both)])
    engine.asked.clear()
    knows = Kind("dress", material="cotton")
    knows.sha = "kind 2"
    found, stand = extracted([knows, model(engine, fields=both)], stand)
    assert engine.asked == []
    assert [a.name for a in found["vlm"].attributes] == ["neckline"]
    assert found["vlm"].settled == ("material",)
    assert stand["vlm"].extraction.asked_with["material"] is None
    dearer, stand = extracted([knows, model(engine, fields=both)], stand, item=replace(ITEM, price=3.0))
    assert dearer["vlm"] is stand["vlm"].extraction
    _, stand = extracted([Kind("dress"), model(engine, fields=both)], stand)
    assert engine.asked == [("material",)]


def test_evidence_is_looked_up_again_where_tables_changed():
    """ "Not cotton": whether the words deny it depends on the tables; the model is not asked for that."""
    bare = Knowledge(categories=CLOTHING)
    engine = Engine(material=["cotton"])
    spec = SCHEMAS.for_category("dress", KNOWLEDGE).specs["material"]
    assert "cotton" in spec.values
    first, stand = extracted([Kind("dress"), model(engine, fields=("neckline",))])
    engine.asked.clear()
    found, _ = extracted([Kind("dress"), model(engine, bare, fields=("neckline",))], stand, knowledge=bare)
    assert engine.asked == []
    fresh, _ = extracted(
        [Kind("dress"), model(Engine(material=["cotton"]), bare, fields=("neckline",))], knowledge=bare
    )
    assert found["vlm"].attributes == fresh["vlm"].attributes == first["vlm"].attributes


def test_failed_answers_stand_until_they_are_wanted_again():
    engine = Engine(material=["wool"])
    engine._script = engine._script.model_copy(update={"rules": (Rule(words=("soft",), error="busy"),)})
    failed, stand = extracted([Kind("dress"), model(engine, fields=("material",))])
    assert (failed["vlm"].status, failed["vlm"].error) == ("failed", "busy")
    engine.asked.clear()
    wider, _ = extracted([Kind("dress"), model(engine, fields=("material", "fit"))], stand)
    assert engine.asked == [("fit",)]
    assert wider["vlm"].status == "failed"
    well = Engine(material=["wool"])
    well.sha = engine.sha
    still, _ = extracted([Kind("dress"), model(well, fields=("material",))], stand)
    assert still["vlm"] is stand["vlm"].extraction
    mended, _ = extracted([Kind("dress"), model(well, fields=("material",))], stand, again=True)
    assert well.asked == [("material",)]
    assert mended["vlm"].status == "ok"


def test_an_extractor_that_does_not_say_what_it_reads_reads_all():
    silent = type("Silent", (), {"name": "silent", "sha": "1", "needs_pictures": False})()
    assert parts_read(silent) == PARTS
    assert Earlier(Extraction(), "1").again is False


def test_without_content_nothing_is_taken_over():
    pack = Pack("wool")
    _, stand = extracted([pack])
    extract_all([ExtractorInput(ITEM, None, (PICTURE,), (None,), earlier=stand)], [pack], Merger(KNOWLEDGE, SCHEMAS))
    assert pack.calls == 2


@pytest.mark.parametrize("part", ["words", "pictures"])
def test_a_change_that_an_extractor_does_not_read_leaves_its_row(part):
    kind, pack = Kind("dress"), Pack("wool")
    _, stand = extracted([kind, pack])
    changed = {"item": replace(ITEM, title="Another thing")} if part == "words" else {"pixels": "y"}
    found, _ = extracted([kind, pack], stand, **changed)
    assert (found["given"] is stand["given"].extraction) == (part == "pictures")
    assert (found["ocr"] is stand["ocr"].extraction) == (part == "words")


def test_only_those_that_read_a_part_of_a_schema_change_with_it(tmp_path):
    body = 'dimension = "style_detail"\nask = "How?"\nvalues = ["a", "b"]\n'
    seen = f'version = "1"\n[shine]\n{body}visual = true\n'
    unseen = f"[weight_class]\n{body}"

    def shas(text):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        (folder / "fashion.toml").write_text(text)
        schemas = load_schemas((folder,))
        return {
            "given": Given(KNOWLEDGE, schemas).sha,
            "zero_shot": ZeroShot(ScriptedEmbedder(1), schemas, KNOWLEDGE).sha,
            "merge": Merger(KNOWLEDGE, schemas).sha,
            "vlm": Vlm(Engine(), schemas, KNOWLEDGE).sha,
        }

    base = shas(seen + unseen)

    def changed(text):
        return {name for name, sha in shas(text).items() if sha != base[name]}

    assert changed(seen + unseen) == set()
    assert changed(seen.replace("How?", "How so?") + unseen) == {"vlm"}
    assert changed(seen.replace('version = "1"', 'version = "2"') + unseen) == {"vlm"}
    assert changed(seen + unseen.replace('"b"', '"b", "c"')) == {"given", "merge", "vlm"}
    assert changed(seen.replace('"b"', '"b", "c"') + unseen) == {"given", "merge", "vlm", "zero_shot"}
    assert changed(seen + 'prompts = ["a {value} one"]\n' + unseen) == {"vlm", "zero_shot"}
    assert changed(seen + unseen + "visual = true\n") == {"vlm", "zero_shot"}
