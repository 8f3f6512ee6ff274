"""Self-consistency: several readings of one pair, one judgment.

The samples vote by the grade that the rulebook gives their paths. Of grades with as many votes the one nearest to the
mean of all samples wins, then the one that the samples' own paths hold likelier, then the lower. The path that is kept
is one of the winner's: the commonest row of relations, of these the shortest reply, of these the first.

How sure the judgment is comes from the votes leg by leg: where k of n samples name the relation that a leg of the kept
path has, and its own confidence in it is c, the leg's confidence becomes (k + c) / (n + 1), times that in the demand.
So the probabilities stay a function of the path and the rulebook, and a stored judgment can be graded again by another
rulebook without its samples. Where a backend tells no likelihoods, c is 0.5 and the votes say the rest.

After Wang et al., Self-Consistency Improves Chain of Thought Reasoning in Language Models, arXiv 2203.11171. This
module knows no model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lore_mm.types import Grade, Leg, MatchPath
from relevance.read_path import ToldPath
from relevance.rules import Decision, Rulebook, decide

__all__ = ["Elected", "elect"]


@dataclass(frozen=True, slots=True)
class Elected:
    """What the samples agree on: the decision on the kept path, what its model said, and the grade of each sample."""

    decision: Decision
    said: Grade
    grades: tuple[Grade, ...]


def elect(samples: Sequence[ToldPath], rest: Sequence[Leg], rulebook: Rulebook) -> Elected:
    """The judgment of one or several readings of a pair; `rest` are legs that no sample was asked for.

    Raises:
        ValueError: there is no sample, or no leg.
    """
    if not samples:
        raise ValueError("no sample to elect from")
    decisions = [decide(_with(one.path, one.path.legs, rest), rulebook) for one in samples]
    grades = tuple(decision.grade for decision in decisions)
    grade = _winner(decisions)
    rows = [tuple(leg.relation for leg in one.path.legs) for one in samples]
    winners = [i for i, one in enumerate(grades) if one == grade]
    common = Counter(rows[i] for i in winners)
    kept = min(winners, key=lambda i: (-common[rows[i]], samples[i].length, i))
    chosen = samples[kept]
    if len(samples) == 1:
        return Elected(decisions[0], chosen.said, grades)
    votes = [sum(row[j] == relation for row in rows) for j, relation in enumerate(rows[kept])]
    legs = [_agreed(leg, k, len(samples)) for leg, k in zip(chosen.path.legs, votes, strict=True)]
    return Elected(decide(_with(chosen.path, legs, rest), rulebook), chosen.said, grades)


def _with(path: MatchPath, legs: Sequence[Leg], rest: Sequence[Leg]) -> MatchPath:
    return MatchPath(path.query_id, path.item_id, (*legs, *rest))


def _winner(decisions: Sequence[Decision]) -> Grade:
    votes = Counter(decision.grade for decision in decisions)
    mean = sum(votes.elements()) / len(decisions)
    held = {grade: sum(decision.probabilities[grade - 1] for decision in decisions) for grade in votes}
    return min(votes, key=lambda grade: (-votes[grade], abs(grade - mean), -held[grade], grade))


def _agreed(leg: Leg, votes: int, samples: int) -> Leg:
    demanded = leg.demand.confidence
    sure = leg.confidence / demanded if demanded else 0.0
    return replace(leg, confidence=demanded * (votes + sure) / (samples + 1))
