import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lore_mm.errors import ConfigError, InputError
from lore_mm.knowledge import Category, Color, Knowledge, Term, load_knowledge
from lore_mm.schema import NOT_APPLICABLE, NOT_STATED, check_value, load_dimensions, load_schemas

KNOWLEDGE = Knowledge(
    categories=[
        Category(id="clothing", name="clothing", terms=("apparel",), department="fashion"),
        Category(id="dress", name="dress", parent="clothing"),
        Category(id="lamp", name="lamp"),
    ],
    colors=[
        Color(name="blue", family="blue", hex="#0000ff"),
        Color(name="navy", terms=("navy blue",), family="blue", hex="#000080"),
    ],
    terms=[
        Term(dimension="season", value="summer", terms=("summery",)),
        Term(dimension="season", value="winter", categories=("clothing",)),
    ],
)
SCHEMAS = load_schemas()
DRESS = SCHEMAS.for_category("dress", KNOWLEDGE)


def folder(tmp_path, **files):
    for name, text in files.items():
        (tmp_path / f"{name}.toml").write_text(text, encoding="utf-8")
    return (tmp_path,)


def test_there_are_eighteen_dimensions_and_every_attribute_has_one():
    dimensions = load_dimensions()
    assert len(dimensions) == 18
    assert next(iter(dimensions)) == "category"
    assert dimensions["color"].evidence[:2] == ("given.color", "image")
    for department in SCHEMAS.departments.values():
        assert {spec.dimension for spec in department.specs.values()} <= set(dimensions)


def test_a_category_has_the_common_attributes_and_its_departments_own():
    assert {"brand", "color", "neckline", "sleeve_length"} <= set(DRESS.specs)
    assert "storage" not in DRESS.specs
    assert DRESS.thing == "garment"
    common = SCHEMAS.for_category(None, KNOWLEDGE)
    assert "brand" in common.specs and "neckline" not in common.specs
    assert SCHEMAS.for_category("lamp", KNOWLEDGE) == common == SCHEMAS.for_category("no such kind", KNOWLEDGE)


def test_legal_values_come_from_the_knowledge_tables():
    assert list(DRESS.spec("color").values) == ["blue", "navy"]
    assert list(DRESS.spec("category").values) == ["clothing", "dress", "lamp"]
    assert list(DRESS.spec("season").values) == ["summer", "winter"]
    assert list(SCHEMAS.for_category("lamp", KNOWLEDGE).spec("season").values) == ["summer"]
    assert "season" not in SCHEMAS.for_category("dress", Knowledge()).specs  # a choice of nothing


@pytest.mark.parametrize(
    ("attribute", "said", "canonical"),
    [
        ("neckline", "Round-Neck", "crew neck"),
        ("neckline", " V neck ", "v-neck"),
        ("color", "NAVY  BLUE", "navy"),
        ("category", "Apparel", "clothing"),
        ("brand", "  Some   Maker ", "Some Maker"),
        ("bundle", "6", 6.0),
        ("slimming", "Yes", True),
        ("slimming", False, False),
    ],
)
def test_a_value_is_brought_to_its_canonical_form(attribute, said, canonical):
    assert check_value(DRESS.spec(attribute), said) == canonical


@pytest.mark.parametrize(
    ("attribute", "said", "words"),
    [
        ("neckline", "rund neck", ["neckline", "'rund neck'", "did you mean 'round neck'", "crew neck, v-neck"]),
        ("color", "nvy", ["did you mean 'navy'", "legal values: blue, navy"]),
        ("bundle", "many", ["bundle", "'many' is not a number"]),
        ("bundle", 0, ["0 is outside 1 to 100000 pieces"]),
        ("bundle", float("nan"), ["nan is outside"]),
        ("bundle", True, ["not a number"]),
        ("slimming", "maybe", ["legal values: yes, no"]),
        ("brand", "x" * 201, ["1 to 200 characters, this has 201"]),
        ("brand", "", ["this has 0"]),
    ],
)
def test_an_illegal_value_is_refused_in_one_line(attribute, said, words):
    with pytest.raises(InputError) as caught:
        check_value(DRESS.spec(attribute), said)
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


def test_an_unknown_attribute_names_the_near_one():
    with pytest.raises(InputError, match="no attribute 'colour', did you mean 'color'"):
        DRESS.spec("colour")


