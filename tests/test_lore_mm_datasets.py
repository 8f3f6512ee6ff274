"""Run: pytest tests/test_lore_mm_datasets.py

Small data sets written here in their public formats; the real ones are not part of this repository.
"""

import csv
import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from lore_mm.datasets import FORMATS, Dataset, Truth, open_dataset
from lore_mm.datasets.dataset import in_test
from lore_mm.datasets.luma import test_parent as luma_test_parent
from lore_mm.datasets.options import attribute_spec, dimension_of, plain_name, shipped_name, words_for
from lore_mm.errors import InputError
from lore_mm.knowledge import load_knowledge
from lore_mm.schema import load_dimensions

KNOWLEDGE = load_knowledge()


def write_lines(file: Path, rows: list) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return file


def write_json(file: Path, value: object) -> Path:
    file.write_text(json.dumps(value), encoding="utf-8")
    return file


def draw(file: Path, color: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 32), color).save(file)


def specs_of(dataset: Dataset) -> dict:
    return dict(dataset.schemas.for_category(None, KNOWLEDGE).specs)


def truth_of(dataset: Dataset, item_id: str) -> dict[str, Truth]:
    return {row.attribute: row for row in dataset.truth if row.item_id == item_id}


# -- luma --------------------------------------------------------------------------------------------------------------

LUMA_ITEM = {
    "item_id": "MH01-Black", "parent": "MH01", "title": "Chaz Hoodie", "description": "Warm.",
    "category": "Men/Tops/Hoodies & Sweatshirts", "gender": "Men", "price": 52.0, "attribute_set": "Top",
    "attributes": {"material": ["LumaTech™", "Wool"], "climate": ["All-weather"], "color": ["Black"], "eco": ["Yes"]},
    "image": "images/mh01-black_main.jpg",
}  # fmt: skip
LUMA_SCHEMA = {
    "material": {"label": "Material", "input": "multiselect", "options": ["LumaTech&trade;", "Wool", "Wool", "N/A"]},
    "climate": {"label": "Climate", "input": "multiselect", "options": ["All-Weather", "Cold"]},
    "color": {"label": "Color", "input": "select", "options": ["Black", "Blue", "Multi"]},
    "eco": {"label": "Eco", "input": "boolean", "options": []},
}


@pytest.fixture
def luma(tmp_path):
    blue = {**LUMA_ITEM, "item_id": "MH01-Blue", "attributes": {"color": ["Blue"], "material": ["Rubber", "N/A"]}}
    bag = {**LUMA_ITEM, "item_id": "B1", "parent": "B1", "category": "Gear/Bags", "gender": None, "attributes": {}}
    write_lines(tmp_path / "items.jsonl", [LUMA_ITEM, blue, bag])
    write_json(tmp_path / "attribute_schema.json", LUMA_SCHEMA)
    return tmp_path


def test_luma_truth_is_in_the_schemas_words_and_not_in_the_item(luma):
    dataset = open_dataset(f"luma:{luma}")
    item = dataset.items[0]
    assert (item.item_id, item.title, item.images) == ("MH01-Black", "Chaz Hoodie", ("images/mh01-black_main.jpg",))
    assert not item.attributes and item.category is None and item.brand is None
    assert dataset.picture_root == luma
    assert {name: row.values for name, row in truth_of(dataset, "MH01-Black").items()} == {
        "category": ("Hoodies & Sweatshirts",),
        "gender": ("Men",),
        "material": ("LumaTech™", "Wool"),  # the entity of the schema file is the character of the items
        "climate": ("All-Weather",),  # spelled as the schema does
        "color": ("Black",),
        "eco": ("Yes",),
    }
    assert truth_of(dataset, "MH01-Blue")["material"].values == ("Rubber",)  # legal though unlisted; N/A is no value
    assert set(truth_of(dataset, "B1")) == {"category"}


def test_luma_attributes_have_their_own_legal_values_and_hold_several_where_any_item_does(luma):
    specs = specs_of(open_dataset(f"luma:{luma}"))
    assert list(specs["material"].values) == ["LumaTech™", "Wool", "Rubber"]
    assert list(specs["eco"].values) == ["Yes", "No"]
    assert list(specs["category"].values) == ["Hoodies & Sweatshirts", "Bags"]
    assert {name for name, spec in specs.items() if spec.multi} == {"material"}
    assert {name: spec.dimension for name, spec in specs.items()} == {
        "category": "category", "gender": "audience", "material": "material", "climate": "season", "color": "color",
        "eco": "style_detail",
    }  # fmt: skip


