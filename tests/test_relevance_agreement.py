from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lore_mm.errors import InputError
from relevance.agreement import fit_threshold, refuted

scipy = pytest.importorskip("scipy.stats")


def drawn(rng: np.random.Generator, queries: int, pairs: int, weighted: bool) -> tuple[Any, Any, list[str], Any]:
    """How sure, whether it differs, whose pair, how often asked: the less sure the likelier to differ, by query."""
    sure = rng.beta(4, 1.5, (queries, pairs))
    hard = rng.beta(0.7, 3, (queries, 1))
    differs = rng.random((queries, pairs)) < np.clip((1 - sure) * (0.3 + 1.5 * hard), 0, 1)
    times = 1 + 9 * rng.random(queries) ** 3 if weighted else np.ones(queries)
    return sure.ravel(), differs.ravel(), [str(i // pairs) for i in range(queries * pairs)], np.repeat(times, pairs)


@pytest.mark.parametrize(("pairs", "weighted"), [(1, False), (1, True), (8, False), (8, True)])
def test_the_guarantee_is_broken_no_more_often_than_it_says(pairs: int, weighted: bool) -> None:
    rng = np.random.default_rng(pairs + weighted)
    sure, differs, _, times = drawn(rng, 100_000, pairs, weighted)  # stands for all there is
    broken, served = 0, []
    for _ in range(80):
        s, d, q, w = drawn(rng, 300, pairs, weighted)
        fitted = fit_threshold(s, d, q, target=0.95, confidence=0.8, weights=w)
        assert fitted.sure is not None
        answered = sure >= fitted.sure
        broken += float(np.average(answered & differs, weights=times)) > 0.05
        served.append(fitted.served)
    assert broken <= 24  # 16 of 80 are allowed; more than 24 come with a chance of 2 % where just so many are
    assert np.mean(served) > 0.3  # and it is not kept by never letting the cheap judge answer


def test_the_exact_tail() -> None:
    losses = np.array([1.0] * 2 + [0.0] * 98)
    assert refuted(losses, 0.05, np.ones(100), 0.05, alone=True) == pytest.approx(scipy.binom.cdf(2, 100, 0.05))


def test_a_judge_that_always_agrees_serves_all() -> None:
    queries = [f"q{i // 5}" for i in range(1000)]
    fitted = fit_threshold(np.full(1000, 0.6), np.zeros(1000), queries, target=0.95, confidence=0.95)
    assert (fitted.sure, fitted.served, fitted.agreement, fitted.queries, fitted.pairs) == (0.6, 1.0, 1.0, 200, 1000)
    assert 0 < fitted.p_value < 0.05


@pytest.mark.parametrize("n", [0, 1, 10])
def test_too_few_queries_prove_nothing(n: int) -> None:
    fitted = fit_threshold(np.full(n, 0.9), np.zeros(n), [f"q{i}" for i in range(n)], target=0.95, confidence=0.95)
    assert (fitted.sure, fitted.served, fitted.p_value, fitted.queries) == (None, 0.0, 1.0, n)
    assert math.isnan(fitted.agreement) if n == 0 else fitted.agreement == 1.0


def test_a_judge_that_differs_where_it_is_sure_is_never_let() -> None:
    sure = np.linspace(0.5, 1, 500)
    fitted = fit_threshold(sure, sure > 0.9, [str(i) for i in range(500)], target=0.99, confidence=0.9)
    assert fitted.sure is None and fitted.served == 0.0


def test_a_pair_without_an_answer_goes_to_the_dear_judge() -> None:
    sure = np.array([0.9] * 300 + [math.nan] * 100)
    differs = np.array([False] * 300 + [True] * 100)
    fitted = fit_threshold(sure, differs, [str(i) for i in range(400)], target=0.95, confidence=0.95)
    assert (fitted.sure, fitted.served, fitted.agreement) == (0.9, 0.75, 1.0)


def test_weights_make_it_a_share_of_requests() -> None:
    # the pairs of the query that is asked most often are all wrong: few pairs, most of the requests
    queries = ["often"] * 4 + [f"q{i}" for i in range(396)]
    sure, differs = np.full(400, 0.8), np.array([True] * 4 + [False] * 396)
    times = np.array([1000.0] * 4 + [1.0] * 396)
    alike = fit_threshold(sure, differs, queries, target=0.95, confidence=0.9)
    asked = fit_threshold(sure, differs, queries, target=0.95, confidence=0.9, weights=times)
    assert alike.sure == 0.8 and alike.agreement == pytest.approx(396 / 397)
    assert asked.sure is None


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.integers(0, 20)), max_size=60))
@settings(max_examples=60)
def test_what_it_says_of_itself_is_true(rows: list[tuple[float, bool, int]]) -> None:
    sure, differs = np.array([r[0] for r in rows]), np.array([r[1] for r in rows], bool)
    queries = [str(r[2]) for r in rows]
    fitted = fit_threshold(sure, differs, queries, target=0.6, confidence=0.6)
    if not rows:
        return
    answered = np.zeros(len(rows), bool) if fitted.sure is None else sure >= fitted.sure
    by_query = {q: [i for i, other in enumerate(queries) if other == q] for q in queries}
    served = np.mean([np.mean(answered[own]) for own in by_query.values()])
    wrong = np.mean([np.mean((answered & differs)[own]) for own in by_query.values()])
    assert fitted.served == pytest.approx(served) and fitted.agreement == pytest.approx(1 - wrong)
    assert fitted.sure is None or fitted.p_value <= 0.4


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"target": 1.0}, "target is 1; legal: above 0 and below 1"),
        ({"confidence": 0.0}, "confidence is 0"),
        ({"weights": [1.0]}, "values for the same pairs"),
        ({"weights": [1.0, 2.0]}, "one for each query"),
        ({"weights": [-1.0, -1.0]}, "above 0"),
        ({"weights": [math.nan, math.nan]}, "finite"),
    ],
)
def test_what_does_not_fit_is_refused(more: dict[str, Any], fault: str) -> None:
    options: dict[str, Any] = {"target": 0.9, "confidence": 0.9, **more}
    with pytest.raises(InputError) as told:
        fit_threshold([0.5, 0.6], [False, True], ["q", "q"], **options)
    assert fault in str(told.value)