def test_every_shipped_value_and_word_checks_to_its_value():
    for department in SCHEMAS.departments.values():
        for spec in department.specs.values():
            for value, words in spec.values.items():
                assert check_value(spec, value) == value
                assert all(check_value(spec, word) in spec.values for word in words)
                assert all(check_value(spec, w) == value for w in words if w not in spec.values)


def test_json_schema_of_one_reply():
    schema = DRESS.json_schema(["sleeve_length", "color", "bundle", "slimming", "brand"])
    assert schema["required"] == ["sleeve_length", "color", "bundle", "slimming", "brand"]
    assert schema["additionalProperties"] is False
    silent = [NOT_STATED, NOT_APPLICABLE]
    properties = schema["properties"]
    assert properties["sleeve_length"] == {
        "enum": ["sleeveless", "short sleeve", "three-quarter sleeve", "long sleeve", *silent]
    }
    assert properties["slimming"] == {"enum": ["yes", "no", *silent]}
    assert properties["color"]["anyOf"][0]["items"] == {"enum": ["blue", "navy"]}
    assert properties["bundle"]["anyOf"] == [{"type": "number", "minimum": 1, "maximum": 100000}, {"enum": silent}]
    assert properties["brand"]["anyOf"][1] == {"enum": silent}
    assert json.loads(json.dumps(DRESS.json_schema())) == DRESS.json_schema()
    assert list(DRESS.json_schema()["properties"]) == list(DRESS.specs)


def test_arrow_columns():
    columns = DRESS.arrow_schema()
    assert columns.field("neckline").type == pa.string()
    assert columns.field("color").type == pa.list_(pa.string())
    assert columns.field("length").type == pa.float64()
    assert columns.field("slimming").type == pa.bool_()


def test_a_question_names_the_legal_answers():
    question = DRESS.spec("sleeve_length").question
    assert question.startswith(
        "How long are its sleeves? One of: sleeveless, short sleeve, three-quarter sleeve, long sleeve."
    )
    assert NOT_STATED in question and NOT_APPLICABLE in question
    assert "A number in g." in DRESS.spec("weight").question


def test_find_the_attribute_of_a_value():
    assert DRESS.find("style_detail", "round neck").name == "neckline"
    assert DRESS.find("style_detail", "striped").name == "pattern"
    assert DRESS.find("style_detail", "no such thing") is None
    assert DRESS.find("brand", "Nobody Knows").name == "brand"


def test_a_users_folder_is_laid_over(tmp_path):
    extra = folder(
        tmp_path,
        fashion='version = "mine"\n[fit]\ndimension = "style_detail"\nask = "Fit?"\nvalues = ["a", "b"]\n',
        boats='version = 1\nthing = "boat"\n[masts]\ndimension = "spec"\nask = "How many?"\ntype = "number"\n',
    )
    mine = load_schemas(extra)
    assert list(mine.departments["fashion"].specs["fit"].values) == ["a", "b"]
    assert mine.departments["fashion"].specs["neckline"] == SCHEMAS.departments["fashion"].specs["neckline"]
    assert mine.department("boats").thing == "boat"
    assert "brand" in mine.department("boats").specs
    assert mine.departments["fashion"].version == "1+mine"
    assert mine.sha != SCHEMAS.sha
    assert mine.departments["footwear"].sha == SCHEMAS.departments["footwear"].sha
    assert mine.departments["fashion"].specs["fit"].sha != SCHEMAS.departments["fashion"].specs["fit"].sha


def test_the_sha_of_a_category_follows_the_values_of_the_tables():
    fewer = Knowledge(categories=KNOWLEDGE.categories.values(), colors=[KNOWLEDGE.colors["blue"]])
    assert SCHEMAS.for_category("dress", fewer).sha != DRESS.sha


