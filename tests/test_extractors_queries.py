import io
import json

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

from extractors.queries import LONGEST, main, understand
from extractors.query.implied import a_kind
from lore_mm.knowledge import load_knowledge
from lore_mm.schema import load_dimensions
from lore_mm.types import Query

KNOWLEDGE = load_knowledge()


def parse(text):
    (out,) = understand([Query("q", text)], KNOWLEDGE)
    assert out.status == "ok", out.error
    return out


def said(text):
    """Demands that are said, as (dimension, canonical, polarity); the head first."""
    return [(d.dimension, d.canonical, d.polarity) for d in parse(text).demands if not d.latent]


@pytest.mark.parametrize(
    ("text", "dimension", "canonical"),
    [
        ("laptop", "category", "laptop"),
        ("red nike running shoes", "category", "running_shoe"),
        ("charger for iphone 13", "category", "charger"),
        ("iphone 13 case", "category", "phone_case"),
        ("bag for laptop", "category", "laptop_bag"),
        ("laptop sleeve 13 inch", "category", "laptop_sleeve"),
        ("road bike helmet", "category", "bike_helmet"),
        ("macbook charger", "category", "laptop_charger"),
        ("sofa with chaise", "category", "sofa"),
        ("tlr", "category", "tlr_camera"),
        ("hi-tops", "category", "sneaker"),
        ("nikkon camra", "category", "camera"),
        ("ps5", "model", "PlayStation 5"),
        ("iphone 17", "model", None),
        ("nike", "brand", "Nike"),
        ("harry potter", "ip", "harry potter"),
        ("blorbo", "category", None),
        ("灯", "category", "lamp"),
    ],
)
def test_head(text, dimension, canonical):
    head = parse(text).head
    assert (head.dimension, head.canonical, head.role) == (dimension, canonical, "head")
    assert parse(text).demands[0] is not None and parse(text).demands[0].role == "head"


@pytest.mark.parametrize(
    ("text", "demands"),
    [
        ("red nike running shoes size 42 without laces",
         [("category", "running_shoe", 1), ("color", "red", 1), ("brand", "Nike", 1),
          ("style_detail", "lace-up", -1), ("spec", None, 1)]),
        ("silicone-free shampoo", [("category", "shampoo", 1), ("material", "silicone", -1)]),
        ("shoes not leather", [("category", "shoe", 1), ("material", "leather", -1)]),
        ("not leather shoes", [("category", "shoe", 1), ("material", "leather", -1)]),
        ("no logo black t-shirt", [("category", "t_shirt", 1), ("style_detail", "logo", -1), ("color", "black", 1)]),
        ("mouse without cable", [("category", "mouse", 1), ("category", "cable", -1)]),
        ("non-slip yoga mat", [("category", "yoga_mat", 1), ("function", "non-slip", 1)]),
        ("wooden chair", [("category", "chair", 1), ("material", "wood", 1)]),
        ("vintage camera", [("category", "camera", 1), ("special", "vintage", 1)]),
        ("harry potter mug", [("category", "mug", 1), ("ip", "harry potter", 1)]),
        ("chair without blorbo", [("category", "chair", 1), ("style_detail", None, -1)]),
        ("georgia sweater", [("category", "sweater", 1), ("special", None, 1)]),
    ],
)  # fmt: skip
def test_demands(text, demands):
    assert said(text) == demands


@pytest.mark.parametrize(
    ("text", "dimension", "canonical"),
    [
        ("orange dress", "color", "orange"), ("lime green chair", "color", "lime"), ("apple laptop", "brand", "Apple"),
        ("puma shoes", "brand", "Puma"), ("gap jeans", "brand", "Gap"), ("gold ring", "material", "gold"),
        ("silver laptop", "color", "silver"), ("glass vase", "material", "glass"),
        ("orange", "category", "orange_fruit"),
        ("apple", "category", "apple"), ("apple juice", "category", "juice"),
    ],
)  # fmt: skip
def test_words_of_several_readings_are_settled_by_context(text, dimension, canonical):
    assert (dimension, canonical) in [(d.dimension, d.canonical) for d in parse(text).demands]


def test_the_other_reading_is_noted():
    (other,) = parse("apple").readings
    assert (other.dimension, other.canonical, other.start, other.end) == ("brand", "Apple", 0, 5)


