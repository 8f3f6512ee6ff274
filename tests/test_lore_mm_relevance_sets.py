"""Run: pytest tests/test_lore_mm_relevance_sets.py

Readers of graded pairs, each on a few rows written here after the public format, and on rows that are wrong.
"""

import csv
import hashlib
import json
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lore_mm.datasets import relevance_rair
from lore_mm.datasets.relevance import FORMATS, Wanted, open_relevance
from lore_mm.datasets.relevance_scales import load_scales, scale_named
from lore_mm.errors import InputError
from lore_mm.types import Grade

DEMO = Path(__file__).parent.parent / "examples" / "demo"


def table(path, rows, **types):
    columns = {name: pa.array([row.get(name) for row in rows], types.get(name)) for row in rows for name in row}
    pq.write_table(pa.table(columns), path)
    return path


def separated(path, rows, separator=",", encoding="utf-8"):
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, rows[0], delimiter=separator)
        writer.writeheader()
        writer.writerows(rows)
    return path


def lines(path, rows):
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return path


def graded(data):
    return [(pair.query.text, pair.item_id, pair.grade.name) for pair in data.pairs]


# ------------------------------------------------------------------------------------------------------------- scales


def test_every_scale_says_why_and_reaches_the_ends():
    for name, scale in load_scales().items():
        ends = [scale.lowest, scale.highest] if scale.cuts else list(scale.labels)
        grades = {scale.grade(label, "x") for label in ends}
        assert {Grade.L1, Grade.L4} <= grades, name
        assert len(scale.why.split()) > 4 and scale.why.endswith("."), name


@pytest.mark.parametrize(
    ("scale", "labels", "levels"),
    [
        ("esci", ["E", "S", "C", "I", "Exact"], [4, 3, 2, 1, 4]),
        ("wands", ["Exact", "Partial", " Irrelevant "], [4, 2, 1]),
        ("0-3", ["0", 1, 2.0, "3"], [1, 2, 3, 4]),
        ("1-3", ["1", "1.33", 1.67, "2.0", "2.33", 2.5, "2.67", 3], [1, 1, 2, 2, 3, 3, 4, 4]),
        ("levels", ["L1", "L4"], [1, 4]),
        ("1-4", [1, "4"], [1, 4]),
    ],
)
def test_labels_become_levels(scale, labels, levels):
    assert [int(scale_named(scale).grade(label, "x")) for label in labels] == levels


@pytest.mark.parametrize(
    ("scale", "label", "message"),
    [
        ("esci", "Exakt", "f: 'Exakt' is not a label of scale esci, did you mean 'Exact'?; legal: E, S, C, I, Exact"),
        ("0-3", "2.5", "f: '2.5' is not a label of scale 0-3; legal: 0, 1, 2, 3"),
        ("0-3", None, "f: None is not a label of scale 0-3"),
        ("0-3", True, "f: True is not a label"),
        ("1-3", "0.5", "f: '0.5' is not a label of scale 1-3; legal: numbers from 1 to 3"),
        ("1-3", float("nan"), "f: nan is not a label"),
    ],
)
def test_an_unknown_label_is_named_with_the_legal_ones(scale, label, message):
    with pytest.raises(InputError, match=re.escape(message)):
        scale_named(scale).grade(label, "f")


def test_an_unknown_scale_is_named():
    with pytest.raises(InputError, match="no label scale 'wand', did you mean 'wands'"):
        scale_named("wand")


# ------------------------------------------------------------------------------------------------------------- Chorus

PRODUCTS = [
    {
        "id": "1", "title": "Acme X100 notebook", "short_description": "A notebook", "supplier": "Acme",
        "img_500x500": "http://images.example/1.jpg", "price": 4995,
        "attributes": json.dumps({"attr_t_product_colour": "Black", "attr_n_weight": 2.0, "attr_b_touchscreen": False}),
    },
    {"id": "2", "title": "Acme laptop bag", "supplier": "Acme", "attributes": None},
    {"id": "3", "title": "Beta toner", "supplier": "Beta", "attributes": "{}"},
]  # fmt: skip


