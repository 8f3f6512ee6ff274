"""The order and the cues of the hard types. Run: pytest tests/test_extractors_query_hard_types.py"""

from __future__ import annotations

import pytest

from extractors.queries import understand
from lore_mm.knowledge import load_knowledge
from lore_mm.schema import load_hard_types
from lore_mm.types import Query

KNOWLEDGE = load_knowledge()


def parse(text):
    (out,) = understand([Query("q", text)], KNOWLEDGE)
    assert out.status == "ok", out.error
    return out


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("is gore-tex waterproof", "question"), ("how many watts does a kettle use", "question"),
        ("are hokas good for walking?", "question"), ("什么手机好？", "question"),
        ("iphone 13 vs samsung s21", "entity_relation"), ("like airpods but cheaper", "entity_relation"),
        ("compatible replacement for canon battery", "entity_relation"), ("shoes like vans", "entity_relation"),
        ("which is better, ninja or instant pot", "entity_relation"), ("chanel dupe", "entity_relation"),
        ("shoes except nike", "negative_constraint"), ("anything but leather sofa", "negative_constraint"),
        ("non alcoholic beer", "negative_constraint"), ("sugar free gum", "negative_constraint"),
        ("dress without sleeves", "negative_constraint"),
        ("best way to clean carpet", "solution_seeking"), ("what to wear to a wedding", "solution_seeking"),
        ("gift for dad", "solution_seeking"), ("how to keep coffee hot", "solution_seeking"),
        ("13900k", "domain_jargon"), ("lbd", "domain_jargon"), ("sony wh-ch520", "other"),
        ("black leather wallet men", "multi_attribute"), ("new balance 990 size 42", "other"),
        ("free shipping mug", "other"), ("wireless mouse", "other"), ("non-slip mat", "other"),
    ],
)  # fmt: skip
def test_hard_types_in_their_order(text, kind):
    assert parse(text).hard_type == kind
    assert kind in load_hard_types()