_HEAD = 'version = 1\n[fit]\ndimension = "style_detail"\nask = "Fit?"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[fit]\n", ["needs a version"]),
        ("version = 1\nversion = 2\n", ["mine.toml"]),
        ("version = 1\nfit = 3\n", ["[fit] must be a table"]),
        ("version = 1\nthing = 3\n", ["thing must be a word"]),
        (_HEAD, ["[fit] values: a choice needs legal values"]),
        (
            _HEAD + 'valeus = ["a"]\n',
            ["[fit] valeus: unknown key, did you mean 'values'", "legal keys: dimension, ask"],
        ),
        (_HEAD + 'type = "choise"\nvalues = ["a"]\n', ["[fit] type:", "'choice', 'number', 'text' or 'flag'"]),
        (
            _HEAD.replace("style_detail", "stile") + 'values = ["a"]\n',
            ["unknown 'stile', did you mean 'style'", "category"],
        ),
        (_HEAD + '[fit.values]\na = ["x"]\nb = ["X"]\n', ["'X' stands for both 'a' and 'b'"]),
        (_HEAD + 'values = ["not_stated"]\n', ["'not_stated' is empty or reserved"]),
        (_HEAD + 'values = ["a"]\nunit = "cm"\n', ["only a number has them"]),
        (_HEAD + 'type = "number"\nvalues = ["a"]\n', ["a number has no list of values"]),
        (_HEAD + 'type = "number"\nminimum = 2\nmaximum = 1\n', ["minimum: 2 is above maximum 1"]),
        (_HEAD + 'values = ["a"]\nprompts = ["{valve}"]\n', ["prompts: '{valve}'"]),
        (_HEAD + 'values = ["a"]\nname = "x"\n', ["[fit]", "name"]),
    ],
)
def test_a_faulty_file_is_refused_by_file_attribute_and_key(tmp_path, text, words):
    with pytest.raises(ConfigError) as caught:
        load_schemas(folder(tmp_path, mine=text))
    assert "mine.toml" in str(caught.value)
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        load_schemas((tmp_path / "nowhere",))


def test_categories_named_by_attributes_must_exist(tmp_path):
    text = _HEAD + 'values = ["a"]\ncategories = ["dres"]\n'
    mine = load_schemas(folder(tmp_path, fashion=text))
    with pytest.raises(ConfigError, match="unknown category 'dres', did you mean 'dress'"):
        mine.check_against(load_knowledge())
    assert "fit" not in mine.for_category("dress", KNOWLEDGE).specs


def test_the_shipped_schemas_fit_the_shipped_categories():
    knowledge = load_knowledge()
    SCHEMAS.check_against(knowledge)
    departments = {knowledge.department(c) for c in knowledge.categories}
    assert set(SCHEMAS.departments) - {"common"} <= departments  # no file that nothing uses


def test_an_attribute_can_be_for_some_kinds_only(tmp_path):
    text = _HEAD + 'values = ["a"]\ncategories = ["dress"]\n'
    mine = load_schemas(folder(tmp_path, fashion=text))
    mine.check_against(load_knowledge())
    assert "fit" in mine.for_category("dress", KNOWLEDGE).specs
    assert "fit" not in mine.for_category("clothing", KNOWLEDGE).specs


@given(st.text(max_size=300))
def test_any_text_is_canonical_or_refused(text):
    for name in ("neckline", "brand", "bundle", "slimming", "color"):
        spec = DRESS.spec(name)
        try:
            value = check_value(spec, text)
        except InputError:
            continue
        assert check_value(spec, value) == value


def test_the_nearest_kind_named_decides_and_a_department_may_take_few_common_attributes(tmp_path):
    extra = folder(
        tmp_path,
        fashion='version = 2\ncommon = ["brand"]\n[lining]\ndimension = "style_detail"\nask = "?"\ntype = "text"\n'
        'categories = ["clothing", "maxi"]\nwithout = ["dress"]\n',
    )
    kinds = [*KNOWLEDGE.categories.values(), Category(id="maxi", name="maxi", parent="dress")]
    knowledge, schemas = Knowledge(categories=kinds), load_schemas(extra)
    has = {c: "lining" in schemas.for_category(c, knowledge).specs for c in ("clothing", "dress", "maxi", "lamp")}
    assert has == {"clothing": True, "dress": False, "maxi": True, "lamp": False}
    assert {"brand", "neckline"} <= set(schemas.department("fashion").specs)
    assert "price" not in schemas.department("fashion").specs and "price" in schemas.department("home").specs
    assert schemas.departments["fashion"].sha != SCHEMAS.departments["fashion"].sha


@pytest.mark.parametrize(
    ("line", "words"),
    [("common = 3", "common must list names"), ('common = ["brnd"]', "no attribute 'brnd', did you mean 'brand'")],
)
def test_common_attributes_are_named_rightly(tmp_path, line, words):
    with pytest.raises(ConfigError, match=words):
        load_schemas(folder(tmp_path, boats=f"version = 1\n{line}\n"))
