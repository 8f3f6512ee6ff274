"""Run: pytest tests/test_relevance_relations.py

No dead vocabulary: every relation of every dimension is emitted by the follower, on a rule's own example, on the
shipped tables below, or on tables as a user may write them; what is never emitted is named here with the reason.
"""

import pytest

from extractors.queries import understand
from lore_mm.knowledge import Category, Knowledge, Series, Term
from lore_mm.types import AttributeValue, Demand, Evidence, Item, ItemFeatures, Query, Understanding
from relevance.follow import Follower
from relevance.relations import LEGAL, RELATIONS
from relevance.rules import Example
from tests.rule_examples import EXAMPLES, JUDGE, KNOWLEDGE, judged

# On the shipped tables, from the words on: (dimension, relation) → query, item.
SHIPPED = {
    ("brand", "exact"): ("nike shoes", {"item": "Shoes", "brand": "Nike"}),
    ("brand", "synonym"): ("hewlett packard laptop", {"item": "HP Laptop"}),
    ("brand", "violated_negation"): ("shoes not nike", {"item": "Nike Shoes"}),
    ("brand", "satisfied_negation"): ("shoes not nike", {"item": "Adidas Shoes"}),
    ("brand", "negation_unstated"): ("shoes not nike", {"item": "Shoes"}),
    ("model", "exact"): ("iphone 15", {"item": "Apple iPhone 15"}),
    ("ip", "narrower"): ("disney mug", {"item": "Mickey Mouse Mug"}),
    ("ip", "covers"): ("mickey mouse mug", {"item": "Disney Mug"}),
    ("component", "exact"): ("laptop accessories", {"item": "Laptop Sleeve"}),
    ("bundle", "exact"): ("set of 4 chairs", {"item": "Chair, Set of 4"}),
    ("style_detail", "exact"): ("striped shirt", {"item": "Striped Shirt"}),
    ("style_detail", "synonym"): ("crew neck shirt", {"item": "Round Neckline Shirt, roundneck"}),
    ("style_detail", "unstated"): ("striped shirt", {"item": "Shirt"}),
    ("style_detail", "near"): ("high-top sneakers", {"item": "Mid-top Sneakers"}),
    ("style_detail", "contradicts"): ("crew neck shirt", {"item": "V-neck Shirt"}),
    ("style", "exact"): ("retro lamp", {"item": "Retro Lamp"}),
    ("style", "contradicts"): ("modern lamp", {"item": "Rustic Lamp"}),
    ("color", "violated_negation"): ("shoes not black", {"item": "Black Shoes"}),
    ("color", "satisfied_negation"): ("shoes not black", {"item": "White Shoes"}),
    ("color", "negation_unstated"): ("shoes not black", {"item": "Shoes"}),
    ("color", "impossible"): ("black shoes not black", {"item": "Shoes"}),
    ("material", "within"): ("at least 50% wool sweater", {"item": "Sweater, 60% wool, 40% acrylic"}),
    ("spec", "within"): ("2 m ethernet cable", {"item": "Ethernet Cable 2 m"}),
    ("spec", "unstated"): ("2 m ethernet cable", {"item": "Ethernet Cable"}),
    ("function", "exact"): ("waterproof jacket", {"item": "Waterproof Jacket"}),
    ("function", "synonym"): ("waterproof jacket", {"item": "Rainproof Jacket"}),
    ("function", "near"): ("waterproof jacket", {"item": "Water-resistant Jacket"}),
    ("function", "contradicts"): ("wireless mouse", {"item": "Wired Mouse"}),
    ("audience", "exact"): ("shoes for 7 year old", {"item": "Shoes for ages 6-8"}),
    ("season", "exact"): ("summer dress", {"item": "Summer Dress"}),
    ("season", "covers"): ("summer dress", {"item": "All-season Dress"}),
    ("season", "near"): ("spring jacket", {"item": "Autumn Jacket"}),
    ("season", "contradicts"): ("summer dress", {"item": "Winter Dress"}),
    ("year", "within"): ("2024 laptop", {"item": "Laptop 2024"}),
    ("price", "unstated"): ("laptop under 500", {"item": "Laptop"}),
    ("price", "impossible"): ("laptop under 50 over 100", {"item": "Laptop", "price": 70.0}),
    ("store", "exact"): ("nike official store", {"item": "Shoes", "brand": "Nike", "store": "Nike Official Store"}),
    ("store", "unstated"): ("nike official store", {"item": "Shoes", "brand": "Nike"}),
    ("special", "exact"): ("second-hand camera", {"item": "Second-hand Camera"}),
    ("special", "synonym"): ("second-hand camera", {"item": "Preowned Camera"}),
    ("special", "contradicts"): ("second-hand camera", {"item": "Brand-new Camera"}),
    ("special", "narrower"): ("sample perfume", {"item": "Perfume, deluxe mini"}),
}

