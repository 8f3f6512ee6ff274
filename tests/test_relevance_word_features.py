from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lore_mm.types import Item
from relevance.word_features import WORD_FEATURES, read_item, read_query, word_features

CASE = Item(
    item_id="sku-1",
    title="Acme Leather Case for iPhone 13, Black",
    description="Protects the phone.",
    category="Electronics > Phone Accessories > Phone Cases",
    brand="Acme",
    attributes={"colour": ("Black",), "fits": ("Apple phones",)},
    price=20.0,
    images=("a.jpg",),
)


def _facts(query: str, item: Item = CASE) -> dict[str, float]:
    return dict(zip(WORD_FEATURES, word_features(read_query(query), read_item(item)), strict=True))


def test_names_are_unique() -> None:
    assert len(set(WORD_FEATURES)) == len(WORD_FEATURES)


def test_what_an_accessory_is_for_is_told_from_what_it_is() -> None:
    """The title's 7 words: acme leather case | for iphone 13 black."""
    facts = _facts("iphone 13")
    assert facts["in_title"] == 1.0 and facts["in_title_head"] == 0.0
    assert facts["noun_in_title"] == 1.0 and facts["noun_only_behind_for"] == 1.0 and facts["behind_for"] == 1.0
    assert facts["phrase_in_title"] == 1.0 and facts["phrase_in_title_head"] == 0.0
    assert facts["first_place"] == 4 / 7 and facts["last_place"] == 5 / 7
    assert facts["accessory_unasked"] == 1.0 and facts["title_says_for"] == 1.0
    assert facts["query_numbers"] == 1 / 4 and facts["numbers_in_title"] == 1.0 and facts["numbers_lost"] == 0.0


def test_the_thing_itself_is_in_the_head_of_the_title() -> None:
    facts = _facts("leather cases for an iphone 14")
    assert facts["query_words"] == 4 / 12  # leather case iphone 14
    assert facts["in_title"] == 3 / 4 and facts["in_title_head"] == 2 / 4
    assert facts["noun_ends_title_head"] == 1.0 and facts["noun_only_behind_for"] == 0.0
    assert facts["behind_for"] == 1 / 3
    assert facts["noun_in_category"] == 1.0 and facts["in_category_leaf"] == 1 / 4
    assert facts["accessory_unasked"] == 0.0 and facts["accessory_met"] == 1.0
    assert facts["query_says_for"] == 1.0
    assert facts["numbers_in_text"] == 0.0 and facts["numbers_lost"] == 1.0
    assert facts["pairs_in_title"] == 1 / 3  # leather case
    assert facts["title_head_answered"] == 2 / 3 and facts["title_answered"] == 3 / 7


def test_facts_of_the_item_alone() -> None:
    facts = _facts("x")
    assert facts["title_words"] == 7 / 30 and facts["title_head_share"] == 3 / 7 and facts["text_words"] == 3 / 200
    assert [facts[name] for name in ("has_category", "has_brand", "has_price", "has_picture")] == [1.0] * 4
    assert facts["field_count"] == 2 / 20
    bare = _facts("x", Item("i", "x"))
    assert [bare[name] for name in ("has_category", "has_brand", "has_price", "has_picture")] == [0.0] * 4


def test_words_are_compared_in_the_singular_without_accents() -> None:
    facts = _facts("Café TABLES", Item("i", "Cafe® table"))
    assert facts["in_title"] == 1.0 and facts["phrase_in_title_head"] == 1.0


def test_two_words_as_one_are_found_loosely() -> None:
    facts = _facts("earbuds", Item("i", "Ear Buds"))
    assert facts["in_title"] == 0.0 and facts["in_title_loosely"] == 1.0
    assert _facts("tv", Item("i", "outvie"))["in_title_loosely"] == 0.0


def test_brand_and_fields() -> None:
    facts = _facts("acme apple")
    assert facts["brand_in_query"] == 1.0 and facts["in_brand"] == 1 / 2 and facts["in_fields"] == 1 / 2
    assert facts["in_text"] == 1.0
    assert _facts("acme", Item("i", "acme"))["brand_in_query"] == 0.0  # no brand is given


@pytest.mark.parametrize("query", ["", "   ", "¡¡¡", "for with"])
def test_a_query_without_words_has_shares_of_zero(query: str) -> None:
    facts = _facts(query)
    assert facts["in_title"] == (0.5 if query == "for with" else 0.0)
    assert all(math.isfinite(value) for value in facts.values())


def test_ids_shop_amount_and_names_of_pictures_are_not_told() -> None:
    other = Item(**{name: getattr(CASE, name) for name in CASE.__dataclass_fields__} | {"item_id": "leather case 9"})
    dear = Item(
        **{name: getattr(CASE, name) for name in CASE.__dataclass_fields__} | {"price": 1e9, "store": "leather"}
    )
    assert _facts("leather case") == _facts("leather case", other) == _facts("leather case", dear)


@given(st.text(max_size=80), st.text(max_size=120), st.text(max_size=60), st.text(max_size=20))
def test_every_number_is_in_0_to_1(query: str, title: str, text: str, name: str) -> None:
    item = Item("i", title, description=text, category=name, brand=name, attributes={name: (text, name)})
    assert all(0.0 <= value <= 1.0 for value in _facts(query, item).values())
