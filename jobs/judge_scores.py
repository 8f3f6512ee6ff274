"""A measured system's answers, as numbers: its metrics on all pairs or some, and its difference from another system.

The metrics are those of `relevance.scoring`; this only hands over what it takes. It knows no set and no judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jobs.judge_systems import SystemRun
from lore_mm.bootstrap import plain, rounded
from lore_mm.datasets.relevance import RelevanceSet
from relevance.scoring import Scored, evaluate, paired_difference

__all__ = ["Labels"]


@dataclass(frozen=True)
class Labels:
    """The true levels of pairs and their queries, and how often to resample these."""

    truth: Sequence[int]
    groups: Sequence[str]
    resamples: int

    @staticmethod
    def of(data: RelevanceSet, resamples: int) -> Labels:
        """Those of a set."""
        pairs = data.pairs
        return Labels([int(pair.grade) for pair in pairs], [pair.query.query_id for pair in pairs], resamples)

    def score(self, run: SystemRun, at: Sequence[int] | None = None) -> Scored:
        """All metrics of a system, on the pairs at some places only where these are named."""
        places = range(len(self.truth)) if at is None else at
        probabilities, answers = run.probabilities, run.answers
        return evaluate(
            [self.truth[i] for i in places],
            [run.grades[i] for i in places],
            [run.scores[i] for i in places],
            [self.groups[i] for i in places],
            resamples=self.resamples,
            full=True,
            probabilities=probabilities and [probabilities[i] for i in places],
            answers=answers and [answers[i] for i in places],
        )

    def part(self, run: SystemRun, at: Sequence[int]) -> dict[str, Any]:
        """The pairs at some places as JSON: queries, n, missing, metrics."""
        scored = self.score(run, at)
        queries = len({self.groups[i] for i in at})
        return {"queries": queries, "n": scored.n, "missing": scored.missing, "metrics": plain(scored.metrics)}

    def difference(
        self, one: SystemRun, other: SystemRun, at: Sequence[int] | None = None
    ) -> dict[str, dict[str, float | None]]:
        """One system minus another on the pairs that both graded, metric by metric, as JSON: value, low, high, p."""
        places = range(len(self.truth)) if at is None else at
        found = paired_difference(
            [self.truth[i] for i in places],
            [one.grades[i] for i in places],
            [other.grades[i] for i in places],
            [self.groups[i] for i in places],
            scores_a=[one.scores[i] for i in places],
            scores_b=[other.scores[i] for i in places],
            resamples=self.resamples,
            full=True,
        )
        told = plain(found)
        return {name: told[name] | {"p": rounded(each.p)} for name, each in found.items()}
