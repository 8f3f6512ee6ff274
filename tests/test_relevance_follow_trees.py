"""Run: pytest tests/test_relevance_follow_trees.py

Relations of kinds, brands and models, on small tables made here.
"""

import pytest

from lore_mm.knowledge import Brand, Category, Knowledge, Series
from lore_mm.types import AttributeValue, Demand, Evidence, Item, ItemFeatures, Query, Understanding
from relevance.follow import Follower
from relevance.follow_trees import category_relation

CATEGORIES = [
    Category(id="electronics", name="electronics", generic=True, parent="goods", department="electronics"),
    Category(id="camera", name="camera", parent="electronics", generic=True, terms=("photo camera",)),
    Category(id="film_camera", name="film camera", parent="camera", similar=("instant_camera",)),
    Category(id="instant_camera", name="instant camera", parent="camera"),
    Category(id="dslr", name="dslr", parent="camera"),
    Category(id="slr_camera", name="slr camera", parent="camera"),
    Category(id="compact_camera", name="compact camera", parent="camera"),
    Category(id="lens", name="lens", parent="electronics", accessory_of=("camera",), part_of=("slr_camera",)),
    Category(id="tripod", name="tripod", parent="electronics", accessory_of=("camera",)),
    Category(id="phone", name="phone", parent="electronics", terms=("smartphone",)),
    Category(id="flip_phone", name="flip phone", parent="phone"),
    Category(id="satellite_phone", name="satellite phone", parent="phone"),
    Category(id="phone_case", name="phone case", parent="electronics", accessory_of=("phone",)),
    Category(id="furniture", name="furniture", generic=True),
    Category(id="sofa", name="sofa", parent="furniture", terms=("couch",), similar=("armchair",)),
    Category(id="seating", name="seating", parent="furniture", generic=True),
    Category(id="armchair", name="armchair", parent="seating"),
    Category(id="sofa_bench", name="sofa bench", parent="furniture", similar=("seating",)),
    Category(id="desk", name="desk", parent="furniture"),
    Category(id="corner_sofa", name="corner sofa", parent="sofa"),
    Category(id="shoe", name="shoe", generic=True),
    Category(id="running_shoe", name="running shoe", parent="shoe"),
    Category(id="apple", name="apple"),
    Category(id="goods", name="goods", generic=True),
    Category(id="stove", name="stove", parent="goods"),
    *(Category(id=f"goods_{i}", name=f"goods {i}", parent="goods") for i in range(60)),
]
BRANDS = [
    Brand(name="Nike", makes=("shoe",)),
    Brand(name="Converse", parent="Nike", makes=("shoe",)),
    Brand(name="Adidas", makes=("shoe",)),
    Brand(name="Polaroid", makes=("instant_camera",), genericized=True),
    Brand(name="Kodak", makes=("camera",)),
    Brand(name="Apple", makes=("phone",), terms=("apple inc",)),
    Brand(name="Spigen"),
    Brand(name="Xiaomi", makes=("phone",)),
    Brand(name="Redmi", parent="Xiaomi"),
]
SERIES = [
    Series(name="iPhone 15", brand="Apple", category="phone"),
    Series(name="iPhone 15 Plus", brand="Apple", category="phone", base="iPhone 15"),
    Series(name="iPhone 14", brand="Apple", category="phone"),
]
WORLD = Knowledge(categories=CATEGORIES, brands=BRANDS, series=SERIES)
FOLLOWER = Follower(WORLD)


def attribute(name, value, source="given.x", confidence=0.9, **fields):
    return AttributeValue(name, name, value, confidence=confidence, evidence=(Evidence(source, value),), **fields)


def follow(item, *demands, attributes=()):
    item = Item("i", item) if isinstance(item, str) else item
    steps = FOLLOWER.construct(Understanding(Query("q", "a query"), "a query", tuple(demands)))
    path = FOLLOWER.follow("q", steps, FOLLOWER.view(ItemFeatures(item, tuple(attributes))))
    assert len(path.legs) == len(demands)
    return path.legs[0]


def kind(canonical, value=None, role="head", **fields):
    return Demand("category", value or canonical.replace("_", " "), canonical, role=role, **fields)


