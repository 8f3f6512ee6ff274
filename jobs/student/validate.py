"""How well a student does on queries it has not seen: cross-validated beside what it must beat.

Folds are of queries, over all sets together. In each, trees are grown on the other folds' pairs; the reader has seen no
judgment at all. Grades are cut from scores by thresholds fitted for kappa on the other folds' held-out scores, for the
student and for every baseline that has only scores; the rules are graded by the rulebook.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.judge_scores import Labels
from jobs.judge_systems import SystemRun, bm25, embedding
from jobs.student.forest import LEVELS, Growing, grown, joined, levels_of
from jobs.student.material import Judged
from lore_mm.bootstrap import plain
from lore_mm.console import say
from lore_mm.types import Grade
from relevance.baselines import cross_fitted, fit_thresholds, folds_of, grade_by

__all__ = ["FOLDS", "across_sets", "grades_of", "held_out", "measured", "thresholds_of"]

FOLDS = 5
_RESAMPLES = 1000
_VALIDATED = f"cross-validated over queries in {FOLDS} folds, thresholds too"
_UNSEEN = "its split test alone: queries whose labels the rules were not tuned on either; cross-validated as above"
_ELSEWHERE = "no label of this set was learnt from"
Made = NDArray[np.float64]  # P(L1) … P(L4), (n, 4)


def held_out(queries: Sequence[str], made: Callable[[NDArray[np.bool_], NDArray[np.bool_]], Made]) -> Made:
    """The levels of every pair by a model that has not seen its query; `made(learn, tell)` takes two masks."""
    fold = folds_of(queries, FOLDS)
    found = np.zeros((len(queries), LEVELS))
    for number in np.unique(fold):
        found[fold == number] = made(fold != number, fold == number)
    return found


def measured(
    sets: Sequence[Judged], read: Sequence[Made], growing: Growing, others: Mapping[str, Sequence[Made]], embedder: str
) -> tuple[list[dict[str, Any]], dict[str, Any], Made]:
    """The student and what it must beat on each set, the ablations on the first, and the student's held-out levels.

    `read` are the reader's levels of each set's pairs, `others` those of other systems by name.
    """
    queries = [query for one in sets for query in one.queries]
    levels, features = (np.concatenate([getattr(one, name) for one in sets]) for name in ("levels", "features"))
    told = np.concatenate(list(read))
    student = _told_by_trees(queries, joined(features, told), levels, growing)
    made = {
        "student": student,
        "reader alone": told,
        **{name: np.concatenate(list(each)) for name, each in others.items()},
        "without the reader": _told_by_trees(queries, features, levels, growing),
        "without the features": _told_by_trees(queries, joined(features[:, :0], told), levels, growing),
    }
    graded = {
        name: cross_fitted(_scores(each).tolist(), levels.tolist(), queries, FOLDS) for name, each in made.items()
    }
    tables: list[dict[str, Any]] = []
    ends = np.cumsum([0, *(len(one.levels) for one in sets)])
    for one, start, end in zip(sets, ends, ends[1:], strict=False):
        runs = [_run(name, one, each[start:end], graded[name][start:end]) for name, each in made.items()]
        *systems, without_reader, without_features = runs
        tables.append(_table(one, [*systems, one.rules, bm25(one.data), embedding(one.data, embedder)], _VALIDATED))
        if at_test := [i for i, pair in enumerate(one.data.pairs) if pair.split == "test"]:
            tables.append(_table(one, [runs[0], one.rules], _UNSEEN, at_test))
        if one is sets[0]:
            labels = Labels.of(one.data, _RESAMPLES)
            ablations = {run.name: plain(labels.score(run).metrics) for run in (without_reader, without_features)}
    return tables, ablations, student


def across_sets(sets: Sequence[Judged], read: Sequence[Made], growing: Growing) -> list[dict[str, Any]]:
    """Each set told by trees grown on the others alone, with thresholds of these: another shop, no label of it."""
    tables = []
    for i, one in enumerate(sets if len(sets) > 1 else ()):
        rest = [k for k in range(len(sets)) if k != i]
        seen = np.concatenate([joined(sets[k].features, read[k]) for k in rest])
        levels = np.concatenate([sets[k].levels for k in rest])
        queries = [query for k in rest for query in sets[k].queries]
        cuts = thresholds_of(_told_by_trees(queries, seen, levels, growing), levels)
        made = levels_of(grown(seen, levels, growing), joined(one.features, read[i]))
        tables.append(_table(one, [_run("student", one, made, grades_of(made, cuts))], _ELSEWHERE))
    return tables


def thresholds_of(made: Made, levels: NDArray[np.int64]) -> tuple[float, float, float]:
    """The cuts on the expected grade, in [0, 1], of the highest kappa."""
    one, two, three = (min(1.0, cut) for cut in fit_thresholds(_scores(made), levels))
    return one, two, three


def grades_of(made: Made, cuts: Sequence[float]) -> NDArray[np.int64]:
    """The grades, 1–4, that thresholds make."""
    return grade_by(_scores(made), cuts)


def _scores(made: Made) -> NDArray[np.float64]:
    """The expected grade, scaled to [0, 1]."""
    scores: NDArray[np.float64] = made @ np.arange(LEVELS) / (LEVELS - 1)
    return scores


def _told_by_trees(
    queries: Sequence[str], seen: NDArray[np.float32], levels: NDArray[np.int64], growing: Growing
) -> Made:
    """The held-out levels of pairs by trees on what they see."""
    return held_out(queries, lambda learn, tell: levels_of(grown(seen[learn], levels[learn], growing), seen[tell]))


def _run(name: str, one: Judged, made: Made, grades: NDArray[np.int64]) -> SystemRun:
    """A system's answers on all pairs of a set; those that the rules cannot judge stay failed."""
    answers = list(one.rules.judgments or ())
    for place, (p1, p2, p3, p4), score, grade in zip(one.places, made.tolist(), _scores(made), grades, strict=True):
        answers[place] = replace(
            answers[place], grade=Grade(int(grade)), probabilities=(p1, p2, p3, p4), score=float(score)
        )
    return SystemRun.of(name, answers)


def _table(one: Judged, runs: Sequence[SystemRun], how: str, at: Sequence[int] | None = None) -> dict[str, Any]:
    """Systems on a set, or on its pairs at some places, each but the first with the first's difference from it."""
    labels, first = Labels.of(one.data, _RESAMPLES), runs[0]
    systems: dict[str, Any] = {}
    for run in runs:
        scored = labels.score(run, at)
        metrics = plain(scored.metrics)
        systems[run.name] = {"n": scored.n, "missing": scored.missing, "metrics": metrics}
        if run is first:
            systems[run.name]["confusion"] = scored.confusion.tolist()
        else:
            systems[run.name]["difference"] = labels.difference(first, run, at)
        kappa = metrics["quadratic_kappa"]
        say(f"{one.name}: {run.name}: kappa {kappa['value']} [{kappa['low']}, {kappa['high']}]")
    places = range(len(labels.groups)) if at is None else at
    return {"set": one.name, "how": how, "queries": len({labels.groups[i] for i in places}), "systems": systems}
