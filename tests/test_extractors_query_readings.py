"""Referents, other readings, confidence and the knowledge used. Run: pytest tests/test_extractors_query_readings.py"""

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


@pytest.mark.parametrize(
    ("text", "referent"),
    [
        ("lipstick", "precise"), ("shoes", "generic"), ("clothes", "generic"), ("camera", "generic"),
        ("blorbo", "precise"), ("iphone 13", "precise"), ("gucci", "generic"), ("harry potter", "generic"),
        ("kleenex", "precise"), ("tlr", "precise"), ("gift for mom", None), ("is gore-tex waterproof", None),
    ],
)  # fmt: skip
def test_referent(text, referent):
    assert parse(text).referent == referent


@pytest.mark.parametrize(
    ("text", "words", "dimension", "canonical"),
    [
        ("apple", "apple", "brand", "Apple"), ("gold ring", "gold", "color", "gold"),
        ("orange", "orange", "color", "orange"), ("mouse", "mouse", "special", None),
        ("tablet", "tablet", "category", "vitamin"), ("jaguar", "jaguar", "style_detail", "animal print"),
        ("tank with fish", "tank", "special", None),
        ("frozen costume", "frozen", "ip", "frozen-film"),
    ],
)  # fmt: skip
def test_other_readings(text, words, dimension, canonical):
    out = parse(text)
    reading = next(r for r in out.readings if r.dimension == dimension)
    assert (reading.value, reading.canonical) == (words, canonical)
    assert text[reading.start : reading.end] == words
    assert 0.1 <= reading.confidence < 1
    assert reading.why


@pytest.mark.parametrize("text", ["apple laptop", "wireless mouse", "orange dress", "samsung tablet", "thermos"])
def test_what_the_other_words_settle_is_no_ambiguity(text):
    assert parse(text).readings == ()


def test_a_homonym_is_likelier_beside_its_company():
    alone, beside = parse("mouse").readings[0], parse("mouse cage").readings[0]
    assert (alone.confidence, beside.confidence) == (0.15, 0.6)


def test_confidence_by_hand():
    assert parse("red shoes").confidence == 1.0
    assert parse("apple").confidence == 0.55  # 1 − 0.45, the other reading
    assert parse("blorbo").confidence == 0.4  # a head that no table knows
    assert parse("leathr jackt").confidence == 0.75  # both corrected
    # "blue" and "chair" are sure, "zzyzx" is not: (4 + 5 + 0.4 · 5) / 14 letters
    assert parse("blue chair zzyzx").confidence == pytest.approx(11 / 14, abs=1e-4)
    # no head: at most a half
    assert parse("is gore-tex waterproof").confidence == 0.5


@pytest.mark.parametrize(
    ("text", "used"),
    [
        ("iphone 13", {"series/iPhone 13", "brands/Apple", "categories/smartphone"}),
        ("tlr", {"needs/tlr", "categories/tlr_camera"}),
        ("keep coffee hot", {"needs/keep_hot", "categories/travel_mug"}),
        ("nikkon camra", {"brands/Nikon", "categories/camera"}),
        ("bluetoth radio", {"terms/function.bluetooth"}),
        ("red shoes", set()),
    ],
)
def test_knowledge_used(text, used):
    assert {entry for d in parse(text).demands for entry in d.knowledge} == used
