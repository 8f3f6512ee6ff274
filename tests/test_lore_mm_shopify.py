"""The converter of Shopify's taxonomy, on twenty kinds written here in the published form."""

import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from extractors.given import Given
from extractors.protocol import ExtractorInput
from lore_mm.console import command_app
from lore_mm.errors import InputError, LoreError
from lore_mm.knowledge import load_knowledge
from lore_mm.schema import load_schemas
from lore_mm.schema_show import find_category
from lore_mm.schema_show import main as show
from lore_mm.shopify import convert_taxonomy, read_taxonomy
from lore_mm.taxonomy import main as convert
from lore_mm.taxonomy import write_converted
from lore_mm.types import Item

COMMON = {
    "category", "brand", "model", "bundle", "length", "width", "height", "weight", "volume", "age", "year", "price",
    "store",
}  # fmt: skip
ATTRIBUTES = {
    "color": ("Color", ["Black", "Grey", "Rose gold"]),
    "pattern": ("Pattern", ["Dots", "Striped", "Other"]),
    "fabric": ("Fabric", ["Cotton", "Wool", "Bio-based faux leather"]),
    "target-gender": ("Target gender", ["Female", "Male", "Unisex"]),
    "neckline": ("Neckline", ["V-neck", "Crew"]),
    "sleeve-length-type": ("Sleeve length type", ["Short", "Long"]),
    "occasion-style": ("Occasion style", ["Casual", "Formal"]),
    "clothing-features": ("Clothing features", ["Hypoallergenic", "Reversible"]),
    "shoe-size": ("Shoe size", [str(n / 2) for n in range(2, 140)]),  # longer than a prompt should list
    "toy-game-material": ("Toy/Game material", ["Wood", "Plastic"]),
    "recommended-age-group": ("Recommended age group", ["3-5 years", "3–5 years", "Adults"]),
    "model": ("Model", ["A", "B"]),  # the name of a common attribute that is a number or text
    "version": ("Version", ["Standard", "Deluxe"]),  # the name of a key of a schema file
}
WORN = ("color", "pattern", "fabric", "target-gender")
TREE = {
    "aa": ("Apparel & Accessories", ("color", "pattern", "target-gender")),
    "aa-1": ("Clothing", WORN),
    "aa-1-1": ("Dresses", (*WORN, "neckline", "sleeve-length-type", "occasion-style")),
    "aa-1-2": ("Clothing Tops", (*WORN, "neckline", "sleeve-length-type")),
    "aa-1-2-1": ("T-Shirts", (*WORN, "neckline", "sleeve-length-type", "clothing-features")),
    "aa-1-2-2": ("Tank Tops", (*WORN, "neckline", "clothing-features")),  # sleeves end here …
    "aa-1-2-2-1": ("Sleeved Tank Tops", (*WORN, "sleeve-length-type")),  # … and begin again
    "aa-1-3": ("Lingerie", (*WORN, "clothing-features")),
    "aa-1-3-1": ("Garter Belts", ("color",)),
    "aa-2": ("Shoes", ("color", "pattern", "shoe-size")),
    "aa-2-1": ("Sandals", ("color", "pattern", "shoe-size")),
    "aa-2-2": ("Boots & Bootees", ("color", "shoe-size", "fabric")),
    "aa-10": ("Hats, Caps & Hoods", ("color", "fabric")),
    "tg": ("Toys & Games", ()),
    "tg-1": ("Toys", ("color", "toy-game-material", "recommended-age-group")),
    "tg-1-1": ("Dolls", ("color", "recommended-age-group")),
    "tg-1-2": ("Puzzles", ("toy-game-material", "recommended-age-group")),
    "tg-1-2-1": ("Jigsaw Puzzles", ("toy-game-material", "model", "version")),
    "tg-2": ("Games", ("version",)),
    "tg-2-1": ("Card Games", ()),
}


def parent(category):
    return category.rpartition("-")[0] or None


def full_name(category):
    above = parent(category)
    return (full_name(above) + " > " if above else "") + TREE[category][0]


