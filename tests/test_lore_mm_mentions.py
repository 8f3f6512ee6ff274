import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lore_mm.knowledge import Brand, Category, Color, Knowledge, Material, Term, load_knowledge
from lore_mm.mentions import scanner_for
from lore_mm.text import tokens

SCANNER = scanner_for(load_knowledge())


def found(text):
    return [(m.canonical, m.text) for m in SCANNER.find(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("t-shirt", [("t_shirt", "t-shirt")]),
        ("tshirt", [("t_shirt", "tshirt")]),
        ("T Shirts", [("t_shirt", "T Shirts")]),
        ("running shoes", [("running_shoe", "running shoes")]),
        ("road bike helmet", [("bike_helmet", "road bike helmet")]),
        ("sun glasses", [("sunglasses", "sun glasses")]),
        ("men's boots", [("men", "men's"), ("boot", "boots")]),
        ("Levi's jeans", [("Levi's", "Levi's"), ("jeans", "jeans")]),
        ("levis", [("Levi's", "levis")]),
        ("black and decker drill", [("Black & Decker", "black and decker"), ("drill", "drill")]),
        ("Dr. Martens", [("Dr. Martens", "Dr. Martens")]),
        ("lancome", [("Lancôme", "lancome")]),
        ("LANCÔME", [("Lancôme", "LANCÔME")]),
        ("iPhone 13 Pro Max", [("iPhone 13 Pro Max", "iPhone 13 Pro Max")]),
        ("navy blue", [("navy", "navy blue")]),
        ("leather, sofa", [("leather", "leather"), ("sofa", "sofa")]),
        ("coffee. table", [("coffee", "coffee"), ("table", "table")]),
        ("shorts", [("shorts", "shorts")]),
        ("non-slip", [("non-slip", "non-slip")]),
        ("", []),
        ("🎧", []),
    ],
)
def test_longest_leftmost_term(text, expected):
    assert found(text) == expected


@pytest.mark.parametrize(
    ("typed", "canonical", "read"),
    [
        ("sneekers", "sneaker", "sneakers"), ("shrit", "shirt", "shirt"), ("whtie", "white", "white"),
        ("headfones", "headphones", "headphones"), ("labtop", "laptop", "laptop"), ("addidas", "Adidas", "adidas"),
        ("nikkon", "Nikon", "nikon"), ("blutooth", "bluetooth", "bluetooth"), ("camra", "camera", "camera"),
        ("rucksak", "backpack", "rucksack"),
    ],
)  # fmt: skip
def test_misspellings_are_read(typed, canonical, read):
    (mention,) = SCANNER.find(typed)
    assert (mention.canonical, mention.via, mention.correction, mention.text) == (canonical, "misspelt", read, typed)
    assert mention.confidence < 0.8
    assert SCANNER.find(typed, correct=False) == []


@pytest.mark.parametrize(
    "word",
    ["daily", "magic", "channel", "their", "still", "closed", "simply", "eaves", "x500z", "shoe5s", "shor", "blorbo"],
)
def test_words_that_are_not_corrected(word):
    assert SCANNER.find(word) == []


@pytest.mark.parametrize(
    ("text", "negated", "kept"),
    [
        ("shoes without laces", ["lace-up"], ["shoe"]),
        ("no logo black t-shirt", ["logo"], ["black", "t_shirt"]),
        ("shoes not leather", ["leather"], ["shoe"]),
        ("not leather shoes", ["leather"], ["shoe"]),
        ("silicone-free shampoo", ["silicone"], ["shampoo"]),
        ("non-slip mat", [], ["non-slip"]),
        ("no logo or print t-shirt", ["logo", "print"], ["t_shirt"]),
        ("without strap, black", ["strap"], ["black"]),
        ("bag w/o strap", ["strap"], ["bag"]),
        ("camera, battery not included", ["battery"], ["camera"]),
        ("sofa without leather armrests", ["leather", "armrest"], ["sofa"]),
        ("no fuss red sofa", [], ["red", "sofa"]),
        ("gluten-free bread", [], ["gluten-free", "bread"]),
    ],
)
def test_negation(text, negated, kept):
    mentions = SCANNER.find(text)
    assert [m.canonical for m in mentions if m.negated] == negated
    assert [m.canonical for m in mentions if not m.negated and m.canonical in kept] == kept


