"""Run: pytest tests/test_relevance_ranking.py

Rankings by hand, over all orders of what is tied, and against scikit-learn; calibration; and what `full` adds.
"""

from itertools import permutations
from math import log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relevance.ranking import good_rate, ndcg, reciprocal_rank
from relevance.scoring import evaluate, paired_difference

rankings = st.lists(st.tuples(st.integers(1, 4), st.sampled_from([0.0, 0.25, 0.5, 1.0])), min_size=1, max_size=6)


def test_ndcg_by_hand():
    # gains 3, 0, 1 by falling score: 3/log2(2) + 0 + 1/log2(4), of the best 3/log2(2) + 1/log2(3)
    assert ndcg([4, 1, 2], [0.9, 0.5, 0.1]) == pytest.approx((3 + 1 / 2) / (3 + 1 / log2(3)))
    assert ndcg([2, 1, 4], [0.9, 0.5, 0.1], k=1) == pytest.approx(1 / 3)
    assert ndcg([4, 4], [0.1, 0.2]) == 1.0
    assert np.isnan(ndcg([1, 1], [0.5, 0.4])) and np.isnan(ndcg([], []))


def test_ties_are_worth_the_mean_of_their_orders():
    # the relevant one of two tied items is first or second
    assert ndcg([4, 1], [0.5, 0.5]) == pytest.approx((1 + 1 / log2(3)) / 2)
    assert reciprocal_rank([4, 1], [0.5, 0.5]) == pytest.approx((1 + 1 / 2) / 2)
    assert reciprocal_rank([1, 3, 1], [0.9, 0.5, 0.5]) == pytest.approx((1 / 2 + 1 / 3) / 2)


def test_reciprocal_rank_by_hand():
    assert reciprocal_rank([1, 2, 3, 4], [0.9, 0.8, 0.7, 0.6]) == pytest.approx(1 / 3)
    assert np.isnan(reciprocal_rank([1, 2], [0.9, 0.8]))


def first_relevant(levels):
    return next(1 / place for place, level in enumerate(levels, 1) if level >= 3)


@given(rankings, st.integers(1, 6))
@settings(deadline=None)
def test_the_mean_over_all_orders_is_what_is_computed(pairs, k):
    levels, scores = map(list, zip(*pairs, strict=True))
    orders = {
        tuple(levels[i] for i in order)
        for order in [sorted(some, key=lambda i: -scores[i]) for some in permutations(range(len(levels)))]
    }
    # every distinct order of levels is equally likely, for swapping two equal levels gives the same one
    if max(levels) > 1:
        assert ndcg(levels, scores, k) == pytest.approx(np.mean([ndcg(o, range(len(o), 0, -1), k) for o in orders]))
    if max(levels) >= 3:
        assert reciprocal_rank(levels, scores) == pytest.approx(np.mean([first_relevant(o) for o in orders]))


@given(rankings.filter(lambda pairs: len(pairs) > 1 and max(level for level, _ in pairs) > 1), st.integers(1, 6))
@settings(deadline=None)
def test_scikit_learn_agrees_on_ndcg_ties_included(pairs, k):
    metrics = pytest.importorskip("sklearn.metrics")
    levels, scores = map(np.array, zip(*pairs, strict=True))
    assert ndcg(levels, scores, k) == pytest.approx(metrics.ndcg_score([levels - 1], [scores], k=k))


TRUTH = [4, 1, 2, 1, 1, 3, 4]
GRADES = [4, 3, 1, 2, 1, 0, 3]
SCORES = [0.9, 0.8, 0.1, 0.4, 0.2, float("nan"), 0.7]
GROUPS = ["a", "a", "a", "b", "b", "c", "c"]


def test_full_adds_means_over_queries_that_have_something_to_find():
    found = evaluate(TRUTH, GRADES, SCORES, GROUPS, full=True, resamples=50)
    assert (found.n, found.missing) == (6, 1)
    # query b has no relevant item: it has no nDCG and no reciprocal rank, but a rate of good ones
    best = 3 + 1 / log2(3)
    assert found.metrics["ndcg_10"].value == pytest.approx(((3 + 1 / 2) / best + 1) / 2)
    assert found.metrics["mrr"].value == 1.0
    assert found.metrics["good_rate"].value == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert set(evaluate(TRUTH, GRADES, SCORES, GROUPS, resamples=5).metrics) == set(found.metrics) - {
        "ndcg_10", "mrr", "good_rate", "pass_1",
    }  # fmt: skip
    assert good_rate([4, 3, 2, 1]) == 0.5


