"""Run: pytest tests/test_relevance_scoring.py

Metrics against arithmetic by hand, against slow definitions, and against scikit-learn where it happens to be there.
"""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relevance.baselines import BM25, cross_fitted, fit_thresholds, grade_by, majority
from relevance.scoring import (
    METRICS,
    accuracy_2,
    accuracy_4,
    auc,
    confusion,
    evaluate,
    macro_f1,
    paired_difference,
    pass_at_k,
    quadratic_kappa,
    same_level,
    same_side,
)

TRUTH = [1, 1, 2, 2, 3, 3, 4, 4, 4, 4]
GIVEN = [1, 2, 2, 3, 3, 3, 4, 4, 3, 1]


def test_confusion_counts_true_rows_and_given_columns():
    assert confusion(TRUTH, GIVEN).tolist() == [[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 2, 0], [1, 0, 1, 2]]


def test_values_by_hand():
    counts = confusion(TRUTH, GIVEN)
    assert accuracy_4(counts) == pytest.approx((1 + 1 + 2 + 2) / 10)
    assert accuracy_2(counts) == pytest.approx((3 + 5) / 10)  # wrong: one L2 given L3, one L4 given L1
    f1 = [2 * 1 / (2 + 2), 2 * 1 / (2 + 2), 2 * 2 / (2 + 4), 2 * 2 / (4 + 2)]
    assert macro_f1(counts) == pytest.approx(sum(f1) / 4)
    observed = 1 + 1 + 9 + 1  # squared misses: L1 as L2, L2 as L3, L4 as L1, L4 as L3
    there, said = [2, 2, 2, 4], [2, 2, 4, 2]
    chance = sum((i - j) ** 2 * there[i] * said[j] for i in range(4) for j in range(4)) / 10
    assert quadratic_kappa(counts) == pytest.approx(1 - observed / chance)


def test_auc_by_hand_counts_ties_half():
    relevant, scores = [True, True, False, False, False], [0.9, 0.4, 0.4, 0.1, 0.9]
    # pairs: 0.9 > 0.4, 0.9 > 0.1, 0.9 = 0.9; 0.4 = 0.4, 0.4 > 0.1, 0.4 < 0.9
    assert auc(relevant, scores) == pytest.approx((1 + 1 + 0.5 + 0.5 + 1 + 0) / 6)
    assert np.isnan(auc([True, True], [0.1, 0.2]))
    assert np.isnan(auc([], []))


def test_a_level_nobody_has_or_says_is_left_out_and_one_never_said_counts_nothing():
    assert macro_f1(confusion([4, 4], [4, 4])) == 1.0
    assert macro_f1(confusion([4, 3], [4, 4])) == pytest.approx((2 / 3 + 0) / 2)


def test_kappa_of_chance_agreement_and_reversal():
    assert quadratic_kappa(confusion([1, 4], [1, 4])) == 1.0
    assert quadratic_kappa(confusion([1, 4], [4, 1])) == -1.0
    assert quadratic_kappa(confusion([4, 4], [4, 4])) == 0.0
    assert quadratic_kappa(confusion([1, 2, 3, 4], [2, 2, 2, 2])) == pytest.approx(0.0)


def test_levels_outside_the_scale_are_refused():
    with pytest.raises(ValueError, match="truth must be levels 1 to 4"):
        confusion([0], [1])
    with pytest.raises(ValueError, match="2 true levels but 1 grades"):
        confusion([1, 2], [1])


levels = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=40)


@given(levels)
def test_kappa_is_symmetric_and_at_most_one(pairs):
    t, g = zip(*pairs, strict=True)
    value = quadratic_kappa(confusion(t, g))
    assert value == pytest.approx(quadratic_kappa(confusion(g, t)))
    assert value <= 1 + 1e-12


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=1, max_size=30))
def test_auc_equals_counting_all_pairs(pairs):
    ups = [s for y, s in pairs if y]
    downs = [s for y, s in pairs if not y]
    slow = [1.0 if a > b else 0.5 if a == b else 0.0 for a in ups for b in downs]
    fast = auc([y for y, _ in pairs], [s for _, s in pairs])
    assert np.isnan(fast) if not slow else fast == pytest.approx(sum(slow) / len(slow))


def test_values_agree_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(1)
    for _ in range(20):
        t, g = generator.integers(1, 5, 50), generator.integers(1, 5, 50)
        s = generator.integers(0, 6, 50) / 5
        counts = confusion(t, g)
        assert accuracy_4(counts) == pytest.approx(metrics.accuracy_score(t, g))
        assert macro_f1(counts) == pytest.approx(metrics.f1_score(t, g, average="macro"))
        assert quadratic_kappa(counts) == pytest.approx(metrics.cohen_kappa_score(t, g, weights="quadratic"))
        assert auc(t >= 3, s) == pytest.approx(metrics.roc_auc_score(t >= 3, s))


# ------------------------------------------------------------------------------------------ intervals, missing ones


