"""What is measured on graded pairs: judges by their addresses, and baselines that any judge must beat.

The baselines: the commonest grade for everything, BM25 between query and title, and the cosine between embeddings of
query and title, or those that a store holds; thresholds that make grades of the last ones are fitted on the other
queries of the set, in folds, which is help that the rules do not get. It knows no metric.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from jobs.judge_material import Material, StoredVectors
from lore_mm.console import progress
from lore_mm.datasets.relevance import RelevanceSet
from lore_mm.errors import ConfigError, InputError, nearest
from lore_mm.knowledge import Knowledge
from lore_mm.models import open_embedder
from lore_mm.types import Judgment
from relevance.baselines import BM25, cross_fitted, majority
from relevance.judge import MODES, open_judge
from relevance.protocol import PairJudge, Pictures, TrainedJudge, failed_judgment

__all__ = [
    "FOLDS",
    "SystemRun",
    "bm25",
    "check_addresses",
    "embedding",
    "one_class",
    "open_judges",
    "run_judge",
    "stored_similarity",
]

FOLDS = 5
_AT_ONCE = 256
_LABEL = "evaluate judge"


@dataclass(frozen=True)
class SystemRun:
    """A system's answers, one a pair: grades 1–4 (0 missing), scores (NaN missing), and of a judge its judgments."""

    name: str
    grades: Sequence[int]
    scores: Sequence[float]
    judgments: Sequence[Judgment] | None = None
    shas: Mapping[str, str] = field(default_factory=dict)
    trained_on: frozenset[str] = frozenset()  # query ids

    @classmethod
    def of(
        cls,
        name: str,
        judgments: Sequence[Judgment],
        shas: Mapping[str, str] = MappingProxyType({}),
        trained_on: frozenset[str] = frozenset(),
    ) -> SystemRun:
        """That of a judge, by its judgments; a pair without a grade is missing."""
        scores = [float("nan") if one.score is None or not one.grade else one.score for one in judgments]
        return cls(name, [int(one.grade or 0) for one in judgments], scores, judgments, shas, trained_on)

    @property
    def probabilities(self) -> list[Sequence[float] | None] | None:
        """P(L1) … P(L4) a pair; None for a system that gives none."""
        if self.judgments is None:
            return None
        return [one.probabilities if one.grade else None for one in self.judgments]

    @property
    def answers(self) -> list[Sequence[int]] | None:
        """The grades of each pair's several answers; empty where it was asked once."""
        return None if self.judgments is None else [tuple(map(int, one.samples)) for one in self.judgments]

    @property
    def errors(self) -> dict[str, int]:
        """Why pairs have no judgment: reason → pairs, the commonest first."""
        failed = (one.error or "unknown" for one in self.judgments or () if one.grade is None)
        return dict(Counter(failed).most_common())


def check_addresses(addresses: Sequence[str]) -> None:
    """Check what can be told of judges before anything is read or opened.

    Raises:
        InputError: none is named, one is named twice, or is of no known mode.
    """
    if len(set(addresses)) != len(addresses) or not addresses:
        raise InputError("--judge: name each judge once")
    for address in addresses:
        if (mode := address.partition(":")[0]) not in MODES:
            raise InputError(f"no judge {address!r}{nearest(mode, MODES)}; legal: {', '.join(MODES.values())}")


@contextmanager
def open_judges(
    addresses: Sequence[str],
    knowledge: Knowledge,
    *,
    rules: Path | None = None,
    pictures: Pictures | None = None,
    options: Mapping[str, Any] | None = None,
    calibrations: Sequence[str] = (),
) -> Iterator[dict[str, PairJudge]]:
    """The judges of these addresses, closed in the end. `options` go to those that name a model (MODE:SCHEME:NAME).

    A calibration, a file or "contextual", goes over the judges that it is for.

    Raises:
        InputError: none is named, one is named twice, is unknown, or lacks an option.
        ConfigError: a calibration is for none of them.
        LoreError: its rulebook or its model cannot be had.
    """
    check_addresses(addresses)
    with ExitStack() as stack:
        opened: dict[str, PairJudge] = {}
        for address in addresses:
            own = dict(options or {}) if address.count(":") > 1 else {}
            judge = open_judge(address, knowledge, rules=rules, pictures=pictures, **own)
            opened[address] = stack.enter_context(closing(judge))
        yield _calibrated(opened, calibrations)


def _calibrated(judges: Mapping[str, PairJudge], calibrations: Sequence[str]) -> dict[str, PairJudge]:
    """Each judge with the calibration that is for it, where one is."""
    if not calibrations:
        return dict(judges)
    from relevance.calibration import calibrated

    found = dict(judges)
    for calibration in calibrations:
        faults = []
        for address, judge in judges.items():
            try:
                found[address] = calibrated(judge, calibration)
            except (ConfigError, InputError) as error:
                faults.append(error)
        if len(faults) == len(judges):
            raise faults[0]
    return found


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
        else failed_judgment(pair.query, pair.item_id, material.missing[pair.item_id], mode=judge.mode)
        for pair in data.pairs
    ]
    return SystemRun.of(name, answers, {**judge.versions, "judge": judge.sha}, _trained_on(judge, data))


def _trained_on(judge: PairJudge, data: RelevanceSet) -> frozenset[str]:
    """The queries of a set that the judge, or the one under its calibration, was trained on."""
    inner = getattr(judge, "inner", judge)
    if not isinstance(inner, TrainedJudge):
        return frozenset()
    queries = {pair.query.query_id: pair.query.text for pair in data.pairs}
    return frozenset(query_id for query_id, text in queries.items() if inner.was_trained_on(text))


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
        f"cosine:{address}",
        data,
        lambda query, item_id: float(vectors[query] @ vectors[data.items[item_id].title]),
    )


def stored_similarity(data: RelevanceSet, stored: StoredVectors) -> SystemRun:
    """The cosine between a query's embedding and the one that a store holds of the item, pictures included.

    Raises:
        ModelError, MissingExtraError: the model that made them cannot be had.
    """
    texts = list(dict.fromkeys(pair.query.text for pair in data.pairs))
    asked = dict(zip(texts, open_embedder(stored.model).embed_texts(texts), strict=True))
    nothing = float("nan")
    return _fitted(
        "embedding_similarity",
        data,
        lambda query, item_id: float(asked[query] @ stored.of[item_id]) if item_id in stored.of else nothing,
    )


def _fitted(name: str, data: RelevanceSet, score: Callable[[str, str], float]) -> SystemRun:
    """Scores, and the grades by thresholds fitted on other queries; nothing for pairs whose item is missing."""
    scores = [score(p.query.text, p.item_id) if p.item_id in data.items else float("nan") for p in data.pairs]
    truth = [int(pair.grade) for pair in data.pairs]
    grades = cross_fitted(scores, truth, [pair.query.query_id for pair in data.pairs], FOLDS)
    return SystemRun(name, grades.tolist(), scores)
