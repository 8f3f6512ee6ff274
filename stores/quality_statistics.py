"""Is a difference between two sets of counts more than chance? Probabilities, in closed form.

All of them take the two sides for independent samples. Two snapshots of one catalogue mostly hold the same items, and
then differ less by chance than these allow for: the tests are cautious there.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["adjusted", "chi_squared_tail", "kolmogorov_tail"]

_SERIES = 100  # terms of Kolmogorov's series; from λ = 0.2 on its rest is nothing


def chi_squared_tail(statistic: float, degrees: int) -> float:
    """The probability that chi-squared of so many degrees of freedom is at least this.

    The closed sums for whole degrees (Abramowitz and Stegun, Handbook of Mathematical Functions, 26.4.4 and 26.4.5).
    1.0 where there are no degrees; NaN for a statistic that is none.
    """
    if math.isnan(statistic):
        return math.nan
    if degrees < 1 or statistic <= 0:
        return 1.0
    half = statistic / 2
    odd = degrees % 2
    powers = np.arange(0, degrees // 2) + odd * 0.5
    logs = powers * math.log(half) - half - np.array([math.lgamma(p + 1) for p in powers])
    return min(1.0, (math.erfc(math.sqrt(half)) if odd else 0.0) + float(np.exp(logs).sum()))


def kolmogorov_tail(distance: float, n: float, m: float) -> float:
    """The probability of at least this distance between the distribution functions of two samples of one law.

    Smirnov's limit (1939) with Stephens' correction for small samples (JRSS B 32, 1970); where numbers repeat the true
    probability is smaller. NaN where a side is empty.
    """
    if min(n, m) <= 0 or math.isnan(distance):
        return math.nan
    root = math.sqrt(n * m / (n + m))
    scaled = (root + 0.12 + 0.11 / root) * distance
    if scaled < 0.2:  # the tail is 1 to twelve digits
        return 1.0
    k = np.arange(1, _SERIES + 1)
    return float(np.clip(2 * np.sum((-1.0) ** (k - 1) * np.exp(-2 * (k * scaled) ** 2)), 0.0, 1.0))


def adjusted(probabilities: ArrayLike) -> NDArray[np.float64]:
    """Each probability as the share of false alarms among all that are no larger (Benjamini and Hochberg 1995).

    NaN stays NaN and counts as no test.
    """
    values = np.asarray(probabilities, dtype=float)
    result = np.full(values.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    scaled = values[order] * len(order) / np.arange(1, len(order) + 1)
    result[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return result