def test_luma_variants_of_a_parent_are_a_group_and_never_split(luma):
    dataset = open_dataset(f"luma:{luma}")
    assert dataset.group("MH01-Blue") == dataset.group("MH01-Black") == "MH01"
    assert dataset.splits["MH01-Blue"] == dataset.splits["MH01-Black"]
    assert dataset.splits["B1"] == ("test" if hashlib.sha256(b"B1").digest()[0] % 5 == 0 else "train")
    assert luma_test_parent("MH01") == in_test("MH01")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"item_id": "x", "parent": None}, "column 'parent': null; legal: text"),
        ({"title": ""}, "column 'title': text; legal: text that is not empty"),
        ({}, "column 'item_id': 'MH01-Black' is there twice"),
        ({"item_id": "x", "description": 7}, "column 'description': a number; legal: text"),
        ({"item_id": "x", "image": {"a": 1}}, "column 'image': an object; legal: a text or a list of texts"),
        ({"item_id": "x", "attributes": []}, "column 'attributes': needs an object"),
        (
            {"item_id": "x", "attributes": {"color": [1]}},
            "column 'attributes', color: a list; legal: a text or a list of texts",
        ),
    ],
)
def test_luma_faults_name_file_line_and_column(luma, change, fault):
    file = write_lines(luma / "items.jsonl", [LUMA_ITEM, {**LUMA_ITEM, **change}])
    with pytest.raises(InputError) as refused:
        open_dataset(f"luma:{luma}")
    assert str(refused.value).startswith(f"{file}, line 2") and fault in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_one_line(tmp_path):
    for name in FORMATS:
        with pytest.raises(InputError, match=str(tmp_path)):
            open_dataset(f"{name}:{tmp_path}")
    with pytest.raises(InputError, match="no data set format 'lumma', did you mean 'luma'"):
        open_dataset("lumma:somewhere")
    with pytest.raises(InputError, match="names no path"):
        open_dataset("luma:")


# -- implicitave -------------------------------------------------------------------------------------------------------

IMPLICIT_COLUMNS = ("id", "image", "category", "title", "attribute", "value", "domain")
IMPLICIT_ROWS = [
    ("a1", "a1.jpg", "T-Shirt", "Cotton top", "Sleeve Style", "Long Sleeve", "Clothing"),
    ("a2", "images/a2.jpg", "Ring", "Shiny ring", "Material", "Gold", "Jewelry"),
    ("a3", "a3.jpg", "Mat", "Door mat", "Material", "Bamboo", "Home"),
    ("a4", "a4.jpg", "Shoe", "Boot", "Heel Height", "flat", "Footwear"),
]
IMPLICIT_OPTIONS = {
    "Clothing": {"Sleeve Style": ["Long Sleeve", "Short Sleeve", "Sleeveless"]},
    "Jewelry": {"Material": ["Gold", "Silver"]},
    "Home": {"Material": ["Bamboo", "Cotton"]},
    "footwear": {"Heel Height": ["Flat", "High Heel"]},
}


@pytest.fixture
def implicitave(tmp_path):
    for domain, options in IMPLICIT_OPTIONS.items():
        write_json(tmp_path / f"options_{domain}.json", options)
    write_implicit(tmp_path, IMPLICIT_ROWS)
    for i, color in enumerate(("red", "gold", "tan", "black"), 1):
        draw(tmp_path / "images" / f"a{i}.jpg", color)
    return tmp_path