@pytest.mark.parametrize(
    "want, have, relation",
    [
        ("phone", "phone", "exact"),
        ("shoe", "running_shoe", "hyponym"),  # a broad word
        ("electronics", "dslr", "hyponym"),
        ("phone", "flip_phone", "hyponym_precise"),  # a thing of its own, and a form of it
        ("running_shoe", "shoe", "hypernym"),
        ("flip_phone", "satellite_phone", "sibling"),
        ("film_camera", "dslr", "co_hyponym"),
        ("film_camera", "instant_camera", "similar"),
        ("instant_camera", "film_camera", "similar"),  # either names the other
        ("armchair", "corner_sofa", "similar"),  # by the precise kind above it
        ("camera", "tripod", "accessory"),
        ("dslr", "lens", "accessory"),
        ("lens", "camera", "main_of_accessory"),
        ("lens", "instant_camera", "main_of_accessory"),
        ("lens", "compact_camera", "main_of_accessory"),  # it does not come off: no part of it
        ("lens", "slr_camera", "whole"),
        ("slr_camera", "lens", "accessory"),
        ("lens", "tripod", "co_hyponym"),
        ("flip_phone", "dslr", "related"),  # under one broad kind, at different depths
        ("phone_case", "lens", "co_hyponym"),
        ("stove", "lens", "distant"),  # the broad kind above both is too wide to mean anything
        ("phone", "sofa", "unrelated"),
        ("phone_case", "camera", "co_hyponym"),
        ("desk", "corner_sofa", "co_hyponym"),
        ("sofa_bench", "armchair", "similar"),  # similar to a broad kind above it
    ],
)
def test_relations_of_kinds(want, have, relation):
    assert category_relation(want, have, WORLD) == relation


def test_the_kind_is_read_off_the_title_where_nothing_was_extracted():
    leg = follow("Leather couch for the living room", kind("sofa"))
    assert (leg.relation, leg.found) == ("exact", ("sofa",))
    assert (leg.evidence[0].source, leg.evidence[0].quote) == ("title", "couch")
    assert leg.confidence == pytest.approx(0.9)


@pytest.mark.parametrize(
    "title, found",
    [
        ("Phone case for camera phone", "phone_case"),
        ("Tripod with phone case", "tripod"),
        ("Camera lens", "lens"),
        ("Camera, a fine lens", "camera"),
        ("For phone", "phone"),
    ],
)
def test_the_thing_itself_is_named_before_what_it_is_for(title, found):
    assert follow(title, kind("sofa")).found == (found,)


def test_another_word_for_the_same_kind_is_a_synonym():
    assert follow("Sofa", kind("sofa", "couch")).relation == "synonym"
    assert follow("Sofas", kind("sofa", "sofas")).relation == "exact"


def test_the_extracted_kind_is_believed_over_the_title():
    leg = follow("Phone", kind("phone"), attributes=[attribute("category", "phone_case")])
    assert (leg.relation, leg.found) == ("accessory", ("phone_case",))


def test_the_text_may_know_better_than_the_shelf():
    filed = attribute("category", "dslr", "given.category")
    film = kind("film_camera")
    said = follow(Item("i", "Dslr", "Some call this film camera a toy."), film, attributes=[filed])
    assert (said.relation, said.found, said.evidence[0].source) == ("named", ("film_camera",), "text")
    silent = follow(Item("i", "Dslr", "A camera."), film, attributes=[filed])
    assert silent.relation == "co_hyponym"
    # a main thing that mentions its accessory is not one
    lens = follow(Item("i", "Compact camera", "comes with a lens"), kind("lens"))
    assert lens.relation == "main_of_accessory"


def test_either_reading_of_an_ambiguous_head_will_do():
    demand = kind("apple", "apple", alternatives=("phone",))
    assert follow("Flip phone", demand).relation == "hyponym_precise"
    assert follow("An apple", demand).relation == "exact"
    assert follow("A sofa", demand).relation == "unrelated"


