"""Run: pytest tests/test_relevance_follow_numbers.py

Relations of numbers: sizes, prices, years and pieces.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lore_mm.knowledge import Category, Knowledge, Term
from lore_mm.types import AttributeValue, Demand, Evidence, Item, ItemFeatures, Query, Understanding
from relevance.follow import Follower
from relevance.follow_numbers import FARTHEST, deviation

WORLD = Knowledge(
    categories=[
        Category(id="laptop", name="laptop", department="electronics"),
        Category(id="shirt", name="shirt", department="fashion"),
        Category(id="chair", name="chair", department="furniture"),
        Category(id="food", name="food", department="grocery"),
        Category(id="rice", name="rice", parent="food"),
        Category(id="bed", name="bed", department="furniture"),
        Category(id="shoe", name="shoe", department="footwear"),
    ],
    terms=[Term(dimension="bundle", value="set"), Term(dimension="bundle", value="single")],
)
FOLLOWER = Follower(WORLD)


def follow(item, demand, *attributes):
    item = Item("i", item) if isinstance(item, str) else item
    head = Demand("category", "laptop", "laptop", role="head")
    steps = FOLLOWER.construct(Understanding(Query("q", "a query"), "a query", (head, demand)))
    path = FOLLOWER.follow("q", steps, FOLLOWER.view(ItemFeatures(item, attributes)))
    return path.legs[1]


def number(name, dimension, amount, unit=None, **fields):
    return AttributeValue(
        name, dimension, f"{amount:g}", number=amount, unit=unit, evidence=(Evidence("given.x"),), **fields
    )


def ask(op, low, high=None):
    return Demand("price", "x", op=op, number=low, number_high=high)


@pytest.mark.parametrize(
    "demand, have, expected",
    [
        (ask("eq", 50), 50, 0),
        (ask("eq", 50), 55, 5 / 50),
        (ask("eq", 50), 45, 5 / 50),
        (ask("at_most", 100), 20, 0),
        (ask("at_most", 100), 108, 8 / 100),
        (ask("at_least", 100), 400, 0),
        (ask("at_least", 100), 80, 20 / 100),
        (ask("range", 50, 100), 75, 0),
        (ask("range", 50, 100), 40, 10 / 50),
        (ask("range", 50, 100), 130, 30 / 100),
        (ask("at_most", 0), 5, FARTHEST),
    ],
)
def test_deviation_is_the_miss_over_the_limit_that_was_missed(demand, have, expected):
    assert deviation(demand, have) == pytest.approx(expected)


def test_a_range_on_the_item_meets_a_number_inside_it():
    assert deviation(ask("eq", 5), 3, 6) == 0
    assert deviation(ask("eq", 2), 3, 6) == pytest.approx((3 - 2) / 2)


@given(st.floats(0.1, 1e6), st.floats(0.1, 1e6), st.sampled_from(["eq", "at_most", "at_least"]))
def test_deviation_is_never_negative_and_zero_exactly_inside(limit, have, op):
    miss = deviation(ask(op, limit), have)
    inside = {"eq": have == limit, "at_most": have <= limit, "at_least": have >= limit}[op]
    assert miss >= 0 and (miss == 0) == inside


# ---------------------------------------------------------------------------------------------------------------- spec


def spec(amount, unit, **fields):
    return Demand("spec", f"{amount} {unit}", number=amount, unit=unit, **fields)


def test_a_size_is_answered_by_the_attribute_of_its_unit():
    leg = follow("Laptop", spec(16, "GB"), number("memory", "spec", 16, "GB"), number("weight", "spec", 16, "g"))
    assert (leg.relation, leg.attribute, leg.deviation) == ("within", "memory", 0.0)


def of_kind(kind, title, demand, *attributes):
    head = Demand("category", kind, kind, role="head")
    steps = FOLLOWER.construct(Understanding(Query("q", "a query"), "a query", (head, demand)))
    return FOLLOWER.follow("q", steps, FOLLOWER.view(ItemFeatures(Item("i", title), attributes))).legs[1]


@pytest.mark.parametrize(
    "kind, title, demand, relation, attribute",
    [
        ("rice", "Rice 5 kg", spec(10000, "g"), "multiple", "weight"),
        ("rice", "Rice 3.4 kg", spec(10000, "g"), "multiple", "weight"),  # three of it, all but rounded
        ("rice", "Rice 7 kg", spec(10000, "g"), "deviates", "weight"),
        ("rice", "Rice 20 kg", spec(10000, "g"), "deviates", "weight"),  # half a pack cannot be bought
        ("rice", "Rice 5 kg", spec(10000, "g", op="at_least"), "deviates", "weight"),
        ("rice", "Rice 100 g", spec(10000, "g"), "deviates", "weight"),  # nobody buys a hundred
        ("chair", "Chair 5 kg", spec(10000, "g"), "deviates", "weight"),  # two chairs are no heavier chair
        ("bed", "Bed 140 cm", spec(150, "cm"), "deviates", "bed_size"),
        ("chair", "Chair 140 cm", spec(150, "cm"), "deviates", "length"),
        ("shoe", "Shoe, heel 9 cm", spec(8, "cm"), "one_step", "length"),
        ("shoe", "Shoe, heel 9.5 cm", spec(8, "cm"), "deviates", "length"),
        ("shoe", "Shoe, heel 4 cm", spec(3, "cm"), "deviates", "length"),  # below 5 cm there are no such steps
        ("laptop", "Laptop 110 V", spec(220, "V"), "deviates", "voltage"),  # no attribute of laptops, but a quantity
    ],
)
def test_a_miss_as_the_kind_of_thing_takes_it(kind, title, demand, relation, attribute):
    leg = of_kind(kind, title, demand)
    assert (leg.relation, leg.attribute) == (relation, attribute)


def test_the_nearest_of_several_sizes_counts():
    sizes = [number("screen_size", "spec", s, "in") for s in (13.0, 15.0)]
    assert follow("Laptop", spec(15, "in"), *sizes).relation == "within"
    leg = follow("Laptop", spec(14, "in"), *sizes)
    assert (leg.relation, leg.deviation) == ("deviates", pytest.approx(1 / 14))


def test_a_size_is_read_off_the_text_where_nothing_was_extracted():
    leg = follow("Laptop with 8GB", spec(16, "GB"))
    assert (leg.relation, leg.deviation, leg.evidence[0].source) == ("deviates", pytest.approx(0.5), "title")
    assert follow(Item("i", "Laptop", "has 16 GB of memory"), spec(16, "GB")).relation == "within"
    assert follow("Laptop", spec(16, "GB")).relation == "unstated"


def test_another_unit_does_not_answer():
    assert follow("Laptop", spec(16, "GB"), number("weight", "spec", 16, "g")).relation == "unstated"


# --------------------------------------------------------------------------------------------------------------- price


def price(op, low, high=None, unit=None, polarity=1):
    return Demand("price", "x", op=op, number=low, number_high=high, unit=unit, polarity=polarity)


@pytest.mark.parametrize(
    "demand, relation, miss",
    [
        (price("at_most", 100), "within", 0),
        (price("at_most", 90), "deviates", 9 / 90),
        (price("range", 50, 80), "deviates", 19 / 80),
        (price("at_least", 99), "within", 0),
        (price("at_most", 100, unit="EUR"), "within", 0),  # the item's currency is not known
    ],
)
def test_relations_of_prices(demand, relation, miss):
    leg = follow(Item("i", "Laptop", price=99.0), demand)
    assert (leg.relation, leg.deviation) == (relation, pytest.approx(miss))
    assert leg.evidence[0].source == "given.price"


def test_currencies_are_compared_only_where_both_are_known():
    item = Item("i", "Laptop", price=99.0, currency="GBP")
    assert follow(item, price("at_most", 100, unit="EUR")).relation == "other_currency"
    assert follow(item, price("at_most", 100, unit="GBP")).relation == "within"
    assert follow(item, price("at_most", 100)).relation == "within"


def test_no_price_is_no_answer():
    assert follow("Laptop", price("at_most", 100)).relation == "unstated"
    assert follow(Item("i", "Laptop", price=float("nan")), price("at_most", 100)).relation == "unstated"


# ---------------------------------------------------------------------------------------------------------------- year


@pytest.mark.parametrize(
    "title, relation",
    [
        ("Laptop 2024", "within"),
        ("Laptop 2021", "other_model_year"),
        ("Laptop", "unstated_model_year"),
        ("Shirt 2021", "other_year"),
        ("Shirt", "unstated"),
    ],
)
def test_the_year_is_strict_for_things_that_are_dated(title, relation):
    assert follow(title, Demand("year", "2024", number=2024)).relation == relation


# --------------------------------------------------------------------------------------------------------------- pieces


@pytest.mark.parametrize(
    "title, pieces, relation",
    [
        ("Chair, set of 4", 4, "exact"),
        ("Chair, set of 6", 4, "other_count"),
        ("Chair, set of 4", 1, "set_of_single"),
        ("Chair, set of 2", 4, "multiple"),
        ("Chair", 4, "multiple"),  # sold singly: four of them make the set
        ("Chair set", 4, "other_count"),
        ("Chair", 1, "exact"),
    ],
)
def test_relations_of_sets(title, pieces, relation):
    assert follow(title, Demand("bundle", "x", number=pieces)).relation == relation


@pytest.mark.parametrize(
    "title, word, relation",
    [
        ("Chair set", "set", "exact"),
        ("Chair, set of 4", "set", "exact"),
        ("Single chair", "set", "part_of_set"),
        ("Chair", "set", "unstated"),
        ("Chair set", "single", "set_of_single"),
        ("Chair", "single", "exact"),
        ("Chair, set of 2", "pair", "exact"),
    ],
)
def test_relations_of_sets_in_words(title, word, relation):
    assert follow(title, Demand("bundle", word, word)).relation == relation


@pytest.mark.parametrize(
    "have, relation",
    [(4, "within"), (5, "one_step"), (3, "one_step"), (6, "deviates")],
)
def test_stepped_sizes_may_miss_by_one(have, relation):
    persons = Demand("spec", "4 person", number=4, unit="person")
    assert follow("Laptop", persons, number("persons", "spec", have, "person")).relation == relation


def test_a_letter_size_is_told_in_its_words():
    large = Demand("spec", "size L", number=1, unit="letter")
    leg = follow("Laptop size S", large)
    assert (leg.relation, leg.reason) == ("deviates", "asks for size L; it has size S")
    assert follow("Laptop size XL", large).relation == "one_step"


def test_a_stated_single_piece_is_part_of_the_set():
    leg = follow("Chair", Demand("bundle", "x", number=4), number("bundle", "bundle", 1, "pieces"))
    assert leg.relation == "part_of_set"
