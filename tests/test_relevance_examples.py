"""Run: pytest tests/test_relevance_examples.py

Every rule of the shipped rulebook by its own example, through the whole path: the query is read, the item is read, the
path is walked on the real knowledge tables, and the rule must be the one that decides its leg.
"""

import pytest

from extractors.given import Given
from extractors.merge import merge
from extractors.protocol import Extraction, ExtractorInput
from extractors.queries import understand
from lore_mm.knowledge import load_knowledge
from lore_mm.schema import load_schemas
from lore_mm.types import AttributeValue, Evidence, Item, ItemFeatures, Query
from relevance.by_rules import RulesJudge
from relevance.paths import render
from relevance.rules import load_rulebook

BOOK = load_rulebook()
KNOWLEDGE, SCHEMAS = load_knowledge(), load_schemas()
JUDGE, GIVEN = RulesJudge(KNOWLEDGE, BOOK), Given(KNOWLEDGE, SCHEMAS)
EXAMPLES = {rule_id: rule.example for rule_id, rule in BOOK.rules.items()}
EXCEPTIONS = {f"exceptions.{name}": one.example for name, one in BOOK.exceptions.items()}


def features(example):
    """The item of an example, with what its seller says and what its picture would show."""
    item = Item(
        "example",
        example.item,
        example.description,
        category=example.category,
        brand=example.brand,
        attributes={k: (v,) if isinstance(v, str) else tuple(v) for k, v in example.given.items()},
        price=example.price,
        currency=example.currency,
        store=example.store,
    )
    (given,) = GIVEN.extract([ExtractorInput(item)])
    shown = tuple(
        AttributeValue("color", "color", name, share=share, confidence=0.9, extractor="palette",
                       evidence=(Evidence("image:0", value=name, extractor="palette"),))
        for name, share in example.picture.items()
    )  # fmt: skip
    found = {"given": given} | ({"palette": Extraction(shown, given.category)} if shown else {})
    return ItemFeatures(item, merge(item, found, KNOWLEDGE, SCHEMAS).attributes)


def judged(example):
    (understanding,) = understand([Query("q", example.query)], KNOWLEDGE)
    (judgment,) = JUDGE.judge([(understanding, features(example))])
    assert judgment.grade is not None, judgment.error
    return judgment


@pytest.mark.parametrize("rule_id", EXAMPLES)
def test_the_example_of_a_rule_is_decided_by_that_rule(rule_id):
    judgment = judged(EXAMPLES[rule_id])
    legs = {leg.rule_id: leg for leg in judgment.path.legs}
    assert rule_id in legs, "\n" + render(judgment)
    assert legs[rule_id].level == EXAMPLES[rule_id].level or legs[rule_id].demand.strictness == "soft"


@pytest.mark.parametrize("rule_id", EXCEPTIONS)
def test_the_example_of_an_exception_uses_it(rule_id):
    judgment = judged(EXCEPTIONS[rule_id])
    assert rule_id in judgment.rule_ids and judgment.grade == EXCEPTIONS[rule_id].level, "\n" + render(judgment)