def attribute(handle, extended=()):
    title, values = ATTRIBUTES[handle]
    return {
        "id": "gid://shopify/TaxonomyAttribute/1",
        "name": title,
        "handle": handle,
        "description": f"Defines the {title.lower()}",
        "extended_attributes": [{"name": name, "handle": name.lower().replace(" ", "-")} for name in extended],
        "values": [{"id": "gid://shopify/TaxonomyValue/1", "name": v, "handle": f"{handle}__{v}"} for v in values],
    }


def publish(folder):
    """The twenty kinds as dist/en holds them."""
    folder.mkdir()
    gid = "gid://shopify/TaxonomyCategory/"
    kinds = [
        {
            "id": gid + category,
            "level": category.count("-"),
            "name": name,
            "full_name": full_name(category),
            "parent_id": gid + parent(category) if parent(category) else None,
            "attributes": [{"name": ATTRIBUTES[h][0], "handle": h, "extended": False} for h in handles],
            "children": [],
            "ancestors": [],
        }
        for category, (name, handles) in TREE.items()
    ]
    verticals = [
        {"name": root, "prefix": root, "categories": [k for k in kinds if k["id"].startswith(gid + root)]}
        for root in ("aa", "tg")
    ]
    (folder / "categories.json").write_text(json.dumps({"version": "2026-11", "verticals": verticals}))
    (folder / "attributes.json").write_text(
        json.dumps({"version": "2026-11", "attributes": [attribute(h) for h in ATTRIBUTES]})
    )
    return folder


@pytest.fixture
def published(tmp_path):
    return publish(tmp_path / "dist")


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """Folders of schemas and knowledge of both verticals."""
    folder = tmp_path_factory.mktemp("shopify")
    taxonomy = read_taxonomy(publish(folder / "dist"))
    roots = [taxonomy.categories["aa"], taxonomy.categories["tg"]]
    write_converted(convert_taxonomy(taxonomy, roots, load_knowledge()), folder / "out", taxonomy.version)
    return folder / "out"


@pytest.fixture(scope="module")
def loaded(converted):
    return load_schemas((converted / "schemas",)), load_knowledge((converted / "knowledge",))


def own(schema):
    """Names of the attributes that are the taxonomy's, as it writes them."""
    return {name.rstrip("_").replace("_", "-") for name in schema.specs if name not in COMMON}


def test_every_kind_has_exactly_the_attributes_listed_for_it(loaded):
    schemas, knowledge = loaded
    assert len(TREE) == 20
    for category, (_, handles) in TREE.items():
        schema = schemas.for_category(category, knowledge)
        assert own(schema) == set(handles), category
        assert set(schema.specs) >= {"category", "brand", "price"}
        assert not {"slimming", "pattern_", "season"} & set(schema.specs)


def test_a_shipped_kind_keeps_its_schema(loaded):
    schemas, knowledge = loaded
    assert schemas.for_category("dress", knowledge).spec("slimming").kind == "derived"


def test_attributes_say_what_they_are(loaded):
    schemas, knowledge = loaded
    dress, doll = schemas.for_category("aa-1-1", knowledge), schemas.for_category("tg-1-1", knowledge)
    said = {
        (s.name, s.dimension, s.type, s.kind, s.multi, s.visual) for s in dress.specs.values() if s.name not in COMMON
    }
    assert said == {
        ("color", "color", "choice", "inherent", True, True),
        ("pattern", "style_detail", "choice", "inherent", False, True),
        ("fabric", "material", "choice", "inherent", True, False),
        ("target_gender", "audience", "choice", "inherent", False, False),
        ("neckline", "style_detail", "choice", "inherent", False, True),
        ("sleeve_length_type", "style_detail", "choice", "inherent", False, True),
        ("occasion_style", "style", "choice", "derived", True, True),
    }
    assert dress.spec("neckline").ask == "What is its neckline? Defines the neckline."
    assert doll.spec("recommended_age_group").dimension == "audience"
    assert schemas.for_category("aa-2", knowledge).spec("shoe_size").type == "text"
    jigsaw = schemas.for_category("tg-1-2-1", knowledge)
    assert list(jigsaw.spec("version_").values) == ["standard", "deluxe"]
    assert jigsaw.spec("model").type == "text" and list(jigsaw.spec("model_").values) == ["a", "b"]


