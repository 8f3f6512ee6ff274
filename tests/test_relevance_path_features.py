from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extractors.queries import understand
from lore_mm.fingerprint import sha_of
from lore_mm.knowledge import load_knowledge
from lore_mm.types import AttributeValue, Demand, Grade, Item, ItemFeatures, Judgment, Leg, MatchPath, Query
from lore_mm.types import Understanding as Read
from relevance.by_rules import RulesJudge
from relevance.pair_text import item_text, query_text
from relevance.path_features import FEATURES, FEATURES_SHA, GROUPS, PATH_FEATURES, features_of_pairs, path_features
from relevance.relations import DIMENSIONS
from relevance.word_features import WORD_FEATURES

ITEM = ItemFeatures(Item("i1", "Black leather jacket"))
HEAD = Demand("category", "jacket", canonical="jacket", role="head")
RED = Demand("color", "red", canonical="red", confidence=0.9)
CHEAP = Demand("price", "under 100", op="at_most", number=100.0, strictness="soft")
READ = Read(Query("q1", "red jacket under 100"), "red jacket under 100", (HEAD, RED, CHEAP), confidence=0.8)


def _judgment(*legs: Leg, grade: Grade = Grade.L2) -> Judgment:
    return Judgment(
        "q1",
        "i1",
        grade,
        probabilities=(0.1, 0.6, 0.2, 0.1),
        score=0.43,
        path=MatchPath("q1", "i1", legs),
    )


def _facts(judgment: Judgment, read: Read = READ, item: ItemFeatures = ITEM) -> dict[str, float]:
    return dict(zip(FEATURES, path_features(read, item, judgment).tolist(), strict=True))


LEGS = (
    Leg(HEAD, "category", "exact", confidence=0.95, level=Grade.L4),
    Leg(RED, "color", "other", confidence=0.75, level=Grade.L2),
    Leg(CHEAP, "price", "unstated", confidence=0.5, deviation=math.inf, level=Grade.L3),
)


def test_names_are_unique_and_every_dimension_has_its_group() -> None:
    assert len(set(FEATURES)) == len(FEATURES)
    assert FEATURES[-len(WORD_FEATURES) :] == WORD_FEATURES
    assert sorted(d for dimensions in GROUPS.values() for d in dimensions) == sorted(DIMENSIONS)
    assert len(FEATURES_SHA) == 64


def test_what_students_were_trained_on_does_not_change_by_accident() -> None:
    """Other numbers, or another line, for this pair: raise the version in path_features, and train the student anew."""
    item = ItemFeatures(
        Item("i1", "Acme Cafés leather case for iPhone 13, 2-pack", "Fits all phones.", "Phones > Cases", "Acme"),
        (AttributeValue("color", "color", "black"),),
    )
    row = path_features(READ, item, _judgment(*LEGS))
    told = [[round(float(value), 3) for value in row], item_text(item), query_text(READ), FEATURES_SHA]
    assert sha_of(told)[:12] == "5cbddc379c27"


def test_what_the_rules_say() -> None:
    facts = _facts(_judgment(*LEGS))
    assert [facts[f"rules_{level}"] for level in ("l1", "l2", "l3", "l4")] == pytest.approx([0.1, 0.6, 0.2, 0.1])
    assert facts["judged"] == 1.0 and facts["rules_score"] == pytest.approx(0.43)
    assert [facts[f"rules_grade_{level}"] for level in ("l2", "l3", "l4")] == [1.0, 0.0, 0.0]
    assert facts["worst_confidence"] == 0.75 and facts["worst_hard"] == 1.0
    assert facts["worst_is_head"] == facts["worst_silent"] == 0.0
    assert facts["mean_level"] == pytest.approx((1 + 1 / 3 + 2 / 3) / 3)
    assert facts["sure_level"] == pytest.approx((0.95 + 0.75 / 3 + 0.5 * 2 / 3) / (0.95 + 0.75 + 0.5))
    assert facts["least_confidence"] == 0.5
    assert facts["demands"] == 3 / 8 and facts["hard_demands"] == 2 / 8
    assert [facts[n] for n in ("met", "near", "broken", "silent")] == pytest.approx([1 / 3] * 4)


def test_the_head_and_each_group() -> None:
    facts = _facts(_judgment(*LEGS))
    assert facts["head_exact"] == facts["head_known"] == facts["head_is_category"] == facts["head_level"] == 1.0
    assert facts["head_confidence"] == pytest.approx(0.95) and facts["head_none"] == facts["head_otherwise"] == 0.0
    told = [facts[f"color_{n}"] for n in ("asked", "level", "confidence", "deviation", "stated")]
    assert told == pytest.approx([1.0, 1 / 3, 0.75, 0.0, 1.0])
    told = [facts[f"price_{n}"] for n in ("asked", "level", "confidence", "deviation", "stated")]
    assert told == pytest.approx([1.0, 2 / 3, 0.5, 1.0, 0.0])
    assert [facts[f"brand_{n}"] for n in ("asked", "level", "confidence", "deviation", "stated")] == [0.0] * 5
    assert facts["some_other"] == 1.0 and facts["some_near"] == 0.0


