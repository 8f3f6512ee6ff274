"""Judged pairs as a student sees them: two texts, numbers, and the level that people gave. It knows no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.judge_material import Material, read_set
from lore_mm.datasets.relevance import GradedPair, RelevanceSet
from lore_mm.fingerprint import sha_of
from lore_mm.knowledge import Knowledge
from lore_mm.types import Judgment
from relevance.by_rules import RulesJudge
from relevance.pair_text import item_text, query_text
from relevance.path_features import FEATURES, features_of_pairs

__all__ = ["Judged", "read_judged"]


@dataclass(frozen=True)
class Judged:
    """The pairs of a set that the rules have a path for; the others no student judges.

    `places` are theirs among the set's pairs; texts (n), features float32 (n, F), levels (n,) and queries (n)
    follow it.
    """

    name: str
    data: RelevanceSet
    material: Material
    places: tuple[int, ...]
    texts: tuple[tuple[str, str], ...]
    features: NDArray[np.float32]
    levels: NDArray[np.int64]
    queries: tuple[str, ...]  # one id for equal queries, others for other sets'
    walked: tuple[Judgment, ...]

    @property
    def pairs(self) -> list[GradedPair]:
        """The graded pairs themselves."""
        return [self.data.pairs[i] for i in self.places]

    @property
    def sha(self) -> str:
        """Of all that a student learns from."""
        return sha_of([self.data.sha, list(self.texts), self.features.tolist()])


def read_judged(name: str, data: RelevanceSet, knowledge: Knowledge) -> Judged:
    """Read a set's queries and items, and walk the rules' paths."""
    material, rules = read_set(data, knowledge), RulesJudge(knowledge)
    known = [i for i, pair in enumerate(data.pairs) if pair.item_id in material.features]
    pairs = [
        (material.understood[data.pairs[i].query.query_id], material.features[data.pairs[i].item_id]) for i in known
    ]
    walked = rules.judge(pairs)
    kept = [k for k, one in enumerate(walked) if one.grade is not None]
    return Judged(
        name=name,
        data=data,
        material=material,
        places=tuple(known[k] for k in kept),
        texts=tuple((query_text(pairs[k][0]), item_text(pairs[k][1])) for k in kept),
        features=_features([pairs[k] for k in kept], [walked[k] for k in kept]),
        levels=np.array([int(data.pairs[known[k]].grade) for k in kept], dtype=np.int64),
        queries=tuple(f"{data.name} {data.pairs[known[k]].query.query_id}" for k in kept),
        walked=tuple(walked[k] for k in kept),
    )


def _features(pairs: Sequence[tuple[object, object]], walked: Sequence[Judgment]) -> NDArray[np.float32]:
    if not pairs:
        return np.zeros((0, len(FEATURES)), dtype=np.float32)
    return np.asarray(features_of_pairs(pairs, walked), dtype=np.float32)  # type: ignore[arg-type]
