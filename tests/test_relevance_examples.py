"""Run: pytest tests/test_relevance_examples.py

Every rule of the shipped rulebook by its own example, through the whole path: the query is read, the item is read, the
path is walked on the real knowledge tables, and the rule must be the one that decides its leg.
"""

import pytest

from relevance.paths import render
from tests.rule_examples import EXAMPLES, EXCEPTIONS, judged


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
