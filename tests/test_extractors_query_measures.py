"""Numbers with their bounds and words; offers; makers and models.

Run: pytest tests/test_extractors_query_measures.py
"""

from __future__ import annotations

import pytest

from extractors.queries import understand
from lore_mm.knowledge import load_knowledge
from lore_mm.types import Query

KNOWLEDGE = load_knowledge()


def parse(text):
    (out,) = understand([Query("q", text)], KNOWLEDGE)
    assert out.status == "ok", out.error
    return out


def said(text):
    return [(d.dimension, d.canonical, d.polarity) for d in parse(text).demands if not d.latent]


@pytest.mark.parametrize(
    ("text", "canonical", "saved", "words"),
    [
        ("socks 2 for 1", "buy one get one", 0.5, "2 for 1"), ("3 for 2 books", "multi-buy", 0.3333, "3 for 2"),
        ("buy one get one free shampoo", "buy one get one", 0.5, "buy one get one free"),
        ("buy 2 get 1 free candles", "multi-buy", 0.3333, "buy 2 get 1 free"),
        ("50% off dresses", "sale", 0.5, "50% off"), ("20% discount sofa", "sale", 0.2, "20% discount"),
        ("half price toaster", "sale", 0.5, "half price"), ("half-price toaster", "sale", 0.5, "half-price"),
        ("bogo socks", "buy one get one", 0.5, "bogo"),
    ],
)  # fmt: skip
def test_offers_are_special_and_say_what_is_saved(text, canonical, saved, words):
    (offer,) = [d for d in parse(text).demands if d.unit == "off"]
    assert (offer.dimension, offer.canonical, offer.op, offer.number) == ("special", canonical, "at_least", saved)
    assert (text[offer.start : offer.end], offer.strictness) == (words, "soft")


@pytest.mark.parametrize("text", ["toys for 2 year old", "table for 4 people", "gift for 2 kids", "shampoo for men"])
def test_what_is_no_offer(text):
    assert not [d for d in parse(text).demands if d.unit == "off"]


@pytest.mark.parametrize(
    ("text", "dimension", "op", "number", "high", "unit", "words"),
    [
        ("shoes under 50", "price", "at_most", 50, None, None, "under 50"),
        ("shirt between 20 and 30", "price", "range", 20, 30, None, "between 20 and 30"),
        ("headphones less than $20", "price", "at_most", 20, None, "USD", "less than $20"),
        ("kopfhörer unter 50 euro", "price", "at_most", 50, None, "EUR", "unter 50 euro"),
        ("100元以下的蓝牙耳机", "price", "at_most", 100, None, "CNY", "100元以下"),
        ("laptop 16 inch or larger", "spec", "at_least", 16, None, "in", "16 inch or larger"),
        ("suitcase up to 5 kg", "spec", "at_most", 5000, None, "g", "up to 5 kg"),
        ("freezer no wider than 50cm", "spec", "at_most", 50, None, "cm", "no wider than 50cm"),
        ("rope longer than 10 m", "spec", "at_least", 1000, None, "cm", "longer than 10 m"),
        ("calendar 2023 or newer", "year", "at_least", 2023, None, None, "2023 or newer"),
        ("car before 1990", "year", "at_most", 1990, None, None, "before 1990"),
        ("monitor 2018-2022", "year", "range", 2018, 2022, None, "2018-2022"),
        ("toys for ages 5 and older", "audience", "at_least", 5, None, "years", "ages 5 and older"),
        ("laptop 16gb ram", "spec", "eq", 16, None, "GB", "16gb ram"),
        ("heels size 7 us", "spec", "eq", 7, None, "US", "size 7 us"),
        ("schuhe größe 42", "spec", "eq", 42, None, None, "größe 42"),
        ("dumbbells 2 x 10kg", "bundle", "eq", 2, None, "pieces", "2 x"),
        ("light bulbs x6", "bundle", "eq", 6, None, "pieces", "x6"),
        ("at least 50% wool sweater", "material", "at_least", 0.5, None, "share", "at least 50% wool"),
        ("jumper 30% cashmere or more", "material", "at_least", 0.3, None, "share", "30% cashmere or more"),
        ("shirt less than 20% polyester", "material", "at_most", 0.2, None, "share", "less than 20% polyester"),
        ("mostly wool sweater", "material", "at_least", 0.5, None, "share", "mostly wool"),
        ("100% cotton sheets", "material", "share", 1, None, "share", "100% cotton"),
        ("80% organic cotton shirt", "material", "share", 0.8, None, "share", "80% organic cotton"),
    ],
)  # fmt: skip
def test_bounds_and_their_words(text, dimension, op, number, high, unit, words):
    demand = next(d for d in parse(text).demands if d.number is not None and d.dimension == dimension)
    assert (demand.op, demand.number_high, demand.unit) == (op, high, unit)
    assert demand.number == pytest.approx(number)
    assert text[demand.start : demand.end] == words


@pytest.mark.parametrize("text", ["rug 160x230", "curtains 90 x 90 grey", "frame 30 x 40 x 2 black"])
def test_sides_without_a_unit_are_one_specification(text):
    (sides,) = [d for d in parse(text).demands if d.dimension == "spec"]
    assert (sides.number, sides.canonical) == (None, None)
    assert sides.value.replace(" ", "").replace("x", "").isdigit()


def test_maker_and_model_are_two_demands():
    assert said("samsung s24 ultra")[:2] == [("model", "Galaxy S24 Ultra", 1), ("brand", "Samsung", 1)]
    assert said("apple watch strap")[0][0] == "model" or said("apple watch strap")[0][0] == "category"
    assert [(d.value, d.canonical) for d in parse("hoka mach 6").demands] == [("mach 6", None), ("hoka", "Hoka")]
    assert parse("sony wh-ch520").head.value == "wh-ch520"
