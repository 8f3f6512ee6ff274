"""Run: pytest tests/test_relevance_priority.py

Whom to believe: the order of each dimension, what the follower makes of sources that disagree, and demands that do.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extractors.queries import understand
from lore_mm.schema import load_dimensions
from lore_mm.types import AttributeValue, Evidence, Grade, Item, ItemFeatures, Query
from relevance.evidence import Found
from relevance.priority import believed, disagreement
from relevance.relations import DIMENSIONS
from relevance.rules import Example
from tests.rule_examples import JUDGE, KNOWLEDGE, judged


def leg_of(dimension, judgment):
    return next(leg for leg in judgment.path.legs if leg.demand.dimension == dimension)


def judged_with(query, item, *attributes):
    (understanding,) = understand([Query("q", query)], KNOWLEDGE)
    (judgment,) = JUDGE.judge([(understanding, ItemFeatures(item, attributes))])
    return judgment


# ---------------------------------------------------------------------------------------------------------- the order


@pytest.mark.parametrize(
    "dimension, first, then",
    [
        ("material", "title", "given.material"),  # text over the seller's field
        ("material", "text", "given.material"),
        ("season", "image:0", "title"),  # what is seen over what is said
        ("audience", "image:0", "title"),
        ("audience", "title", "given.gender"),
        ("brand", "given.brand", "title"),
        ("year", "title", "given.year"),
        ("color", "given.color", "image:0"),
        ("color", "given.colour", "image:1"),  # as sellers spell it
        ("special", "text", "given.origin"),
        ("store", "given.store", "title"),
    ],
)
def test_who_comes_first(dimension, first, then):
    rank = load_dimensions()[dimension].rank
    assert rank(first) < rank(then)


def test_every_dimension_has_an_order_and_a_stranger_comes_last():
    for name in DIMENSIONS:
        dimension = load_dimensions()[name]
        assert dimension.evidence, name
        assert dimension.rank("hearsay") == len(dimension.evidence)


def found(value, source, confidence=0.9, negated=False):
    return Found(value, "material", evidence=(Evidence(source),), confidence=confidence, negated=negated)


def different(one, other):
    return one != other


def test_the_best_source_overrules_and_keeps_what_it_overruled():
    field, title = found("wool", "given.material", 0.8), found("cotton", "title")
    (kept,) = believed([field, title], "material", different)
    assert (kept.value, kept.confidence) == ("cotton", pytest.approx(0.9 * (1 - 0.8 / 2)))
    assert [(e.source, e.value) for e in kept.against] == [("given.material", "wool")]
    assert disagreement(kept.against) == "; but the seller's field says wool"


def test_a_source_that_says_the_same_and_more_is_no_opponent():
    here = [found("cotton", "title"), found("cotton", "given.material"), found("wool", "given.material")]
    assert believed(here, "material", different) == tuple(here)


def test_who_is_unsure_overrules_nobody_and_no_one_overrules_an_equal():
    unsure = [found("cotton", "title", 0.4), found("wool", "given.material")]
    assert believed(unsure, "material", different) == tuple(unsure)
    equal = [found("cotton", "title"), found("wool", "title")]
    assert believed(equal, "material", different) == tuple(equal)
    assert believed([], "material", different) == ()


def test_values_that_go_together_do_not_disagree():
    both = [found("cotton", "title"), found("organic", "given.material")]
    assert believed(both, "material", lambda one, other: False) == tuple(both)


SOURCES = ("title", "text", "given.material", "given", "image:0")
some_found = st.builds(
    found, st.sampled_from("abc"), st.sampled_from(SOURCES), st.floats(0, 1), negated=st.booleans()
)  # fmt: skip


@given(st.lists(some_found, max_size=6))
def test_something_is_always_left_and_nobody_grows_surer(here):
    left = believed(here, "material", different)
    assert bool(left) == bool(here)
    before = [(f.value, f.evidence, f.negated) for f in here]
    assert [(f.value, f.evidence, f.negated) for f in left] == [
        x for x in before if x in {(f.value, f.evidence, f.negated) for f in left}
    ]
    assert all(f.confidence <= max(h.confidence for h in here if h.evidence == f.evidence) for f in left)
    assert believed(left, "material", different) == left  # heard once, heard for good


# --------------------------------------------------------------------------------------------------- in the whole path


@pytest.mark.parametrize(
    "query, fields, dimension, relation, but",
    [
        ("cotton shirt", {"item": "Cotton Shirt", "given": {"material": "polyester"}},
         "material", "exact", "but the seller's field says polyester"),
        ("polyester shirt", {"item": "Cotton Shirt", "given": {"material": "polyester"}},
         "material", "other", "but the seller's field says polyester"),
        ("cotton shirt", {"item": "Shirt", "description": "Made of cotton.", "given": {"material": "polyester"}},
         "material", "exact", "but the seller's field says polyester"),
        ("nike sneakers", {"item": "Nike Sneakers", "brand": "Adidas"},
         "brand", "brand_other", "but its title says Nike"),
        ("adidas sneakers", {"item": "Nike Sneakers", "brand": "Adidas"},
         "brand", "exact", "but its title says Nike"),
        ("summer coat", {"item": "Summer Coat", "given": {"season": "winter"}},
         "season", "exact", "but the seller's field says winter"),
        ("men's shirt", {"item": "Women's Shirt", "given": {"gender": "men"}},
         "audience", "contradicts", "but the seller's field says men"),
        ("2024 laptop", {"item": "Laptop 2024", "given": {"year": "2022"}},
         "year", "within", "but the seller's field says 2022"),
        ("red shirt", {"item": "Red Shirt", "given": {"color": "blue"}},
         "color", "other", "but its title says red"),
        ("second-hand camera", {"item": "Brand new Camera", "given": {"condition": "used"}},
         "special", "contradicts", "but the seller's field says used"),
        ("striped shirt", {"item": "Striped Shirt", "given": {"pattern": "solid"}},
         "style_detail", "exact", "but the seller's field says solid"),
    ],
)  # fmt: skip
def test_the_better_source_is_followed_and_the_conflict_is_said(query, fields, dimension, relation, but):
    leg = leg_of(dimension, judged(Example(query=query, level="L4", **fields)))
    assert (leg.relation, leg.reason.rpartition("; ")[2]) == (relation, but)
    assert leg.confidence < 0.6  # the same without a word against it is found with 0.85 and more


@pytest.mark.parametrize(
    "query, seen, title, relation",
    [
        ("summer jacket", ("season", "winter"), "Summer Jacket", "contradicts"),
        ("winter jacket", ("season", "winter"), "Summer Jacket", "exact"),  # usable is usable, whatever the title says
        ("men's shirt", ("audience", "men"), "Women's Shirt", "exact"),
    ],
)
def test_season_and_audience_are_what_the_picture_shows(query, seen, title, relation):
    name, value = seen
    shown = AttributeValue(name, name, value, confidence=0.8, evidence=(Evidence("image:0", value=value),))
    leg = leg_of(name, judged_with(query, Item("i", title), shown))
    assert leg.relation == relation
    assert "; but its title says" in leg.reason and leg.confidence < 0.6


def test_a_picture_that_is_unsure_leaves_the_title_its_word():
    shown = AttributeValue(
        "season", "season", "winter", confidence=0.4, evidence=(Evidence("image:0", value="winter"),)
    )
    assert leg_of("season", judged_with("summer jacket", Item("i", "Summer Jacket"), shown)).relation == "exact"


def test_the_year_of_clothes_is_what_their_title_says_and_nothing_else():
    field = Example(query="2024 dress", item="Dress", given={"year": "2022"}, level="L4")
    assert leg_of("year", judged(field)).relation == "unstated"
    title = Example(query="2024 dress", item="Dress 2022", given={"year": "2024"}, level="L3")
    assert leg_of("year", judged(title)).relation == "other_year"


def test_a_special_attribute_is_found_in_any_text():
    for fields in (
        {"description": "Refurbished."},
        {"given": {"condition": "refurbished"}},
        {"store": "Refurbished Ltd"},
    ):
        example = Example(query="refurbished camera", item="Camera", level="L4", **fields)
        assert leg_of("special", judged(example)).relation in ("exact", "synonym"), fields


# ------------------------------------------------------------------------------------------------ demands that disagree


@pytest.mark.parametrize(
    "query, dimension, reason",
    [
        ("red not red sofa", "color", "asks for red, and for no red: nothing can be both"),
        ("laptop under 50 over 100", "price", "asks for under 50, and for over 100: nothing can be both"),
        (
            "waterproof jacket not waterproof",
            "function",
            "asks for waterproof, and for no waterproof: nothing can be both",
        ),
    ],
)
@pytest.mark.parametrize("item", ["Red Sofa", "Blue Sofa", "Sofa", "Laptop", "Silent Mouse", "Mouse", "Aurora"])
def test_nothing_meets_a_query_that_contradicts_itself(query, dimension, reason, item):
    judgment = judged(Example(query=query, item=item, price=70.0, level="L2"))
    assert judgment.grade <= Grade.L2
    assert leg_of(dimension, judgment).reason == reason
    assert dimension in judgment.failed_dimensions


@pytest.mark.parametrize(
    "query", ["laptop over 50 under 100", "men's women's sneakers", "red and blue scarf", "table 60 cm 120 cm"]
)
def test_demands_that_only_stand_beside_each_other_are_no_contradiction(query):
    judgment = judged(Example(query=query, item="Thing", level="L1"))
    assert "impossible" not in {leg.relation for leg in judgment.path.legs}


WORDS = "red blue cotton wool waterproof summer winter men women nike new used vintage striped leather".split()


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(WORDS), st.lists(st.sampled_from(WORDS), max_size=4))
def test_who_asks_for_a_thing_and_its_opposite_is_never_served_perfectly(word, title):
    judgment = judged(Example(query=f"{word} jacket not {word}", item=" ".join([*title, "jacket"]), level="L2"))
    assert judgment.grade <= Grade.L3, [(leg.relation, leg.reason) for leg in judgment.path.legs]
