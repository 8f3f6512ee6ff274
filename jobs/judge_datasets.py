"""Judges and baselines measured on a public set of graded pairs: `lore evaluate judge --dataset`.

Items are read in this process and no store is touched. Missing judgments are counted with their reasons and never
scored; systems are compared on the pairs that both graded. The command is in `jobs.evaluate_judge`, the metrics in
`relevance.scoring`, the label scales in lore_mm/datasets/relevance.toml.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from extractors.queries import DEFAULT_ENGINE
from jobs.judge_slices import LEAST_QUERIES, slices_of
from jobs.judge_systems import FOLDS, Material, SystemRun, bm25, embedding, one_class, prepare, run_judge
from lore_mm import __version__
from lore_mm.bootstrap import plain, rounded
from lore_mm.datasets.relevance import RelevanceSet
from lore_mm.errors import InputError, MissingExtraError, ModelError
from lore_mm.knowledge import Knowledge, load_knowledge
from lore_mm.models import DEFAULT_EMBEDDER
from lore_mm.types import Grade
from relevance.judge import open_judge
from relevance.ranking import good_rate
from relevance.scoring import Scored, evaluate, paired_difference

__all__ = ["RESAMPLES", "evaluate_set"]

RESAMPLES = 1000
_GOOD_RATE = (
    "good_rate: share of a query's items that are called L3 or L4, mean over queries (item goodrate as Taobao's main "
    "search defines it; the LORE paper reports a GoodRate and does not define it)"
)


def evaluate_set(
    data: RelevanceSet,
    judges: Sequence[str] = ("rules",),
    *,
    knowledge: Knowledge | None = None,
    engine: str = DEFAULT_ENGINE,
    embedder: str | None = DEFAULT_EMBEDDER,
    split: str | None = None,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Measure judges and baselines on a set, as `--json` prints it.

    n, missing, metrics, confusion (rows: true L1–L4), levels and errors are of the first judge; `systems` has every
    judge and baseline, each but the first with its difference (the first judge minus it), `baselines` those of them
    that are no judges; slices, people (agreement between single raters, where the set has them), labels, notes, card.

    Raises:
        LoreError: a judge or engine is unknown, or cannot be had.
        InputError: the set has no pairs, or two judges are the same.
    """
    if not data.pairs:
        raise InputError(f"{data.name}: no graded pairs")
    if len(set(judges)) != len(judges) or not judges:
        raise InputError("--judge: name each judge once")
    known = knowledge or load_knowledge()
    opened = {address: open_judge(address, known) for address in judges}
    material = prepare(data, known, engine)
    runs = [run_judge(address, judge, data, material) for address, judge in opened.items()]
    others, notes = _baselines(data, embedder)
    truth, groups = [int(p.grade) for p in data.pairs], [p.query.query_id for p in data.pairs]
    measured = {run.name: _evaluate(run, truth, groups, resamples) for run in (*runs, *others)}
    first = runs[0]
    systems = {run.name: _system(run, measured[run.name], first, truth, groups, resamples) for run in (*runs, *others)}
    slices, small = slices_of(data, material.understood, known)
    if small:
        notes.append(f"{small} slices of fewer than {LEAST_QUERIES} queries are left out")
    whole = measured[first.name]
    return {
        "dataset": data.name,
        "split": split,
        "judge": first.name,
        **{name: systems[first.name][name] for name in ("n", "missing", "metrics", "confusion")},
        "levels": _levels(whole),
        "systems": systems,
        "baselines": {run.name: systems[run.name] for run in others},
        "slices": {name: _slice(first, at, truth, groups, resamples) for name, at in slices.items()},
        "people": _people(data, resamples),
        "labels": _labels(data),
        "errors": dict(first.errors),
        "notes": [*_told(data, material, whole), *notes],
        "card": _card(data, runs, material, engine, embedder, resamples),
    }


def _baselines(data: RelevanceSet, embedder: str | None) -> tuple[list[SystemRun], list[str]]:
    common = Counter(int(p.grade) for p in data.pairs).most_common(1)[0][0]
    notes = [
        f"all_one_class gives L{common}, the commonest grade of these labels",
        f"thresholds of bm25_title and embedding_similarity: fitted for kappa on the other queries, in {FOLDS} folds",
    ]
    runs = [one_class(data), bm25(data)]
    if embedder is None:
        notes.append("embedding_similarity is not measured: no embedder")
    else:
        try:
            runs.append(embedding(data, embedder))
        except (ModelError, MissingExtraError) as error:
            notes.append(f"embedding_similarity is missing: {error}")
    return runs, notes


def _evaluate(
    run: SystemRun, truth: Sequence[int], groups: Sequence[str], resamples: int, at: Sequence[int] | None = None
) -> Scored:
    """All metrics of a system, on the pairs at some places only where these are named."""
    places = range(len(truth)) if at is None else at
    return evaluate(
        [truth[i] for i in places],
        [run.grades[i] for i in places],
        [run.scores[i] for i in places],
        [groups[i] for i in places],
        resamples=resamples,
        full=True,
        probabilities=run.probabilities and [run.probabilities[i] for i in places],
    )


def _system(
    run: SystemRun, scored: Scored, first: SystemRun, truth: Sequence[int], groups: Sequence[str], resamples: int
) -> dict[str, Any]:
    found = {
        "n": scored.n,
        "missing": scored.missing,
        "metrics": plain(scored.metrics),
        "confusion": scored.confusion.tolist(),
    }
    if run is first:
        return found
    difference = paired_difference(
        truth, first.grades, run.grades, groups,
        scores_a=first.scores, scores_b=run.scores, resamples=resamples, full=True,
    )  # fmt: skip
    return found | {"difference": plain(difference)}


def _slice(
    run: SystemRun, at: Sequence[int], truth: Sequence[int], groups: Sequence[str], resamples: int
) -> dict[str, Any]:
    scored = _evaluate(run, truth, groups, resamples, at)
    queries = len({groups[i] for i in at})
    return {"queries": queries, "n": scored.n, "missing": scored.missing, "metrics": plain(scored.metrics)}


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


def _told(data: RelevanceSet, material: Material, scored: Scored) -> list[str]:
    notes = [f"scale {data.scale.name}: {data.scale.why}", *data.notes, _GOOD_RATE]
    if material.missing:
        pairs = sum(pair.item_id in material.missing for pair in data.pairs)
        notes.append(f"{pairs} labels are of {len(material.missing)} items that are not there or cannot be used")
    if scored.missing:
        notes.append(f"{scored.missing} pairs have no judgment; they are in no metric, `errors` says why")
    return notes


def _card(
    data: RelevanceSet,
    runs: Sequence[SystemRun],
    material: Material,
    engine: str,
    embedder: str | None,
    resamples: int,
) -> dict[str, Any]:
    """What was measured with what: enough to tell whether two figures may be compared."""
    return {
        "lore_mm": __version__,
        "data": {"address": data.name, "sha": data.sha, "scale": data.scale.name, "files": _names(data.files)},
        "shas": {**material.shas, **runs[0].shas},
        "judges": {run.name: dict(run.shas) for run in runs},
        "engine": engine,
        "extractors": ["given"],
        "embedder": embedder,
        "resamples": resamples,
        "folds": FOLDS,
    }


def _names(files: Sequence[Path]) -> list[str]:
    return [path.name for path in files]
