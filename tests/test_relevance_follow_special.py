"""Run: pytest tests/test_relevance_follow_special.py

Ages in years, parts and accessories, shops.
"""

import pytest

from lore_mm.knowledge import Brand, Category, Knowledge, Term
from lore_mm.types import AttributeValue, Demand, Evidence, Item, ItemFeatures, Query, Understanding
from relevance.follow import Follower

WORLD = Knowledge(
    categories=[
        Category(id="phone", name="phone"),
        Category(id="case", name="case", accessory_of=("phone",)),
        Category(id="toy", name="toy"),
        Category(id="clothing", name="clothing"),
        Category(id="dress", name="dress", parent="clothing"),
    ],
    brands=[Brand(name="Nike"), Brand(name="Adidas")],
    terms=[
        Term(dimension="audience", value="kids", stage=3, dedicated=("toy",)),
        Term(dimension="audience", value="adults", stage=4, excludes=("kids",)),
        Term(dimension="component", value="accessory", terms=("accessories",)),
        Term(dimension="component", value="main"),
        Term(dimension="component", value="refill"),
        Term(dimension="store", value="official store", terms=("flagship store",)),
        Term(dimension="store", value="outlet-store", terms=("outlet",)),
    ],
)
FOLLOWER = Follower(WORLD)


def follow(item, demand, *attributes):
    item = Item("i", item) if isinstance(item, str) else item
    steps = FOLLOWER.construct(Understanding(Query("q", "a query"), "a query", (demand,)))
    return FOLLOWER.follow("q", steps, FOLLOWER.view(ItemFeatures(item, attributes))).legs[0]


def years(low, high=None):
    return Demand(
        "audience", f"{low} years", "kids", op="range" if high else "eq", number=low, number_high=high, unit="years"
    )


@pytest.mark.parametrize(
    "title, demand, relation",
    [
        ("Toy for ages 3+", years(7), "exact"),
        ("Toy for ages 6-8", years(7), "exact"),
        ("Toy for ages 8-10", years(7), "near_stage"),  # within 6 to 12
        ("Toy for ages 4-5", years(7), "far_stage"),
        ("Toy for ages 6-7", years(4), "near_stage"),  # who is 6 ends one stage and begins the next
        ("Toy for ages 3+", years(2), "far_stage"),  # a lower bound is a warning
        ("Toy for ages 3+", years(2, 4), "exact"),
        ("Toy for ages 14+", years(7), "far_stage"),
        ("Toy for ages 6-8", years(7, 9), "exact"),
        ("Toy for kids", years(7), "exact"),  # no age stated: the group decides
        ("Toy for adults", years(7), "contradicts"),
        ("Phone", years(7), "unstated"),
    ],
)
def test_ages_in_years(title, demand, relation):
    assert follow(title, demand).relation == relation


def test_an_extracted_age_is_read():
    age = AttributeValue("age", "audience", "3 years", number=8.0, unit="years", evidence=(Evidence("given.age"),))
    assert follow("Toy", years(7), age).relation == "near_stage"


@pytest.mark.parametrize(
    "quote, number, asked, relation",
    [
        ("6-8 years", 6.0, 7, "exact"),
        ("3+", 3.0, 9, "exact"),
        ("6", 6.0, 7, "near_stage"),
        ("6-8", 6.0, 7, "exact"),
    ],
)
def test_an_extracted_age_has_the_upper_end_of_its_words(quote, number, asked, relation):
    age = AttributeValue("age", "audience", "6", number=number, unit="years", evidence=(Evidence("given.age", quote),))
    assert follow("Toy", years(asked), age).relation == relation


def group(value):
    return Demand("audience", value, value)


@pytest.mark.parametrize(
    "title, demand, relation",
    [
        ("Toy", group("kids"), "plain"),  # there are toys made for kids
        ("Phone", group("kids"), "unstated"),
        ("Toy for kids", group("kids"), "exact"),
        ("Toy", years(7), "plain"),
    ],
)
def test_a_plain_thing_where_things_are_made_for_the_group(title, demand, relation):
    assert follow(title, demand).relation == relation


@pytest.mark.parametrize(
    "title, relation",
    [
        ("Dress for kids, 110-165 cm", "sizes_reach"),
        ("Dress for kids, 110-150 cm", "contradicts"),
        ("Dress for kids, 250 cm", "contradicts"),  # no wearer's height
        ("Phone for kids, 165 cm", "contradicts"),
    ],
)
def test_childrens_sizes_that_reach_grown_ups(title, relation):
    assert follow(title, group("adults")).relation == relation


def part(value, canonical):
    return Demand("component", value, canonical)


@pytest.mark.parametrize(
    "title, demand, relation",
    [
        ("Case", part("phone", "accessory"), "exact"),  # a case goes with a phone
        ("Toy that fits a phone", part("phone", "accessory"), "exact"),
        ("Toy", part("phone", "accessory"), "unstated"),
        ("Case", part("accessories", "accessory"), "exact"),
        ("Phone", part("accessories", "accessory"), "unstated"),
        ("Phone", part("main", "main"), "exact"),
        ("Case", part("main", "main"), "unstated"),
        ("Ink refill", part("refill", "refill"), "exact"),
    ],
)
def test_parts_and_accessories(title, demand, relation):
    assert follow(title, demand).relation == relation


@pytest.mark.parametrize(
    "store, brand, relation",
    [
        ("Nike official store", "Nike", "exact"),
        ("Nike flagship store", "Nike", "exact"),
        ("Nike Outlet", "Nike", "brand_store"),
        ("Corner shop", "Nike", "other"),
        ("Adidas official store", "Nike", "other"),  # another maker's
        ("Official store", "Nike", "exact"),
        (None, "Nike", "unstated"),
    ],
)
def test_shops(store, brand, relation):
    item = Item("i", "Toy", brand=brand, store=store)
    assert follow(item, Demand("store", "official store", "official store")).relation == relation