def test_one_word_in_several_readings():
    (mention,) = SCANNER.find("orange")
    assert (mention.dimension, mention.canonical) == ("category", "orange_fruit")
    assert [(r.dimension, r.canonical) for r in mention.others] == [("color", "orange")]
    other = mention.read_as(mention.others[0])
    assert (other.dimension, other.canonical, other.table, other.text) == ("color", "orange", "color", "orange")
    assert [(r.dimension, r.canonical) for r in other.others] == [("category", "orange_fruit")]


WORDS = [
    "red",
    "no",
    "without",
    "iPhone",
    "13",
    "shoes",
    "T-shirt",
    "🎧",
    "灯",
    "café",
    "ماوس",
    "e\u0301",
    "\x00",
    "lego,",
    "w/o",
    "-free",
]


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(max_size=80), st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)))
def test_spans_are_exact_in_any_text(text):
    last = 0
    for m in SCANNER.find(text):
        assert text[m.start : m.end] == m.text
        assert m.start >= last
        last = m.end


@pytest.mark.parametrize("piece", ["a", "no ", "without shoes or ", "sneekers ", "灯", "\u202e🎧 ", "x1y2 "])
def test_a_megabyte_is_read_in_one_pass(piece):
    text = piece * (10**6 // len(piece))
    assert all(text[m.start : m.end] == m.text for m in SCANNER.find(text, correct=False)[:100])


def test_many_misspellings_in_one_text():
    # Twice the text must not cost four times the work: each correction looks only a few words ahead.
    mentions = SCANNER.find("no red shoes or sneekers, blue " * 10_000)
    assert len(mentions) == 4 * 10_000
    assert [(m.canonical, m.negated) for m in mentions[:4]] == [
        ("red", True), ("shoe", False), ("sneaker", False), ("blue", False),
    ]  # fmt: skip


def test_a_misspelling_between_two_near_words_is_left_alone():
    tables = Knowledge(categories=[Category(id="a", name="clamp"), Category(id="b", name="cramp")])
    assert scanner_for(tables).find("camp") == []
    assert scanner_for(tables).find("cclamp")[0].canonical == "a"


def test_tables_rank_their_readings():
    tables = Knowledge(
        categories=[Category(id="lime", name="lime")],
        brands=[Brand(name="Lime")],
        colors=[Color(name="lime", family="lime", hex="#00ff00")],
        materials=[Material(name="lime")],
        terms=[Term(dimension="special", value="lime")],
    )
    (mention,) = scanner_for(tables).find("Lime")
    assert [mention.table, *(r.table for r in mention.others)] == ["category", "color", "brand", "material", "term"]


def test_shuffled_words_never_fail():
    rng = random.Random(0)
    for _ in range(200):
        text = " ".join(rng.choices(WORDS, k=8))
        assert all(m.text for m in SCANNER.find(text))


def test_tokens_at_hand_make_no_difference():
    text = "Mens' shoes without laces, sun glasses and addidas sneekers"
    assert SCANNER.find(text, words=tokens(text)) == SCANNER.find(text)
    assert {m.canonical: m.negated for m in SCANNER.find(text)} == {
        "men": False, "shoe": False, "lace-up": True, "sunglasses": False, "Adidas": False, "sneaker": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "negated"),
    [("isn't leather", True), ("isn’t leather", True), ("no's logo", False), ("x-no logo", True), ("nos logo", False)],
)
def test_a_cue_counts_as_a_word(text, negated):
    assert [m.negated for m in SCANNER.find(text)] == [negated]