def chorus(folder, products=PRODUCTS, ratings=(("laptop", "1", 3), ("laptop", "2", 1), ("toner", "9", 0))):
    folder.mkdir(exist_ok=True)
    table(folder / "products.parquet", products)
    rows = [dict(zip(("query", "docid", "rating"), row, strict=True)) for row in ratings]
    separated(folder / "judgments.csv", rows)
    return folder


def test_chorus_pairs_items_and_raters(tmp_path):
    folder = chorus(tmp_path / "chorus")
    raters = [{"query": "laptop", "docid": "1", "agent_1_rating": 3, "agent_2_rating": 2, "final_rating": 3}]
    separated(folder / "individual_ratings.csv", raters)
    data = open_relevance(f"chorus:{folder}")
    assert graded(data) == [("laptop", "1", "L4"), ("laptop", "2", "L2"), ("toner", "9", "L1")]
    notebook = data.items["1"]
    assert (notebook.brand, notebook.description, notebook.price) == ("Acme", "A notebook", None)
    assert notebook.images == ("http://images.example/1.jpg",)
    assert notebook.attributes == {"product colour": ("Black",), "weight": ("2",), "touchscreen": ("false",)}
    assert set(data.items) == {"1", "2"}  # 9 is missing, and stays in the pairs; 3 is not asked for
    assert data.titles["3"] == "Beta toner"
    key = (data.pairs[0].query.query_id, "1")
    assert {name: said[key] for name, said in data.raters.items()} == {"agent_1": Grade.L4, "agent_2": Grade.L3}
    assert [path.name for path in data.files] == ["products.parquet", "judgments.csv", "individual_ratings.csv"]


def test_a_pair_said_twice_counts_once_and_contradicted_is_an_error(tmp_path):
    twice = (("laptop", "1", 3), ("laptop", "1", 3))
    data = open_relevance(f"chorus:{chorus(tmp_path / 'twice', ratings=twice)}")
    assert graded(data) == [("laptop", "1", "L4")]
    assert data.notes == ("1 rows repeat a pair with the same label; each counts once",)
    folder = chorus(tmp_path / "against", ratings=(("laptop", "1", 3), ("laptop", "1", 0)))
    message = (
        f"{folder}/judgments.csv, line 3, column 'rating': query 'laptop' and item '1' are L1 here, but L4 in "
        f"{folder}/judgments.csv, line 2"
    )
    with pytest.raises(InputError, match=re.escape(message)):
        open_relevance(f"chorus:{folder}")


def test_chorus_is_halved_by_its_queries(tmp_path):
    asked = [f"query {n}" for n in range(12)]
    folder = chorus(tmp_path / "halved", ratings=tuple((query, "1", 3) for query in asked))
    halves = {split: open_relevance(f"chorus:{folder}", Wanted(split=split)).pairs for split in ("dev", "test")}
    odd = [q for q in asked if int(hashlib.sha256(q.encode()).hexdigest()[-1], 16) % 2]
    assert [pair.query.text for pair in halves["test"]] == odd and 0 < len(odd) < 12
    assert len(halves["dev"]) + len(odd) == 12


def test_what_is_wrong_in_chorus_is_named(tmp_path):
    folder = chorus(tmp_path / "a", ratings=(("laptop", "1", 7),))
    with pytest.raises(InputError, match=r"judgments\.csv, line 2, column 'rating': '7' is not .* legal: 0, 1, 2, 3"):
        open_relevance(f"chorus:{folder}")
    folder = chorus(tmp_path / "b", ratings=((" ", "1", 1),))
    with pytest.raises(InputError, match=r"line 2, column 'query': empty; legal: a query's text"):
        open_relevance(f"chorus:{folder}")
    folder = chorus(tmp_path / "c", products=[{"id": "1", "name": "x"}])
    with pytest.raises(InputError, match=r"products\.parquet: no column 'title'; needed: id, title; there: id, name"):
        open_relevance(f"chorus:{folder}")
    folder = chorus(tmp_path / "d", products=[PRODUCTS[0] | {"attributes": "[1]"}])
    with pytest.raises(InputError, match=r"products\.parquet, row 1, column 'attributes': not a JSON object"):
        open_relevance(f"chorus:{folder}")
    folder = chorus(tmp_path / "e", products=[PRODUCTS[0], PRODUCTS[0]])
    with pytest.raises(InputError, match=r"row 2: item_id '1' is there twice"):
        open_relevance(f"chorus:{folder}")
    (folder / "products.parquet").write_bytes(b"PAR1 not")
    with pytest.raises(InputError, match=r"products\.parquet: cannot be read as Parquet"):
        open_relevance(f"chorus:{folder}")
    with pytest.raises(InputError, match="no such folder"):
        open_relevance(f"chorus:{tmp_path / 'nowhere'}")
    with pytest.raises(InputError, match=r"holds no judgments\.csv"):
        (folder / "judgments.csv").unlink()
        open_relevance(f"chorus:{folder}")


