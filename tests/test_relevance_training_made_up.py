"""relevance.training.made_up: queries for a catalogue's items, and items spoilt on one attribute."""

from collections import Counter

import pytest

from extractors.given import Given
from extractors.protocol import ExtractorInput
from extractors.queries import understand
from lore_mm.knowledge import load_knowledge
from lore_mm.types import Grade, Item, ItemFeatures
from relevance.by_rules import RulesJudge
from relevance.rules import load_rulebook
from relevance.training.made_up import Maker, changed_item

COLORS, BRANDS = ("Black", "Red", "Blue", "White"), ("Nike", "Adidas", "Puma")
KINDS = ("Running Shoe", "Hoodie", "Backpack", "Tripod", "Laptop", "Sofa")


@pytest.fixture(scope="module")
def knowledge():
    return load_knowledge()


@pytest.fixture(scope="module")
def extract(knowledge):
    given = Given(knowledge)

    def read(items):
        found = given.extract([ExtractorInput(item) for item in items])
        return [ItemFeatures(item, one.attributes) for item, one in zip(items, found, strict=True)]

    return read


@pytest.fixture(scope="module")
def maker(knowledge, extract):
    items = [
        Item(f"{kind}-{color}-{brand}", f"{brand} {kind}", brand=brand, attributes={"color": (color,)})
        for kind in KINDS
        for color in COLORS
        for brand in BRANDS
    ]
    judge = RulesJudge(knowledge, load_rulebook())
    return Maker(extract(items), knowledge, judge, lambda queries: understand(queries, knowledge), extract)


@pytest.fixture(scope="module")
def made(maker):
    return list(maker.made(160, seed=1))


def test_as_many_pairs_as_asked_for_with_even_labels(made):
    assert len(made) == 160
    labels = Counter(int(one.judgment.grade) for one in made)
    assert set(labels) >= {1, 2, 4}
    assert labels[1] >= 30
    assert labels[2] >= 30
    assert labels[4] >= 30


def test_a_changed_item_fails_on_what_was_changed_and_on_nothing_else(made):
    changed = [one for one in made if one.changed]
    assert len(changed) >= 10
    for one in changed:
        below = {leg.demand.dimension for leg in one.judgment.path.legs if leg.level < Grade.L4}
        assert below == {one.changed}
        assert one.judgment.grade < Grade.L4


def test_queries_are_read_as_they_were_meant(made):
    for one in made:
        assert one.understanding.head.canonical == one.category
        assert one.understanding.query.text == one.understanding.query.text.lower()


def test_the_same_seed_the_same_pairs(maker, made):
    again = [(one.understanding.query.text, one.features.item.item_id) for one in maker.made(160, seed=1)]
    assert again == [(one.understanding.query.text, one.features.item.item_id) for one in made]
    other = [(one.understanding.query.text, one.features.item.item_id) for one in maker.made(160, seed=2)]
    assert other != again


def test_an_item_is_changed_wherever_it_says_the_value(extract):
    [features] = extract(
        [Item("s1", "Black Running Shoe, all black", "A black shoe.", brand="Nike", attributes={"color": ("Black",)})]
    )
    item = changed_item(features, "color", "red")
    assert item.title == "Red Running Shoe, all red"
    assert item.attributes["color"] == ("Red",)
    assert item.item_id == "s1/color=red"
    assert changed_item(features, "brand", "puma").brand == "Puma"
    assert changed_item(features, "material", "wool") is None  # it says nothing of it


def test_a_catalogue_of_unknown_kinds_has_nothing_to_ask_for(knowledge, extract):
    judge = RulesJudge(knowledge, load_rulebook())
    with pytest.raises(ValueError, match="no item's kind is known"):
        Maker(extract([Item("x", "Qwzzk")]), knowledge, judge, lambda queries: [], extract)
