"""What is excluded, and what is only named to compare with. Run: pytest tests/test_extractors_query_references.py"""

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
    ("text", "demands"),
    [
        ("anything but leather sofa", [("category", "sofa", 1), ("material", "leather", -1)]),
        ("shoes other than nike or adidas", [("category", "shoe", 1), ("brand", "Nike", -1), ("brand", "Adidas", -1)]),
        ("kleid ohne ärmel", [("category", "dress", 1), ("style_detail", "sleeves", -1)]),
        ("红色连衣裙 不要长袖",
         [("category", "dress", 1), ("color", "red", 1), ("style_detail", "long sleeve", -1)]),
        ("cheaper than iphone", [("special", "budget", 1), ("model", "iPhone", -1)]),
        ("alternative to dyson", [("brand", "Dyson", -1)]),
        ("samsung alternative", [("brand", "Samsung", -1)]),
        ("shoes like vans", [("category", "shoe", 1), ("brand", "Vans", 1)]),
    ],
)  # fmt: skip
def test_what_is_out(text, demands):
    assert said(text) == demands


def test_what_will_not_do_says_what_is_wanted():
    head = parse("cheaper than iphone").head
    assert (head.canonical, head.latent) == ("smartphone", True)
    assert head.knowledge == ("series/iPhone", "categories/smartphone")
    liked = next(d for d in parse("shoes like vans").demands if d.dimension == "brand")
    assert liked.strictness == "soft"


def test_an_occasion_keeps_whom_it_is_for():
    out = parse("gift for a photographer")
    assert [(d.dimension, d.canonical, d.strictness) for d in out.demands if not d.latent] == [
        ("audience", "photographers", "soft"),
    ]  # fmt: skip
