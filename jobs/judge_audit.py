"""Labels that are probably wrong, ranked, each with why: what `lore evaluate labels` prints.

Doubt is `relevance.doubt`'s, from the answers of all systems that were run, and from single raters where the set has
them; in front stand labels that cannot be right (`relevance.check_labels`). Nothing here changes a label. `spoil` puts
known errors in, to see how many are found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.judge_answers import leg_of_grade
from jobs.judge_datasets import Evaluation
from jobs.judge_systems import SystemRun
from lore_mm.bootstrap import rounded
from lore_mm.datasets.relevance import RelevanceSet
from lore_mm.knowledge import Knowledge
from lore_mm.types import Grade
from relevance.by_rules import RulesJudge
from relevance.check_labels import broken_demands
from relevance.doubt import answers_as_features, likely_levels, margins, with_votes

__all__ = ["audit_rows", "found_spoilt", "level_probabilities"]

REPEATS = 10  # spoilings, each by another lot
_PLACES = (10, 20, 50, 100)


def level_probabilities(
    data: RelevanceSet, systems: Sequence[SystemRun], labels: Sequence[int], *, raters: bool = True
) -> NDArray[np.float64]:
    """P(L1) … P(L4) of each pair, (n, 4), from all systems, fitted on these labels of the other queries.

    With `raters`, single people's votes are counted in where the set has them.

    Raises:
        InputError: there are too few labels.
        MissingExtraError: scikit-learn is not installed.
    """
    told = [answers_as_features(run.grades, run.scores, run.probabilities) for run in systems]
    features = np.concatenate(told, axis=1)
    pooled = likely_levels(features, labels, [pair.query.query_id for pair in data.pairs])
    return with_votes(pooled, _votes(data)) if raters and data.raters else pooled


def _votes(data: RelevanceSet) -> NDArray[np.float64]:
    counts = np.zeros((len(data.pairs), 4))
    for place, pair in enumerate(data.pairs):
        for said in data.raters.values():
            if (grade := said.get((pair.query.query_id, pair.item_id))) is not None:
                counts[place, int(grade) - 1] += 1
    return counts


def audit_rows(found: Evaluation, knowledge: Knowledge) -> list[dict[str, Any]]:
    """The labels in doubt as rows, the most doubtful first; labels that agree with what is likeliest are left out.

    `doubt` is in (0, 1]; 1 for a label that cannot be right, with `impossible` saying why. `suggested` is the likeliest
    level, `reason` why the judge furthest from the label sees it otherwise.

    Raises:
        InputError, MissingExtraError: see `level_probabilities`.
    """
    data, systems = found.data, (*found.judges, *(run for run in found.baselines if run.name != "all_one_class"))
    labels = [int(pair.grade) for pair in data.pairs]
    probabilities = level_probabilities(data, systems, labels)
    doubts = margins(probabilities, labels)
    impossible = _impossible(found, knowledge)
    rows = []
    for place, pair in enumerate(data.pairs):
        if pair.item_id not in found.material.features or (doubts[place] <= 0 and place not in impossible):
            continue
        key = (pair.query.query_id, pair.item_id)
        rows.append(
            {
                "query_id": pair.query.query_id,
                "query": pair.query.text,
                "item_id": pair.item_id,
                "title": data.items[pair.item_id].title,
                "label": str(pair.grade),
                "suggested": str(Grade(int(probabilities[place].argmax()) + 1)),
                "doubt": 1.0 if place in impossible else rounded(float(doubts[place])),
                "probabilities": [rounded(float(p)) for p in probabilities[place]],
                "judges": {run.name: str(Grade(g)) if (g := run.grades[place]) else None for run in found.judges},
                "raters": {name: str(said[key]) for name, said in sorted(data.raters.items()) if key in said},
                "reason": _reason(found.judges, place, labels[place]),
                "impossible": impossible.get(place),
            }
        )
    return sorted(rows, key=lambda row: -(row["doubt"] or 0.0))


def _reason(judges: Sequence[SystemRun], place: int, label: int) -> str | None:
    """The worst leg of the judge that is furthest from the label; None where all of them agree with it."""
    apart = [(abs(run.grades[place] - label), -n, run) for n, run in enumerate(judges) if run.grades[place]]
    if not apart or (furthest := max(apart, key=lambda one: one[:2]))[0] == 0:
        return None
    run = furthest[2]
    why = leg_of_grade(run.judgments[place]) if run.judgments is not None else None
    return f"{run.name} says {Grade(run.grades[place])}" + (f": {why}" if why else "")


def _impossible(found: Evaluation, knowledge: Knowledge) -> dict[int, str]:
    """The places of relevant labels on pairs that break a demand beyond doubt, and which."""
    judge, material = RulesJudge(knowledge), found.material
    at = [i for i, p in enumerate(found.data.pairs) if p.grade >= Grade.L3 and p.item_id in material.features]
    asked = [
        (material.understood[p.query.query_id], material.features[p.item_id]) for p in (found.data.pairs[i] for i in at)
    ]
    told = {}
    for place, judgment, (understanding, _) in zip(at, judge.judge(asked), asked, strict=True):
        if broken := broken_demands(judgment, understanding, judge):
            told[place] = broken[0]
    return told


def found_spoilt(found: Evaluation, share: float, repeats: int = REPEATS) -> dict[str, Any]:
    """How many of the labels that were spoilt on purpose stand among the most doubtful, as JSON.

    In each of `repeats` spoilings every label is, by lot and with the chance `share`, put to another level; means over
    them. `precision_k`: the share of spoilt ones among the k first; `precision_spoilt`: among as many as were spoilt;
    `chance`: what any order would find. Errors that were there before count as wrongly doubted. Single raters are not
    listened to: their votes would give the spoilt ones away.

    Raises:
        InputError, MissingExtraError: see `level_probabilities`.
    """
    data, systems = found.data, (*found.judges, *(run for run in found.baselines if run.name != "all_one_class"))
    truth = np.array([int(pair.grade) for pair in data.pairs])
    sums: dict[str, list[float]] = {}
    for repeat in range(repeats):
        lot = np.random.default_rng(repeat)
        spoilt = lot.random(len(truth)) < share
        labels = np.where(spoilt, (truth - 1 + lot.integers(1, 4, len(truth))) % 4 + 1, truth)
        doubts = margins(level_probabilities(data, systems, labels.tolist(), raters=False), labels.tolist())
        hits = spoilt[np.argsort(-doubts, kind="stable")]
        for k in _PLACES:
            if k <= len(hits):
                sums.setdefault(f"precision_{k}", []).append(float(hits[:k].mean()))
        if n := int(spoilt.sum()):
            sums.setdefault("precision_spoilt", []).append(float(hits[:n].mean()))
            precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
            sums.setdefault("average_precision", []).append(float(precision[hits].mean()))
        sums.setdefault("chance", []).append(float(spoilt.mean()))
    return {
        "pairs": len(truth),
        "share": share,
        "repeats": repeats,
        "systems": [run.name for run in systems],
        **{name: rounded(float(np.mean(values))) for name, values in sums.items()},
    }