def test_a_kind_that_is_not_the_head_is_what_it_should_go_with():
    bag = [kind("sofa", role="head"), kind("phone", "phone", role="modifier")]
    follower = follow("Sofa", *reversed(bag))
    assert follower.demand.role == "head"  # the head comes first whatever the order given
    modifier = kind("camera", role="modifier")
    assert follow("Tripod", modifier).relation == "exact"
    assert follow(Item("i", "Strap", "fits every camera"), modifier).relation == "exact"
    assert follow("Sofa", modifier).relation == "unstated"


def test_a_kind_that_is_implied_is_a_kind_and_not_what_it_goes_with():
    implied = kind("phone", role="modifier", latent=True)
    assert follow("Flip phone", implied).relation == "hyponym_precise"
    assert follow("Phone case", implied).relation == "accessory"
    assert follow("Sofa", implied).relation == "unrelated"


def test_an_unknown_kind_is_looked_up_as_words():
    zorblax = Demand("category", "zorblax lamps", None, role="head")
    assert follow("Zorblax lamp", zorblax).relation == "words_all"
    assert follow("Lamp", zorblax).relation == "words_some"
    assert follow("Chair", zorblax).relation == "words_none"


# --------------------------------------------------------------------------------------------------------------- brands


@pytest.mark.parametrize(
    "want, have, title, relation",
    [
        ("Nike", "Nike", "Running shoe", "exact"),
        ("Nike", "nike", "Running shoe", "exact"),
        ("Nike", "Converse", "Shoe", "brand_child"),
        ("Converse", "Nike", "Shoe", "brand_parent"),
        ("Nike", "Adidas", "Running shoe", "brand_other"),
        ("Nike", "Kodak", "Camera", "brand_other_trade"),
        ("Polaroid", "Kodak", "Instant camera", "genericized"),
        ("Polaroid", "Kodak", "Sofa", "brand_other_trade"),
        ("Spigen", "Apple", "Sofa", "brand_other"),  # nobody knows its trade
        ("Apple", "Spigen", "Phone case for Apple phones", "compatible"),
        ("Apple", "Spigen", "Phone case", "brand_other_trade"),
        ("Apple", "Xiaomi", "Phone like Apple", "brand_other"),  # a main thing is not made for a brand
    ],
)
def test_relations_of_brands(want, have, title, relation):
    leg = follow(title, Demand("brand", want, want), attributes=[attribute("brand", have, "given.brand")])
    assert leg.relation == relation


def test_the_sellers_field_is_read_where_nothing_was_extracted():
    leg = follow(Item("i", "Shoe", brand="adidas"), Demand("brand", "nike", "Nike"))
    assert (leg.relation, leg.found, leg.evidence[0].source) == ("brand_other", ("Adidas",), "given.brand")
    assert follow(Item("i", "Shoe", brand="No-name Ltd"), Demand("brand", "nike", "Nike")).relation == "brand_other"
    assert follow(Item("i", "Shoe", brand="Nike"), Demand("brand", "nike", "Nike")).relation == "exact"


def test_an_item_without_a_brand_is_at_least_of_the_brands_trade():
    assert follow("Running shoe", Demand("brand", "nike", "Nike")).relation == "unstated"
    assert follow("Sofa", Demand("brand", "nike", "Nike")).relation == "brand_other_trade"
    assert follow("Sofa", Demand("brand", "spigen", "Spigen")).relation == "unstated"  # nobody knows its trade


def test_a_brand_in_the_title_stands_in_for_a_missing_field():
    assert follow("Nike running shoe", Demand("brand", "nike", "Nike")).relation == "exact"
    assert follow("Running shoe", Demand("brand", "nike", "Nike")).relation == "unstated"
    # a description names other makers for many reasons
    assert follow(Item("i", "Shoe", "better than Nike"), Demand("brand", "nike", "Nike")).relation == "unstated"


# --------------------------------------------------------------------------------------------------------------- models


@pytest.mark.parametrize(
    "title, relation",
    [
        ("Phone iPhone 15", "exact"),
        ("iPhone 15 Plus phone", "series_variant"),
        ("iPhone 14 phone", "other_model"),
        ("Phone case for iPhone 15", "model_accessory"),
        ("Phone", "unstated"),
    ],
)
def test_relations_of_models(title, relation):
    assert follow(title, Demand("model", "iphone 15", "iPhone 15")).relation == relation


