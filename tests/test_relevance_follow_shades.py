"""Run: pytest tests/test_relevance_follow_shades.py

Relations of colours and materials, and the shares they cover.
"""

import pytest

from lore_mm.knowledge import Category, Color, Knowledge, Material, Term
from lore_mm.types import AttributeValue, Demand, Evidence, Item, ItemFeatures, Query, Understanding
from relevance.follow import Follower
from relevance.follow_shades import color_relation, material_relation


def shade(name, family, near=()):
    return Color(name=name, family=family, hex="#777777", near=near)


COLORS = [
    shade("blue", "blue"),
    shade("navy", "blue"),
    shade("sky blue", "blue", ("turquoise",)),
    shade("turquoise", "blue"),
    shade("white", "white", ("off-white",)),
    shade("off-white", "white"),
    shade("black", "black"),
    shade("red", "red"),
    shade("crimson", "red"),
    shade("pink", "pink", ("crimson",)),
]
MATERIALS = [
    Material(name="metal"),
    Material(name="steel", umbrella=("metal",)),
    Material(name="stainless steel", umbrella=("steel",)),
    Material(name="leather"),
    Material(name="faux leather", kin=("leather",)),
    Material(name="cotton", kin=("linen",)),
    Material(name="linen"),
    Material(name="polyester"),
]
WORLD = Knowledge(colors=COLORS, materials=MATERIALS)
FOLLOWER = Follower(WORLD)


def value(name, text, share=None, source="image:0", confidence=0.9):
    return AttributeValue(name, name, text, share=share, confidence=confidence, evidence=(Evidence(source),))


def follow(demand, *attributes, title="Thing", description=""):
    steps = FOLLOWER.construct(Understanding(Query("q", "a query"), "a query", (demand,)))
    features = ItemFeatures(Item("i", title, description), attributes)
    return FOLLOWER.follow("q", steps, FOLLOWER.view(features)).legs[0]


def asked(dimension, canonical, **fields):
    return Demand(dimension, canonical, canonical, **fields)


@pytest.mark.parametrize(
    "want, have, relation",
    [
        ("blue", "blue", "exact"),
        ("blue", "navy", "member"),
        ("navy", "blue", "base"),
        ("navy", "sky blue", "family"),
        ("sky blue", "turquoise", "near"),
        ("turquoise", "sky blue", "near"),  # neighbours of each other, whoever says so
        ("white", "off-white", "member"),  # a broad word takes its shades, near or not
        ("off-white", "white", "near"),
        ("pink", "crimson", "near"),
        ("black", "white", "other"),
        ("black", "no such colour", "other"),
    ],
)
def test_relations_of_colors(want, have, relation):
    assert color_relation(want, have, WORLD) == relation


def test_a_color_is_measured_by_the_share_that_shows_it():
    leg = follow(asked("color", "black"), value("color", "black", 0.62), value("color", "white", 0.38))
    assert (leg.relation, leg.found) == ("exact", ("black",))
    assert leg.deviation == pytest.approx(1 - 0.62)
    assert leg.reason == "asks for black; the picture shows black on 62% of it"


def test_shades_of_a_broad_color_add_up():
    parts = [value("color", "navy", 0.3), value("color", "turquoise", 0.25), value("color", "black", 0.45)]
    leg = follow(asked("color", "blue"), *parts)
    assert (leg.relation, leg.deviation) == ("member", pytest.approx(1 - 0.55))
    assert follow(asked("color", "navy"), *parts).deviation == pytest.approx(1 - 0.3)


def test_a_color_the_seller_names_needs_no_share():
    leg = follow(
        asked("color", "black"), value("color", "black", 0.1, source="given.color"), value("color", "white", 0.9)
    )
    assert (leg.relation, leg.deviation) == ("exact", None)


def test_a_speck_of_the_color_gives_way_to_a_neighbour_that_covers_the_item():
    leg = follow(asked("color", "sky blue"), value("color", "sky blue", 0.06), value("color", "turquoise", 0.94))
    assert (leg.relation, leg.found) == ("near", ("turquoise",))
    alone = follow(asked("color", "sky blue"), value("color", "sky blue", 0.06), value("color", "black", 0.94))
    assert (alone.relation, alone.deviation) == ("exact", pytest.approx(0.94))


def test_colors_are_read_off_the_text_where_nothing_was_extracted():
    assert follow(asked("color", "blue"), title="Navy thing").relation == "member"
    assert follow(asked("color", "blue"), description="comes in red").relation == "other"
    assert follow(asked("color", "blue")).relation == "unstated"


def test_any_of_several_colors_will_do():
    either = asked("color", "black", alternatives=("red",))
    assert follow(either, value("color", "red", 0.8)).relation == "exact"


@pytest.mark.parametrize(
    "found, relation, deviation",
    [
        ([("black", 0.9)], "violated_negation", 0.1),
        ([("white", 0.9), ("black", 0.1)], "violated_negation", 0.9),
        ([("white", 1.0)], "satisfied_negation", None),
        ([], "negation_unstated", None),
    ],
)
def test_a_color_that_must_not_be(found, relation, deviation):
    leg = follow(asked("color", "black", polarity=-1), *(value("color", *one) for one in found))
    assert leg.relation == relation
    assert leg.deviation == (None if deviation is None else pytest.approx(deviation))


# ------------------------------------------------------------------------------------------------------------ materials


