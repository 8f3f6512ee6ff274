"""Run: pytest tests/test_relevance_follow_sizes.py

Shoe sizes of a query against those of an item in another system.
"""

import pytest

from lore_mm.knowledge import load_knowledge
from lore_mm.types import AttributeValue, Demand, Evidence, Item, ItemFeatures, Query, Understanding
from relevance.follow import Follower

KNOWLEDGE = load_knowledge()
FOLLOWER = Follower(KNOWLEDGE)


def follow(title, demand, *attributes, head="boot"):
    item = Item("i", title)
    first = Demand("category", head, head, role="head")
    steps = FOLLOWER.construct(Understanding(Query("q", "a query"), "a query", (first, demand)))
    path = FOLLOWER.follow("q", steps, FOLLOWER.view(ItemFeatures(item, attributes)))
    return path.legs[1]


def size(number, unit=None, high=None):
    words = f"{unit or 'size'} {number:g}"
    return Demand("spec", words, op="eq" if high is None else "range", number=number, number_high=high, unit=unit)


def stated(number, unit=None):
    words = f"{unit or ''} {number:g}".strip()
    return AttributeValue("size", "spec", words, number=number, unit=unit, evidence=(Evidence("given.size"),))


@pytest.mark.parametrize(
    "demand, title, relation",
    [
        (size(9, "UK"), "Boots EU 43", "within"),
        (size(9, "UK"), "Boots EU 42", "one_step"),  # a half size and a bit off
        (size(9, "UK"), "Boots EU 44", "deviates"),
        (size(9, "UK"), "Boots EU 40", "deviates"),
        (size(9, "UK"), "Boots US 10 men", "within"),
        (size(42), "Boots UK 8", "one_step"),
        (size(42), "Boots UK 5", "deviates"),
        (size(42), "Boots size 42", "within"),  # one system: the numbers themselves
        (size(42), "Boots size 43", "one_step"),
        (size(9), "Boots UK 9", "within"),  # a plain 9 beside a UK size is UK
        (size(9), "Men's boots EU 41.5", "within"),  # … beside an EU size it is the usual, US
        (size(9), "Boots UK 10", "one_step"),
        (size(9), "Boots UK 11", "deviates"),
        (size(43, "EU"), "Boots size 43", "within"),
        (size(7, "US"), "Women's boots EU 37", "within"),
        (size(7, "US"), "Women's boots EU 38", "one_step"),
        (size(7, "US"), "Men's boots EU 37", "deviates"),
        (size(8, "UK", 10), "Boots EU 43", "within"),
        (size(8, "UK"), "Boots", "unstated"),
        (size(12, "UK"), "Dress EU 40", "unstated"),  # sizes of dresses are no shoe sizes
    ],
)
def test_sizes_of_the_title(demand, title, relation):
    assert follow(title, demand).relation == relation


def test_sizes_that_were_extracted_and_the_nearest_of_several():
    leg = follow("Boots", size(9, "UK"), stated(40, "EU"), stated(43, "EU"))
    assert (leg.relation, leg.found, leg.deviation) == ("within", ("EU 43",), 0.0)
    assert leg.reason == "asks for UK 9; it has EU 43, the same by the length of the foot"
    leg = follow("Boots", size(9, "UK"), stated(40, "EU"))
    assert leg.relation == "deviates"
    assert leg.deviation == pytest.approx(3 / 43, abs=0.01)  # about: as a share of the foot's length


def test_what_is_no_size_is_not_compared():
    assert follow("Boots EU 43", size(99, "UK")).relation == "unstated"
    assert follow("Boots EU 40", size(0)).relation == "unstated"
    assert follow("Boots EU 40", size(18, "US")).relation == "deviates"  # larger than any EU size
