"""How well students do on queries they did not learn from: against their teacher, and against people's labels.

Beside them stand what they must beat: one grade for all, and the cosine of the body before it learnt anything, with
thresholds fitted on the training pairs. Figures carry intervals over queries (`relevance.scoring`). The dimensions are
scored over all that the held-out queries demand: each is a level, and failing is a level of L1 or L2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lore_mm.bootstrap import plain
from lore_mm.text import fold
from relevance.baselines import fit_thresholds, grade_by, majority
from relevance.scoring import evaluate
from relevance.training.distil_models import LEVELS, PairHeads
from relevance.training.distil_rows import TaughtPair, dimensions

__all__ = ["Told", "by_bi_encoder", "by_cross_encoder", "constant", "cosines", "measured", "untrained"]

_AT_ONCE = 64
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Told:
    """What a system tells of n pairs: grades (n,) of 1–4, scores (n,) up for better.

    `likely`: (n, 4), of a system that gives probabilities. `levels`: (n, dimensions, 4), of one that tells those too.
    """

    grades: NDArray[np.int64]
    scores: Floats
    likely: Floats | None = None
    levels: Floats | None = None

    @classmethod
    def of(cls, likely: Floats, levels: Floats | None = None) -> Told:
        """The likeliest grade, and the expected one, scaled to [0, 1], as the score."""
        return cls(1 + likely.argmax(axis=1), _expected(likely), likely, levels)


def _expected(likely: Floats) -> Floats:
    scores: Floats = likely @ np.arange(LEVELS) / (LEVELS - 1)
    return scores


def by_cross_encoder(model: Any, pairs: Sequence[TaughtPair]) -> Told:
    """What a cross-encoder tells."""
    likely = np.zeros((len(pairs), LEVELS))
    levels = np.zeros((len(pairs), len(dimensions()), LEVELS))
    order = sorted(range(len(pairs)), key=lambda i: len(pairs[i].query) + len(pairs[i].item))
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(order), _AT_ONCE):
            places = order[start : start + _AT_ONCE]
            read = model.preprocess([[pairs[i].query, pairs[i].item] for i in places])
            made = model({k: v.to(model.device) if isinstance(v, torch.Tensor) else v for k, v in read.items()})
            likely[places] = made["scores"].double().softmax(-1).cpu().numpy()
            told = made["dimensions"].double().reshape(len(places), -1, LEVELS)
            levels[places] = told.softmax(-1).cpu().numpy()
    return Told.of(likely, levels)


def by_bi_encoder(model: Any, heads: PairHeads, pairs: Sequence[TaughtPair]) -> tuple[Told, Told]:
    """What a bi-encoder tells by its cosine, and by its heads, which tell the dimensions too."""
    u, v = _vectors(model, pairs)
    with torch.inference_mode():
        by_cosine = heads.by_cosine((u * v).sum(dim=1)).exp().double().numpy()
        levels, told = heads.by_head(u, v)
        of_dimensions = told.double().reshape(len(pairs), -1, LEVELS).softmax(-1).numpy()
        by_head = levels.double().softmax(-1).numpy()
    return Told.of(by_cosine / by_cosine.sum(axis=1, keepdims=True)), Told.of(by_head, of_dimensions)


def cosines(model: Any, pairs: Sequence[TaughtPair]) -> Floats:
    """The cosine of each pair, (n,)."""
    u, v = _vectors(model, pairs)
    found: Floats = (u * v).sum(dim=1).double().numpy()
    return found


def untrained(learn: Floats, grades: Sequence[int], tell: Floats) -> Told:
    """Cosines as a system: thresholds are fitted on those of the pairs learnt from, with the teacher's grades."""
    return Told(grade_by(tell, fit_thresholds(learn, np.asarray(grades, dtype=np.int64))), tell)


def constant(grades: Sequence[int], n: int) -> Told:
    """The commonest of the grades, for all of n pairs."""
    return Told(np.full(n, majority(grades), dtype=np.int64), np.zeros(n))


def _vectors(model: Any, pairs: Sequence[TaughtPair]) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors of queries and items, each (n, width); a text that stands in several pairs is read once."""
    texts = list(dict.fromkeys(text for pair in pairs for text in (pair.query, pair.item)))
    made = model.encode(texts, batch_size=_AT_ONCE, convert_to_tensor=True, show_progress_bar=False).cpu().float()
    place = {text: i for i, text in enumerate(texts)}
    return made[[place[p.query] for p in pairs]], made[[place[p.item] for p in pairs]]


def measured(systems: Mapping[str, Told], pairs: Sequence[TaughtPair], resamples: int) -> dict[str, Any]:
    """The figures of systems on held-out pairs, as JSON."""
    groups = [fold(pair.query) for pair in pairs]
    taught = np.array([pair.grade for pair in pairs])
    labels = np.array([pair.label for pair in pairs])
    teacher = Told.of(np.array([pair.likely for pair in pairs]))
    teacher = Told(taught, teacher.scores, teacher.likely)
    return {
        "pairs": len(pairs),
        "queries": len(set(groups)),
        "labelled": int((labels > 0).sum()),
        "against": {
            "teacher": _scored(systems, taught, groups, resamples),
            **({"labels": _scored({"teacher": teacher, **systems}, labels, groups, resamples)} if labels.any() else {}),
        },
        "dimensions": _dimensions(systems, pairs, groups, resamples),
    }


def _scored(
    systems: Mapping[str, Told], truth: NDArray[np.int64], groups: Sequence[str], resamples: int
) -> dict[str, Any]:
    at = np.flatnonzero(truth)
    found = {}
    for name, told in systems.items():
        likely = None if told.likely is None else told.likely[at].tolist()
        scored = evaluate(
            truth[at].tolist(),
            told.grades[at].tolist(),
            told.scores[at].tolist(),
            [groups[i] for i in at],
            resamples=resamples,
            full=True,
            probabilities=likely,
        )
        found[name] = {"n": scored.n, "metrics": plain(scored.metrics), "confusion": scored.confusion.tolist()}
    return found


def _dimensions(
    systems: Mapping[str, Told], pairs: Sequence[TaughtPair], groups: Sequence[str], resamples: int
) -> dict[str, Any]:
    """Each system that tells them, over every dimension that a pair's query demands."""
    truth = np.array([pair.levels for pair in pairs])
    at, which = np.nonzero(truth)
    found: dict[str, Any] = {}
    for name, told in systems.items():
        if told.levels is None or not len(at):
            continue
        likely = told.levels[at, which]
        scored = evaluate(
            truth[at, which].tolist(),
            (1 + likely.argmax(axis=1)).tolist(),
            _expected(likely).tolist(),
            [groups[i] for i in at],
            resamples=resamples,
        )
        found[name] = {"n": scored.n, "metrics": plain(scored.metrics)}
    return found