def sample(n=60, seed=0):
    generator = np.random.default_rng(seed)
    truth = generator.integers(1, 5, n)
    grades = np.clip(truth + generator.integers(-1, 2, n), 1, 4)
    return truth.tolist(), grades.tolist(), (grades / 4).tolist(), [f"q{i // 5}" for i in range(n)]


def test_missing_judgments_are_counted_and_never_scored():
    truth, grades, scores, groups = sample()
    holes = [0 if i % 7 == 0 else g for i, g in enumerate(grades)]
    scored = evaluate(truth, holes, [float("nan") if g == 0 else s for g, s in zip(holes, scores, strict=True)], groups)
    kept = [i for i, g in enumerate(holes) if g]
    alone = evaluate(*([column[i] for i in kept] for column in (truth, grades, scores, groups)))
    assert (scored.n, scored.missing) == (len(kept), 60 - len(kept))
    assert scored.metrics == alone.metrics


def test_a_judge_that_never_ran_has_no_value_rather_than_a_bad_one():
    scored = evaluate([1, 4], [0, 0], [float("nan")] * 2, ["a", "b"])
    assert (scored.n, scored.missing) == (0, 2)
    assert all(np.isnan(e.value) and np.isnan(e.low) for e in scored.metrics.values())


def test_intervals_resample_whole_queries():
    # two queries of ten pairs each, one all right and one all wrong: a resample is right in 0, 10 or 20 of 20
    truth, grades, groups = [4] * 10 + [1] * 10, [4] * 20, ["a"] * 10 + ["b"] * 10
    estimate = evaluate(truth, grades, [1.0] * 20, groups, resamples=400).metrics["acc_4"]
    assert (estimate.value, estimate.low, estimate.high) == (0.5, 0.0, 1.0)


def test_the_interval_equals_a_slow_bootstrap_over_queries():
    truth, grades, scores, groups = sample()
    names = np.unique(groups)
    draws = np.random.default_rng(7).multinomial(len(names), np.full(len(names), 1 / len(names)), size=200)
    slow = {name: [] for name in [*METRICS, "auc"]}
    for draw in draws:
        rows = [i for name, times in zip(names, draw, strict=True) for _ in range(times)
                for i, group in enumerate(groups) if group == name]  # fmt: skip
        counts = confusion([truth[i] for i in rows], [grades[i] for i in rows])
        for name, metric in METRICS.items():
            slow[name].append(float(metric(counts)))
        slow["auc"].append(auc([truth[i] >= 3 for i in rows], [scores[i] for i in rows]))
    scored = evaluate(truth, grades, scores, groups, resamples=200, seed=7)
    for name, values in slow.items():
        low, high = np.quantile(values, [0.025, 0.975])
        assert (scored.metrics[name].low, scored.metrics[name].high) == pytest.approx((low, high)), name


def test_the_same_seed_gives_the_same_interval():
    assert evaluate(*sample(), seed=3).metrics == evaluate(*sample(), seed=3).metrics
    assert evaluate(*sample(), seed=3).metrics != evaluate(*sample(), seed=4).metrics


def test_paired_difference_of_a_system_with_itself_is_zero_and_of_a_better_one_excludes_it():
    truth, grades, _, groups = sample()
    same = paired_difference(truth, grades, grades, groups)
    assert all((d.value, d.low, d.high, d.significant) == (0.0, 0.0, 0.0, False) for d in same.values())
    better = paired_difference(truth, truth, grades, groups)["acc_4"]
    assert better.value == pytest.approx(1 - np.mean(np.array(truth) == np.array(grades)))
    assert better.significant and better.low > 0


def test_paired_difference_uses_only_pairs_both_judged():
    truth, grades, _, groups = sample()
    holes = [0 if i < 30 else g for i, g in enumerate(grades)]
    whole = paired_difference(truth[30:], truth[30:], grades[30:], groups[30:])
    assert paired_difference(truth, truth, holes, groups) == whole


# ----------------------------------------------------------------------------------------------------------- baselines


def test_bm25_by_hand():
    bm25 = BM25({"a": "red shoe", "b": "blue shoe shoe big", "c": "lamp"})
    mean = (2 + 4 + 1) / 3
    idf = np.log(1 + (3 - 2 + 0.5) / (2 + 0.5))
    expected = idf * 2 * 2.2 / (2 + 1.2 * (1 - 0.75 + 0.75 * 4 / mean))
    assert bm25.score("Shoes", "b") == pytest.approx(expected)
    rare = np.log(1 + (3 - 1 + 0.5) / (1 + 0.5)) * 2.2 / (1 + 1.2 * (1 - 0.75 + 0.75 * 2 / mean))
    common = idf * 2.2 / (1 + 1.2 * (1 - 0.75 + 0.75 * 2 / mean))
    assert bm25.score("red shoes", "a") == pytest.approx(rare + common)
    assert bm25.score("sofa", "a") == 0.0 == bm25.score("red", "nobody")