def test_an_item_without_a_title_is_unusable_and_told(tmp_path):
    folder = chorus(tmp_path / "chorus", products=[PRODUCTS[0] | {"title": " "}])
    data = open_relevance(f"chorus:{folder}")
    assert data.items == {} and data.unusable == {"1": "title: empty"}


# --------------------------------------------------------------------------------------------------------------- ESCI

EXAMPLES = [
    {"example_id": 0, "query": "red mug", "query_id": 7, "product_id": "B01", "product_locale": "us",
     "esci_label": "E", "small_version": 1, "large_version": 1, "split": "test"},
    {"example_id": 1, "query": "red mug", "query_id": 7, "product_id": "B02", "product_locale": "us",
     "esci_label": "S", "small_version": 1, "large_version": 1, "split": "test"},
    {"example_id": 2, "query": "mug", "query_id": 8, "product_id": "B02", "product_locale": "us",
     "esci_label": "C", "small_version": 1, "large_version": 1, "split": "train"},
    {"example_id": 3, "query": "taza roja", "query_id": 9, "product_id": "B01", "product_locale": "es",
     "esci_label": "I", "small_version": 1, "large_version": 1, "split": "test"},
]  # fmt: skip
GOODS = [
    {"product_id": "B01", "product_title": "Red mug", "product_description": "Holds coffee.",
     "product_bullet_point": "350 ml\nstoneware", "product_brand": "Acme", "product_color": "Red",
     "product_locale": "us"},
    {"product_id": "B02", "product_title": "Blue mug", "product_description": None, "product_bullet_point": None,
     "product_brand": None, "product_color": None, "product_locale": "us"},
    {"product_id": "B01", "product_title": "Taza roja", "product_description": None, "product_bullet_point": None,
     "product_brand": None, "product_color": "Rojo", "product_locale": "es"},
]  # fmt: skip


def esci(folder, examples=EXAMPLES, goods=GOODS):
    folder.mkdir(exist_ok=True)
    table(folder / "shopping_queries_dataset_examples.parquet", examples)
    table(folder / "shopping_queries_dataset_products.parquet", goods)
    return folder


def test_esci_by_locale_and_split(tmp_path):
    folder = esci(tmp_path / "esci")
    data = open_relevance(f"esci:{folder}")
    assert graded(data) == [("red mug", "B01", "L4"), ("red mug", "B02", "L3"), ("mug", "B02", "L2")]
    assert [pair.query.query_id for pair in data.pairs] == ["7", "7", "8"]
    mug = data.items["B01"]
    assert (mug.title, mug.brand, mug.description) == ("Red mug", "Acme", "350 ml\nstoneware\nHolds coffee.")
    assert mug.attributes == {"color": ("Red",)} and data.notes == ("locale us",)
    assert graded(open_relevance(f"esci:{folder}", Wanted(split="train"))) == [("mug", "B02", "L2")]
    spanish = open_relevance(f"esci:{folder}", Wanted(locale="es"))
    assert graded(spanish) == [("taza roja", "B01", "L1")] and spanish.items["B01"].title == "Taza roja"


def test_large_files_are_read_in_batches_and_places_still_count(tmp_path):
    many = [EXAMPLES[3] | {"product_id": f"B{n:05}"} for n in range(5000)]
    folder = esci(tmp_path / "esci", [*many, EXAMPLES[0], EXAMPLES[1] | {"esci_label": "Q"}])
    with pytest.raises(InputError, match=r"examples\.parquet, row 5002, column 'esci_label': 'Q'"):
        open_relevance(f"esci:{folder}")


