"""The demo catalogue is what its README says. Run: pytest tests/test_examples_demo.py"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from jobs.check_labels import main
from lore_mm.tables import LABELS, QUERIES

DEMO = Path(__file__).parent.parent / "examples" / "demo"
DIMENSIONS = set(
    "category brand model ip component bundle style_detail style color material spec function audience season year "
    "price store special".split()
)
ITEM_COLUMNS = {
    "item_id",
    "title",
    "description",
    "category",
    "brand",
    "attributes",
    "price",
    "currency",
    "images",
    "store",
}


def rows(name: str) -> list[dict]:
    return [json.loads(line) for line in (DEMO / name).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def items() -> list[dict]:
    return rows("items.jsonl")


@pytest.fixture(scope="module")
def queries() -> list[dict]:
    return rows("queries.jsonl")


@pytest.fixture(scope="module")
def labels() -> list[dict]:
    return rows("labels.jsonl")


def test_items_are_in_the_public_format(items):
    assert len({item["item_id"] for item in items}) == len(items) == 54
    for item in items:
        assert set(item) == ITEM_COLUMNS
        assert item["title"] and item["description"]
        assert isinstance(item["price"], float) and item["price"] > 0
        assert item["currency"] == "USD"
        assert " > " in item["category"]
        assert all(isinstance(value, list) and value for value in item["attributes"].values())
    monitor = next(item for item in items if item["item_id"] == "curvy-monitor")
    assert monitor["attributes"] == {"monitor size": ["24 inch", "27 inch"]}
    assert (monitor["brand"], monitor["price"], monitor["category"]) == ("Samsung", 143.74, "Electronics > Computers")


def test_every_picture_decodes_and_belongs_to_an_item(items):
    named = [image for item in items for image in item["images"]]
    assert sorted(named) == sorted(f"images/{path.name}" for path in (DEMO / "images").iterdir())
    for image in named:
        with Image.open(DEMO / image) as picture:
            picture.load()
            assert picture.format == "JPEG"
            assert 200 <= max(picture.size) <= 320


def test_queries_are_many_and_of_the_documented_kinds(queries):
    assert len(queries) >= 60
    assert len({query["query_id"] for query in queries}) == len(queries)
    assert len({query["query"].casefold() for query in queries}) == len(queries)
    readme = (DEMO / "README.md").read_text(encoding="utf-8")
    for kind in {query["kind"] for query in queries}:
        assert f"`{kind}`" in readme
    for query in queries:
        assert set(query) == set(QUERIES.names)
        assert query["frequency"] > 0


def test_the_split_follows_the_rule_of_the_readme(queries):
    def place(query: dict) -> tuple[str, str]:
        return query["kind"], hashlib.sha256(query["query"].encode("utf-8")).hexdigest()

    for position, query in enumerate(sorted(queries, key=place)):
        assert query["split"] == ("dev" if position % 5 in (1, 3) else "test"), query["query_id"]
        assert query["query_id"] == f"q{position + 1:03d}"


def test_labels_are_many_graded_evenly_and_reasoned(items, queries, labels):
    assert len(labels) >= 360
    known_items, known_queries = {item["item_id"] for item in items}, {query["query_id"] for query in queries}
    assert {label["item_id"] for label in labels} == known_items
    assert {label["query_id"] for label in labels} == known_queries
    assert len({(label["query_id"], label["item_id"]) for label in labels}) == len(labels)
    grades = Counter(label["grade"] for label in labels)
    assert set(grades) == {"L1", "L2", "L3", "L4"}
    for grade, count in grades.items():
        assert 0.15 <= count / len(labels) <= 0.35, grade
    for label in labels:
        assert set(label) == set(LABELS.names)
        assert len(label["reason"].strip()) >= 2
    per_query = Counter(label["query_id"] for label in labels)
    assert min(per_query.values()) >= 5
    assert max(per_query.values()) <= 9


def test_an_l2_reason_names_the_broken_dimension_first(labels):
    for label in labels:
        if label["grade"] == "L2":
            named, _, rest = label["reason"].partition(": ")
            assert rest, label
            assert set(named.split(", ")) <= DIMENSIONS, label


def test_source_and_licence_are_kept():
    licence = (DEMO / "LICENSE").read_text(encoding="utf-8")
    assert licence.startswith("The MIT License")
    assert "2018 Michael Bromley" in licence
    readme = (DEMO / "README.md").read_text(encoding="utf-8")
    assert "Vendure" in readme
    for path in (DEMO / "images").iterdir():
        assert f"`images/{path.name}`" in readme


def test_no_label_is_impossible(capsys):
    files = {name: DEMO / f"{name}.jsonl" for name in ("labels", "queries", "items")}
    main(**files)
    assert capsys.readouterr().err == f"no faults in {len(rows('labels.jsonl'))} labels\n"