def write_implicit(folder, rows, columns=IMPLICIT_COLUMNS):
    with (folder / "items.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])


def test_implicitave_labels_one_attribute_an_item_among_its_own_options(implicitave):
    dataset = open_dataset(f"implicitave:{implicitave}")
    assert [(row.item_id, row.attribute, row.values) for row in dataset.truth] == [
        ("a1", "sleeve_style", ("Long Sleeve",)),
        ("a2", "jewelry_material", ("Gold",)),  # domains differ about Material: one attribute each
        ("a3", "home_material", ("Bamboo",)),
        ("a4", "heel_height", ("Flat",)),
    ]
    specs = specs_of(dataset)
    assert list(specs["jewelry_material"].values) == ["Gold", "Silver"]
    assert all(spec.visual and not spec.multi for spec in specs.values())
    assert [item.images for item in dataset.items] == [(f"images/a{i}.jpg",) for i in range(1, 5)]
    assert specs["sleeve_style"].lookup["without sleeves"] == "Sleeveless"


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (
            ("b", "b.jpg", "c", "t", "Sleeve Style", "Long", "Clothing"),
            "'Long' is no option of 'sleeve style' (clothing)",
        ),
        (("b", "b.jpg", "c", "t", "Sleeves", "Long Sleeve", "Clothing"), "options_Clothing.json has no attribute"),
        (("b", "b.jpg", "c", "t", "Taste", "Sweet", "Food"), "nothing, or there is no such file"),
        (("b", "b.jpg", "c", "", "Sleeve Style", "Long Sleeve", "Clothing"), "column 'title'"),
    ],
)
def test_implicitave_faults_name_the_line(implicitave, row, fault):
    write_implicit(implicitave, [IMPLICIT_ROWS[0], row])
    with pytest.raises(InputError) as refused:
        open_dataset(f"implicitave:{implicitave}")
    assert f"{implicitave / 'items.csv'}, line 3" in str(refused.value) and fault in str(refused.value)


def test_implicitave_by_the_names_of_the_published_tables(implicitave):
    columns = ("id", "images", "category", "texts", "attribute_names", "attribute_values", "domain", "split")
    rows = [(*row[:3], f"[Title] {row[3]}", *row[4:], split) for row, split in zip(
        IMPLICIT_ROWS, ("train", "val", "test", ""), strict=True
    )]  # fmt: skip
    by_other_names = open_dataset(f"implicitave:{implicitave}")
    write_implicit(implicitave, rows, columns)
    dataset = open_dataset(f"implicitave:{implicitave}")
    assert dataset.items == by_other_names.items and dataset.truth == by_other_names.truth
    last = "test" if in_test("a4") else "train"
    assert dataset.splits == {"a1": "train", "a2": "test", "a3": "test", "a4": last}
    write_implicit(implicitave, [(*row[:1], "", *row[2:]) for row in rows], columns)
    assert all(item.images == () for item in open_dataset(f"implicitave:{implicitave}").items)


def test_implicitave_without_a_column_says_which(implicitave):
    write_implicit(implicitave, [row[:-1] for row in IMPLICIT_ROWS], IMPLICIT_COLUMNS[:-1])
    with pytest.raises(InputError, match="no column 'domain'"):
        open_dataset(f"implicitave:{implicitave}")


# -- wdc pave ----------------------------------------------------------------------------------------------------------


def offer(number, targets, **more):
    return {
        "id": number, "cluster_id": float(number), "category": "Office Products", "input_title": f"Offer {number}",
        "input_description": None, "target_scores": targets, "url": "shop.example", **more,
    }  # fmt: skip


STATED = {"Brand": {"HP": {"pid": [0], "score": 1}, "Hewlett-Packard": {"pid": [1], "score": 1}}, "Width": {"n/a": 1}}


def test_wdc_pave_values_are_equally_good_and_na_is_silence(tmp_path):
    write_lines(tmp_path / "raw_train.jsonl", [offer(1, STATED), offer(2, {"Color(s)": {"Black": {"score": 1}}})])
    write_lines(tmp_path / "raw_normalized_train.jsonl", [offer(3, {"Width": {"61.0": {"score": 1}}})])
    dataset = open_dataset(f"wdc_pave:{tmp_path}")
    assert dataset.truth == (
        Truth("1", "brand", ("HP", "Hewlett-Packard"), any_of=True),
        Truth("1", "width", (), "not_stated"),
        Truth("2", "color", ("Black",), any_of=True),
    )
    specs = specs_of(dataset)
    assert all(spec.type == "text" and not spec.values for spec in specs.values())  # free text: no value is given away
    assert {name: spec.dimension for name, spec in specs.items()} == {
        "brand": "brand", "width": "spec", "color": "color",
    }  # fmt: skip
    assert dataset.items[0].images == () and dataset.items[0].description == ""
    normalised = open_dataset(f"wdc_pave:{tmp_path / 'raw_normalized_train.jsonl'}")
    assert normalised.truth == (Truth("3", "width", ("61.0",), any_of=True),)