def test_values_are_spelled_as_the_tables_do_and_know_shopifys_word(loaded):
    schemas, knowledge = loaded
    dress = schemas.for_category("aa-1-1", knowledge)
    colors = dress.spec("color")
    assert list(colors.values) == ["black", "gray", "rose gold"]
    assert colors.lookup["grey"] == "gray" and "gray" in knowledge.colors
    assert set(dress.spec("fabric").values) >= {"cotton", "wool"} <= set(knowledge.materials)
    ages = schemas.for_category("tg-1-1", knowledge).spec("recommended_age_group")
    assert next(iter(ages.values)) == "3-5 years" and list(ages.values)[-1] == "adults"
    answers = dress.json_schema(["neckline"])["properties"]["neckline"]["enum"]
    assert answers == ["v-neck", "crew", "not_stated", "not_applicable"]


def test_the_output_is_the_same_bytes_from_json_and_parquet(converted, tmp_path):
    rows = [
        {"id": c, "name": name, "full_name": full_name(c), "attributes": [h.replace("-", "_") for h in handles]}
        for c, (name, handles) in TREE.items()
    ]
    fields = [
        {"friendly_id": h.replace("-", "_"), "name": t, "description": f"Defines the {t.lower()}", "values": v}
        for h, (t, v) in ATTRIBUTES.items()
    ]
    other = tmp_path / "parquet"
    other.mkdir()
    pq.write_table(pa.Table.from_pylist(rows[::-1]), other / "categories.parquet")
    pq.write_table(pa.Table.from_pylist(fields), other / "attributes.parquet")
    (other / "VERSION").write_text("2026-11\n")
    taxonomy = read_taxonomy(other)
    roots = [taxonomy.categories["aa"], taxonomy.categories["tg"]]
    write_converted(convert_taxonomy(taxonomy, roots, load_knowledge()), tmp_path / "again", taxonomy.version)
    files = sorted(path.relative_to(converted).as_posix() for path in converted.rglob("*.toml"))
    assert files == ["knowledge/categories.toml", "schemas/shopify_aa.toml", "schemas/shopify_tg.toml"]
    for name in files:
        assert (converted / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert load_schemas((tmp_path / "again" / "schemas",)).sha == load_schemas((converted / "schemas",)).sha


def test_extended_attributes_have_the_values_of_what_they_extend(published):
    path = published / "attributes.json"
    raw = json.loads(path.read_text())
    raw["attributes"][0] = attribute("color", extended=("Upholstery color",))
    path.write_text(json.dumps(raw))
    taxonomy = read_taxonomy(published)
    assert taxonomy.attributes["upholstery_color"].values == taxonomy.attributes["color"].values


def test_part_of_the_tree(published, tmp_path):
    taxonomy = read_taxonomy(published)
    root = taxonomy.find("Apparel & Accessories > Clothing")
    assert root.id == taxonomy.find("clothing").id == taxonomy.find("gid://shopify/TaxonomyCategory/aa-1").id == "aa-1"
    write_converted(convert_taxonomy(taxonomy, [root], load_knowledge()), tmp_path / "part", taxonomy.version)
    knowledge = load_knowledge((tmp_path / "part" / "knowledge",))
    schemas = load_schemas((tmp_path / "part" / "schemas",))
    assert "aa-2" not in knowledge.categories
    assert knowledge.ancestors("aa-1-2-1") == ("aa-1-2", "aa-1", "aa")
    assert knowledge.department("aa") is None and knowledge.department("aa-1-2-1") == "shopify_aa_1"
    assert own(schemas.for_category("aa-1-2-2", knowledge)) == set(TREE["aa-1-2-2"][1])


@pytest.mark.parametrize(
    ("wanted", "words"),
    [("Dreses", "no category 'Dreses'"), ("aa-9", "no category 'aa-9'"), ("", "no category")],
)
def test_an_unknown_kind_is_one_line(published, wanted, words):
    with pytest.raises(InputError, match=words) as caught:
        read_taxonomy(published).find(wanted)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("categories.json", "{"),
        ("categories.json", "[]"),
        ("categories.json", '{"version": "1", "verticals": [{"categories": [{"id": "aa"}]}]}'),
        ("attributes.json", '{"version": "1", "attributes": []}'),  # the kinds' attributes are unknown
        ("attributes.json", "\x00\xff"),
    ],
)
def test_what_is_not_of_the_published_form_is_one_line(published, name, text):
    (published / name).write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match="not the published form") as caught:
        read_taxonomy(published)
    assert "\n" not in str(caught.value)


