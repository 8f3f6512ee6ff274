"""Judges and baselines measured on graded pairs, of a public set or of a store: what `lore evaluate judge` prints.

Missing judgments are counted with their reasons and never scored; systems are compared on the pairs that both graded.
The command is in `jobs.evaluate_judge`, where pairs come from in `jobs.judge_material`, the metrics in
`relevance.scoring`, the label scales in lore_mm/datasets/relevance.toml. No mode of judging is known here by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from extractors.queries import DEFAULT_ENGINE
from jobs.judge_material import Material, read_set
from jobs.judge_necessity import visual_necessity
from jobs.judge_scores import Labels
from jobs.judge_slices import LEAST_QUERIES, slices_of
from jobs.judge_systems import (
    FOLDS,
    SystemRun,
    bm25,
    embedding,
    one_class,
    open_judges,
    run_judge,
    stored_similarity,
)
from lore_mm import __version__
from lore_mm.bootstrap import plain, rounded
from lore_mm.datasets.relevance import RelevanceSet
from lore_mm.errors import InputError, MissingExtraError, ModelError
from lore_mm.knowledge import Knowledge, load_knowledge
from lore_mm.models import DEFAULT_EMBEDDER
from lore_mm.types import Grade
from relevance.baselines import majority
from relevance.ranking import good_rate
from relevance.scoring import Scored, evaluate

__all__ = ["RESAMPLES", "Evaluation", "evaluate_set"]

RESAMPLES = 1000
_GOOD_RATE = (
    "good_rate: share of a query's items that are called L3 or L4, mean over queries (item goodrate as Taobao's main "
    "search defines it; the LORE paper reports a GoodRate and does not define it)"
)


@dataclass(frozen=True)
class Evaluation:
    """What was measured: `result` is what `--json` prints, `judges` and `baselines` are the answers behind it."""

    data: RelevanceSet
    material: Material
    judges: Sequence[SystemRun]
    baselines: Sequence[SystemRun]
    result: dict[str, Any]


def evaluate_set(
    data: RelevanceSet,
    judges: Sequence[str] = ("rules",),
    *,
    material: Material | None = None,
    knowledge: Knowledge | None = None,
    engine: str = DEFAULT_ENGINE,
    embedders: Sequence[str] = (DEFAULT_EMBEDDER,),
    split: str | None = None,
    resamples: int = RESAMPLES,
    necessity: bool = False,
    **opening: Any,
) -> Evaluation:
    """Measure judges, by their addresses, and baselines on graded pairs.

    `material` is what `read_set` makes of the pairs unless given; `opening` goes to `open_judges`. `necessity`: also
    `jobs.judge_necessity.visual_necessity`.

    Raises:
        LoreError: a judge or engine is unknown, or cannot be had.
        InputError: the set has no pairs, or two judges are the same; for `necessity`, no item has a picture.
    """
    if not data.pairs:
        raise InputError(f"{data.name}: no graded pairs")
    known = knowledge or load_knowledge()
    material = material or read_set(data, known, engine)
    with open_judges(judges, known, pictures=material.pictures, **opening) as opened:
        runs = [run_judge(address, judge, data, material) for address, judge in opened.items()]
        seen = visual_necessity(data, material, opened, runs, known, resamples) if necessity else None
    others, notes = _baselines(data, material, embedders)
    result = _result(data, material, known, runs, others, resamples)
    result["split"] = split
    result["notes"] += notes
    if seen is not None:
        result["visual_necessity"] = seen
    result["card"] |= {"engine": engine, "embedders": list(embedders), "resamples": resamples}
    return Evaluation(data, material, runs, others, result)


def _result(
    data: RelevanceSet,
    material: Material,
    knowledge: Knowledge,
    runs: Sequence[SystemRun],
    others: Sequence[SystemRun],
    resamples: int,
) -> dict[str, Any]:
    """n, missing, metrics, confusion (rows: true L1–L4), levels and errors are of the first judge.

    `systems` has every judge and baseline, each but the first with its difference (the first judge minus it),
    `baselines` those of them that are no judges; slices, people (agreement between single raters, where the set has
    them), labels, notes, card.
    """
    labels, first = Labels.of(data, resamples), runs[0]
    measured = {run.name: labels.score(run) for run in (*runs, *others)}
    systems = {run.name: _system(run, measured[run.name], first, labels) for run in (*runs, *others)}
    slices, small = slices_of(data, material.understood, knowledge)
    few = [f"{small} slices of fewer than {LEAST_QUERIES} queries are left out"] if small else []
    return {
        "dataset": data.name,
        "split": None,
        "judge": first.name,
        **{name: systems[first.name][name] for name in ("n", "missing", "metrics", "confusion")},
        "levels": _levels(measured[first.name]),
        "systems": systems,
        "baselines": {run.name: systems[run.name] for run in others},
        "slices": {name: labels.part(first, at) for name, at in slices.items()},
        "people": _people(data, resamples),
        "labels": _labels(data),
        "errors": first.errors,
        "notes": [*_told(data, material, runs), *few],
        "card": _card(data, runs, material),
    }


def _baselines(data: RelevanceSet, material: Material, embedders: Sequence[str]) -> tuple[list[SystemRun], list[str]]:
    common = majority([int(p.grade) for p in data.pairs])
    notes = [f"all_one_class gives L{common}, the commonest grade of these labels"]
    runs = [one_class(data), bm25(data)]
    wanted: dict[str, Callable[[], SystemRun]] = {
        f"cosine:{address}": partial(embedding, data, address) for address in embedders
    }
    if stored := material.vectors:
        wanted["embedding_similarity"] = lambda: stored_similarity(data, stored)
    for name, measure in wanted.items():
        try:
            runs.append(measure())
        except (ModelError, MissingExtraError) as error:
            notes.append(f"{name} is missing: {error}")
    fitted = " and ".join(run.name for run in runs[1:])
    notes.append(f"thresholds of {fitted}: fitted for kappa on the other queries, in {FOLDS} folds")
    return runs, notes


def _system(run: SystemRun, scored: Scored, first: SystemRun, labels: Labels) -> dict[str, Any]:
    found = {
        "n": scored.n,
        "missing": scored.missing,
        "metrics": plain(scored.metrics),
        "confusion": scored.confusion.tolist(),
        "errors": run.errors,
    }
    if run.trained_on:
        others = [i for i, query_id in enumerate(labels.groups) if query_id not in run.trained_on]
        found["trained_on"] = {"queries": len(run.trained_on), "others": labels.part(run, others) if others else None}
    return found if run is first else found | {"difference": labels.difference(first, run)}


def _levels(scored: Scored) -> dict[str, dict[str, float | None]]:
    """Each level: how often it is true and said, precision, recall and F1; None where there is nothing to divide by."""
    found: dict[str, dict[str, float | None]] = {}
    for level in Grade:
        i = int(level) - 1
        hits, true, said = (
            int(n) for n in (scored.confusion[i, i], scored.confusion[i].sum(), scored.confusion[:, i].sum())
        )
        found[str(level)] = {
            "true": true,
            "said": said,
            "precision": rounded(hits / said) if said else None,
            "recall": rounded(hits / true) if true else None,
            "f1": rounded(2 * hits / (true + said)) if true + said else None,
        }
    return found


def _people(data: RelevanceSet, resamples: int) -> dict[str, dict[str, Any]]:
    """How far single raters agree with one another, two by two, on the pairs that both have rated."""
    wanted = {(pair.query.query_id, pair.item_id) for pair in data.pairs}
    found = {}
    for one, other in combinations(sorted(data.raters), 2):
        keys = sorted(data.raters[one].keys() & data.raters[other].keys() & wanted)
        grades = [int(data.raters[other][key]) for key in keys]
        scored = evaluate(
            [int(data.raters[one][key]) for key in keys], grades, grades, [key[0] for key in keys], resamples=resamples
        )
        names = ("acc_2", "acc_4", "quadratic_kappa")
        found[f"{one} – {other}"] = {"n": scored.n, "metrics": plain({name: scored.metrics[name] for name in names})}
    return found


def _labels(data: RelevanceSet) -> dict[str, Any]:
    """What the labels themselves say: pairs a level, and the mean share of relevant items over queries."""
    counts = Counter(str(pair.grade) for pair in data.pairs)
    queries: dict[str, list[int]] = {}
    for pair in data.pairs:
        queries.setdefault(pair.query.query_id, []).append(int(pair.grade))
    shares = [good_rate(levels) for levels in queries.values()]
    return {
        "pairs": len(data.pairs),
        "queries": len(queries),
        "levels": {str(level): counts[str(level)] for level in Grade},
        "good_rate": rounded(sum(shares) / len(shares)),
    }


def _told(data: RelevanceSet, material: Material, runs: Sequence[SystemRun]) -> list[str]:
    notes = [f"scale {data.scale.name}: {data.scale.why}", *data.notes, *material.notes, _GOOD_RATE]
    if material.missing:
        pairs = sum(pair.item_id in material.missing for pair in data.pairs)
        notes.append(f"{pairs} labels are of {len(material.missing)} items that are not there or cannot be used")
    queries = len({pair.query.query_id for pair in data.pairs})
    for run in runs:
        if run.trained_on:
            told = f"{len(run.trained_on)} of {queries} queries were in its training data"
            notes.append(f"{run.name}: {told}; `trained_on` has the figures on the others")
        if missing := sum(grade == 0 for grade in run.grades):
            reason, times = next(iter(run.errors.items()))
            notes.append(
                f"{run.name}: {missing} pairs have no judgment; they are in no metric, `errors` says why: "
                f"{times} × {reason[:200]}"
            )
    return notes


def _card(data: RelevanceSet, runs: Sequence[SystemRun], material: Material) -> dict[str, Any]:
    """What was measured with what: enough to tell whether two figures may be compared."""
    return {
        "lore_mm": __version__,
        "data": {"address": data.name, "sha": data.sha, "scale": data.scale.name, "files": _names(data.files)},
        "shas": {**material.shas, **runs[0].shas},
        "judges": {run.name: dict(run.shas) for run in runs},
        "extractors": list(material.extractors),
        "folds": FOLDS,
    }


def _names(files: Sequence[Path]) -> list[str]:
    return [path.name for path in files]
