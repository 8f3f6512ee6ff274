"""Figures of an embedder that chooses among texts: hits and ranks with intervals, calibrated confidence, text geometry.

Everything here is arithmetic on similarities; it knows nothing of photos, towers or training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Question",
    "calibrate",
    "expected_calibration_error",
    "hits",
    "interval",
    "mean_over_splits",
    "ranks",
    "share",
    "softmax",
]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Question:
    """Which of the options does each picture show?"""

    attribute: str
    similarities: Floats  # (n, options): cosines
    right: Bools  # (n, options): several may be right
    groups: tuple[str, ...]  # n: what must not be parted between fitting and measuring


def hits(similarities: Floats, right: Bools) -> Bools:
    """Whether the most similar option is a right one, (n,)."""
    made: Bools = right[np.arange(len(right)), similarities.argmax(axis=1)]
    return made


def ranks(similarities: Floats, right: Bools) -> NDArray[np.int64]:
    """The rank, from 0, of the best right option, (n,): how many wrong ones beat it. Each row has a right one."""
    best = np.where(right, similarities, -np.inf).max(axis=1, keepdims=True)
    made: NDArray[np.int64] = ((similarities > best) & ~right).sum(axis=1)
    return made


def interval(values: Sequence[float] | Floats | Bools, groups: Sequence[str], seed: int = 0) -> tuple[float, float]:
    """95 % percentile bootstrap of the mean, drawing whole groups (Efron and Tibshirani 1993, ch. 13)."""
    _, place = np.unique(np.asarray(groups), return_inverse=True)
    totals = np.bincount(place, weights=np.asarray(values, dtype=np.float64))
    counts = np.bincount(place).astype(np.float64)
    drawn = np.random.default_rng(seed).integers(len(counts), size=(2000, len(counts)))
    means = totals[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def share(values: Bools, groups: Sequence[str], chance: float) -> dict[str, float | list[float] | int]:
    """The share of hits as a figure: value, 95 % interval over groups, chance, n."""
    low, high = interval(values, groups)
    return {
        "value": round(float(np.mean(values)), 4),
        "interval": [round(low, 4), round(high, 4)],
        "chance": round(chance, 4),
        "n": len(values),
    }


def mean_over_splits(values: Sequence[float], chance: float) -> dict[str, float | list[float] | int]:
    """The mean over splits as a figure, with the 95 % bootstrap interval of that mean over splits."""
    low, high = interval(np.asarray(values, dtype=np.float64), [str(i) for i in range(len(values))])
    return {
        "value": round(float(np.mean(values)), 4),
        "interval": [round(low, 4), round(high, 4)],
        "chance": round(chance, 4),
        "splits": len(values),
        "lowest": round(float(np.min(values)), 4),
        "highest": round(float(np.max(values)), 4),
    }


def softmax(logits: Floats) -> Floats:
    """Row-wise softmax."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    made: Floats = shifted / shifted.sum(axis=1, keepdims=True)
    return made


def expected_calibration_error(confidence: Floats, hit: Bools, bins: int = 10) -> float:
    """Mean |confidence - accuracy| over equally filled bins (adaptive ECE, Nguyen and O'Connor 2015)."""
    if not len(confidence):
        return 0.0
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return float(sum(len(p) * abs(confidence[p].mean() - hit[p].mean()) for p in parts) / len(order))


def calibrate(questions: Sequence[Question], precision: float = 0.85, fewest: int = 15) -> dict[str, float]:
    """Fit a temperature and a threshold on half of the groups, measure them on the other half.

    The temperature has the least negative log-likelihood of the right options. The threshold is the lowest confidence
    from which on answers of the fitting half are right with at least this precision; where none gives as many as
    `fewest` answers it is 1.01: the model is no judge of this, and should not be asked.
    """
    grid = np.geomspace(0.005, 0.5, 60)
    fitting = [_half(q, 0) for q in questions]
    losses = [sum(_loss(q, t) for q in fitting) for t in grid]
    temperature = float(grid[int(np.argmin(losses))])
    confidence, hit = _answers(fitting, temperature)
    order = np.argsort(-confidence, kind="stable")
    running = np.cumsum(hit[order]) / np.arange(1, len(order) + 1)
    good = np.flatnonzero(running >= precision)
    enough = len(good) > 0 and good[-1] + 1 >= fewest
    threshold = float(confidence[order][good[-1]]) if enough else 1.01
    confidence, hit = _answers([_half(q, 1) for q in questions], temperature)
    answered = confidence >= threshold
    figures = {
        "temperature": round(temperature, 4),
        "threshold": round(threshold, 3),
        "calibration_error": round(expected_calibration_error(confidence, hit), 3),
        "accuracy": round(float(hit.mean()), 3) if len(hit) else 0.0,
        "answered": round(float(answered.mean()), 3) if len(hit) else 0.0,
        "n": float(len(hit)),
    }
    if answered.any():
        figures["precision"] = round(float(hit[answered].mean()), 3)
    return figures


def _half(question: Question, which: int) -> Question:
    names = sorted(set(question.groups))
    shuffled = np.random.default_rng(0).permutation(len(names))
    chosen = {names[i] for i in shuffled[which::2]}
    keep = np.asarray([g in chosen for g in question.groups], dtype=np.bool_)
    groups = tuple(g for g, k in zip(question.groups, keep, strict=True) if k)
    return Question(question.attribute, question.similarities[keep], question.right[keep], groups)


def _loss(question: Question, temperature: float) -> float:
    likely = (softmax(question.similarities / temperature) * question.right).sum(axis=1)
    return float(-np.log(np.maximum(likely, 1e-12)).sum())


def _answers(questions: Sequence[Question], temperature: float) -> tuple[Floats, Bools]:
    confidence = np.concatenate([softmax(q.similarities / temperature).max(axis=1) for q in questions])
    return confidence, np.concatenate([hits(q.similarities, q.right) for q in questions])
