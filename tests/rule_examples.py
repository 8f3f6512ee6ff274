"""Examples of rules walked from the words to the grade: the query is read, the item is read, the path is walked.

On the shipped knowledge tables, without a store.
"""

from extractors.given import Given
from extractors.merge import merge
from extractors.protocol import Extraction, ExtractorInput
from extractors.queries import understand
from lore_mm.knowledge import load_knowledge
from lore_mm.schema import load_schemas
from lore_mm.types import AttributeValue, Evidence, Item, ItemFeatures, Query
from relevance.by_rules import RulesJudge
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
