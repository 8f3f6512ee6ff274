"""How well a student does on queries it has not seen: cross-validated beside what it must beat.

Folds are of queries. In each, trees are grown on the other folds' pairs of all sets; the reader has seen no judgment at
all. Grades are cut from scores by thresholds fitted for kappa on the other folds' held-out scores, for the student and
for every baseline that has only scores; the rules are graded by the rulebook.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.judge_scores import Labels
from jobs.judge_systems import SystemRun, bm25, embedding
from jobs.student.forest import LEVELS, Growing, grown, joined, levels_of
from jobs.student.material import Judged
from lore_mm.bootstrap import plain
from lore_mm.console import say
from lore_mm.types import Grade, Judgment
from relevance.baselines import cross_fitted, fit_thresholds, folds_of

__all__ = ["FOLDS", "across_sets", "held_out", "measured", "thresholds_of"]

FOLDS = 5
_UNSEEN = "its split test alone: queries whose labels the rules were not tuned on either; cross-validated as above"
_RESAMPLES = 1000
Made = NDArray[np.float64]


def held_out(
    queries: Sequence[str], made: Callable[[NDArray[np.bool_], NDArray[np.bool_]], Made], folds: int = FOLDS
) -> Made:
    """P(L1) … P(L4) of every pair by a model that has not seen its query; `made(learn, tell)` takes two masks."""
    fold = folds_of(queries, folds)
    found = np.zeros((len(queries), LEVELS))
    for number in np.unique(fold):
        found[fold == number] = made(fold != number, fold == number)
    return found


def measured(
    sets: Sequence[Judged], read: Sequence[Made], growing: Growing, others: Mapping[str, Sequence[Made]], embedder: str
) -> tuple[list[dict[str, Any]], dict[str, Any], Made]:
    """The student and what it must beat on each set, the ablations on the first, and its held-out probabilities.

    `read` are the reader's P(L1) … P(L4) of each set's pairs, `others` those of other systems by name.
    """
    queries = [query for one in sets for query in one.queries]
    levels = np.concatenate([one.levels for one in sets])
    features = np.concatenate([one.features for one in sets])
    told = np.concatenate(list(read))

    def trees(seen: NDArray[np.float32]) -> Made:
        return held_out(queries, lambda learn, tell: levels_of(grown(seen[learn], levels[learn], growing), seen[tell]))

    student = trees(joined(features, told))
    without = {"without the reader": trees(features), "without the features": trees(joined(features[:, :0], told))}
    tables, ablations = [], {}
    for number, one in enumerate(sets):
        at = slice(*np.cumsum([0, *(len(each.levels) for each in sets)])[[number, number + 1]])
        systems = {"student": student, **without, "reader alone": told}
        runs = [_run(name, one, made[at], levels, queries, made, at) for name, made in systems.items()]
        more = [
            _run(name, one, made[number], one.levels, one.queries, made[number], slice(None))
            for name, made in others.items()
        ]
        scored = _scored(one, embedder)
        tables.append(_rows(one, [runs[0], runs[3], *more, *scored]))
        if at_test := [i for i, pair in enumerate(one.pairs) if pair.split == "test"]:
            few = [_part(run, at_test) for run in (runs[0], scored[0])]
            tables.append(_rows(one, few, how=_UNSEEN, at=at_test))
        if not number:
            labels = Labels([int(level) for level in one.levels], one.queries, _RESAMPLES)
            ablations = {run.name: plain(labels.score(run).metrics) for run in runs[1:3]}
    return tables, ablations, student


def across_sets(sets: Sequence[Judged], read: Sequence[Made], growing: Growing) -> list[dict[str, Any]]:
    """Each set told by trees grown on the others alone, with thresholds of these: another shop, no label of it."""
    rows = []
    for i, one in enumerate(sets):
        rest = [k for k in range(len(sets)) if k != i]
        if not rest:
            continue
        seen = np.concatenate([joined(sets[k].features, read[k]) for k in rest])
        levels = np.concatenate([sets[k].levels for k in rest])
        names = [query for k in rest for query in sets[k].queries]
        inner = held_out(
            names,
            lambda learn, tell, seen=seen, levels=levels: levels_of(  # type: ignore[misc]
                grown(seen[learn], levels[learn], growing), seen[tell]
            ),
        )
        cuts = thresholds_of(inner, levels)
        made = levels_of(grown(seen, levels, growing), joined(one.features, read[i]))
        scores = _scores(made)
        grades = 1 + np.searchsorted(cuts, scores, side="right")
        rows.append(_rows(one, [_as_run("student", one, made, grades)], how="no label of this set was learnt from"))
    return rows


def thresholds_of(made: Made, levels: NDArray[np.int64]) -> tuple[float, float, float]:
    """The cuts on the expected grade, in [0, 1], of the highest kappa."""
    one, two, three = (min(1.0, cut) for cut in fit_thresholds(_scores(made), levels))
    return one, two, three


def _scores(made: Made) -> NDArray[np.float64]:
    scores: NDArray[np.float64] = made @ np.arange(LEVELS) / (LEVELS - 1)
    return scores


def _run(
    name: str,
    one: Judged,
    own: Made,
    levels: NDArray[np.int64],
    queries: Sequence[str],
    all_made: Made,
    at: slice,
) -> SystemRun:
    """A system on one set, graded by thresholds of the other folds of all sets."""
    grades = cross_fitted(_scores(all_made).tolist(), levels.tolist(), queries, FOLDS)[at]
    return _as_run(name, one, own, grades)


def _as_run(name: str, one: Judged, made: Made, grades: NDArray[np.int64]) -> SystemRun:
    judgments = [
        Judgment(
            query_id=pair.query.query_id,
            item_id=pair.item_id,
            grade=Grade(int(grade)),
            probabilities=(float(p[0]), float(p[1]), float(p[2]), float(p[3])),
            score=float(score),
            mode="student",
        )
        for pair, grade, p, score in zip(
            one.pairs, grades, made / made.sum(axis=1, keepdims=True), _scores(made), strict=True
        )
    ]
    return SystemRun(name, [int(g) for g in grades], _scores(made).tolist(), judgments)


def _scored(one: Judged, embedder: str) -> list[SystemRun]:
    """The rules, and the baselines of `lore evaluate judge`, on the same pairs."""
    rules = SystemRun(
        "rules",
        [int(judgment.grade or 0) for judgment in one.walked],
        [float("nan") if judgment.score is None else judgment.score for judgment in one.walked],
        one.walked,
    )
    found = [rules]
    for run in (bm25(one.data), embedding(one.data, embedder)):
        found.append(SystemRun(run.name, [run.grades[i] for i in one.places], [run.scores[i] for i in one.places]))
    return found


def _part(run: SystemRun, at: Sequence[int]) -> SystemRun:
    judgments = None if run.judgments is None else [run.judgments[i] for i in at]
    return SystemRun(run.name, [run.grades[i] for i in at], [run.scores[i] for i in at], judgments)


def _rows(one: Judged, runs: Sequence[SystemRun], how: str = "", at: Sequence[int] | None = None) -> dict[str, Any]:
    places = range(len(one.levels)) if at is None else at
    queries = [one.queries[i] for i in places]
    labels = Labels([int(one.levels[i]) for i in places], queries, _RESAMPLES)
    first = runs[0]
    systems: dict[str, Any] = {}
    for run in runs:
        scored = labels.score(run)
        systems[run.name] = {"n": scored.n, "missing": scored.missing, "metrics": plain(scored.metrics)}
        if run is first:
            systems[run.name]["confusion"] = scored.confusion.tolist()
        else:
            systems[run.name]["difference"] = labels.difference(first, run)
        kappa = systems[run.name]["metrics"]["quadratic_kappa"]
        say(f"{one.name}: {run.name}: kappa {kappa['value']} [{kappa['low']}, {kappa['high']}]")
    return {
        "set": one.name,
        "how": how or f"cross-validated over queries in {FOLDS} folds, thresholds too",
        "queries": len(set(queries)),
        "systems": systems,
    }