def test_wdc_pave_files_of_two_splits_are_the_splits_and_one_is_split_by_cluster(tmp_path):
    write_lines(tmp_path / "x_train.jsonl", [offer(n, STATED) for n in range(8)])
    alone = open_dataset(f"wdc_pave:{tmp_path}")
    assert alone.splits == {str(n): "test" if in_test(f"{n}.0") else "train" for n in range(8)}
    write_lines(tmp_path / "x_test.jsonl", [offer(n, STATED) for n in (8, 9)])
    both = open_dataset(f"wdc_pave:{tmp_path}")
    assert both.splits == {str(n): "train" for n in range(8)} | {"8": "test", "9": "test"}


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"id": 1, "input_title": "t"}, "column 'target_scores': null"),
        (offer(1, {"Brand": "HP"}), "column 'target_scores': an object; legal: an object of attribute → value"),
        ({"id": 1, "target_scores": {}}, "no column 'input_title'"),
    ],
)
def test_wdc_pave_faults_name_the_line(tmp_path, row, fault):
    file = write_lines(tmp_path / "x.jsonl", [offer(7, STATED), row])
    with pytest.raises(InputError) as refused:
        open_dataset(f"wdc_pave:{file}")
    assert str(refused.value).startswith(f"{file}, line 2") and fault in str(refused.value)


# -- a file of one's own -----------------------------------------------------------------------------------------------

OWN = [
    {"item_id": "a", "title": "Red dress", "attributes": {"fit": "slim"}, "split": "test", "group": "g",
     "truth": {"color": "Red", "material": ["cotton", "linen"], "sparkle": "matte", "brand": "not_stated"}},
    {"item_id": "b", "title": "Blue dress", "split": "train", "group": "g2",
     "truth": {"color": "navy", "sparkle": ["shiny"], "season": "not_applicable"}},
]  # fmt: skip
OWN_TRUTH = {
    ("a", "color"): (("Red",), "value"),
    ("a", "material"): (("cotton", "linen"), "value"),
    ("a", "sparkle"): (("matte",), "value"),
    ("a", "brand"): ((), "not_stated"),
    ("b", "color"): (("navy",), "value"),
    ("b", "sparkle"): (("shiny",), "value"),
    ("b", "season"): ((), "not_applicable"),
}


def own_truth(dataset):
    return {(row.item_id, row.attribute): (row.values, row.status) for row in dataset.truth}


def test_own_truth_beside_the_items_from_json_lines_and_parquet(tmp_path):
    lines = write_lines(tmp_path / "labelled.jsonl", OWN)
    rows = [{**row, "truth": [(k, v if isinstance(v, list) else [v]) for k, v in row["truth"].items()]} for row in OWN]
    rows = [{k: v for k, v in row.items() if k != "attributes"} for row in rows]
    schema = pa.schema(
        [(name, pa.string()) for name in ("item_id", "title", "split", "group")]
        + [("truth", pa.map_(pa.string(), pa.list_(pa.string())))]
    )
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / "labelled.parquet")
    for file in (lines, tmp_path / "labelled.parquet"):
        dataset = open_dataset(str(file))
        assert own_truth(dataset) == OWN_TRUTH
        assert dataset.splits == {"a": "test", "b": "train"} and dataset.groups == {"a": "g", "b": "g2"}
        assert dataset.picture_root == tmp_path.resolve()
    assert open_dataset(str(lines)).items[0].attributes == {"fit": ("slim",)}  # the seller's own stay


def test_own_truth_from_csv_in_columns_or_as_json(tmp_path):
    file = tmp_path / "labelled.csv"
    file.write_text(
        "item_id,title,truth.color,truth.material,truth.sparkle,truth\n"
        'a,Red dress,Red,cotton|linen,matte,"{""brand"": ""not_stated""}"\n'
        'b,Blue dress,navy,,shiny,"{""season"": ""not_applicable""}"\n'
    )
    dataset = open_dataset(str(file))
    assert own_truth(dataset) == OWN_TRUTH
    assert dataset.splits == {"a": "test", "b": "test"}  # nobody said: it is there to be measured


