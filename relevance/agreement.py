"""How sure a cheap judge must be of a pair to answer in the place of a dear one, with a bound that holds on few pairs.

Where the cheap judge is at least as sure as a threshold, it answers; elsewhere the dear one does, and agrees with
itself. The risk of a threshold is the expected share of a query's pairs that the cheap judge answers otherwise than the
dear one would. It falls as the threshold rises, so thresholds are tried from the surest down, each by a test of "the
risk is above what is allowed", and the last one before the first that is not refuted stands: with the stated confidence
its risk is within bounds (fixed-sequence testing; Angelopoulos et al., Learn then test, 2021, arXiv 2110.01052, section
4; Bates et al., Distribution-free, risk-controlling prediction sets, 2021, theorem 1).

Queries are the sample, not pairs: pairs of one query err together. They must have been drawn without a look at any
judgment, and traffic must stay as it was: both are up to who draws them. This module knows no judge and no file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lore_mm.errors import InputError, MissingExtraError

__all__ = ["CANDIDATES", "Threshold", "fit_threshold", "refuted"]

CANDIDATES = 50  # thresholds tried, at the quantiles of how sure the judge is
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Threshold:
    """A threshold and what it came to on the pairs it was fitted on.

    Attributes:
        sure: the cheap judge answers where it is at least so sure; None where it never does.
        queries, pairs: how many it was fitted on.
        served: the share of pairs, weighted as asked, that the cheap judge answers, in [0, 1].
        agreement: the share on which the two together answer as the dear one alone, in [0, 1]; NaN without pairs.
        p_value: the chance of evidence as good as this, were the risk above what is allowed; 1 where none was tried.
    """

    sure: float | None
    queries: int
    pairs: int
    served: float
    agreement: float
    p_value: float


def fit_threshold(
    sure: ArrayLike,
    differs: ArrayLike,
    queries: Sequence[str],
    *,
    target: float,
    confidence: float,
    weights: ArrayLike | None = None,
    seed: int = 0,
) -> Threshold:
    """The lowest threshold at which both together agree with the dear judge on a share `target` of pairs or more.

    It does so with a chance of at least `confidence` over the draw of the queries. `sure` (n,) is how sure the cheap
    judge is of each pair, NaN where it cannot answer; `differs` (n,) whether its answer is another; `queries` (n,) the
    query of each. `weights` (n,), above 0 and the same for all pairs of a query, is how often the query is asked: then
    the share is one of requests. `seed` orders the queries for the test, which looks at one after the other.

    Raises:
        InputError: target or confidence is not strictly between 0 and 1, or the lengths, weights do not fit.
    """
    for name, value in (("target", target), ("confidence", confidence)):
        if not 0 < value < 1:
            raise InputError(f"{name} is {value:g}; legal: above 0 and below 1")
    own, wrong = np.asarray(sure, dtype=np.float64), np.asarray(differs, dtype=bool)
    weighted = np.ones(len(own)) if weights is None else np.asarray(weights, dtype=np.float64)
    if not len(own) == len(wrong) == len(queries) == len(weighted):
        raise InputError(f"{len(own)}, {len(wrong)}, {len(queries)}, {len(weighted)} values for the same pairs")
    _, first, group, sizes = np.unique(np.asarray(queries), return_index=True, return_inverse=True, return_counts=True)
    times = weighted[first]
    if len(own) and not (np.isfinite(weighted).all() and (weighted > 0).all() and (weighted == times[group]).all()):
        raise InputError("weights are above 0, finite, and one for each query")
    order = np.random.default_rng(seed).permutation(len(sizes))
    alone = bool((sizes == 1).all() and (times == times[:1]).all())

    best: float | None = None
    p_value = 1.0
    for candidate in _candidates(own):
        losses = np.bincount(group, weights=(own >= candidate) & wrong, minlength=len(sizes)) / sizes
        p = refuted(losses[order], 1 - target, times[order], 1 - confidence, alone=alone)
        if p > 1 - confidence:
            break
        best, p_value = candidate, p
    each = weighted / sizes[group]  # a query counts as often as it is asked, however many pairs it has
    answers = np.zeros(len(own), bool) if best is None else own >= best
    whole = float(each.sum())
    return Threshold(
        best,
        len(sizes),
        len(own),
        float(each[answers].sum()) / whole if whole else 0.0,
        1 - float(each[answers & wrong].sum()) / whole if whole else math.nan,
        p_value,
    )


def refuted(losses: Floats, allowed: float, weights: Floats, risk: float, *, alone: bool = False) -> float:
    """A p-value for "the weighted mean loss of all queries is above `allowed`"; small where the losses refute it.

    `losses` in [0, 1] of queries that were drawn alike, in an order that does not depend on them. `alone`: each is 0 or
    1 and weights are equal, so that the exact tail of the binomial distribution answers. Otherwise by betting: who
    stakes a share of his wealth on each loss being below `allowed` gains nothing in the mean where it is not, so that
    his wealth exceeds 1 / p with a chance of at most p (Ville). He stakes as Waudby-Smith and Ramdas do (Estimating
    means of bounded random variables by betting, 2024, section 4): the more, the less losses have varied so far; `risk`
    is the p-value he aims at.
    """
    if not len(losses):
        return 1.0
    if alone:
        return _binomial_tail(float(losses.sum()), len(losses), allowed)
    gains = weights / weights.max() * (allowed - losses)  # within [allowed - 1, allowed]
    n = np.arange(1, len(gains) + 1)
    means = (gains.cumsum()) / (n + 1)
    spread = (0.25 + ((gains - means) ** 2).cumsum()) / (n + 1)
    before = np.concatenate([[0.25], spread[:-1]])  # what was known when the stake was laid
    stakes = np.minimum(np.sqrt(2 * math.log(1 / risk) / (len(gains) * before)), 0.9 / (1 - allowed))
    wealth = np.log1p(stakes * gains).cumsum()
    return float(min(1.0, math.exp(-max(0.0, float(wealth.max())))))


def _binomial_tail(wrong: float, n: int, share: float) -> float:
    """The chance of so few wrong of n, or fewer, where each is wrong with the chance `share`."""
    try:
        from scipy.stats import binom
    except ModuleNotFoundError:
        raise MissingExtraError("scipy", "calibrate") from None
    return float(binom.cdf(round(wrong), n, share))


def _candidates(own: Floats) -> list[float]:
    """Thresholds that are tried, falling: chosen without a look at what differs."""
    known = np.unique(own[~np.isnan(own)])
    if len(known) > CANDIDATES:
        known = np.unique(np.quantile(known, np.arange(CANDIDATES) / CANDIDATES, method="lower"))
    return [float(one) for one in known[::-1]]
