"""Judged pairs as a student sees them: two texts, numbers, and the level that people gave. It knows no model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.judge_material import read_set
from jobs.judge_systems import SystemRun, run_judge
from lore_mm.datasets.relevance import RelevanceSet
from lore_mm.knowledge import Knowledge
from lore_mm.models.cross_encoder import query_mark
from relevance.by_rules import RulesJudge
from relevance.pair_text import item_text, query_text
from relevance.path_features import features_of_pairs

__all__ = ["Judged", "read_judged"]


@dataclass(frozen=True)
class Judged:
    """A graded set, what the rules say of all of its pairs, and the pairs that they have a path for.

    The other pairs no student judges. `places` are those among the set's pairs; texts (n), features float32 (n, F),
    levels (n,) and queries (n) follow it. Equal queries have one mark, in whatever set they stand.
    """

    name: str
    data: RelevanceSet
    rules: SystemRun
    places: tuple[int, ...]
    texts: tuple[tuple[str, str], ...]
    features: NDArray[np.float32]
    levels: NDArray[np.int64]
    queries: tuple[str, ...]


def read_judged(name: str, data: RelevanceSet, knowledge: Knowledge) -> Judged:
    """Read a set's queries and items, and walk the rules' paths."""
    material = read_set(data, knowledge)
    rules = run_judge("rules", RulesJudge(knowledge), data, material)
    walked = rules.judgments or ()
    places = tuple(i for i, one in enumerate(walked) if one.grade is not None)
    kept = [data.pairs[i] for i in places]
    pairs = [(material.understood[pair.query.query_id], material.features[pair.item_id]) for pair in kept]
    return Judged(
        name=name,
        data=data,
        rules=rules,
        places=places,
        texts=tuple((query_text(understanding), item_text(features)) for understanding, features in pairs),
        features=features_of_pairs(pairs, [walked[i] for i in places]),
        levels=np.array([int(pair.grade) for pair in kept], dtype=np.int64),
        queries=tuple(query_mark(pair.query.text) for pair in kept),
    )