def test_text_that_is_not_utf_8_is_named(tmp_path):
    folder = chorus(tmp_path / "chorus")
    broken = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe"))
    pq.write_table(pa.table({"id": pa.array(["1"]), "title": broken}), folder / "products.parquet")
    with pytest.raises(InputError, match=r"products\.parquet, after row 0: text that is not UTF-8"):
        open_relevance(f"chorus:{folder}")


def test_what_is_wrong_in_esci_is_named(tmp_path):
    folder = esci(tmp_path / "esci")
    for wanted, message in [
        (Wanted(locale="uk"), "no locale 'uk'.*; legal: us, es, jp"),
        (Wanted(split="dev"), "no split 'dev'.*legal: train, test"),
        (Wanted(locale="jp"), "no pairs of locale 'jp'"),
    ]:
        with pytest.raises(InputError, match=message):
            open_relevance(f"esci:{folder}", wanted)
    wrong = [EXAMPLES[0], EXAMPLES[3], EXAMPLES[1] | {"esci_label": "X"}]
    with pytest.raises(InputError, match=r"examples\.parquet, row 3, column 'esci_label': 'X' is not .* legal: E, S"):
        open_relevance(f"esci:{esci(tmp_path / 'wrong', wrong)}")
    other = [EXAMPLES[0], EXAMPLES[1] | {"query": "blue mug"}]
    with pytest.raises(InputError, match=r"row 2, column 'query_id': '7' is 'blue mug' here, but 'red mug' in .*row 1"):
        open_relevance(f"esci:{esci(tmp_path / 'other', other)}")
    with pytest.raises(InputError, match="has no locales; legal for: esci"):
        open_relevance(f"wands:{folder}", Wanted(locale="us"))


# -------------------------------------------------------------------------------------------------------------- WANDS


def wands(folder, labels=(("0", "0", "0", "Exact"), ("1", "0", "1", "Partial"), ("2", "1", "0", "Irrelevant"))):
    folder.mkdir(exist_ok=True)
    separated(folder / "query.csv", [
        {"query_id": "0", "query": "oak coffee table", "query_class": "Coffee Tables"},
        {"query_id": "1", "query": 'the 24" lamp', "query_class": ""},
    ], "\t")  # fmt: skip
    separated(folder / "product.csv", [
        {"product_id": "0", "product_name": "Round Oak Table", "product_class": "Coffee Tables",
         "category hierarchy": "Furniture / Living Room", "product_description": 'It is 40" wide.',
         "product_features": "material:oak|material:steel|color : brown|noise", "rating_count": "3.0"},
        {"product_id": "1", "product_name": "Pine table", "product_class": "", "category hierarchy": "",
         "product_description": "", "product_features": "", "rating_count": ""},
    ], "\t")  # fmt: skip
    names = ("id", "query_id", "product_id", "label")
    separated(folder / "label.csv", [dict(zip(names, row, strict=True)) for row in labels], "\t")
    return folder


def test_wands_is_tab_separated_whatever_its_ending(tmp_path):
    folder = wands(tmp_path / "dataset")
    data = open_relevance(f"wands:{tmp_path}")  # the folder above is fine too
    assert graded(data) == [
        ("oak coffee table", "0", "L4"), ("oak coffee table", "1", "L2"), ('the 24" lamp', "0", "L1"),
    ]  # fmt: skip
    assert [pair.kind for pair in data.pairs] == ["Coffee Tables", "Coffee Tables", None]
    oak = data.items["0"]
    assert oak.category == "Furniture / Living Room" and oak.description == 'It is 40" wide.'
    assert oak.attributes == {"product type": ("Coffee Tables",), "material": ("oak", "steel"), "color": ("brown",)}
    assert data.items["1"].attributes == {} and data.items["1"].category is None
    assert folder in data.files[0].parents


def test_what_is_wrong_in_wands_is_named(tmp_path):
    with pytest.raises(
        InputError, match=r"label\.csv, line 2, column 'label': 'exact' is not .*, did you mean 'Exact'"
    ):
        open_relevance(f"wands:{wands(tmp_path / 'a', (('0', '0', '0', 'exact'),))}")
    with pytest.raises(InputError, match=r"label\.csv, line 2, column 'query_id': '5' is not among the queries of"):
        open_relevance(f"wands:{wands(tmp_path / 'b', (('0', '5', '0', 'Exact'),))}")
    folder = wands(tmp_path / "c")
    (folder / "product.csv").write_text("product_id,product_name\n1,x\n")
    with pytest.raises(InputError, match=r"product\.csv: no column 'product_id'"):
        open_relevance(f"wands:{folder}")
    (folder / "product.csv").write_text(
        "product_id\tproduct_name\tproduct_description\tproduct_features\n0\tTable\n", encoding="utf-8"
    )
    with pytest.raises(InputError, match=r"product\.csv, line 2: 2 fields, the header has 4"):
        open_relevance(f"wands:{folder}")


