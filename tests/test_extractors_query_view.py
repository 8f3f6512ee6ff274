"""`lore understand` for a person: what stands on a terminal of 80 and of 120 columns, and the row that a pipe gets."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from extractors.query.view import ParseView, as_json, reading_of
from lore_mm.console import print_table
from lore_mm.types import Demand, OtherReading, Provenance, Query, Understanding

SHOES = Demand("category", "runing shoes", "running_shoe", role="head", start=4, end=16, links=("shopify:aa-8-1",))
RED = Demand("color", "red", "red", start=0, end=3)
NO_LACES = Demand("style_detail", "laces", "lace-up", op="not", polarity=-1, start=25, end=30)
KIDS = Demand("audience", "kids", "kids", strictness="soft", latent=True, why="schools are for kids")
READ = Understanding(
    Query("q", "red runing shoes without laces"),
    "red running shoes without laces",
    (SHOES, RED, NO_LACES, KIDS),
    (("runing", "running"),),
    "negative_constraint",
    referent="precise",
    readings=(OtherReading("brand", "red", "Red", 0, 3, 0.25, "a maker of bags"),),
    confidence=0.934,
    engine="tagger",
)


def shown(understanding, width=80, said=""):
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(ParseView(understanding, said))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_eighty_columns():
    assert shown(READ, said="from the store: read by tagger, 2026-07-01 12:00 UTC; version 3") == [
        "  red runing shoes without laces",
        "  taken for “red running shoes without laces”  “runing” → “running”",
        "  negative constraint: it excludes something",
        "  names one kind of thing · 93% sure · from the store: read by tagger,",
        "  2026-07-01 12:00 UTC; version 3",
        "              dimension     words         read as",
        "  ●  hard     category      runing shoes  running shoe  shopify:aa-8-1",
        "  +  hard     color         red           red",
        "  −  hard     style detail  laces         not lace-up",
        "  +  implied  audience                    kids",
        "                                          schools are for kids",
        "  can also be: “red” as brand Red, 25% sure (a maker of bags)",
        "",
    ]


def test_wide_the_reasons_stand_beside():
    lines = shown(READ, 120)
    assert lines[2:4] == [
        "  negative constraint: it excludes something",
        "  names one kind of thing · 93% sure · read by tagger",
    ]
    assert lines[4].split() == ["dimension", "words", "read", "as", "why"]
    assert lines[8].endswith("kids                          schools are for kids")


def test_each_word_has_the_colour_of_its_dimension():
    console = Console(width=80, file=io.StringIO(), force_terminal=True, color_system="standard")
    console.print(ParseView(READ))
    first = console.file.getvalue().splitlines()[0]
    assert "\x1b[1;4;33mred\x1b[0m" in first
    assert "\x1b[1;4;36mruning shoes\x1b[0m" in first
    assert "\x1b[1;4;31mlaces\x1b[0m" in first


@pytest.mark.parametrize(
    ("demand", "words"),
    [
        (Demand("price", "under $50", op="at_most", number=50.0, unit="USD"), "at most 50 USD"),
        (Demand("price", "20-60", op="range", number=20.0, number_high=60.5, unit="EUR"), "from 20 to 60.5 EUR"),
        (Demand("price", "over 5", op="at_least", number=5.0), "at least 5"),
        (Demand("material", "80% cotton", "cotton", "share", 0.8, unit="share"), "at least 80% cotton"),
        (Demand("material", "pure wool", "wool", "share", 1.0, unit="share"), "100% wool"),
        (Demand("spec", "16 inch", number=40.64, unit="cm"), "40.64 cm"),
        (Demand("spec", "not 2 m", op="not", number=200.0, unit="cm", polarity=-1), "not 200 cm"),
        (Demand("audience", "3 year old", "preschoolers", number=3.0, unit="years"), "preschoolers, 3 years"),
        (
            Demand("category", "mug", "travel_mug", alternatives=("thermos", "tea_pot")),
            "travel mug or thermos or tea pot",
        ),
        (Demand("special", "zorblax", polarity=-1), "not “zorblax”"),
        (Demand("special", "zorblax"), ""),
    ],
)
def test_a_demand_in_words(demand, words):
    assert reading_of(demand) == words


def test_what_was_not_understood_says_why():
    empty = Understanding(Query("q", " "), "", status="failed", error="empty query", engine="knowledge")
    assert shown(empty, said="read by knowledge") == [
        "  (nothing)",
        "  not understood: empty query · read by knowledge",
        "",
    ]
    long = Understanding(Query("q", "x" * 10_000), "x", status="failed", error="too long")
    assert shown(long)[5:] == ["  " + "x" * 10 + "… (10,000 characters)", "  not understood: too long", ""]
    nothing = Understanding(Query("q", "the"), "the", error="llm:x: no reply", engine="knowledge")
    assert shown(nothing) == [
        "  the",
        "  names no thing · read by knowledge",
        "  though: llm:x: no reply",
        "  nothing in it is a demand",
        "",
    ]


@given(st.text(max_size=60), st.integers(20, 200))
def test_no_query_breaks_the_terminal(text, width):
    demand = Demand("special", text, start=0, end=len(text))
    view = ParseView(Understanding(Query("q", text), text, (demand,), readings=(OtherReading("brand", text, None),)))
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(view)


def test_markup_and_escapes_are_text(capsys):
    print_table(ParseView(Understanding(Query("q", "[red]\x1b[31m\u202esofa"), "", (Demand("color", "[red]", "red"),))))
    out = capsys.readouterr().out
    assert "[red][31msofa" in out
    assert "\x1b" not in out and "\u202e" not in out


def test_a_pipe_gets_everything():
    row = json.loads(json.dumps(as_json(READ, True, Provenance("run", "tagger 1", "in", "sha"), None, 3)))
    assert (row["query"], row["normalized"]) == (READ.query.text, "red running shoes without laces")
    assert (row["hard_type"], row["referent"], row["confidence"]) == ("negative_constraint", "precise", 0.934)
    assert (row["engine"], row["status"], row["error"], row["served"]) == ("tagger", "ok", None, True)
    assert row["corrections"] == [{"typed": "runing", "read": "running"}]
    assert row["readings"][0]["canonical"] == "Red"
    assert row["demands"][0]["links"] == ["shopify:aa-8-1"]
    assert set(row["demands"][0]) == set(Demand.__dataclass_fields__)
    assert row["provenance"] == {
        "run_id": "run", "maker": "tagger 1", "input_sha": "in", "settings_sha": "sha", "made_at": None, "version": 3,
    }  # fmt: skip
