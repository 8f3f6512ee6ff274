"""What several teachers say of queries: the mean of their log-probabilities, which a student learns from.

Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015 (arXiv 1503.02531). It knows no schedules.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from jobs.tagger.learner import Encoded, TaggerModel, collate

__all__ = ["LogProbabilities", "mean_of", "predict"]

LogProbabilities = list[NDArray[np.float32]]  # a query each: (words, labels)


def predict(model: TaggerModel, rows: Sequence[Encoded], *, device: str = "cpu", size: int = 128) -> LogProbabilities:
    """Each query's log-probabilities of the labels of its words."""
    model.eval()
    made: LogProbabilities = [np.zeros((0, 0), dtype=np.float32)] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].ids))
    with torch.inference_mode():
        for start in range(0, len(order), size):
            places = order[start : start + size]
            scores = model(collate([rows[i] for i in places], device)).log_softmax(-1).cpu().numpy()
            for i, one in zip(places, scores, strict=True):
                made[i] = one[: len(rows[i].labels)].copy()
    return made


def mean_of(said: Sequence[LogProbabilities]) -> LogProbabilities:
    """The mean over teachers, renormalised: a geometric mean of their probabilities."""
    made = []
    for one in zip(*said, strict=True):
        mean = np.mean(one, axis=0)
        made.append(np.asarray(mean - np.log(np.exp(mean).sum(axis=1, keepdims=True)), dtype=np.float32))
    return made