def test_own_labels_beside_a_catalogue(tmp_path):
    write_lines(tmp_path / "items.jsonl", [{"item_id": i, "title": i} for i in ("a", "b", "unlabelled")])
    rows = [(i, name, v) for (i, name), (values, status) in OWN_TRUTH.items() for v in values or (status,)]
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("item_id", "attribute", "value"), *rows])
    dataset = open_dataset(str(tmp_path / "labels.csv"))
    assert own_truth(dataset) == OWN_TRUTH
    assert [item.item_id for item in dataset.items] == ["a", "b"]


def test_own_attributes_that_no_shipped_schema_has_choose_among_the_labelled_values(tmp_path):
    dataset = open_dataset(str(write_lines(tmp_path / "labelled.jsonl", OWN)))
    specs = specs_of(dataset)
    assert list(specs["sparkle"].values) == ["matte", "shiny"] and not specs["sparkle"].multi
    assert "navy" in specs["color"].lookup  # the shipped one, from the knowledge tables


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ([{"item_id": "a", "title": "t"}], "no column 'truth'"),
        ([OWN[0], OWN[0]], "line 2, column 'item_id': 'a' is there twice"),
        ([{**OWN[0], "split": "dev"}], "column 'split': 'dev'; legal: train, test"),
        ([{**OWN[0], "truth": "red"}], "column 'truth': text; legal: an object"),
        ([{**OWN[0], "truth": {"color": {"a": 1}}}], "column 'truth', color: an object"),
        ([{**OWN[0], "truth": {"color": ["red", "not_stated"]}}], "cannot be not_stated and have values too"),
        ([{**OWN[0], "titel": "t"}], "unknown column 'titel', did you mean 'title'"),
        ([{**OWN[0], "price": "cheap"}], "price: 'cheap' is not a number"),
    ],
)
def test_own_faults_are_one_line(tmp_path, rows, fault):
    file = write_lines(tmp_path / "labelled.jsonl", rows)
    with pytest.raises(InputError) as refused:
        open_dataset(str(file))
    assert fault in str(refused.value) and str(file) in str(refused.value) and "\n" not in str(refused.value)


def test_labels_of_an_item_that_the_catalogue_lacks(tmp_path):
    write_lines(tmp_path / "items.jsonl", [{"item_id": "item-1", "title": "t"}])
    labels = [{"item_id": i, "attribute": "color", "value": "red"} for i in ("item-1", "item-2")]
    file = write_lines(tmp_path / "labels.jsonl", labels)
    with pytest.raises(InputError, match=r"'item-2' is not among the items of .*, did you mean 'item-1'"):
        open_dataset(str(file))


# -- parts of a data set -----------------------------------------------------------------------------------------------


def test_parts_of_a_data_set_keep_items_and_truth_together(tmp_path):
    dataset = open_dataset(str(write_lines(tmp_path / "labelled.jsonl", OWN)))
    test = dataset.of_split("test")
    assert [i.item_id for i in test.items] == ["a"] and {r.item_id for r in test.truth} == {"a"}
    assert dataset.of_split(None) is dataset
    assert [i.item_id for i in dataset.first(1).items] == ["a"] and len(dataset.first(1).truth) == 4
    season = dataset.only(["season"])
    assert [i.item_id for i in season.items] == ["b"] and [r.attribute for r in season.truth] == ["season"]
    with pytest.raises(InputError, match="no split 'tset', did you mean 'test'"):
        dataset.of_split("tset")
    with pytest.raises(InputError, match="no item is in split 'train'"):
        test.of_split("train")
    with pytest.raises(InputError, match="has no attribute 'colour', did you mean 'color'"):
        dataset.only(["colour"])


# -- legal values and the words that mean them -------------------------------------------------------------------------


def test_names_and_dimensions_of_attributes():
    assert [plain_name(n) for n in ("Heel Height", "Color(s)", "Size/Weight")] == [
        "heel_height",
        "color",
        "size_weight",
    ]
    assert shipped_name("Part Number") == "model" and shipped_name("Manufacturer") == "brand"
    named = {"Color(s)": "color", "Metal Type": "material", "Product Type": "category", "Heel Height": "spec",
             "Manufacturer Stock Number": "model", "Sleeve Style": "style_detail", "Style": "style"}  # fmt: skip
    assert {name: dimension_of(name, "special") for name in named} == named
    assert dimension_of("Zing", "special") == "special"
    assert {dimension_of(name, "spec") for name in named} <= set(load_dimensions())


