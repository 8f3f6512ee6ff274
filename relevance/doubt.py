"""Which labels are probably wrong: what several systems say, pooled, and how far a label stands from it.

After confident learning (Northcutt, Jiang & Chuang, Confident learning: estimating uncertainty in dataset labels,
2021): a label is doubted by probabilities that a model gives *without having seen it*. Here the model is a logistic
regression over the answers of judges and baselines, so that each counts as much as it deserves on these labels; a pair
is always graded by one that was fitted on other queries. Single raters, where there are any, are votes beside it.

The doubt of a label is the margin by which another level is likelier, P(likeliest other) − P(label), in [−1, 1]. On
labels that were spoilt on purpose it found more of these among its first than 1 − P(label), the expected distance in
levels, or thresholds a class (`lore evaluate labels --corrupt` measures that). It knows no judge, no set and no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lore_mm.errors import InputError, MissingExtraError
from relevance.baselines import folds_of

__all__ = ["RATER_WEIGHT", "answers_as_features", "likely_levels", "margins", "with_votes"]

RATER_WEIGHT = 1.0  # what the pooled systems count, in raters
_LEAST = 1e-2  # of a probability, before its logarithm
_STRENGTH = 0.1  # inverse of the L2 penalty, on features of unit variance
Floats = NDArray[np.float64]


def answers_as_features(
    grades: Sequence[int], scores: Sequence[float], probabilities: Sequence[Sequence[float] | None] | None = None
) -> Floats:
    """One system's answers to n pairs as numbers (n, m), NaN where they are missing.

    The score and its square; of a judge with probabilities also their logarithms, and which level it said.
    """
    s = np.asarray(scores, dtype=float)
    columns = [s, s**2]
    if probabilities is not None:
        nothing = [float("nan")] * 4
        p = np.array([one if one is not None else nothing for one in probabilities], dtype=float).reshape(len(s), 4)
        g = np.asarray(grades)
        columns += [*np.log(np.clip(p, _LEAST, 1.0)).T, *((g == level).astype(float) for level in range(1, 5))]
    return np.stack(columns, axis=1)


def likely_levels(
    features: Floats, labels: Sequence[int], groups: Sequence[str], folds: int = 5, seed: int = 0
) -> Floats:
    """P(L1) … P(L4) of each pair, (n, 4), by a model fitted on the labels of other queries. NaN features count as mean.

    Raises:
        InputError: all labels are of one level, or of one query.
        MissingExtraError: scikit-learn is not installed.
    """
    try:
        linear_model: Any = import_module("sklearn.linear_model")
    except ModuleNotFoundError:
        raise MissingExtraError("sklearn", "calibrate") from None
    y, fold = np.asarray(labels, dtype=np.int64), folds_of(groups, folds, seed)
    known = ~np.isnan(features)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, features, 0.0).sum(axis=0) / count
    centred = np.where(known, features - mean, 0.0)
    x = centred / (np.sqrt((centred**2).sum(axis=0) / count) + 1e-9)
    found = np.zeros((len(y), 4))
    for number in np.unique(fold):
        here, rest = fold == number, fold != number
        if len(np.unique(y[rest])) < 2:
            raise InputError(f"{len(y)} labels of {len(set(groups))} queries: too few to tell which are wrong")
        model = linear_model.LogisticRegression(C=_STRENGTH, max_iter=1000).fit(x[rest], y[rest])
        found[np.ix_(here, model.classes_ - 1)] = model.predict_proba(x[here])
    return found


def with_votes(probabilities: Floats, votes: ArrayLike, weight: float = RATER_WEIGHT) -> Floats:
    """Probabilities (n, 4) after single raters' votes, counts (n, 4), as a Dirichlet prior of `weight` raters."""
    counts = np.asarray(votes, dtype=float)
    result: Floats = (counts + weight * probabilities) / (counts.sum(axis=1, keepdims=True) + weight)
    return result


def margins(probabilities: Floats, labels: Sequence[int]) -> Floats:
    """How much likelier than its label the likeliest other level of each pair is, in [−1, 1]. (n, 4), (n,) → (n,)."""
    rows, own = np.arange(len(labels)), np.asarray(labels, dtype=np.int64) - 1
    others = np.array(probabilities, dtype=float)
    given = others[rows, own]
    others[rows, own] = -np.inf
    result: Floats = others.max(axis=1) - given
    return result
