"""From likelihoods to probabilities, and from probabilities to a score and a grade: decided once, for every model.

The grade is the *median* level: the highest one that is reached with a probability of at least one half. It has the
least expected distance from the true level, and it is L3 or L4 exactly where P(L3) + P(L4) is at least one half, so the
grade and the question "relevant or not" never contradict each other; the likeliest level can (0.4 L2, 0.3 L3, 0.3 L4).
The score is the expected grade scaled to [0, 1], as the rulebook's `decide` has it. This module knows no judge.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from lore_mm.types import Grade, MatchPath

__all__ = ["LEVELS", "Probabilities", "as_probabilities", "broken", "grade_of", "score_of"]

Probabilities = tuple[float, float, float, float]  # of L1 … L4, summing to 1
LEVELS: tuple[str, ...] = tuple(str(level) for level in Grade)
_EPSILON = 1e-9  # sums of probabilities are not exact


def as_probabilities(likelihoods: Sequence[float]) -> Probabilities:
    """The softmax of one log-likelihood (natural) a level: the probabilities if one of the levels it must be.

    Raises:
        ValueError: not as many as there are levels, one is no number or above every bound, or all are impossible.
    """
    if len(likelihoods) != len(LEVELS):
        raise ValueError(f"{len(likelihoods)} likelihoods, there are {len(LEVELS)} levels")
    if any(math.isnan(one) or one == math.inf for one in likelihoods):
        raise ValueError(f"a likelihood is no number: {', '.join(str(one) for one in likelihoods)}")
    highest = max(likelihoods)
    if highest == -math.inf:
        raise ValueError("every level is impossible")
    weights = [math.exp(one - highest) for one in likelihoods]
    total = sum(weights)
    a, b, c, d = (one / total for one in weights)
    return a, b, c, d


def score_of(probabilities: Sequence[float]) -> float:
    """The expected grade scaled to [0, 1]: 0 for L1, 1 for L4."""
    return sum(place * one for place, one in enumerate(probabilities)) / (len(LEVELS) - 1)


def grade_of(probabilities: Sequence[float]) -> Grade:
    """The median level: the highest that is reached with a probability of at least one half."""
    reached = 1.0
    for level in Grade:
        reached -= probabilities[level - 1]
        if reached < 0.5 - _EPSILON:
            return level
    return Grade.L4


def broken(path: MatchPath | None, grade: Grade) -> tuple[str, ...]:
    """The dimensions at L2 or L1 of a path that explains a grade; none for a relevant one, which has failed nothing."""
    if path is None or grade.relevant:
        return ()
    return tuple(dict.fromkeys(leg.demand.dimension for leg in path.legs if leg.level and not leg.level.relevant))