def test_hostile_names_stay_names(published, tmp_path):
    path = published / "attributes.json"
    raw = json.loads(path.read_text())
    names = ['"]\n[evil]', "'''", "\x7f\x00", "not_stated", "{value}", "𝒜" * 50, "", "back\\slash"]
    raw["attributes"][0]["values"] = [{"name": name, "handle": "x"} for name in names]
    raw["attributes"][0]["description"] = 'A\n"quote" \u202e\\'
    path.write_text(json.dumps(raw))
    taxonomy = read_taxonomy(published)
    write_converted(convert_taxonomy(taxonomy, [taxonomy.find("aa")], load_knowledge()), tmp_path / "o", "1")
    color = load_schemas((tmp_path / "o" / "schemas",)).departments["shopify_aa"].spec("color")
    assert list(color.values) == ['"] [evil]', "'''", "{value}", "a" * 50, "back\\slash"]
    assert color.ask == 'What is its color? A "quote" \\.'


def test_items_are_read_under_shopifys_ids(loaded):
    schemas, knowledge = loaded
    given = Given(knowledge, schemas)
    items = [
        Item("1", "Red cotton thing", category="gid://shopify/TaxonomyCategory/aa-1-1"),
        Item("2", "Grey wool dress", category="Apparel & Accessories > Clothing > Dresses"),
        Item("3", "Hat, gray"),
    ]
    found = given.extract([ExtractorInput(item) for item in items])
    assert [one.category for one in found] == ["aa-1-1", "aa-1-1", "aa-10"]
    said = {(a.name, a.value) for a in found[1].attributes}
    assert {("category", "aa-1-1"), ("color", "gray"), ("fabric", "wool")} <= said


def test_the_command(published, tmp_path):
    app = command_app(convert, "lore taxonomy")
    done = CliRunner().invoke(app, [str(published), "Clothing", "tg", "--out", str(tmp_path / "mine")])
    assert done.exit_code == 0, done.output
    counts = json.loads(done.stdout)
    assert (counts["version"], counts["departments"], counts["categories"]) == ("2026-11", 2, 9 + 7)
    refused = CliRunner().invoke(app, [str(published), "aa", "aa-1"])
    assert isinstance(refused.exception, LoreError) and "lies below 'Apparel & Accessories'" in str(refused.exception)
    folders = ["--schemas", str(tmp_path / "mine/schemas"), "--knowledge", str(tmp_path / "mine/knowledge")]
    shown = CliRunner().invoke(command_app(show, "lore schema"), ["aa-1-3-1", *folders])
    assert shown.exit_code == 0, shown.output
    told = json.loads(shown.stdout)
    assert {a["name"] for a in told["attributes"]} - COMMON == {"color"}
    assert told["json_schema"]["properties"]["color"]["anyOf"][0]["items"] == {"enum": ["black", "gray", "rose gold"]}


def test_show_a_shipped_kind():
    done = subprocess.run(
        [sys.executable, "-m", "lore_mm.schema_show", "Gown"], capture_output=True, text=True, check=True
    )
    told = json.loads(done.stdout)
    assert told["category"] == "dress" and told["schema"] == "fashion"
    slimming = next(a for a in told["attributes"] if a["name"] == "slimming")
    assert (slimming["kind"], slimming["type"]) == ("derived", "flag")
    assert slimming["question"].startswith("Does its cut make the wearer look slimmer? yes or no.")
    with pytest.raises(InputError, match="no category 'dres', did you mean 'dress'"):
        find_category("dres", load_knowledge())
