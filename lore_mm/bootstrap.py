"""Percentile bootstrap over groups (Efron, Bootstrap methods: another look at the jackknife, 1979).

Rows of one group (pairs of one query, colour variants of one product) are not independent of one another: groups are
drawn with replacement, each with all of its rows. A metric that is a function of sums costs one matrix product for all
resamples. Beside it stands what metrics over such sums share: ratios where they are defined, means of these, the
calibration error, and the form in which intervals are printed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "BINS",
    "Draws",
    "Estimate",
    "Interval",
    "calibration_error",
    "estimate",
    "interval",
    "mean_of_defined",
    "plain",
    "ratio",
    "rounded",
    "wilson",
]

BINS = 15  # of the calibration error
Floats = NDArray[np.float64]


class Interval(Protocol):
    """A value with its interval [low, high]; NaN where it is not defined."""

    @property
    def value(self) -> float:
        """On the sample itself."""
        ...

    @property
    def low(self) -> float:
        """The lower end."""
        ...

    @property
    def high(self) -> float:
        """The upper end."""
        ...


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric with its interval [low, high]; NaN where it is not defined."""

    value: float
    low: float
    high: float


class Draws:
    """The multiplicity of each group in each resample.

    `names` are the groups, `of_row` (n,) the place in them of each row's own, `weights` (1 + resamples, groups) how
    often each group was drawn; row 0 is the sample itself.
    """

    def __init__(self, groups: Sequence[str] | NDArray[np.str_], resamples: int, seed: int) -> None:
        self.names, self.of_row = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
        n = len(self.names)
        generator = np.random.default_rng(seed)
        drawn = generator.multinomial(n, np.full(n, 1 / n), size=resamples) if n else np.zeros((resamples, 0))
        self.weights: Floats = np.vstack([np.ones((1, n)), drawn]).astype(float)

    def sums(self, columns: ArrayLike, rows: ArrayLike | None = None) -> Floats:
        """Sums over rows, (1 + resamples, k), of columns (n, k); of some `rows` only where columns are for these."""
        values = np.asarray(columns, dtype=float)
        owner = self.of_row if rows is None else self.of_row[np.asarray(rows, dtype=np.int64)]
        per_group = np.zeros((len(self.names), values.shape[1]))
        np.add.at(per_group, owner, values)
        return self.weights @ per_group


def estimate(values: Floats, level: float = 0.95) -> Estimate:
    """A metric on the sample (place 0) with the percentile interval over the resamples behind it."""
    return Estimate(float(values[0]), *interval(values[1:], (1 - level) / 2))


def interval(values: Floats, tail: float) -> tuple[float, float]:
    """The quantiles at `tail` and 1 - `tail` of the values that are defined; NaN where none is."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def wilson(hits: int, n: int) -> Estimate:
    """A share of independent trials with its 95 % interval (Wilson, Probable inference, 1927); NaN where n is 0."""
    if n < 1:
        return Estimate(float("nan"), float("nan"), float("nan"))
    z, share = 1.959964, hits / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * ((share * (1 - share) + z * z / (4 * n)) / n) ** 0.5
    return Estimate(share, max(0.0, middle - half), min(1.0, middle + half))


def ratio(part: ArrayLike, whole: ArrayLike) -> Floats:
    """Part / whole, NaN where the whole is not above 0."""
    a, b = np.asarray(part, dtype=float), np.asarray(whole, dtype=float)
    result: Floats = np.divide(a, b, out=np.full(np.broadcast(a, b).shape, np.nan), where=b > 0)
    return result


def mean_of_defined(columns: Iterable[Floats]) -> Floats:
    """The mean over columns of the values that are not NaN, row by row; NaN where none is."""
    values = np.array(list(columns))
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0).sum(axis=0), defined.sum(axis=0))


def calibration_error(confidence: Floats, true: ArrayLike, rows: ArrayLike, draws: Draws) -> Floats:
    """The expected calibration error on the sample (place 0) and on each resample.

    It is the sum over bins of |Σ confidence − Σ true|, over the number of confidences.
    `true` is 0 or 1 for each confidence, `rows` are their rows in `draws`. The 15 bins have equal width and are
    (low, high], the first [0, high] (Guo et al., On calibration of modern neural networks, 2017).
    """
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = np.zeros((len(confidence), BINS + 1))
    gaps[np.arange(len(confidence)), bins] = confidence - np.asarray(true, dtype=float)
    gaps[:, BINS] = 1
    sums = draws.sums(gaps, rows)
    return ratio(np.abs(sums[:, :BINS]).sum(axis=1), sums[:, BINS])


def plain(estimates: Mapping[str, Interval]) -> dict[str, dict[str, float | None]]:
    """Metrics as JSON: name → value, low, high; null where one is not defined."""
    return {
        name: {"value": rounded(e.value), "low": rounded(e.low), "high": rounded(e.high)}
        for name, e in estimates.items()
    }


def rounded(value: float) -> float | None:
    """A number as JSON has it, to six places; None for NaN."""
    return None if value != value else round(value, 6)
