"""How good extracted attributes are: metrics over scored rows, each with an interval over groups.

Per attribute, and over all of them: `micro` pools the rows, `macro` is the mean over the attributes for which a metric
is defined. A row is one attribute of one item.

    accuracy    share of rows answered exactly: the true value, of a set all of it and nothing else; where the truth is
                silence (not stated, not applicable), silence
    any_match   share of rows with at least one true value among those said, or rightly silent: lenient towards sets
    precision   of the values said, the share that is true; NaN where nothing was said
    recall      of the true values, the share that was said
    f1          2PR / (P + R); 0 where there was something to say and nothing true was said (as scikit-learn)
    ece         expected calibration error of the values said: over 15 bins of equal width, the share of values in the
                bin times |mean confidence - share true| (Guo et al., On calibration of modern neural networks, 2017)
    brier       mean of (confidence - 1 if true, else 0)² over the values said (Brier, Monthly Weather Review, 1950)
    coverage    the largest share of rows that can be answered with at least the target precision, taking the surest
                first: a row counts as right where nothing false was said, and is as sure as its least certain value

A failed row is no silence: it is not exact, matches nothing, and what it should have said counts against recall. This
module knows nothing of data sets, extractors or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.attribute_scoring import ScoredRow
from lore_mm.bootstrap import Draws, Estimate, calibration_error, estimate, mean_of_defined, ratio

__all__ = ["METRICS", "Measured", "differences", "measure"]

METRICS = ("accuracy", "any_match", "precision", "recall", "f1", "ece", "brier", "coverage")
_AT_ONCE = 2_000_000  # numbers held while coverage is resampled

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Measured:
    """Metrics over some rows: how many there were, how many of them were answered and how many failed.

    `resampled` holds each metric on the sample (place 0) and on each resample.
    """

    n: int
    answered: int
    failed: int
    resampled: Mapping[str, Floats]

    @property
    def metrics(self) -> dict[str, Estimate]:
        """Each metric with its 95 % interval."""
        return {name: estimate(values) for name, values in self.resampled.items()}


def measure(
    rows: Sequence[ScoredRow], *, coverage_at: float = 0.95, resamples: int = 1000, seed: int = 0
) -> dict[str, Measured]:
    """The metrics of one extractor's rows: by attribute, and under "micro" and "macro" over all of them.

    The same rows of another extractor get the same resamples, so that the two can be compared (`differences`).
    """
    draws = Draws([row.group for row in rows], resamples, seed)
    by_attribute: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        by_attribute.setdefault(row.attribute, []).append(i)
    found = {name: _measure(rows, at, draws, coverage_at) for name, at in sorted(by_attribute.items())}
    macro = {name: mean_of_defined([one.resampled[name] for one in found.values()]) for name in METRICS} if rows else {}
    micro = _measure(rows, range(len(rows)), draws, coverage_at)
    return {"micro": micro, "macro": Measured(micro.n, micro.answered, micro.failed, macro), **found}


def differences(one: Measured, other: Measured) -> dict[str, Estimate]:
    """One system minus another, on the same rows and resamples, with paired intervals."""
    return {name: estimate(one.resampled[name] - other.resampled[name]) for name in one.resampled}


def _measure(rows: Sequence[ScoredRow], at: Sequence[int], draws: Draws, coverage_at: float) -> Measured:
    """All metrics over the rows at these places."""
    some = [rows[i] for i in at]
    columns = np.array([_counts(row) for row in some], dtype=float).reshape(len(some), 6)
    n, exact, matched, wanted, found, answered = draws.sums(columns, at).T
    owner = [i for i, row in zip(at, some, strict=True) for _ in row.values]
    confidence = np.array([c for row in some for c in row.confidences], dtype=float)
    true = np.array([hit for row in some for hit in row.hits], dtype=float)
    said, hits, squared = draws.sums(np.column_stack([np.ones_like(true), true, (confidence - true) ** 2]), owner).T
    precision, recall = ratio(hits, said), ratio(found, wanted)
    resampled = {
        "accuracy": ratio(exact, n),
        "any_match": ratio(matched, n),
        "precision": precision,
        "recall": recall,
        "f1": _f1(precision, recall),
        "ece": calibration_error(confidence, true, owner, draws),
        "brier": ratio(squared, said),
        "coverage": _coverage(some, at, n, draws, coverage_at),
    }
    return Measured(len(some), int(answered[0]), sum(row.failed for row in some), resampled)


def _counts(row: ScoredRow) -> tuple[float, ...]:
    matched = row.found > 0 or (row.right and not row.values)
    return 1, row.exact, matched, row.wanted, row.found, bool(row.values)


def _f1(precision: Floats, recall: Floats) -> Floats:
    """The harmonic mean; 0 where one of the two is 0 or nothing was said, NaN where there was nothing to say either."""
    p, r = np.nan_to_num(precision), np.nan_to_num(recall)
    f1: Floats = np.divide(2 * p * r, p + r, out=np.zeros(p.shape), where=p + r > 0)
    f1[np.isnan(precision) & np.isnan(recall)] = np.nan
    return f1


def _coverage(rows: Sequence[ScoredRow], at: Sequence[int], n: Floats, draws: Draws, target: float) -> Floats:
    """The largest share of the rows answered by their surest part whose precision reaches the target."""
    answered = [(row.confidence, row.right, draws.of_row[i]) for i, row in zip(at, rows, strict=True) if row.values]
    if not answered:
        return ratio(np.zeros(n.shape), n)
    answered.sort(key=lambda one: -one[0])
    confidence = np.array([c for c, _, _ in answered])
    right = np.array([r for _, r, _ in answered], dtype=float)
    owner = np.array([o for _, _, o in answered])
    ends = np.flatnonzero(np.r_[confidence[1:] != confidence[:-1], True])  # rows of one confidence go together
    best = np.zeros(n.shape)
    step = max(1, _AT_ONCE // len(answered))
    for start in range(0, len(n), step):
        weights = draws.weights[start : start + step][:, owner]
        taken = weights.cumsum(axis=1)[:, ends]
        hits = (weights * right).cumsum(axis=1)[:, ends]
        good = hits >= target * taken - 1e-9
        best[start : start + step] = np.where(good, taken, 0).max(axis=1)
    return ratio(best, n)
