"""Run: pytest tests/test_relevance_check_labels.py

Impossible labels, on a small world made here; the command itself is tested in test_jobs_check_labels.py.
"""

import pytest

from lore_mm.knowledge import Brand, Category, Knowledge
from lore_mm.types import AttributeValue, Demand, Evidence, Item, ItemFeatures, Query, Understanding
from relevance.by_rules import RulesJudge
from relevance.check_labels import LabelRow, check_labels

WORLD = Knowledge(
    categories=[
        Category(id="shoe", name="shoe", generic=True, department="footwear"),
        Category(id="running_shoe", name="running shoe", parent="shoe"),
        Category(id="sofa", name="sofa"),
    ],
    brands=[Brand(name="Nike"), Brand(name="Adidas")],
)
JUDGE = RulesJudge(WORLD)


def understood(query_id, *demands):
    return Understanding(Query(query_id, query_id), query_id, demands)


SHOE = Demand("category", "running shoes", "running_shoe", role="head")
QUERIES = {
    "shoes": understood("shoes", SHOE),
    "nike": understood("nike", SHOE, Demand("brand", "nike", "Nike")),
    "cheap": understood("cheap", SHOE, Demand("price", "under 50", op="at_most", number=50.0)),
    "wish": understood("wish", SHOE, Demand("brand", "nike", "Nike", strictness="soft")),
    "broken": Understanding(Query("broken", "?"), "?", status="failed", error="no words"),
}


def shoe(item_id, brand=None, price=None):
    given = (
        (AttributeValue("brand", "brand", brand, evidence=(Evidence("given.brand", brand),), confidence=0.95),)
        if brand
        else ()
    )
    return ItemFeatures(Item(item_id, "Running Shoe", brand=brand, price=price), given)


ITEMS = {
    "n": shoe("n", "Nike", 40.0),
    "a": shoe("a", "Adidas", 54.0),
    "dear": shoe("dear", "Nike", 99.0),
    "sofa": ItemFeatures(Item("sofa", "A sofa")),
}


def faults(*rows):
    made = [LabelRow("labels.jsonl", f"line {i}", *row) for i, row in enumerate(rows, 1)]
    return [(f.place, f.reason) for f in check_labels(made, QUERIES, ITEMS, JUDGE)]


def test_possible_labels_have_no_faults():
    assert faults(("shoes", "n", "L4", "fits"), ("nike", "a", "L2", "brand"), ("shoes", "sofa", "L1", "a sofa")) == []


@pytest.mark.parametrize(
    "row, reason",
    [
        (("shos", "n", "L4", "x"), "unknown query_id 'shos', did you mean 'shoes'?"),
        (("shoes", "nobody", "L4", "x"), "unknown item_id 'nobody'"),
        (("shoes", "n", "4", "x"), "grade '4' is not one of L1, L2, L3, L4"),
        (("shoes", "n", "", "x"), "grade '' is not one of L1, L2, L3, L4"),
        (("shoes", "n", "L4", ""), "the reason is empty"),
    ],
)
def test_a_row_that_is_wrong_by_itself(row, reason):
    assert faults(row) == [("line 1", reason)]


def test_pairs_graded_twice():
    rows = [("shoes", "n", "L4", "x"), ("nike", "n", "L4", "x"), ("shoes", "n", "L4", "y"), ("nike", "n", "L3", "y")]
    assert faults(*rows) == [
        ("line 3", "the pair is there twice: also in line 1"),
        ("line 4", "the pair is graded L3 here and L4 in line 2"),
    ]


@pytest.mark.parametrize(
    "row, reason",
    [
        (
            ("nike", "a", "L3", "x"),
            "graded L3, but brand is broken (brand.brand_other): asks for Nike; it is by Adidas",
        ),
        (
            ("cheap", "dear", "L4", "x"),
            "graded L4, but price is broken (price.far): asks for a price of at most 50; it costs 99, 98% off",
        ),
        (
            ("shoes", "sofa", "L4", "x"),
            "graded L4, but category is broken (category.unrelated): "
            "asks for running shoes; sofa has nothing to do with it",
        ),
    ],
)
def test_a_relevant_label_on_a_pair_that_breaks_a_demand_beyond_doubt(row, reason):
    assert faults(row) == [("line 1", reason)]
    assert faults((row[0], row[1], "L2", "x")) == []


def test_what_may_be_argued_is_not_a_fault():
    assert faults(("cheap", "a", "L3", "8 % over")) == []  # 54 against 50
    assert faults(("wish", "a", "L3", "a wish")) == []
    assert faults(("broken", "n", "L4", "nobody can say")) == []


def test_all_faults_of_a_row_are_told_and_rows_stay_in_order():
    found = faults(("nike", "a", "L4", ""), ("x", "y", "z", ""))
    assert [place for place, _ in found] == ["line 1"] * 2 + ["line 2"] * 4
