"""What is measured on a set of graded pairs: judges by their addresses, and baselines that any judge must beat.

A judge is `rules`, or `rules:FILE` with a rulebook of your own. The baselines: the commonest grade for everything, BM25
between query and title, and the cosine between embeddings of query and title; thresholds that make grades of the last
two are fitted on the other queries of the set, in folds, which is help that the rules do not get. It knows no metric.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from extractors.given import Given
from extractors.protocol import ExtractorInput
from extractors.queries import open_engine
from lore_mm.console import progress
from lore_mm.datasets.relevance import RelevanceSet
from lore_mm.knowledge import Knowledge
from lore_mm.models import open_embedder
from lore_mm.schema import load_schemas
from lore_mm.types import ItemFeatures, Judgment, Understanding
from relevance.baselines import BM25, cross_fitted, majority
from relevance.protocol import PairJudge, failed_judgment

__all__ = [
    "FOLDS",
    "Material",
    "SystemRun",
    "bm25",
    "embedding",
    "one_class",
    "prepare",
    "run_judge",
]

FOLDS = 5
_AT_ONCE = 256
_LABEL = "evaluate judge"


@dataclass(frozen=True)
class Material:
    """What judges are given: queries understood, items with what `given` reads on them; and what made that.

    `missing` (item_id → why) are items of pairs that cannot be judged. `shas` names what the reading depends on.
    """

    understood: Mapping[str, Understanding]  # query_id → …
    features: Mapping[str, ItemFeatures]  # item_id → …
    missing: Mapping[str, str]
    shas: Mapping[str, str]


@dataclass(frozen=True)
class SystemRun:
    """A system's answers, one a pair: grades 1–4 (0 missing), scores (NaN missing), probabilities where it has some."""

    name: str
    grades: Sequence[int]
    scores: Sequence[float]
    probabilities: Sequence[Sequence[float] | None] | None = None
    errors: Mapping[str, int] = field(default_factory=dict)  # reason → pairs
    shas: Mapping[str, str] = field(default_factory=dict)


def prepare(data: RelevanceSet, knowledge: Knowledge, engine: str) -> Material:
    """Read the queries by an engine and the items of the pairs by the extractor `given`, in this process.

    Raises:
        LoreError: the engine is unknown, dead or missing.
    """
    queries = list({pair.query.query_id: pair.query for pair in data.pairs}.values())
    reader = open_engine(engine, knowledge)
    try:
        understood = reader.understand(queries)
        engine_sha = reader.sha
    finally:
        reader.close()
    schemas = load_schemas()
    given = Given(knowledge, schemas)
    wanted = list(dict.fromkeys(pair.item_id for pair in data.pairs))
    missing = {i: data.unusable.get(i, "") for i in wanted if i not in data.items}
    missing = {
        i: f"item {i!r} cannot be used: {why}" if why else f"no item {i!r} in the set" for i, why in missing.items()
    }
    there = [data.items[i] for i in wanted if i in data.items]
    features: dict[str, ItemFeatures] = {}
    with progress(f"{_LABEL} given", len(there)) as advance:
        for n in range(0, len(there), _AT_ONCE):
            some = there[n : n + _AT_ONCE]
            for item, found in zip(some, given.extract([ExtractorInput(item) for item in some]), strict=True):
                if found.status == "failed":
                    missing[item.item_id] = f"its attributes cannot be read: {found.error}"
                else:
                    features[item.item_id] = ItemFeatures(item, found.attributes)
            advance(len(some))
    shas = {"knowledge": knowledge.sha, "schemas": schemas.sha, "given": given.sha, "engine": engine_sha}
    return Material(dict(zip((q.query_id for q in queries), understood, strict=True)), features, missing, shas)


def run_judge(name: str, judge: PairJudge, data: RelevanceSet, material: Material) -> SystemRun:
    """A judge's answers on all pairs; a pair whose item is missing is a failed judgment with the reason."""
    ready = [pair for pair in data.pairs if pair.item_id in material.features]
    judged: list[Judgment] = []
    with progress(f"{_LABEL} {name}", len(ready)) as advance:
        for n in range(0, len(ready), _AT_ONCE):
            some = ready[n : n + _AT_ONCE]
            judged += judge.judge(
                [(material.understood[p.query.query_id], material.features[p.item_id]) for p in some]
            )  # fmt: skip
            advance(len(some))
    found = iter(judged)
    answers = [
        next(found)
        if pair.item_id in material.features
        else failed_judgment(pair.query, pair.item_id, material.missing[pair.item_id])
        for pair in data.pairs
    ]
    return SystemRun(
        name=name,
        grades=[int(one.grade or 0) for one in answers],
        scores=[float("nan") if one.score is None else one.score for one in answers],
        probabilities=[one.probabilities if one.grade else None for one in answers],
        errors=dict(Counter(one.error or "unknown" for one in answers if one.grade is None).most_common()),
        shas={**judge.versions, "judge": judge.sha},
    )


def one_class(data: RelevanceSet) -> SystemRun:
    """The commonest grade of these labels for every pair whose item is there."""
    there = [pair.item_id in data.items for pair in data.pairs]
    common = majority([int(pair.grade) for pair in data.pairs])
    return SystemRun("all_one_class", [common * one for one in there], [0.0 if one else float("nan") for one in there])


def bm25(data: RelevanceSet) -> SystemRun:
    """BM25 of the query on the title; how common words are is counted over the whole catalogue where the set has it."""
    titles = {**data.titles, **{item_id: item.title for item_id, item in data.items.items()}}
    index = BM25(titles)
    return _fitted("bm25_title", data, lambda query, item_id: index.score(query, item_id))


def embedding(data: RelevanceSet, address: str) -> SystemRun:
    """The cosine between the embeddings of query and title.

    Raises:
        ModelError, MissingExtraError: the embedder cannot be had.
    """
    model = open_embedder(address)
    there = dict.fromkeys(pair.item_id for pair in data.pairs if pair.item_id in data.items)
    texts = list(dict.fromkeys([*(p.query.text for p in data.pairs), *(data.items[i].title for i in there)]))
    parts = []
    with progress(f"{_LABEL} {address}", len(texts)) as advance:
        for n in range(0, len(texts), _AT_ONCE):
            parts.append(model.embed_texts(texts[n : n + _AT_ONCE]))
            advance(len(parts[-1]))
    vectors = dict(zip(texts, np.concatenate(parts), strict=True))
    return _fitted(
        "embedding_similarity", data, lambda query, item_id: float(vectors[query] @ vectors[data.items[item_id].title])
    )


def _fitted(name: str, data: RelevanceSet, score: Callable[[str, str], float]) -> SystemRun:
    """Scores, and the grades by thresholds fitted on other queries; nothing for pairs whose item is missing."""
    scores = [score(p.query.text, p.item_id) if p.item_id in data.items else float("nan") for p in data.pairs]
    truth = [int(pair.grade) for pair in data.pairs]
    grades = cross_fitted(scores, truth, [pair.query.query_id for pair in data.pairs], FOLDS)
    return SystemRun(name, grades.tolist(), scores)
