from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lore_mm.types import AttributeValue, Item, ItemFeatures, Query, Understanding
from relevance.pair_text import LONGEST_LINE, item_text, query_text


def test_a_line_says_the_title_then_what_the_title_does_not_say() -> None:
    item = Item(
        item_id="sku-77",
        title="Acme  Trail\u200b shoe\nBlack",
        brand="ACME",
        category="Clothing > Shoes > Running shoes",
        attributes={"weight": ("250",), "vegan": ("yes",), "Laces": ("Round",), "Best uses": ("Trail", "Road", "Gym")},
        price=99.5,
        store="Shoe palace",
        images=("secret.jpg",),
    )
    values = (
        AttributeValue("color", "color", "black", confidence=0.9),
        AttributeValue("color", "color", "red", confidence=0.5),
        AttributeValue("material", "material", "mesh", confidence=0.8),
        AttributeValue("season", "season", None, status="not_stated"),
    )
    line = item_text(ItemFeatures(item, values))
    assert line == "Acme Trail shoe Black; Running shoes Shoes; red; mesh; Best uses Trail, Road; Laces Round"


def test_an_item_without_words_is_an_empty_line() -> None:
    assert item_text(ItemFeatures(Item("i", ""))) == ""
    assert item_text(ItemFeatures(Item("i", "\x00\x07", brand="Acme"))) == "Acme"


@given(st.text(max_size=600), st.text(max_size=200))
def test_a_line_is_one_line_of_a_stated_length(title: str, text: str) -> None:
    item = Item("i", title, brand=text, category=f"{text} > {title}", attributes={text: (title, text)})
    line = item_text(ItemFeatures(item))
    assert len(line) <= LONGEST_LINE
    assert len(line.splitlines()) <= 1


def test_a_query_is_read_with_its_spelling_put_right() -> None:
    query = Query("q", "leathr jackt")
    assert query_text(Understanding(query, "leather jacket")) == "leather jacket"
    assert query_text(Understanding(query, "", status="failed", error="x")) == "leathr jackt"
