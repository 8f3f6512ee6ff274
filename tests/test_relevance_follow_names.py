"""Run: pytest tests/test_relevance_follow_names.py

Names that no table knows, against what an item is called.
"""

import pytest

from lore_mm.knowledge import Brand, Category, Knowledge, Series
from lore_mm.types import AttributeValue, Demand, Evidence, Item, ItemFeatures, Query, Understanding
from relevance.evidence import run_together
from relevance.follow import Follower

WORLD = Knowledge(
    categories=[
        Category(id="phone", name="phone"),
        Category(id="case", name="case", accessory_of=("phone",)),
        Category(id="printer", name="printer"),
        Category(id="toner", name="toner", accessory_of=("printer",)),
    ],
    brands=[Brand(name="Acme", makes=("phone",))],
    series=[Series(name="Zed", brand="Acme", category="phone")],
)
FOLLOWER = Follower(WORLD)


def leg(item, *demands, attributes=()):
    item = Item("i", item) if isinstance(item, str) else item
    steps = FOLLOWER.construct(Understanding(Query("q", "a query"), "a query", tuple(demands)))
    path = FOLLOWER.follow("q", steps, FOLLOWER.view(ItemFeatures(item, tuple(attributes))))
    return next(one for one in path.legs if one.demand is demands[-1])


def thing(words):
    return Demand("category", words, role="head")


def model(name, **fields):
    return Demand("model", name, **fields)


@pytest.mark.parametrize(
    ("item", "relation", "missing"),
    [
        ("Steel Towel Rods", "words_all", 0.0),  # in the singular, in any place before "for"
        ("Towel Rod, 60 cm", "words_all", 0.0),
        ("Hook for a towel rod", "words_beside", 1.0),
        (Item("i", "Aurora", "Hangs on every towel rod."), "words_beside", 1.0),
        ("Towel shelf for a rod", "words_beside", 0.5),
        ("Towel shelf", "words_some", 0.5),
        ("Wooden chair", "words_none", 1.0),
        (Item("i", "Aurora", attributes={"product type": ("Towel rod",)}), "words_all", 0.0),
        (Item("i", "Aurora", attributes={"goes with": ("Towel rod",)}), "words_beside", 1.0),
    ],
)
def test_the_thing_is_what_the_item_is_called(item, relation, missing):
    found = leg(item, thing("towel rod"))
    assert (found.relation, found.deviation) == (relation, pytest.approx(missing))


def test_words_of_the_thing_are_quoted_from_the_title():
    found = leg("Steel Towel Rods", thing("towel rod"))
    assert found.found == ("Towel", "Rods")
    assert [(e.source, e.start, e.end) for e in found.evidence] == [("title", 6, 11), ("title", 12, 16)]


@pytest.mark.parametrize("name", ["TN-2110", "tn2110", "TN 2110", "tn–2110"])
def test_a_part_number_is_one_word_however_it_is_written(name):
    assert run_together(name) == "tn2110"
    found = leg("Acme TN-2110 Toner, black", model(name))
    assert (found.relation, found.found) == ("words_all", ("TN-2110",))


@pytest.mark.parametrize(
    ("item", "relation"),
    [
        ("Acme TN-2120 Toner", "other_model"),
        ("Acme TN Toner", "words_some"),
        ("Drum for Acme TN-2110", "model_accessory"),
        ("Drum compatible with TN2110", "model_accessory"),
        (Item("i", "Aurora", "The TN-2110 in black."), "words_all"),
        (Item("i", "Aurora", "Goes with the TN-2110."), "words_beside"),
        (Item("i", "Aurora", attributes={"compatibility": ("TN-2110",)}), "words_beside"),
        ("Printer", "words_none"),
    ],
)
def test_part_numbers(item, relation):
    assert leg(item, model("tn-2110")).relation == relation


@pytest.mark.parametrize(
    ("stated", "relation"),
    [("TN2110", "words_all"), ("TN-2110e", "series_variant"), ("TN-21105", "other_model"), ("DR-2000", "other_model")],
)
def test_models_that_the_item_states(stated, relation):
    value = AttributeValue("model", "model", stated, confidence=0.9, evidence=(Evidence("given.mpn", stated),))
    assert leg("Toner", model("tn-2110"), attributes=[value]).relation == relation


def test_who_asks_for_an_accessory_names_what_it_is_for():
    toner = Demand("category", "toner", "toner", role="head")
    assert leg("Toner for Acme HL-40", toner, model("hl-40")).relation == "words_all"
    assert leg("Toner for Acme HL-40", model("hl-40", role="head")).relation == "model_accessory"


@pytest.mark.parametrize(
    ("title", "relation"),
    [
        ("Acme Zed 7 phone", "words_all"),
        ("Acme Zed7", "words_all"),
        ("Zed 7 silicone case", "model_accessory"),  # a case of a phone's series
        ("Acme Zed 8 phone", "other_model"),
        ("Phone, 7 colours, of the Zed family", "words_some"),  # the words, not the name
        ("Phone", "words_none"),
    ],
)
def test_models_of_a_series_that_the_tables_know(title, relation):
    assert leg(title, model("zed 7", knowledge=("series/Zed",))).relation == relation


def test_a_known_model_of_an_accessory_that_is_asked_for():
    case, zed = Demand("category", "case", "case", role="head"), model("zed", canonical="Zed")
    assert leg("Case for Acme Zed", case, zed).relation == "exact"
    assert leg("Case for Acme Zed", zed).relation == "model_accessory"
    brand = Demand("brand", "acme", "Acme")
    assert leg("Case for Zed", case, brand).relation == "compatible"  # by the series' maker
