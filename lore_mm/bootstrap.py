"""Percentile bootstrap over groups (Efron, Bootstrap methods: another look at the jackknife, 1979).

Rows of one group (pairs of one query, colour variants of one product) are not independent of one another: groups are
drawn with replacement, each with all of its rows. A metric that is a function of sums costs one matrix product for all
resamples. It knows no metric.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Draws", "Estimate", "estimate", "interval"]

Floats = NDArray[np.float64]


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