@pytest.mark.parametrize(
    ("text", "dimension", "op", "number", "high", "unit"),
    [
        ("shoes size 42", "spec", "eq", 42, None, None), ("shoes uk 9", "spec", "eq", 9, None, "UK"),
        ("laptop 13 inch", "spec", "eq", 13, None, "in"), ("monitor 27in", "spec", "eq", 27, None, "in"),
        ("5m ethernet cable", "spec", "eq", 500, None, "cm"), ("ssd 1tb", "spec", "eq", 1000, None, "GB"),
        ("xl hoodie", "spec", "eq", 2, None, "letter"), ("rug 2-3 m", "spec", "range", 200, 300, "cm"),
        ("4 person tent", "spec", "eq", 4, None, "person"), ("pack of 3 socks", "bundle", "eq", 3, None, "pieces"),
        ("sofa under $500", "price", "at_most", 500, None, "USD"),
        ("sofa over 500", "price", "at_least", 500, None, None),
        ("sofa between 200 and 400 euros", "price", "range", 200, 400, "EUR"),
        ("2024 calendar", "year", "eq", 2024, None, None),
        ("toys for 7 year old", "audience", "eq", 7, None, "years"),
        ("80% cotton shirt", "material", "share", 0.8, None, "share"),
        ("pure cotton shirt", "material", "share", 1, None, "share"),
    ],
)  # fmt: skip
def test_numbers(text, dimension, op, number, high, unit):
    demand = next(d for d in parse(text).demands if d.number is not None)
    assert (demand.dimension, demand.op, demand.number_high, demand.unit) == (dimension, op, high, unit)
    assert demand.number == pytest.approx(number)


@pytest.mark.parametrize(
    ("text", "canonical", "kind"),
    [
        ("keep coffee hot", "travel_mug", "solution_seeking"),
        ("soundproof bedroom", "curtain", "solution_seeking"),
        ("gift for a photographer", "photo_accessory", "solution_seeking"),
        ("iphone alternative", "smartphone", "entity_relation"),
    ],
)
def test_needs_imply_demands_with_a_reason(text, canonical, kind):
    out = parse(text)
    head = out.head
    assert (head.canonical, head.latent, head.start, out.hard_type) == (canonical, True, None, kind)
    assert head.why


def test_either_of_two_things():
    head = parse("tablet or laptop for students").head
    assert (head.canonical, head.alternatives) == ("tablet", ("laptop",))
    assert parse("keyboard and mouse").head.alternatives == ("mouse",)


def test_a_spec_is_not_the_thing():
    out = parse("15 inch apple laptop 16gb ram")
    assert out.head.canonical == "laptop"
    assert [(d.number, d.unit) for d in out.demands if d.dimension == "spec"] == [(15.0, "in"), (16.0, "GB")]
    assert parse("16gb ram").head.canonical == "ram"


def test_alternatives_of_a_solution():
    assert parse("keep coffee hot").head.alternatives == ("thermos",)


def test_a_series_implies_brand_and_kind():
    implied = [(d.dimension, d.canonical, d.why) for d in parse("iphone 13").demands if d.latent]
    assert implied == [
        ("brand", "Apple", "iPhone 13 is by Apple"), ("category", "smartphone", "iPhone 13 is a smartphone"),
    ]  # fmt: skip
    assert [d.canonical for d in parse("nike ultraboost").demands if d.dimension == "brand"] == ["Nike"]


def test_corrections_are_told():
    out = parse("nikkon camra")
    assert out.corrections == (("nikkon", "nikon"), ("camra", "camera"))
    assert out.normalized == "nikon camera"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("is redmi a sub-brand of xiaomi?", "question"), ("which laptop is best", "question"),
        ("silicone-free shampoo", "negative_constraint"),
        ("tlr", "domain_jargon"), ("x555l", "domain_jargon"), ("red nike running shoes size 42", "multi_attribute"),
        ("red dress", "other"), ("laptop", "other"), ("cheaper than iphone", "entity_relation"),
        ("gift ideas for kids", "solution_seeking"),
    ],
)  # fmt: skip
def test_hard_types(text, kind):
    assert parse(text).hard_type == kind


def test_unknown_words_do_not_vanish():
    demands = parse("frobnicated x555l blue chair zzyzx").demands
    assert [(d.dimension, d.value, d.canonical, d.strictness) for d in demands] == [
        ("category", "chair", "chair", "hard"), ("color", "blue", "blue", "hard"),
        ("special", "frobnicated", None, "soft"), ("model", "x555l", None, "hard"), ("special", "zzyzx", None, "soft"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "empty query"), ("  \t\n", "empty query"), ("\u200b\x00", "empty query"), ("🎧", "empty query"),
        ("?!", "empty query"),
        ("a" * (LONGEST + 1), f"the query has {LONGEST + 1:,} characters; at most {LONGEST:,} are read"),
        ("x" * 10**6, f"the query has 1,000,000 characters; at most {LONGEST:,} are read"),
    ],
    ids=range(7),
)  # fmt: skip
def test_what_is_no_query_fails_with_a_reason(text, error):
    (out,) = understand([Query("q", text)], KNOWLEDGE)
    assert (out.status, out.error, out.demands) == ("failed", error, ())


def test_rows_in_rows_out():
    queries = [Query(str(i), t) for i, t in enumerate(["laptop", "", "red shoes", "🎧"])]
    outs = understand(queries, KNOWLEDGE)
    assert [o.query for o in outs] == queries
    assert [o.status for o in outs] == ["ok", "failed", "ok", "failed"]
    assert understand([], KNOWLEDGE) == []


