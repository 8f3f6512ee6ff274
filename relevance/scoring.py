"""How good grades are: metrics over graded pairs, with intervals. One grader for measuring and for training.

Everything takes arrays: `truth` and `grades` hold levels 1–4 (0 for a missing judgment), `scores` in [0, 1], `groups` a
query per pair. A missing judgment is never scored: it is left out of every metric and counted apart, and systems that
are compared are compared on the pairs that all of them judged. It knows nothing of judges, stores or files.

    acc_2           share of pairs on the right side of {L1, L2} | {L3, L4}
    acc_4           share of pairs with the right level
    macro_f1        mean F1 over the levels that are in the truth or were said; a level that is neither is left out, so
                    that a small sample is not punished for what it lacks; one never said counts 0 (as scikit-learn)
    quadratic_kappa Cohen's kappa with weights (i − j)² (Cohen 1968): 1 − Σ w·observed / Σ w·expected; 0 where the truth
                    and the grades are one and the same single level, for there chance explains everything
    auc             P(score of a relevant pair > of an irrelevant one) + ½ P(equal) (Hanley & McNeil 1982); NaN where
                    either side is empty

With `full` also, over the queries that have anything to find (`relevance.ranking` has the definitions):

    ndcg_10, mrr    mean over queries of nDCG@10 and of the reciprocal rank, by score
    good_rate       mean over queries of the share of items that the judge calls L3 or L4
    pass_1, pass_8  mean over pairs of 1 − C(n − c, k) / C(n, k): the chance that of k answers drawn from a pair's n
                    one has the right level, c of them being right (the unbiased estimate of Chen et al., Evaluating
                    large language models trained on code, 2021). Of a judge that answers once pass_1 is acc_4; pairs
                    with fewer than k answers are in no pass_k
    ece_2, ece_4    where probabilities are given, expected calibration error (Guo et al. 2017; 15 bins of equal width):
                    of P(L3 or L4) against being relevant, and of the surest level against being right

Intervals are percentile bootstraps over *queries* (Efron 1979; pairs of one query are not independent): queries are
drawn with replacement, each with all of its pairs. Accuracy, F1 and kappa are functions of the 4 × 4 confusion matrix,
so a resample costs one weighted sum of per-query matrices.

`same_level`, `same_side` and `pass_at_k` say the same of single pairs: what training rewards is what is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lore_mm.bootstrap import Draws, Estimate, calibration_error, estimate, interval, ratio
from relevance.ranking import good_rate, ndcg, reciprocal_rank

__all__ = [
    "METRICS",
    "Difference",
    "Estimate",
    "Scored",
    "accuracy_2",
    "accuracy_4",
    "auc",
    "calibration_errors",
    "confusion",
    "evaluate",
    "macro_f1",
    "paired_difference",
    "pass_at_k",
    "quadratic_kappa",
    "same_level",
    "same_side",
]

LEVELS = 4
_RANKED = 10  # places that nDCG looks at
_PASSES = (1, 8)  # the k of pass_k
_WEIGHTS = np.subtract.outer(np.arange(LEVELS), np.arange(LEVELS)).astype(float) ** 2
Counts = NDArray[np.float64]  # (…, 4, 4): row = truth, column = grade
Probabilities = Sequence[Sequence[float] | None]  # of L1 … L4, a pair; None where there are none
Answers = Sequence[Sequence[int]]  # the grades of each pair's several answers; empty where it was asked once


@dataclass(frozen=True, slots=True)
class Difference:
    """System A minus system B on the same pairs; `significant` where the interval excludes zero.

    `p`: two-sided, twice (1 + resamples on the other side of zero) / (1 + resamples), at most 1 (Davison & Hinkley,
    Bootstrap methods and their application, 1997, 4.4); NaN where nothing is defined.
    """

    value: float
    low: float
    high: float
    p: float = float("nan")

    @property
    def significant(self) -> bool:
        """True where the interval excludes zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class Scored:
    """One system on one set of pairs: the metrics, and what they were computed from."""

    n: int  # pairs scored
    missing: int  # pairs without a judgment, left out
    metrics: Mapping[str, Estimate]
    confusion: NDArray[np.int64]  # (4, 4): row = true level, column = given level


