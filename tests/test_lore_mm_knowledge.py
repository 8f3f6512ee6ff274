import re

import pytest

from lore_mm.errors import ConfigError
from lore_mm.knowledge import load_knowledge
from lore_mm.schema import load_dimensions, load_schemas

SEED = load_knowledge()


def test_the_seed_is_broad():
    sizes = (SEED.categories, SEED.brands, SEED.series, SEED.colors, SEED.materials, SEED.needs)
    assert [len(t) >= n for t, n in zip(sizes, (350, 200, 120, 70, 60, 60), strict=True)] == [True] * 6


def test_every_category_has_a_department_and_every_term_a_dimension():
    assert [c for c in SEED.categories if SEED.department(c) is None] == []
    assert {d for d, _ in SEED.terms} <= set(load_dimensions())


def test_departments_with_a_schema_are_used():
    used = {SEED.department(c) for c in SEED.categories}
    assert set(load_schemas().departments) - {"common"} <= used


def test_tree_questions():
    assert SEED.ancestors("gaming_laptop") == ("laptop", "computer", "computing", "electronics")
    assert SEED.is_a("dslr_camera", "camera")
    assert not SEED.is_a("camera", "dslr_camera")
    assert SEED.department("sneaker") == "footwear"
    assert SEED.department("high_chair") == "baby"
    assert SEED.ancestors("nothing") == ()


@pytest.mark.parametrize(
    ("table", "key", "field", "value"),
    [
        ("brands", "Jordan", "parent", "Nike"),
        ("brands", "Redmi", "parent", "Xiaomi"), ("brands", "Lego", "genericized", True),
        ("series", "iPhone 13 Pro", "base", "iPhone 13"), ("series", "Ultraboost", "brand", "Adidas"),
        ("colors", "burgundy", "family", "red"), ("colors", "navy", "family", "blue"),
        ("categories", "phone_case", "accessory_of", ("smartphone",)), ("categories", "camera", "generic", True),
    ],
)  # fmt: skip
def test_facts(table, key, field, value):
    assert getattr(getattr(SEED, table)[key], field) == value


def test_kin_after_the_rules():
    assert "wool" in SEED.materials["cashmere"].kin
    assert "cotton-linen" in SEED.materials["linen"].kin
    assert "leather" in SEED.materials["faux leather"].umbrella


def test_colours_are_colours():
    for color in SEED.colors.values():
        assert re.fullmatch(r"#[0-9a-f]{6}", color.hex)
        assert SEED.colors[color.family].family == color.family


def test_terms_are_lower_case():
    for entry in (*SEED.categories.values(), *SEED.colors.values(), *SEED.materials.values(), *SEED.terms.values()):
        assert [t for t in entry.terms if t != t.lower()] == []


def test_a_folder_of_ones_own_is_laid_over(tmp_path):
    (tmp_path / "brands.toml").write_text('Nike = { makes = ["pen"] }\nAcme = { makes = ["shoe"], parent = "Nike" }\n')
    mine = load_knowledge((tmp_path,))
    assert mine.brands["Nike"].makes == ("pen",)
    assert mine.brands["Acme"].parent == "Nike"
    assert mine.brands["Adidas"] == SEED.brands["Adidas"]
    assert mine.sha != SEED.sha


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("brands.toml", 'Acme = { makes = ["shoee"] }',
         "knowledge brands 'Acme': unknown makes 'shoee', did you mean 'shoe'?"),
        ("categories.toml", 'x = { name = "x", parent = "shoo" }',
         "knowledge categories 'x': unknown parent 'shoo', did you mean 'shoe'?"),
        ("categories.toml", 'a = { name = "a", parent = "a" }',
         "knowledge categories 'a': its parents go in a circle through 'a'"),
        ("colors.toml", 'x = { hex = "#000000" }', "{file}: [x.family] Field required"),
        ("brands.toml", "Acme = { made = 1 }", "{file}: [Acme.made] Extra inputs are not permitted"),
        ("needs.toml", 'n = { terms = ["n"], kind = "wish", demands = [], why = "" }',
         "{file}: [n.kind] Input should be 'jargon', 'solution' or 'substitute'"),
        ("brands.toml", "Acme = {", "{file}: "),
    ],
)  # fmt: skip
def test_bad_files_are_refused_in_one_line(tmp_path, file, text, message):
    (tmp_path / file).write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_knowledge((tmp_path,))
    said = str(caught.value)
    assert said.startswith(message.replace("{file}", str(tmp_path / file)))
    assert "\n" not in said


def test_not_utf8_and_no_folder(tmp_path):
    with pytest.raises(ConfigError, match=r"knowledge folder .*nothing does not exist"):
        load_knowledge((tmp_path / "nothing",))
    (tmp_path / "brands.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"brands\.toml"):
        load_knowledge((tmp_path,))