def test_calibration_errors_by_hand():
    # three pairs said to be relevant with 0.9 + 0.1, two of them are; one said not to be with 0.1, and it is not
    sure, unsure = [0.0, 0.0, 0.1, 0.9], [0.9, 0.0, 0.0, 0.1]
    given_ = [sure, sure, sure, unsure]
    found = evaluate(
        [4, 3, 1, 1], [4, 4, 4, 1], [1, 1, 1, 0], list("abcd"), full=True, probabilities=given_, resamples=9
    )
    assert found.metrics["ece_2"].value == pytest.approx((abs(3 * 1 - 2) + abs(0.1 - 0)) / 4)
    assert found.metrics["ece_4"].value == pytest.approx(abs(4 * 0.9 - 2) / 4)  # of four sure of a level two are right


def test_pairs_without_probabilities_or_judgment_are_left_out_of_the_calibration():
    given_ = [[0.0, 0.0, 0.0, 1.0], None, [1.0, 0.0, 0.0, 0.0]]
    found = evaluate([4, 1, 4], [4, 1, 0], [1, 0, 0], list("abc"), full=True, probabilities=given_, resamples=9)
    assert found.metrics["ece_4"].value == 0.0 and found.n == 2
    none = evaluate([4], [4], [1], ["a"], full=True, probabilities=[None], resamples=9)
    assert "ece_2" not in none.metrics


def test_nothing_judged_has_no_metric():
    found = evaluate([4], [0], [float("nan")], ["a"], full=True, resamples=9)
    assert found.n == 0 and all(np.isnan(one.value) for one in found.metrics.values())


def test_differences_of_rankings_are_paired():
    better, worse = [0.9, 0.1, 0.2, 0.5, 0.4, 0.6, 0.9], [0.1, 0.9, 0.8, 0.4, 0.5, 0.6, 0.2]
    all_there = [4, 1, 2, 2, 1, 3, 4]
    found = paired_difference(
        TRUTH, all_there, GRADES, GROUPS, scores_a=better, scores_b=worse, full=True, resamples=50
    )  # fmt: skip
    alone = [
        evaluate(TRUTH, GRADES, one, GROUPS, full=True, resamples=9).metrics["ndcg_10"].value for one in (better, worse)
    ]
    assert found["ndcg_10"].value == pytest.approx(alone[0] - alone[1])
    assert found["ndcg_10"].value > 0 and set(found) == {
        "acc_2", "acc_4", "macro_f1", "quadratic_kappa", "auc", "ndcg_10", "mrr", "good_rate",
    }  # fmt: skip


@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
@settings(deadline=None, max_examples=60)
def test_ir_measures_agrees_where_nothing_is_tied(seed, k):
    measures = pytest.importorskip("ir_measures")
    lot = np.random.default_rng(seed)
    # every query has something to find: where there is nothing, ir_measures says 0 and we say nothing
    queries = {f"q{n}": np.append(lot.integers(1, 5, lot.integers(1, 20)), 4) for n in range(3)}
    scores = {name: lot.permutation(len(levels)) / len(levels) for name, levels in queries.items()}
    truth = {q: {f"d{i}": int(level) - 1 for i, level in enumerate(levels)} for q, levels in queries.items()}
    run = {q: {f"d{i}": float(s) for i, s in enumerate(some)} for q, some in scores.items()}
    told = measures.calc_aggregate([measures.nDCG @ k, measures.RR(rel=2)], truth, run)
    assert np.mean([ndcg(queries[q], scores[q], k) for q in queries]) == pytest.approx(told[measures.nDCG @ k])
    assert np.mean([reciprocal_rank(queries[q], scores[q]) for q in queries]) == pytest.approx(told[measures.RR(rel=2)])