def confusion(truth: ArrayLike, grades: ArrayLike) -> NDArray[np.int64]:
    """The 4 × 4 matrix of counts: row = true level − 1, column = given level − 1.

    Raises:
        ValueError: lengths differ, or a level is not 1–4.
    """
    t, g = _levels(truth, "truth"), _levels(grades, "grades")
    if t.shape != g.shape:
        raise ValueError(f"{len(t)} true levels but {len(g)} grades")
    return np.bincount((t - 1) * LEVELS + (g - 1), minlength=LEVELS**2).reshape(LEVELS, LEVELS).astype(np.int64)


def _levels(values: ArrayLike, what: str) -> NDArray[np.int64]:
    levels = np.asarray(values, dtype=np.int64)
    if levels.size and not ((levels >= 1) & (levels <= LEVELS)).all():
        raise ValueError(f"{what} must be levels 1 to 4")
    return levels


def same_level(truth: ArrayLike, grades: ArrayLike) -> Counts:
    """1 for a pair with the right level, else 0; NaN where there is no judgment (grade 0). (n,), (n,) → (n,)."""
    t, g = np.asarray(truth, dtype=np.int64), np.asarray(grades, dtype=np.int64)
    return np.where(g == 0, np.nan, (t == g).astype(float))


def same_side(truth: ArrayLike, grades: ArrayLike) -> Counts:
    """1 for a pair on the right side of the line between L2 and L3, else 0; NaN where there is no judgment."""
    t, g = np.asarray(truth, dtype=np.int64), np.asarray(grades, dtype=np.int64)
    return np.where(g == 0, np.nan, ((t >= 3) == (g >= 3)).astype(float))


def pass_at_k(right: int, answers: int, k: int) -> float:
    """The chance that one of k of the answers is right, `right` of them being so; NaN with fewer than k answers."""
    if answers < k:
        return float("nan")
    return 1.0 - comb(answers - right, k) / comb(answers, k)


def accuracy_2(counts: ArrayLike) -> Counts:
    """Share of pairs on the right side of the line between L2 and L3. counts (…, 4, 4) → (…)."""
    c = np.asarray(counts, dtype=float)
    right = c[..., :2, :2].sum((-2, -1)) + c[..., 2:, 2:].sum((-2, -1))
    return ratio(right, c.sum((-2, -1)))


def accuracy_4(counts: ArrayLike) -> Counts:
    """Share of pairs with the right level. counts (…, 4, 4) → (…)."""
    c = np.asarray(counts, dtype=float)
    return ratio(np.trace(c, axis1=-2, axis2=-1), c.sum((-2, -1)))


def macro_f1(counts: ArrayLike) -> Counts:
    """Mean of F1 = 2·hits / (said + there) over the levels that are there or are said. counts (…, 4, 4) → (…)."""
    c = np.asarray(counts, dtype=float)
    hits = np.diagonal(c, axis1=-2, axis2=-1)
    there, said = c.sum(-1), c.sum(-2)
    f1 = np.divide(2 * hits, there + said, out=np.zeros_like(hits), where=there + said > 0)
    present = there + said > 0
    return ratio((f1 * present).sum(-1), present.sum(-1).astype(float))


def quadratic_kappa(counts: ArrayLike) -> Counts:
    """Quadratically weighted kappa. counts (…, 4, 4) → (…), 1 for agreement, 0 for chance, below for worse."""
    c = np.asarray(counts, dtype=float)
    n = c.sum((-2, -1))
    expected = c.sum(-1)[..., :, None] * c.sum(-2)[..., None, :]
    chance = ratio((_WEIGHTS * expected).sum((-2, -1)), n)
    observed = (_WEIGHTS * c).sum((-2, -1))
    kappa = 1.0 - np.divide(observed, chance, out=np.ones_like(observed), where=chance > 0)
    return np.asarray(np.where(n > 0, kappa, np.nan))