def test_a_variant_asked_for_is_not_met_by_its_base():
    assert follow("iPhone 15", Demand("model", "iphone 15 plus", "iPhone 15 Plus")).relation == "other_model"


def test_an_unknown_part_number_is_looked_up_as_words():
    number = Demand("model", "M185", None)
    leg = follow(Item("i", "Mouse", "The Logitech M185 mouse"), number)
    assert (leg.relation, leg.found, leg.evidence[0].source) == ("words_all", ("M185",), "text")
    assert leg.evidence[0].start == len("The Logitech ")
    assert follow("Mouse M186", number).relation == "other_model"
    assert follow("Mouse", number).relation == "words_none"


def test_a_word_that_names_a_kind_and_a_maker_is_met_by_either():
    want = kind("apple", alternatives=("Apple",))
    phone = follow("Phone", want, attributes=[attribute("category", "phone"), attribute("brand", "Apple")])
    assert (phone.relation, phone.found) == ("exact", ("Apple",))
    assert follow("Apple", want, attributes=[attribute("category", "apple")]).relation == "exact"
    other = follow("Phone", want, attributes=[attribute("category", "phone"), attribute("brand", "Xiaomi")])
    assert other.relation == "unrelated"


@pytest.mark.parametrize(
    ("title", "want", "relation", "found"),
    [
        ("Satellite dual phone", "satellite_phone", "named", ("Satellite", "phone")),  # its words, with others between
        ("Phone for a satellite", "satellite_phone", "hypernym", ("phone",)),  # what it is for is not its name
        ("Camera blimp cover", "camera", "accessory", ("cover",)),
        ("Zorb for camera", "dslr", "accessory", ("camera",)),
        ("Camera blimp cover", "sofa", "unstated", ()),
        ("Desk, sofa", "sofa", "co_hyponym", None),
    ],
)
def test_a_title_without_a_kind_of_its_own(title, want, relation, found):
    leg = follow(title, kind(want))
    if relation == "co_hyponym":  # the first of two names is the thing; it is called the other as well
        assert (leg.relation, leg.evidence[0].quote) == ("named", "sofa")
        return
    assert (leg.relation, leg.found) == (relation, found)


@pytest.mark.parametrize(
    ("title", "relation"),
    [
        ("Shoe 40 mm, sofa", "named"),  # a name by itself, in another part
        ("Shoe, sofa legs", "unrelated"),  # the legs of one
        ("Shoe for a sofa", "unrelated"),
        ("Shoe/sofa", "named"),
    ],
)
def test_a_second_name_counts_where_nothing_further_is_named_by_it(title, relation):
    assert follow(title, kind("sofa")).relation == relation


def test_the_first_words_of_a_description_say_what_a_title_does_not():
    leg = follow(Item("i", "Aurora 3", "A sofa in oak. Also a desk."), kind("sofa"))
    assert (leg.relation, leg.evidence[0].source, leg.confidence) == ("exact", "text", pytest.approx(0.65))
    late = follow(Item("i", "Aurora 3", "x" * 130 + " a sofa"), kind("sofa"))
    assert late.relation == "unstated"


@pytest.mark.parametrize(
    ("title", "relation"),
    [
        ("iPhone 15 phone", "exact"),  # by the series' maker
        ("Sofa, iPhone 15 inside", "brand_other_trade"),  # it has one: that does not make it the maker's
    ],
)
def test_a_series_names_its_maker_where_the_item_is_of_its_kind(title, relation):
    spigen = attribute("brand", "Spigen")
    kinds = [attribute("category", "phone" if relation == "exact" else "sofa")]
    leg = follow(title, Demand("brand", "apple", "Apple"), attributes=[spigen, *kinds])
    assert leg.relation == relation


def test_what_is_for_a_model_is_not_the_model_though_nobody_knows_what_it_is():
    assert follow("Zorb for iPhone 15", Demand("model", "iphone 15", "iPhone 15")).relation == "model_accessory"