# --------------------------------------------------------------------------------------------------------- Home Depot


def homedepot(folder, relevance=("3", "2.33", "1")):
    folder.mkdir(exist_ok=True)
    rows = [
        {"id": "2", "product_uid": "100001", "product_title": "Angle 90°", "search_term": "angle bracket"},
        {"id": "3", "product_uid": "100002", "product_title": "Deck stain", "search_term": "deck over"},
        {"id": "9", "product_uid": "100001", "product_title": "Angle 90°", "search_term": "deck over"},
    ]
    separated(
        folder / "train.csv",
        [row | {"relevance": one} for row, one in zip(rows, relevance, strict=True)],
        encoding="latin-1",
    )
    return folder


def test_homedepot_with_descriptions_and_attributes(tmp_path):
    folder = homedepot(tmp_path / "homedepot")
    separated(folder / "product_descriptions.csv", [{"product_uid": "100001", "product_description": "Strong."}])
    separated(folder / "attributes.csv", [
        {"product_uid": "100001.0", "name": "Bullet01", "value": "Galvanized"},
        {"product_uid": "100001", "name": "MFG Brand Name", "value": "Acme"},
        {"product_uid": "100001", "name": "Material", "value": "Steel"},
        {"product_uid": "", "name": "", "value": ""},
        {"product_uid": "999999", "name": "Material", "value": "Wood"},
    ])  # fmt: skip
    data = open_relevance(f"homedepot:{folder}")
    assert graded(data) == [
        ("angle bracket", "100001", "L4"), ("deck over", "100002", "L3"), ("deck over", "100001", "L1"),
    ]  # fmt: skip
    angle = data.items["100001"]
    assert (angle.title, angle.brand, angle.description) == ("Angle 90°", "Acme", "Strong.\nGalvanized")
    assert angle.attributes == {"Material": ("Steel",)} and len(data.files) == 3
    assert graded(open_relevance(f"homedepot:{folder / 'train.csv'}")) == graded(data)


def test_what_is_wrong_in_homedepot_is_named(tmp_path):
    with pytest.raises(InputError, match=r"train\.csv, line 3, column 'relevance': '4' .*legal: numbers from 1 to 3"):
        open_relevance(f"homedepot:{homedepot(tmp_path / 'a', ('3', '4', '1'))}")
    (tmp_path / "b").mkdir()
    separated(tmp_path / "b" / "train.csv", [{"product_uid": "1", "search_term": "x"}])
    with pytest.raises(InputError, match=r"train\.csv: no column 'product_title'"):
        open_relevance(f"homedepot:{tmp_path / 'b'}")


# --------------------------------------------------------------------------------------------------------------- RAIR

RECORDS = [
    {"query": "红色连衣裙", "title": "红色长裙", "item_id": 623055365352, "groundtruth": "L4", "shop_name": "店",
     "vqa_result": "一条红色的裙子", "rule_list": "1. secret", "cpv_sku": json.dumps({"品牌": "衣衣", "颜色": "红"}),
     "subset": "general_set_image", "image_base64": "iVBORw0KGgo="},
    {"query": "红色连衣裙", "title": "蓝色长裙", "item_id": 2, "groundtruth": "L2", "shop_name": None,
     "vqa_result": None, "rule_list": "", "cpv_sku": None, "subset": "hard_set_image", "image_base64": ""},
]  # fmt: skip


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_rair_hides_its_rules_from_the_judge_and_says_what_it_may_be_used_for(tmp_path, ending):
    (table if ending == "parquet" else lines)(tmp_path / f"part.{ending}", RECORDS)
    data = open_relevance(f"rair:{tmp_path}")
    assert graded(data) == [("红色连衣裙", "623055365352", "L4"), ("红色连衣裙", "2", "L2")]
    dress = data.items["623055365352"]
    assert (dress.brand, dress.store) == ("衣衣", "店")
    assert dress.attributes == {"品牌": ("衣衣",), "颜色": ("红",), "vqa_result": ("一条红色的裙子",)}
    assert "secret" not in repr(data.items) and data.notes[0].startswith("RAIR is for academic research only")
    hard = open_relevance(f"rair:{tmp_path}", Wanted(split="hard_set_image"))
    assert graded(hard) == [("红色连衣裙", "2", "L2")]