def auc(relevant: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The area under the ROC curve, ties counted half; pairs may carry weights (a bootstrap's multiplicities)."""
    y, s = np.asarray(relevant, dtype=bool), np.asarray(scores, dtype=float)
    w = np.ones(len(s)) if weights is None else np.asarray(weights, dtype=float)
    order = np.argsort(s, kind="stable")
    return _sorted_auc(y[order], _tie_starts(s[order]), w[order])


def _tie_starts(s: NDArray[np.float64]) -> NDArray[np.int64]:
    """Where each run of equal scores begins in sorted scores."""
    return np.flatnonzero(np.r_[True, s[1:] != s[:-1]]) if len(s) else np.zeros(0, dtype=np.int64)


def _sorted_auc(y: NDArray[np.bool_], starts: NDArray[np.int64], w: NDArray[np.float64]) -> float:
    if not len(y):
        return float("nan")
    positive = np.add.reduceat(np.where(y, w, 0.0), starts)
    negative = np.add.reduceat(np.where(y, 0.0, w), starts)
    total = positive.sum() * negative.sum()
    if total == 0:
        return float("nan")
    below = np.cumsum(negative) - negative
    return float((positive * (below + negative / 2)).sum() / total)


METRICS: Mapping[str, Callable[[ArrayLike], Counts]] = {
    "acc_2": accuracy_2,
    "acc_4": accuracy_4,
    "macro_f1": macro_f1,
    "quadratic_kappa": quadratic_kappa,
}


def evaluate(
    truth: Sequence[int],
    grades: Sequence[int],
    scores: Sequence[float],
    groups: Sequence[str],
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    full: bool = False,
    probabilities: Probabilities | None = None,
    answers: Answers | None = None,
) -> Scored:
    """All metrics of one system, each with a percentile interval over queries. A grade of 0 is a missing judgment.

    `full`: those of rankings and pass_k too, and of `probabilities` where they are given. `answers` are the grades of
    each pair's several answers; where a pair has none its grade is its only answer.

    Raises:
        ValueError: lengths differ, or a level is not 0–4.
    """
    t, g = np.asarray(truth, dtype=np.int64), np.asarray(grades, dtype=np.int64)
    s, q = np.asarray(scores, dtype=float), np.asarray(groups)
    if not len(t) == len(g) == len(s) == len(q):
        raise ValueError(f"lengths differ: {len(t)} truth, {len(g)} grades, {len(s)} scores, {len(q)} groups")
    there = g != 0
    draws = Draws(q[there], resamples, seed)
    values = _values(t[there], g[there], s[there], draws)
    if full:
        values |= _ranking(t[there], g[there], s[there], draws)
        several = [one for one, kept in zip(answers, there, strict=True) if kept] if answers else None
        values |= _passes(t[there], g[there], several, draws)
        if probabilities is not None:
            values |= _calibration(t[there], [p for p, kept in zip(probabilities, there, strict=True) if kept], draws)
    metrics = {name: estimate(v, level) for name, v in values.items()}
    return Scored(int(there.sum()), int((~there).sum()), metrics, confusion(t[there], g[there]))


def paired_difference(
    truth: Sequence[int],
    grades_a: Sequence[int],
    grades_b: Sequence[int],
    groups: Sequence[str],
    *,
    scores_a: Sequence[float] | None = None,
    scores_b: Sequence[float] | None = None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    full: bool = False,
) -> dict[str, Difference]:
    """A minus B for every metric, on the pairs that both judged, with intervals from the same resamples of queries.

    `full`: for those of rankings too.
    """
    t, a, b = (np.asarray(x, dtype=np.int64) for x in (truth, grades_a, grades_b))
    both = (a != 0) & (b != 0)
    draws = Draws(np.asarray(groups)[both], resamples, seed)
    sa = np.asarray(a if scores_a is None else scores_a, dtype=float)
    sb = np.asarray(b if scores_b is None else scores_b, dtype=float)
    first = _values(t[both], a[both], sa[both], draws)
    second = _values(t[both], b[both], sb[both], draws)
    if full:
        first |= _ranking(t[both], a[both], sa[both], draws)
        second |= _ranking(t[both], b[both], sb[both], draws)
    tail = (1 - level) / 2
    result = {}
    for name in first:
        delta = first[name] - second[name]
        result[name] = Difference(float(delta[0]), *interval(delta[1:], tail), _p_value(delta[1:]))
    return result


def _p_value(deltas: NDArray[np.float64]) -> float:
    """Two-sided, of the hypothesis that there is no difference; from the resampled differences."""
    defined = deltas[~np.isnan(deltas)]
    if not len(defined):
        return float("nan")
    fewer = min(int((defined <= 0).sum()), int((defined >= 0).sum()))
    return min(1.0, 2 * (1 + fewer) / (1 + len(defined)))


def _values(
    t: NDArray[np.int64], g: NDArray[np.int64], s: NDArray[np.float64], draws: Draws
) -> dict[str, NDArray[np.float64]]:
    """Every metric on the sample (place 0) and on each resample."""
    cells = (_levels(t, "truth") - 1) * LEVELS + (_levels(g, "grades") - 1)
    counts = draws.sums(np.eye(LEVELS**2)[cells]).reshape(-1, LEVELS, LEVELS)
    values = {name: np.asarray(metric(counts)) for name, metric in METRICS.items()}
    order = np.argsort(s, kind="stable")
    relevant, starts, owner = t[order] >= 3, _tie_starts(s[order]), draws.of_row[order]
    values["auc"] = np.array([_sorted_auc(relevant, starts, weights[owner]) for weights in draws.weights])
    return values


def _ranking(
    t: NDArray[np.int64], g: NDArray[np.int64], s: NDArray[np.float64], draws: Draws
) -> dict[str, NDArray[np.float64]]:
    """Means over queries, on the sample (place 0) and on each resample; queries where a metric is NaN are left out."""
    rows = (
        np.split(np.argsort(draws.of_row, kind="stable"), np.cumsum(np.bincount(draws.of_row))[:-1]) if len(t) else []
    )
    of_query = {
        f"ndcg_{_RANKED}": [ndcg(t[r], s[r], _RANKED) for r in rows],
        "mrr": [reciprocal_rank(t[r], s[r]) for r in rows],
        "good_rate": [good_rate(g[r]) for r in rows],
    }
    found = {}
    for name, values in of_query.items():
        v = np.asarray(values, dtype=float)
        defined = ~np.isnan(v)
        found[name] = ratio(draws.weights @ np.where(defined, v, 0.0), draws.weights @ defined.astype(float))
    return found


def _passes(
    t: NDArray[np.int64], g: NDArray[np.int64], answers: Answers | None, draws: Draws
) -> dict[str, NDArray[np.float64]]:
    """The mean of pass_k over the pairs that have k answers; no pass_k where no pair has."""
    several = [one if len(one) else [grade] for one, grade in zip(answers or [()] * len(t), g, strict=True)]
    right = [int(np.sum(np.asarray(one) == true)) for one, true in zip(several, t, strict=True)]
    found = {}
    for k in _PASSES:
        v = np.array([pass_at_k(c, len(one), k) for c, one in zip(right, several, strict=True)], dtype=float)
        defined = ~np.isnan(v)
        if k == 1 or defined.any():
            sums = draws.sums(np.stack([np.where(defined, v, 0.0), defined.astype(float)], axis=1))
            found[f"pass_{k}"] = ratio(sums[:, 0], sums[:, 1])
    return found


def _calibration(t: NDArray[np.int64], given: Probabilities, draws: Draws) -> dict[str, NDArray[np.float64]]:
    """The calibration errors of the pairs that have probabilities."""
    rows = np.array([i for i, p in enumerate(given) if p is not None], dtype=np.int64)
    if not len(rows):
        return {}
    p = np.array([given[i] for i in rows], dtype=float)
    return calibration_errors(t[rows], p, rows, draws)


def calibration_errors(
    truth: NDArray[np.int64], probabilities: NDArray[np.float64], rows: NDArray[np.int64], draws: Draws
) -> dict[str, NDArray[np.float64]]:
    """ece_2 and ece_4 of probabilities (n, 4), on the sample (place 0) and on each resample.

    `rows` are the places of the pairs among those that are drawn from.
    """
    t, p = truth, probabilities
    relevant = calibration_error(p[:, 2] + p[:, 3], t >= 3, rows, draws)
    surest = calibration_error(p.max(axis=1), p.argmax(axis=1) + 1 == t, rows, draws)
    return {"ece_2": relevant, "ece_4": surest}
