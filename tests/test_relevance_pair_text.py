from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lore_mm.types import Item, ItemFeatures, Query, Understanding
from relevance.pair_text import LONGEST_LINE, item_text, query_text


def test_an_item_is_read_by_its_title() -> None:
    item = Item(
        "sku-77", "Acme  Trail\u200b shoe\nBlack", "Runs well.", "Clothing > Shoes", "ACME", store="Shoe palace"
    )
    assert item_text(ItemFeatures(item)) == "Acme Trail shoe Black"


def test_an_item_without_a_title_is_read_by_its_description() -> None:
    assert item_text(ItemFeatures(Item("i", ""))) == ""
    assert item_text(ItemFeatures(Item("i", "\x00\x07", "A  lamp.", brand="Acme"))) == "A lamp."


@given(st.text(max_size=900), st.text(max_size=900))
def test_a_line_is_one_line_of_a_stated_length(title: str, text: str) -> None:
    line = item_text(ItemFeatures(Item("i", title, text)))
    assert len(line) <= LONGEST_LINE
    assert len(line.splitlines()) <= 1


def test_a_query_is_read_with_its_spelling_put_right() -> None:
    query = Query("q", "leathr jackt")
    assert query_text(Understanding(query, "leather jacket")) == "leather jacket"
    assert query_text(Understanding(query, "", status="failed", error="x")) == "leathr jackt"
