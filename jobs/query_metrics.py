"""How well queries are understood: metrics over scored queries, each with a 95 % interval over queries.

    precision, recall, f1   of each family of things said (spans, their boundaries alone, demands, latent demands,
                            corrections): right / said, found / true, and their harmonic mean; micro, as seqeval and
                            conlleval sum them (Tjong Kim Sang and De Meulder, CoNLL-2003). NaN where nothing was said,
                            or there was nothing to find; f1 is 0 where something was and nothing is right.
    macro_…_f1              the mean of f1 over the parts of a family (types, dimensions) that occur in the truth or
                            among what was said
    …_accuracy              right / decisions: head, hard type, referent; operator, number and unit of numeric demands;
                            strictness of the demands found; `exact`: all spans, or all demands said, and nothing else
    unchanged_share         of the queries without a misspelling, those whose spelling was left as it is

Queries with the same words are one group. It knows no data set and no engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.query_scoring import QueryScore, Share, Tally
from lore_mm.bootstrap import Draws, Estimate, estimate, mean_of_defined, ratio
from lore_mm.text import fold

__all__ = ["Measured", "Part", "differences", "measure"]

MACRO = ("span", "demand")  # families whose parts are summed up
SHARES: Mapping[str, str] = {"unchanged": "unchanged_share"}  # the others are accuracies
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Part:
    """One type or dimension: how many there were and were said, and precision, recall and f1."""

    true: int
    said: int
    metrics: Mapping[str, Estimate]


@dataclass(frozen=True, slots=True)
class Measured:
    """The metrics of one system over some queries. `resampled`: each on the sample (place 0) and on each resample."""

    n: int
    failed: int
    resampled: Mapping[str, Floats]
    parts: Mapping[str, Mapping[str, Part]]  # family → part

    @property
    def metrics(self) -> dict[str, Estimate]:
        """Each metric with its interval."""
        return {name: estimate(values) for name, values in self.resampled.items()}


def measure(scores: Sequence[QueryScore], *, resamples: int = 1000, seed: int = 0) -> Measured:
    """The metrics of one system's queries. The same queries of another system get the same resamples."""
    draws = Draws([fold(score.text) for score in scores], resamples, seed)
    resampled: dict[str, Floats] = {}
    parts: dict[str, dict[str, Part]] = {}
    macro: dict[str, list[Floats]] = {}
    for name in dict.fromkeys(name for score in scores for name in score.tallies):
        counts = draws.sums([score.tallies.get(name, Tally(0, 0, 0, 0)) for score in scores]).T
        family, _, part = name.partition("/")
        three = _three(*counts)
        if part:
            estimates = {metric: estimate(values) for metric, values in three.items()}
            parts.setdefault(family, {})[part] = Part(int(counts[2][0]), int(counts[0][0]), estimates)
            macro.setdefault(family, []).append(three["f1"])
        else:
            resampled |= {f"{family}_{metric}": values for metric, values in three.items()}
    for family in MACRO:
        if family in macro:
            resampled[f"macro_{family}_f1"] = mean_of_defined(macro[family])
    for name in dict.fromkeys(name for score in scores for name in score.shares):
        right, n = draws.sums([score.shares.get(name, Share(0, 0)) for score in scores]).T
        resampled[SHARES.get(name, f"{name}_accuracy")] = ratio(right, n)
    ordered = {family: dict(sorted(some.items(), key=lambda one: -one[1].true)) for family, some in parts.items()}
    return Measured(len(scores), sum(score.error is not None for score in scores), resampled, ordered)


def differences(one: Measured, other: Measured) -> dict[str, Estimate]:
    """One system minus another on the same queries and resamples, where both have the metric."""
    both = [name for name in one.resampled if name in other.resampled]
    return {name: estimate(one.resampled[name] - other.resampled[name]) for name in both}


def _three(said: Floats, right: Floats, true: Floats, found: Floats) -> dict[str, Floats]:
    precision, recall = ratio(right, said), ratio(found, true)
    p, r = np.nan_to_num(precision), np.nan_to_num(recall)
    f1 = np.divide(2 * p * r, p + r, out=np.zeros(p.shape), where=p + r > 0)
    f1[(said == 0) & (true == 0)] = np.nan
    return {"precision": precision, "recall": recall, "f1": f1}
