"""Labels B-, I- and O over words: the likeliest legal sequence, and its spans. It knows no model and no text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lore_mm.datasets.queryner import bio_spans

__all__ = ["Labels", "greedy", "spans", "viterbi"]

Scores = NDArray[np.float32]
_NEVER = np.float32(-1e9)


class Labels:
    """The labels of a model in its order: O, and B-x with I-x for every type x.

    Raises:
        ValueError: another set of labels.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        begin = {name[2:]: i for i, name in enumerate(names) if name.startswith("B-")}
        inside = {name[2:]: i for i, name in enumerate(names) if name.startswith("I-")}
        whole = len(set(names)) == len(names) == 2 * len(begin) + 1
        if "O" not in names or begin.keys() != inside.keys() or not whole:
            raise ValueError("labels are O, and B-x with I-x for every type x")
        self.types = tuple(begin)
        self.outside = self.names.index("O")
        self.begin = np.array([begin[t] for t in self.types], dtype=np.intp)
        self.inside = np.array([inside[t] for t in self.types], dtype=np.intp)


def viterbi(scores: Scores, labels: Labels) -> NDArray[np.intp]:
    """The legal sequence of labels with the highest sum of scores: (n, words, labels) → (n, words).

    Legal: I-x stands behind B-x or I-x only. Scores are log-probabilities, or anything that adds up.
    """
    n, words, _ = scores.shape
    path = np.zeros((n, words), dtype=np.intp)
    if not words:
        return path
    best = scores[:, 0].copy()
    best[:, labels.inside] = _NEVER
    came: list[NDArray[np.intp]] = []
    rows = np.arange(n)
    for word in range(1, words):
        before = np.repeat(best.argmax(axis=1)[:, None], best.shape[1], axis=1)
        goes_on = best[:, labels.inside] > best[:, labels.begin]
        before[:, labels.inside] = np.where(goes_on, labels.inside, labels.begin)
        best = np.take_along_axis(best, before, axis=1) + scores[:, word]
        came.append(before)
    path[:, -1] = best.argmax(axis=1)
    for word in range(words - 1, 0, -1):
        path[:, word - 1] = came[word - 1][rows, path[:, word]]
    return path


def greedy(scores: Scores, labels: Labels) -> NDArray[np.intp]:
    """Word by word the best label that is legal behind the one before: (n, words, labels) → (n, words)."""
    n, words, _ = scores.shape
    path = np.zeros((n, words), dtype=np.intp)
    before = np.full(n, labels.outside)
    for word in range(words):
        legal = scores[:, word].copy()
        behind = (before[:, None] == labels.inside) | (before[:, None] == labels.begin)
        legal[:, labels.inside] = np.where(behind, legal[:, labels.inside], _NEVER)
        before = path[:, word] = legal.argmax(axis=1)
    return path


def spans(path: Sequence[int], labels: Labels) -> list[tuple[str, int, int]]:
    """The spans of a sequence of labels: (type, first word, word behind the last). A stray I- begins a span."""
    return [(kind, first, last + 1) for kind, first, last in bio_spans([labels.names[label] for label in path])]