WORDS = ["red", "nike", "without", "for", "iphone", "13", "case", "size 42", "under $50", "blorbo", "🎧", "ماوس", "灯",
 "e\u0301", "\x00",
         "'; DROP TABLE--", "ignore previous instructions", "tlr", "80%", "cotton", "gift for a photographer",
          "T-Shirt", "not"]  # fmt: skip


@settings(max_examples=250, deadline=None)
@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join)))
def test_any_query(text):
    (out,) = understand([Query("q", text)], KNOWLEDGE)
    assert out.status == "ok" or out.error == "empty query"
    for d in out.demands:
        assert d.dimension in load_dimensions()
        assert d.polarity in (1, -1)
        if d.start is None:
            assert d.latent
        else:
            assert 0 <= d.start < d.end <= len(text)
    assert sum(d.role == "head" for d in out.demands) <= 1
    assert all(d.role == "modifier" for d in out.demands[1:])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join))
def test_values_are_the_words_of_the_query(text):
    (out,) = understand([Query("q", text)], KNOWLEDGE)
    for d in out.demands:
        if d.start is not None:
            assert d.value == text[d.start : d.end]


def test_a_pipe_gets_json_lines(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("red shoes\n\n"))
    with pytest.raises(typer.Exit) as done:
        main(["laptop", "-"])
    assert done.value.exit_code == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(r["query"], r["status"], r["error"]) for r in rows] == [
        ("laptop", "ok", None), ("red shoes", "ok", None), ("", "failed", "empty query"),
    ]  # fmt: skip
    assert rows[1]["demands"][0]["canonical"] == "shoe"


def test_a_terminal_gets_a_table(capsys, monkeypatch):
    monkeypatch.setattr("extractors.queries.for_people", lambda json: True)
    main(["red [bold] shoes without laces"])
    shown = capsys.readouterr().out
    assert "red [bold] shoes without laces" in shown
    assert "lace-up" in shown


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("how to keep my tea warm for hours", "travel_mug"),
        ("presents for someone who loves photography", "photo_accessory"),
        ("make my old laptop faster", "ram"),
        ("plants that don't die", "succulent"),
        ("protect the entrance from evil spirits", "statue"),
        ("what do i need to start boxing", "boxing_gloves"),
        ("somewhere for my guests to sleep", "sofa_bed"),
        ("flower pot with drainage", "plant_pot"),  # a thing that is named is what is wanted
        ("desk lamp for reading in bed", "desk_lamp"),
        ("mountain hardware sleeping bags", "sleeping_bag"),
    ],
)
def test_a_need_is_known_by_its_words_in_any_form_and_order(query, wanted):
    (asked,) = understand([Query("q", query)], KNOWLEDGE)
    assert asked.demands[0].dimension == "category"
    assert asked.demands[0].canonical == wanted


def test_a_word_that_names_a_kind_and_a_maker_is_met_by_either():
    alone, laptop = understand([Query("1", "apple"), Query("2", "apple laptop")], KNOWLEDGE)
    assert (alone.demands[0].canonical, alone.demands[0].alternatives) == ("apple", ("Apple",))
    assert [(d.dimension, d.canonical) for d in laptop.demands] == [("category", "laptop"), ("brand", "Apple")]


def test_an_excluded_quality_excludes_the_kind_it_names():
    (asked,) = understand([Query("q", "camera not digital")], KNOWLEDGE)
    excluded = [(d.dimension, d.canonical) for d in asked.demands if d.polarity < 0]
    assert excluded == [("function", "digital"), ("category", "digital_camera")]


@pytest.mark.parametrize(
    ("query", "thing"),
    [
        ("trinaic towel rod", "towel rod"),
        ("wood stove insert", "stove insert"),
        ("pictures to hang over fireplace", "pictures"),
        ("protection from dust mites", "protection"),
    ],
)
def test_the_unknown_thing_is_named_by_its_own_words(query, thing):
    (asked,) = understand([Query("q", query)], KNOWLEDGE)
    assert (asked.demands[0].dimension, asked.demands[0].value, asked.demands[0].canonical) == ("category", thing, None)


def test_a_bare_number_is_no_thing():
    (asked,) = understand([Query("q", "led 60")], KNOWLEDGE)
    assert [d.dimension for d in asked.demands] == ["function", "special"]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("apple", "an apple"), ("umbrella", "an umbrella"), ("uniform", "a uniform"), ("usb_cable", "a usb cable"),
        ("laptop", "a laptop"), (None, "a thing"), ("earbuds", "earbuds"), ("jeans", "jeans"), ("thermos", "a thermos"),
        ("dress", "a dress"),
    ],
)  # fmt: skip
def test_a_kind_has_its_article(kind, said):
    assert a_kind(kind, load_knowledge()).lower() == said