def test_of_several_legs_of_a_group_the_worst_tells() -> None:
    blue = Leg(replace(RED, value="blue"), "color", "exact", confidence=0.6, level=Grade.L4)
    for legs in ((LEGS[0], LEGS[1], blue), (LEGS[0], blue, LEGS[1])):
        facts = _facts(_judgment(*legs))
        assert facts["color_level"] == pytest.approx(1 / 3) and facts["color_confidence"] == 0.75


def test_what_nobody_asked_for_is_no_demand() -> None:
    niche = Demand("audience", "nothing special", strictness="soft", latent=True)
    facts = _facts(_judgment(*LEGS, Leg(niche, "audience", "niche", confidence=0.9, level=Grade.L3)))
    assert facts["unasked_niche"] == 1.0 and facts["audience_asked"] == 0.0 and facts["demands"] == 3 / 8


def test_a_head_that_is_no_category_and_one_that_is_not_there() -> None:
    maker = Leg(Demand("brand", "Acme", role="head"), "brand", "brand_child", level=Grade.L3)
    facts = _facts(_judgment(maker))
    assert facts["head_otherwise"] == facts["head_is_brand"] == facts["some_brand_kin"] == 1.0
    assert facts["head_known"] == 0.0
    facts = _facts(_judgment(LEGS[1]))
    assert facts["head_none"] == 1.0 and facts["head_exact"] == 0.0


def test_a_pair_that_was_not_judged_has_its_words_alone() -> None:
    failed = Judgment("q1", "i1", None, status="failed", error="x")
    row = path_features(READ, ITEM, failed)
    assert not row[: len(PATH_FEATURES)].any()
    facts = dict(zip(FEATURES, row.tolist(), strict=True))
    assert facts["query_read"] == 1.0 and facts["query_confidence"] == pytest.approx(0.8)
    assert facts["in_title"] == 1 / 4 and facts["hard_other"] == 1.0


def test_pairs_together_are_as_each_alone() -> None:
    knowledge = load_knowledge()
    queries = understand(
        [Query(str(i), t) for i, t in enumerate(("red jacket", "leathr jackt", "gift", ""))], knowledge
    )
    other = ItemFeatures(Item("i2", "Case for phone"), (AttributeValue("color", "color", "red"),))
    pairs = [(query, item) for query in queries for item in (ITEM, other)]
    judgments = RulesJudge(knowledge).judge(pairs)
    together = features_of_pairs(pairs, judgments)
    assert together.shape == (8, len(FEATURES)) and together.dtype == np.float32
    alone = [path_features(*pair, judgment) for pair, judgment in zip(pairs, judgments, strict=True)]
    assert np.array_equal(together, np.stack(alone))
    assert np.array_equal(together[::-1], features_of_pairs(pairs[::-1], judgments[::-1]))
    assert features_of_pairs([], []).shape == (0, len(FEATURES))
    with pytest.raises(ValueError):
        features_of_pairs(pairs, judgments[1:])


_NUMBERS = st.one_of(st.none(), st.floats())
_LEGS = st.builds(
    Leg,
    demand=st.builds(
        Demand,
        dimension=st.sampled_from((*DIMENSIONS, "no dimension")),
        value=st.text(max_size=5),
        role=st.sampled_from(("head", "modifier")),
        confidence=st.floats(),
    ),
    attribute=st.just("a"),
    relation=st.sampled_from(("exact", "unstated", "niche", "other", "words_none", "no relation")),
    confidence=st.floats(),
    deviation=_NUMBERS,
    level=st.one_of(st.none(), st.sampled_from(Grade)),
)


@given(st.lists(_LEGS, max_size=5), st.tuples(*[st.floats(width=32)] * 4), _NUMBERS, st.text(max_size=40), st.floats())
def test_every_number_is_finite_and_in_0_to_1(
    legs: list[Leg], probabilities: tuple[float, float, float, float], score: float | None, text: str, sure: float
) -> None:
    judgment = Judgment(
        "q", "i", Grade.L3, probabilities=probabilities, score=score, path=MatchPath("q", "i", tuple(legs))
    )
    row = path_features(Read(Query("q", text), text, confidence=sure), ItemFeatures(Item("i", text)), judgment)
    assert np.isfinite(row).all() and row.min() >= 0.0 and row.max() <= 1.0