def test_what_is_wrong_in_rair_is_named(tmp_path):
    for wrong, message in [
        ({"groundtruth": "L5"}, r"line 2, column 'groundtruth': 'L5'.*legal: L1, L2, L3, L4"),
        ({"cpv_sku": "[]"}, r"line 2, column 'cpv_sku': not a JSON object"),
        ({"item_id": None}, r"line 2, column 'item_id': item_id is empty"),
        ({"query": 3.5}, r"line 2, column 'query': query: 3.5 is a number"),
    ]:
        path = lines(tmp_path / "records.jsonl", [RECORDS[0], RECORDS[1] | wrong])
        with pytest.raises(InputError, match=message):
            open_relevance(f"rair:{path}")
    with pytest.raises(InputError, match=r"no records of subset 'visual'"):
        open_relevance(f"rair:{lines(tmp_path / 'records.jsonl', RECORDS)}", Wanted(split="visual"))
    with pytest.raises(InputError, match=r"holds no \.parquet or \.jsonl file"):
        (tmp_path / "empty").mkdir()
        open_relevance(f"rair:{tmp_path / 'empty'}")


@pytest.fixture
def hub(tmp_path):
    """A folder laid out as the hub shows a data set, behind the interface that its client has."""
    fsspec = pytest.importorskip("fsspec")
    for folder, row in (("General_Subset", RECORDS[0]), ("Hard_Subset", RECORDS[1])):
        place = tmp_path / "datasets" / "someone" / "RAIR" / folder
        place.mkdir(parents=True)
        table(place / "train-00000-of-00001.parquet", [row])
    return fsspec.filesystem("dir", path=str(tmp_path), target_protocol="file")


def test_rair_is_read_from_the_hub_column_by_column(hub, monkeypatch):
    monkeypatch.setattr(relevance_rair, "_open_hub", lambda name: hub)
    data = open_relevance("rair:someone/RAIR")
    assert graded(data) == [("红色连衣裙", "623055365352", "L4"), ("红色连衣裙", "2", "L2")]
    assert data.files == () and len(data.content_sha) == 64
    hard = open_relevance("rair:someone/RAIR", Wanted(split="Hard_Subset"))
    assert graded(hard) == [("红色连衣裙", "2", "L2")] and hard.sha != data.sha
    assert hard.pairs[0].kind == "hard_set_image"
    assert graded(open_relevance("rair:someone/RAIR", Wanted(split="general_set_image")))[0][1] == "623055365352"
    with pytest.raises(InputError, match=r"rair:nobody/RAIR: (the model hub has no such data set|holds no)"):
        open_relevance("rair:nobody/RAIR")


def test_a_folder_of_the_hub_that_was_fetched_is_read_alike(hub, tmp_path):
    folder = tmp_path / "datasets" / "someone" / "RAIR"
    assert len(open_relevance(f"rair:{folder}").pairs) == 2
    assert graded(open_relevance(f"rair:{folder}", Wanted(split="Hard_Subset"))) == [("红色连衣裙", "2", "L2")]


def test_without_a_hub_rair_is_refused_in_one_line(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match=r"no such file or folder, and the model hub cannot be used: HF_HUB_OFFLINE"):
        open_relevance("rair:chenJi/RAIR")


# ---------------------------------------------------------------------------------------------------------------- own

OWN = [
    {"query": "red sofa", "item_id": "couch", "title": "Red velvet sofa", "price": 450, "grade": "L4", "kind": "color",
     "split": "test", "frequency": 30},
    {"query": "blue sofa", "item_id": "couch", "grade": "L2", "split": "dev"},
    {"query": "blue sofa", "item_id": "gone", "grade": "L1", "split": "dev"},
]  # fmt: skip