# On tables of a user's own: in each dimension of terms, values in every relation to "middle".
_DIMENSIONS_OF_TERMS = "ip component bundle style_detail style spec function audience season special".split()
OWN = Knowledge(
    terms=[
        Term(dimension=d, value=value, **fields)
        for d in _DIMENSIONS_OF_TERMS
        for value, fields in {
            f"middle{d}": {
                "terms": (f"centre{d}",), "covers": (f"small{d}",),
                "near": (f"close{d}",), "excludes": (f"against{d}",),
            },
            f"wide{d}": {"covers": (f"middle{d}",)},
            f"small{d}": {},
            f"close{d}": {},
            f"against{d}": {},
            f"strange{d}": {},
        }.items()
    ],
    categories=[Category(id="thing", name="thing"), Category(id="other", name="other")],
    series=[Series(name="Alpha"), Series(name="Beta")],
)  # fmt: skip
FOLLOWER = Follower(OWN)
_SAYS = {
    "exact": "middle", "synonym": "centre", "covers": "wide", "narrower": "small", "near": "close",
    "contradicts": "against", "unstated": "",
    "satisfied_negation": "against", "negation_unstated": "", "violated_negation": "middle",
}  # fmt: skip
# Demands in words that no table knows, and what a title says of them.
_WORDS = {"words_all": "zorblax frumious", "words_some": "frumious", "words_none": "Thing", "words_everyday": "Thing"}
# What must not be, and an item that has something else in its place, or has it.
_REFUSED = (
    (Demand("category", "thing", "thing", polarity=-1, role="head"), Item("i", "Other"), "satisfied_negation"),
    (Demand("model", "Alpha", "Alpha", polarity=-1), Item("i", "Beta thing"), "satisfied_negation"),
    (Demand("store", "shop", "shop", polarity=-1), Item("i", "Thing", store="Corner"), "satisfied_negation"),
    (Demand("year", "2024", number=2024.0, polarity=-1), Item("i", "Thing 2019"), "satisfied_negation"),
    (Demand("year", "2024", number=2024.0, polarity=-1), Item("i", "Thing 2024"), "violated_negation"),
    (Demand("price", "50", number=50.0, polarity=-1), Item("i", "Thing", price=90.0), "satisfied_negation"),
    (Demand("price", "50", number=50.0, polarity=-1), Item("i", "Thing", price=50.0), "violated_negation"),
)

# What the follower never says, and why it may be said all the same.
NEVER = {
    ("model", "words_everyday"): "a name is never everyday words; a model may find that this one is",
    ("model", "synonym"): "a series is found by its name; a model that reads a path may know its other names",
    **{
        (dimension, "other"): "values of these may stand beside one another, so that another one says nothing; a model "
        "that reads a path may see that it does"
        for dimension in ("component", "bundle", "style", "spec", "audience")
    },
    **{(d, "exact"): "numbers are `within`; for demands in words, which a model may read" for d in ("year", "price")},
    ("store", "synonym"): "a shop is found by its own name",
}


def walked(demands, item):
    item = Item("i", item) if isinstance(item, str) else item
    steps = FOLLOWER.construct(Understanding(Query("q", "a query"), "a query", tuple(demands)))
    return FOLLOWER.follow("q", steps, FOLLOWER.view(ItemFeatures(item))).legs


@pytest.mark.parametrize("demand, item, relation", _REFUSED)
def test_what_must_not_be(demand, item, relation):
    assert walked([demand], item)[0].relation == relation


def emitted_on_own_tables():
    for d in _DIMENSIONS_OF_TERMS:
        for relation, word in _SAYS.items():
            polarity = -1 if "negation" in relation else 1
            demand = Demand(d, f"middle{d}", f"middle{d}", polarity=polarity)
            (leg, *_) = walked([demand], f"Thing {word}{d}" if word else "Thing")
            yield d, leg.relation
        refused = Demand(d, f"middle{d}", f"middle{d}", polarity=-1)
        yield d, walked([demand, refused], "Thing")[0].relation
    for demand, item, _ in _REFUSED:
        yield demand.dimension, walked([demand], item)[0].relation
    for d, legal in LEGAL.items():
        for relation, title in _WORDS.items():
            if relation in legal:
                strictness = "soft" if relation == "words_everyday" else "hard"
                value = "really help" if relation == "words_everyday" else "zorblax frumious"
                yield d, walked([Demand(d, value, None, strictness=strictness)], title)[0].relation
        for polarity, title in ((1, "Zorblax"), (-1, "Zorblax"), (-1, "Thing")):
            demand = Demand(d, "zorblax", None, polarity=polarity, role="head" if d == "category" else "modifier")
            yield d, walked([demand], title)[0].relation
        both = [Demand(d, "zorblax", None), Demand(d, "zorblax", None, polarity=-1)]
        yield d, walked(both, "Zorblax")[0].relation


def test_another_value_of_a_single_valued_function():
    assert other_function() == "other"


def other_function():
    """The relation of a battery-powered drill to one whose power source was read as electric."""
    (understanding,) = understand([Query("q", "battery-powered drill")], KNOWLEDGE)
    electric = AttributeValue("power_source", "function", "electric", evidence=(Evidence("image:0"),))
    (judgment,) = JUDGE.judge([(understanding, ItemFeatures(Item("i", "Drill"), (electric,)))])
    return next(leg.relation for leg in judgment.path.legs if leg.demand.dimension == "function")


@pytest.fixture(scope="module")
def emitted():
    """All (dimension, relation) that the follower is seen to emit."""
    seen = {(leg.demand.dimension, leg.relation) for e in EXAMPLES.values() for leg in judged(e).path.legs}
    for query, fields in SHIPPED.values():
        example = Example(query=query, level="L4", **fields)
        seen |= {(leg.demand.dimension, leg.relation) for leg in judged(example).path.legs}
    return seen | set(emitted_on_own_tables()) | {("function", other_function())}


@pytest.mark.parametrize("key", SHIPPED, ids="-".join)
def test_the_shipped_tables_give_the_relation(key):
    query, fields = SHIPPED[key]
    legs = judged(Example(query=query, level="L4", **fields)).path.legs
    assert key in {(leg.demand.dimension, leg.relation) for leg in legs}, [(x.relation, x.reason) for x in legs]


@pytest.mark.parametrize("dimension, relation", [(d, r) for d, legal in LEGAL.items() for r in legal])
def test_every_relation_of_every_dimension_is_emitted_or_it_is_said_why_not(dimension, relation, emitted):
    key = (dimension, relation)
    assert (key in emitted) != (key in NEVER), f"{key}: {RELATIONS[relation]}"