def test_words_mean_the_legal_value_that_says_it_most_exactly():
    colors = words_for(["Blue", "Navy", "Multi"], "color", KNOWLEDGE)
    assert "sky blue" in colors["Blue"] and "navy" not in colors["Blue"] and "multicolor" in colors["Multi"]
    materials = words_for(["Cotton", "Organic Cotton", "Wool"], "material", KNOWLEDGE)
    assert "merino wool" in materials["Wool"] and "organic cotton" not in materials["Cotton"]
    kinds = words_for(["Hoodies & Sweatshirts", "Bags"], "category", KNOWLEDGE)
    assert {"hoodie", "sweatshirt"} <= set(kinds["Hoodies & Sweatshirts"]) and "tote_bag" in kinds["Bags"]


@given(st.lists(st.sampled_from([*KNOWLEDGE.colors, "Zink", "Multi", "N-A"]), min_size=1, max_size=8, unique=True))
def test_no_word_means_two_legal_values_and_each_means_itself(options):
    spec = attribute_spec("color", "Color", options, KNOWLEDGE)
    words = [word for values in spec.values.values() for word in values]
    assert len(words) == len(set(words)) and list(spec.values) == options
    assert all(spec.lookup[option.casefold().replace("-", " ")] == option for option in options)


def test_spellings_of_one_legal_value_are_one_and_reserved_answers_are_none():
    assert list(attribute_spec("sleeve", "Sleeve", ["Long Sleeve", "long-sleeve"], KNOWLEDGE).values) == ["Long Sleeve"]
    with pytest.raises(InputError, match="'Not Stated' is a reserved answer"):
        attribute_spec("sleeve", "Sleeve", ["Long", "Not Stated"], KNOWLEDGE)


def test_free_text_is_asked_for_without_legal_values():
    spec = attribute_spec("closure", "Closure", (), KNOWLEDGE)
    assert (spec.type, spec.dimension, dict(spec.values)) == ("text", "spec", {})


# -- whatever stands in a file -----------------------------------------------------------------------------------------

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
COLUMN_NAMES = sorted(
    {"attribute", "value", "domain", "id", "image", "input_title", "target_scores", "cluster_id", "truth", "split",
     "group", "item_id", "title", "parent", "attributes", "category", "gender", "description", "price"}
)  # fmt: skip


@pytest.mark.parametrize("kind", [*FORMATS, "own"])
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.dictionaries(st.sampled_from(COLUMN_NAMES), ANYTHING, min_size=1), min_size=1, max_size=3))
def test_anything_is_a_data_set_or_one_line_of_what_is_wrong_with_it(tmp_path, kind, rows):
    write_json(tmp_path / "options_d.json", {"a": ["x", "y"]})
    write_json(tmp_path / "attribute_schema.json", LUMA_SCHEMA)
    whole = {"luma": LUMA_ITEM, "implicitave": dict(zip(IMPLICIT_COLUMNS, IMPLICIT_ROWS[0], strict=True)),
             "wdc_pave": offer(1, STATED), "own": OWN[0]}[kind]  # fmt: skip
    mixed = [{**whole, **row} for row in rows]  # mostly sound, so that faults are met deep inside
    if kind == "implicitave":
        cells = [[str(row.get(name, "")).replace("\n", " ") for name in IMPLICIT_COLUMNS] for row in mixed]
        write_implicit(tmp_path, cells)
    else:
        write_lines(tmp_path / "items.jsonl", mixed)
    address = str(tmp_path / "items.jsonl") if kind == "own" else f"{kind}:{tmp_path}"
    try:
        dataset = open_dataset(address)
    except InputError as error:
        assert str(tmp_path) in str(error) or "reserved" in str(error)
        assert "\n" not in str(error)
        return
    items = {item.item_id for item in dataset.items}
    known = {name for d in dataset.schemas.departments.values() for name in d.specs}
    assert items == set(dataset.splits) and {row.item_id for row in dataset.truth} <= items
    assert {row.attribute for row in dataset.truth} <= known