def test_a_file_of_your_own_tells_an_item_once(tmp_path):
    data = open_relevance(str(lines(tmp_path / "pairs.jsonl", OWN)))
    assert graded(data) == [("red sofa", "couch", "L4"), ("blue sofa", "couch", "L2"), ("blue sofa", "gone", "L1")]
    assert (data.items["couch"].title, data.items["couch"].price) == ("Red velvet sofa", 450.0)
    assert set(data.items) == {"couch"}
    first = data.pairs[0]
    assert (first.kind, first.split, first.query.frequency) == ("color", "test", 30.0)
    test = open_relevance(str(tmp_path / "pairs.jsonl"), Wanted(split="test"))
    assert len(test.pairs) == 1 and test.sha == data.sha
    with pytest.raises(InputError, match=r"no split 'tset', did you mean 'test'\?; it has: dev, test"):
        open_relevance(str(tmp_path / "pairs.jsonl"), Wanted(split="tset"))


def test_another_scale_is_named(tmp_path):
    rows = [{"query": "sofa", "item_id": "1", "title": "Sofa", "attributes.color": "red|blue", "grade": "2"}]
    path = separated(tmp_path / "pairs.csv", rows)
    with pytest.raises(
        InputError, match=r"line 2, column 'grade': '2' is not a label of scale levels, did you mean 'L2'"
    ):
        open_relevance(str(path))
    data = open_relevance(str(path), Wanted(scale="0-3"))
    assert graded(data) == [("sofa", "1", "L3")]
    assert data.items["1"].attributes == {"color": ("red", "blue")}
    assert data.sha != open_relevance(str(path), Wanted(scale="1-4")).sha


def test_what_is_wrong_in_a_file_of_your_own_is_named(tmp_path):
    path = tmp_path / "pairs.jsonl"
    for rows, message in [
        ([OWN[0] | {"colour": "red"}], r"line 1: unknown column 'colour'.*legal: query, grade"),
        ([{"query": "x", "grade": "L1"}], r"line 1: no column 'item_id'; needed: query, item_id, grade"),
        ([OWN[0], OWN[0] | {"query": "x", "title": "A lamp"}], r"line 2, column 'item_id': 'couch' is another item"),
        ([OWN[0] | {"frequency": -1}], r"line 1, column 'frequency': -1 is not a count"),
    ]:
        with pytest.raises(InputError, match=message):
            open_relevance(str(lines(path, rows)))
    with pytest.raises(InputError, match="no such file"):
        open_relevance(str(tmp_path / "none.jsonl"))
    with pytest.raises(InputError, match=f"no data set format 'wand', did you mean 'wands'.*{', '.join(FORMATS)}"):
        open_relevance("wand:x")
    with pytest.raises(InputError, match="'wands:' names no path"):
        open_relevance("wands:")


def test_a_folder_for_ingesting_is_a_set_too(tmp_path):
    data = open_relevance(str(DEMO))
    labels = (DEMO / "labels.jsonl").read_text(encoding="utf-8").splitlines()
    first = json.loads(labels[0])
    assert len(data.pairs) == len(labels) and len(data.items) == 54
    assert (data.pairs[0].query.query_id, data.pairs[0].item_id) == (first["query_id"], first["item_id"])
    assert data.pairs[0].split == "test" and data.pairs[0].query.frequency == 70
    for name in ("items.jsonl", "queries.jsonl"):
        shutil.copy(DEMO / name, tmp_path)
    with pytest.raises(InputError, match=r"needs one labels\.\* "):
        open_relevance(str(tmp_path))
    lines(tmp_path / "labels.jsonl", [{"query_id": "nobody", "item_id": "x", "grade": "L1"}])
    with pytest.raises(InputError, match="label 1: query_id 'nobody' is not among the queries"):
        open_relevance(str(tmp_path))


def test_a_sample_keeps_whole_queries_and_is_always_the_same():
    data = open_relevance(str(DEMO))
    some = data.sample(5)
    ids = {pair.query.query_id for pair in some.pairs}
    assert len(ids) == 5 and some == data.sample(5)
    assert [p for p in data.pairs if p.query.query_id in ids] == list(some.pairs)
    assert data.sample(None) is data