@pytest.mark.parametrize(
    "want, have, relation",
    [
        ("cotton", "cotton", "exact"),
        ("metal", "steel", "member"),
        ("metal", "stainless steel", "member"),  # through two umbrellas
        ("stainless steel", "metal", "base"),
        ("leather", "faux leather", "kin"),
        ("faux leather", "leather", "kin"),
        ("cotton", "polyester", "other"),
    ],
)
def test_relations_of_materials(want, have, relation):
    assert material_relation(want, have, WORLD) == relation


def test_a_fraction_is_kept_as_what_is_missing():
    leg = follow(asked("material", "cotton"), value("material", "cotton", 0.6, source="title"))
    assert (leg.relation, leg.deviation) == ("exact", pytest.approx(0.4))


def test_pure_is_a_demand_on_the_fraction():
    pure = asked("material", "cotton", op="share", number=1.0)
    assert follow(pure, value("material", "cotton", 0.97)).relation == "pure"
    assert follow(pure, value("material", "cotton", 0.97)).deviation == pytest.approx(0.03)
    assert follow(pure, value("material", "cotton")).deviation is None
    assert follow(pure, value("material", "linen", 1.0)).relation == "kin"


def test_one_of_several_materials_suffices():
    leg = follow(asked("material", "cotton"), value("material", "polyester"), value("material", "cotton"))
    assert (leg.relation, leg.found) == ("exact", ("cotton",))


def test_a_material_that_must_not_be():
    no_leather = asked("material", "leather", polarity=-1)
    assert follow(no_leather, value("material", "leather")).relation == "violated_negation"
    assert follow(no_leather, value("material", "cotton")).relation == "satisfied_negation"
    assert follow(no_leather).relation == "negation_unstated"
    assert follow(no_leather, title="Thing without leather").relation == "negation_unstated"


# ----------------------------------------------------------------------------------- shares, small wear, sets, names

KINDS = Knowledge(
    colors=COLORS,
    materials=MATERIALS,
    categories=[
        Category(id="socks", name="socks"),
        Category(id="leather_jacket", name="leather jacket"),
        Category(id="towel", name="towel"),
    ],
)


def follow_kind(demand, title, *attributes):
    follower = Follower(KINDS)
    steps = follower.construct(Understanding(Query("q", "a query"), "a query", (demand,)))
    return follower.follow("q", steps, follower.view(ItemFeatures(Item("i", title), attributes))).legs[0]


@pytest.mark.parametrize(
    "op, number, share, relation, deviation",
    [
        ("share", 0.8, 0.82, "within", 0.0),
        ("share", 0.8, 0.95, "within", 0.0),  # more of it than was asked for
        ("share", 0.8, 0.72, "deviates", 0.1),
        ("at_least", 0.5, 0.4, "deviates", 0.2),
        ("at_most", 0.2, 0.1, "within", 0.0),
        ("at_most", 0.2, 0.3, "deviates", 0.5),
        ("at_least", 0.5, None, "exact", None),  # its plain name says half and more
        ("share", 1.0, 0.97, "pure", 0.03),
    ],
)
def test_a_demanded_share(op, number, share, relation, deviation):
    demand = asked("material", "cotton", op=op, number=number, unit="share")
    leg = follow(demand, value("material", "cotton", share, source="title"))
    assert (leg.relation, leg.deviation) == (relation, None if deviation is None else pytest.approx(deviation))


def test_at_most_so_much_of_it_is_met_by_none_of_it():
    little = asked("material", "polyester", op="at_most", number=0.2, unit="share")
    assert follow(little, value("material", "cotton", 1.0)).relation == "within"
    assert follow(little).relation == "within"


def test_pure_on_socks_is_a_relation_of_its_own():
    pure = asked("material", "cotton", op="share", number=1.0, unit="share")
    leg = follow_kind(pure, "Socks", value("material", "cotton", 0.8))
    assert (leg.relation, leg.deviation) == ("pure_small", pytest.approx(0.2))


@pytest.mark.parametrize(
    "title, share, relation",
    [
        ("Towel, set of 4", 0.25, "on_a_piece"),
        ("Towel set", 0.25, "on_a_piece"),  # of two and more
        ("Towel, set of 4", 0.1, "exact"),  # less than half of one piece
        ("Towel", 0.25, "exact"),
        ("Towel, set of 4", 0.7, "exact"),  # most of the set
        ("Single towel", 0.25, "exact"),
    ],
)
def test_one_piece_of_a_set_suffices_for_a_color(title, share, relation):
    pieces = [Term(dimension="bundle", value=v) for v in ("set", "single")]
    world = Knowledge(colors=COLORS, categories=KINDS.categories.values(), terms=pieces)
    follower = Follower(world)
    steps = follower.construct(Understanding(Query("q", "a query"), "a query", (asked("color", "black"),)))
    seen = (value("color", "black", share), value("color", "white", 1 - share))
    leg = follower.follow("q", steps, follower.view(ItemFeatures(Item("i", title), seen))).legs[0]
    assert leg.relation == relation


@pytest.mark.parametrize(
    "title, polarity, relation",
    [
        ("Leather jacket with cotton lining", 1, "exact"),
        ("Leather jacket", 1, "exact"),
        ("Leather jacket", -1, "violated_negation"),
        ("Cotton towel", 1, "other"),
    ],
)
def test_a_material_in_the_name_of_a_kind(title, polarity, relation):
    assert follow_kind(asked("material", "leather", polarity=polarity), title).relation == relation
