"""A pair and its samples on their way through a teacher's steps: what each is asked, and what became of it.

This module asks nobody: see `relevance.training.teacher`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from PIL.Image import Image

from lore_mm.models import ChatReply
from lore_mm.models.reply import ReplyError
from lore_mm.prompts import clean
from lore_mm.types import Grade, Judgment, Leg, Provenance, Understanding
from relevance.evidence import ItemView
from relevance.protocol import Pair
from relevance.quotes import ItemWords
from relevance.rules import Decision
from relevance.training.teach_read import Gathered, Question

__all__ = ["Case", "Outcome", "Taught", "Try", "fault_of", "found_in"]

Outcome = Literal["kept", "wrong", "inconsistent", "ungrounded", "unreadable"]
_REASONS: Mapping[Outcome, str] = {
    "wrong": "no sample has the label",
    "inconsistent": "no sample agrees with the rulebook",
    "ungrounded": "no sample shows what it claims",
    "unreadable": "no sample could be read",
}
_SHOWN = 80  # characters of a failed reply that are told


@dataclass(frozen=True, slots=True)
class Taught:
    """What became of one pair: the judgment whose path is the chain, or why there is none.

    `right` of the `samples` named the label. `outcomes` counts what became of each sample, the hinted one among them.
    """

    judgment: Judgment | None
    samples: int
    right: int = 0
    hinted: bool = False
    error: str | None = None
    outcomes: Mapping[Outcome, int] = field(default_factory=dict)


@dataclass(slots=True)
class Case:
    """One pair on its way, with the readings of its query, one a sample."""

    pair: Pair
    label: Grade
    shown: tuple[Image, ...]
    view: ItemView
    words: ItemWords
    readings: tuple[Understanding, ...]
    questions: dict[int, Question] = field(default_factory=dict)  # by the id of the reading
    kept: list[tuple[int, Decision]] = field(default_factory=list)  # length of the chain, and its path
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    right: int = 0
    faults: dict[Outcome, str] = field(default_factory=dict)  # one of each, as an example

    def fail(self, outcome: Outcome, why: str) -> None:
        """Count a sample that is not kept."""
        self.outcomes[outcome] += 1
        self.faults.setdefault(outcome, why)

    def reason(self) -> str:
        """Why no sample was kept: the commonest fault first, all of them counted, and an example."""
        commonest: list[Outcome] = sorted(self.outcomes, key=lambda one: (-self.outcomes[one], one != "wrong", one))
        counts = ", ".join(f"{self.outcomes[one]} {one}" for one in commonest)
        return f"{_REASONS[commonest[0]]}: {counts}; such as: {self.faults[commonest[0]]}"

    def judgment(self, decision: Decision, sha: str = "") -> Judgment:
        """A sample's decision as the judgment of the pair."""
        understanding, features = self.pair
        return Judgment(
            query_id=understanding.query.query_id,
            item_id=features.item.item_id,
            grade=decision.grade,
            query=understanding.query.text,
            path=decision.path,
            failed_dimensions=decision.failed_dimensions,
            rule_ids=decision.rule_ids,
            mode="teacher",
            provenance=Provenance("", "teacher", features.input_sha, sha),
        )


@dataclass(slots=True)
class Try:
    """One sample of one pair: what is asked of the model, and what it has found so far."""

    case: Case
    question: Question
    seed: int
    hint: str  # the label where it is told
    found: Gathered | None = None

    @property
    def gathered(self) -> Gathered:
        """What it has found, behind the step that looks for it."""
        assert self.found is not None
        return self.found


def found_in(leg: Leg) -> dict[str, str]:
    """What the evidence of a leg is, in words; empty where there is none."""
    if not leg.evidence:
        return {"source": "", "quote": "", "found": ""}
    first = leg.evidence[0]
    words = (first.source, first.quote or first.value or "", ", ".join(leg.found))
    return dict(zip(("source", "quote", "found"), map(clean, words), strict=True))


def fault_of(step: str, reply: ChatReply, error: Exception) -> str:
    """Why the reply of a step could not be read, with its beginning."""
    why = str(error) if isinstance(error, ReplyError) else f"{type(error).__name__}: {error}"
    began = clean(reply.text[: 4 * _SHOWN], _SHOWN)
    return f"{step}: {why}" + (f"; the reply began {began!r}" if began else "")