def test_majority_prefers_the_lower_of_equals():
    assert majority([1, 1, 2, 3]) == 1
    assert majority([4, 4, 2, 2]) == 2


def test_grades_by_thresholds():
    assert grade_by(np.array([0.0, 0.1, 0.5, 0.9]), (0.1, 0.5, 0.9)).tolist() == [1, 2, 3, 4]
    assert grade_by(np.array([0.2, 0.6]), (0.5, 0.5, np.inf)).tolist() == [1, 3]


def test_fitted_thresholds_find_a_perfect_cut():
    scores, truth = np.array([0.0, 0.1, 0.4, 0.5, 0.7, 0.9]), np.array([1, 1, 2, 2, 3, 4])
    assert grade_by(scores, fit_thresholds(scores, truth)).tolist() == truth.tolist()


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 4)), min_size=4, max_size=12))
def test_fitted_thresholds_are_the_best_of_all_triples(pairs):
    scores, truth = np.array([p[0] for p in pairs]) / 9, np.array([p[1] for p in pairs])
    found = quadratic_kappa(confusion(truth, grade_by(scores, fit_thresholds(scores, truth))))
    cuts = [*sorted(set(scores)), np.inf]
    slow = max(
        float(quadratic_kappa(confusion(truth, grade_by(scores, (a, b, c)))))
        for a in cuts for b in cuts for c in cuts if a <= b <= c
    )  # fmt: skip
    assert found == pytest.approx(slow)


def test_cross_fitting_never_sees_the_query_it_grades():
    # one query's labels are reversed: thresholds fitted on the others must grade it as if they were not
    scores = [0.1, 0.9] * 6
    truth = [1, 4] * 5 + [4, 1]
    groups = [f"q{i // 2}" for i in range(12)]
    grades = cross_fitted(scores, truth, groups, folds=6)
    assert grades[-2:].tolist() == [1, 4]
    assert grades[:10].tolist() == [1, 4] * 5


def test_cross_fitting_leaves_missing_scores_missing():
    grades = cross_fitted([0.1, float("nan"), 0.9, 0.8], [1, 4, 4, 4], ["a", "a", "b", "c"])
    assert grades[1] == 0 and (grades[[0, 2, 3]] > 0).all()


# ------------------------------------------------------------------------------------------- pairs one by one, answers


def test_pairs_one_by_one_say_what_the_means_say():
    assert same_level(TRUTH, GIVEN).mean() == pytest.approx(accuracy_4(confusion(TRUTH, GIVEN)))
    assert same_side(TRUTH, GIVEN).mean() == pytest.approx(accuracy_2(confusion(TRUTH, GIVEN)))
    assert same_side([1, 3, 2], [2, 4, 3]).tolist() == [1.0, 1.0, 0.0]
    assert np.isnan(same_level([4], [0])).all() and np.isnan(same_side([4], [0])).all()


@given(st.integers(1, 7), st.data())
def test_pass_at_k_is_the_share_of_draws_with_a_right_one(n, data):
    right, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    answers = [True] * right + [False] * (n - right)
    draws = [any(some) for some in combinations(answers, k)]
    assert pass_at_k(right, n, k) == pytest.approx(sum(draws) / len(draws))


def test_pass_at_k_needs_k_answers():
    assert pass_at_k(2, 8, 1) == pytest.approx(2 / 8)
    assert np.isnan(pass_at_k(1, 7, 8)) and pass_at_k(1, 8, 8) == 1.0 and pass_at_k(0, 8, 8) == 0.0


def test_passes_of_one_answer_are_its_accuracy_and_of_several_their_chance():
    truth, grades, scores, groups = sample()
    once = evaluate(truth, grades, scores, groups, full=True, resamples=50)
    assert once.metrics["pass_1"] == once.metrics["acc_4"] and "pass_8" not in once.metrics
    # pair by pair eight answers of which two are right, one of which six are, and the third pair was asked once
    answers = [[4] * 2 + [1] * 6, [3] * 6 + [4] * 2, []]
    several = evaluate([4, 3, 2], [1, 3, 2], [0.0, 0.6, 0.3], list("abc"), full=True, answers=answers, resamples=9)
    assert several.metrics["pass_1"].value == pytest.approx((2 / 8 + 6 / 8 + 1) / 3)
    assert several.metrics["pass_8"].value == 1.0  # of the two pairs that were asked eight times
    missing = evaluate([4, 3], [0, 3], [float("nan"), 0.6], list("ab"), full=True, answers=answers[:2], resamples=9)
    assert missing.metrics["pass_1"].value == pytest.approx(6 / 8)


def test_p_values_say_what_the_intervals_say():
    truth, grades, _, groups = sample()
    assert {d.p for d in paired_difference(truth, grades, grades, groups, resamples=99).values()} == {1.0}
    better = paired_difference(truth, truth, grades, groups, resamples=99)["acc_4"]
    assert better.significant and better.p == pytest.approx(2 * 1 / 100)
    assert np.isnan(paired_difference([4], [0], [4], ["a"], resamples=9)["acc_4"].p)
