"""What another rulebook would make of a judgment's path: which legs it rules differently, and the grade that follows.

No model and no item is looked at again: a grade is a function of the path and the rulebook. A grade that is a model's
own (modes direct and student) stays what it is; what is compared there is what the rules make of the path beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

from lore_mm.types import Grade, Judgment, Leg
from relevance.rules import Rulebook, decide

__all__ = ["Change", "WhatIf", "path_grade", "what_if"]


@dataclass(frozen=True, slots=True)
class Change:
    """A leg that the other rulebook rules differently: as it is, and as it would be."""

    before: Leg
    after: Leg


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What another rulebook makes of a path. `before` is what the usual one made of the same path."""

    rulebook: str  # its sha
    before: Grade | None
    grade: Grade
    score: float
    failed_dimensions: tuple[str, ...]
    changes: tuple[Change, ...]


def path_grade(judgment: Judgment) -> Grade | None:
    """What the rules alone make of the path: the level of its worst leg; None without a path that was decided."""
    levels = [leg.level for leg in judgment.path.legs] if judgment.path else []
    return min((level for level in levels if level is not None), default=None) if None not in levels else None


def what_if(judgment: Judgment, rulebook: Rulebook) -> WhatIf | None:
    """What the rulebook would make of a judgment's path; None without a path, or with one it has no rule for."""
    if judgment.path is None or not judgment.path.legs:
        return None
    try:
        decision = decide(judgment.path, rulebook)
    except ValueError:  # a relation of another version's vocabulary
        return None
    pairs = zip(judgment.path.legs, decision.path.legs, strict=True)
    return WhatIf(
        rulebook=rulebook.sha,
        before=path_grade(judgment),
        grade=decision.grade,
        score=decision.score,
        failed_dimensions=decision.failed_dimensions,
        changes=tuple(Change(a, b) for a, b in pairs if (a.level, a.rule_id) != (b.level, b.rule_id)),
    )
