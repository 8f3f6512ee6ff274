"""What the tables know about the words of a query: found by names, other readings, neighbours and shared words."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extractors.query.retrieve import MOST, retrieve, top_of_the_tree
from lore_mm.entries import entry_of, reading_of
from lore_mm.knowledge import load_knowledge
from lore_mm.mentions import Reading

KNOWLEDGE = load_knowledge()


def ids(text, most=MOST):
    return [entry.id for entry in retrieve(text, KNOWLEDGE, most)]


def test_the_lines_of_entries():
    lines = {entry.id: entry.line for entry in retrieve("iphone 13 pro", KNOWLEDGE)}
    assert lines["series/iPhone 13 Pro"] == "series/iPhone 13 Pro: by Apple; a smartphone; a variant of iPhone 13"
    assert lines["series/iPhone 13"] == "series/iPhone 13: by Apple; a smartphone"
    assert lines["brands/Apple"].startswith("brands/Apple: a brand; makes electronics, computer, ")
    assert lines["categories/smartphone"].startswith("categories/smartphone: smartphone; a kind of phone")


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("apple", ["categories/apple", "brands/Apple"]),  # the other reading too
        ("fixie", ["needs/fixie", "categories/bicycle"]),  # what it stands for
        ("red laces", ["colors/red", "terms/style_detail.lace-up"]),
        ("how do I keep my coffee hot", ["needs/keep_hot", "categories/coffee"]),  # by its words
        ("snaekers", ["categories/sneaker", "categories/shoe"]),  # misspelt; and the kind it is of
    ],
)
def test_what_is_found_and_in_which_order(text, first):
    assert ids(text)[: len(first)] == first


def test_neighbours_in_the_trees():
    assert ids("iphone 13 pro")[:2] == ["series/iPhone 13 Pro", "series/iPhone 13"]
    redmi = entry_of(Reading("brand", "Redmi", "brand"), KNOWLEDGE)
    assert redmi.line.startswith("brands/Redmi: a brand of Xiaomi")
    assert "brands/Xiaomi" in ids("redmi")


def test_an_unknown_word_finds_entries_that_share_it_and_the_top_of_the_tree():
    assert not ids("blorptastic")
    top = top_of_the_tree("blorptastic wug", KNOWLEDGE)
    assert {"clothing", "footwear", "electronics", "toy"} <= set(top)
    assert all(KNOWLEDGE.categories[kind].parent is None for kind in top)
    assert top_of_the_tree("red shoes", KNOWLEDGE) == ()
    assert any(name.startswith("categories/") and "case" in name for name in ids("zzq case"))


def test_at_most_so_many_none_twice_always_the_same():
    text = "red blue green nike adidas iphone 13 shoes boots dress shirt apple gold cotton laces under 50"
    for most in (0, 1, 5, 100):
        found = ids(text, most)
        assert len(found) == min(most, len(ids(text, 100)))
        assert found == ids(text, 100)[:most]
        assert len(set(found)) == len(found)
    assert len(ids(text)) == MOST


def test_every_entry_of_the_tables_has_a_short_line():
    readings = [Reading("category", key, "category") for key in KNOWLEDGE.categories]
    readings += [Reading("brand", key, "brand") for key in KNOWLEDGE.brands]
    readings += [Reading("model", key, "series") for key in KNOWLEDGE.series]
    readings += [Reading("color", key, "color") for key in KNOWLEDGE.colors]
    readings += [Reading("material", key, "material") for key in KNOWLEDGE.materials]
    readings += [Reading(dimension, value, "term") for dimension, value in KNOWLEDGE.terms]
    readings += [Reading("need", key, "need") for key in KNOWLEDGE.needs]
    entries = [entry_of(reading, KNOWLEDGE) for reading in readings]
    assert len({entry.id for entry in entries}) == len(entries)
    for entry in entries:
        assert re.match(r"(needs|series|brands|categories|colors|materials)/.|terms/[a-z_]+\..", entry.id)
        assert entry.line.startswith(f"{entry.id}: ".split("&")[0]) and len(entry.line) <= 160
        assert len(entry.id) <= 60  # what a reply may cite
    assert [reading_of(entry.id, KNOWLEDGE) for entry in entries] == readings


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80))
def test_nothing_of_a_query_gets_into_a_line(text):
    for entry in retrieve(text, KNOWLEDGE):
        folder, _, key = entry.id.partition("/")
        table = {
            "needs": KNOWLEDGE.needs, "series": KNOWLEDGE.series, "brands": KNOWLEDGE.brands,
            "categories": KNOWLEDGE.categories, "colors": KNOWLEDGE.colors, "materials": KNOWLEDGE.materials,
            "terms": {f"{dimension}.{value}": term for (dimension, value), term in KNOWLEDGE.terms.items()},
        }[folder]  # fmt: skip
        assert key in table
