"""What a judge must beat: one grade for all, BM25 on titles, embedding similarity. Scores, and grades by thresholds.

Thresholds that turn a similarity into a grade are fitted on other queries than those they grade (`cross_fitted`), to
maximise quadratic kappa: the baselines are given the labels' help that the rules do without.

BM25 (Robertson & Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond"; idf as in Lucene, never
negative), for a query Q and a document D of length |D| words:

    Σ over words w of Q:  ln(1 + (N − n_w + ½) / (n_w + ½)) · f·(k₁ + 1) / (f + k₁·(1 − b + b·|D| / mean length))

with f the count of w in D, n_w the number of documents that have w, k₁ = 1.2, b = 0.75.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from lore_mm.text import singular, tokens
from relevance.scoring import quadratic_kappa

__all__ = ["BM25", "cross_fitted", "fit_thresholds", "folds_of", "grade_by", "majority"]

_CUTS = 24  # candidate thresholds: quantiles of the scores


class BM25:
    """BM25 over a fixed set of short documents. Exact; meant for thousands of pairs, not for searching millions."""

    def __init__(self, documents: Mapping[str, str], k1: float = 1.2, b: float = 0.75) -> None:
        self.k1, self.b = k1, b
        self._counts = {name: Counter(_words(text)) for name, text in documents.items()}
        self._lengths = {name: sum(counts.values()) for name, counts in self._counts.items()}
        self._mean = sum(self._lengths.values()) / max(len(self._lengths), 1) or 1.0
        self._holding = Counter(word for counts in self._counts.values() for word in counts)

    def score(self, query: str, document: str) -> float:
        """The score of one document by its name; 0 where no word is shared or the name is unknown."""
        counts = self._counts.get(document)
        if counts is None:
            return 0.0
        norm = self.k1 * (1 - self.b + self.b * self._lengths[document] / self._mean)
        n = len(self._counts)
        total = 0.0
        for word in _words(query):
            f = counts.get(word, 0)
            if f:
                holding = self._holding[word]
                idf = math.log(1 + (n - holding + 0.5) / (holding + 0.5))
                total += idf * f * (self.k1 + 1) / (f + norm)
        return total


def _words(text: str) -> list[str]:
    return [singular(token.text) for token in tokens(text)]


def majority(truth: Sequence[int]) -> int:
    """The commonest level; of equally common ones the lowest."""
    counts = Counter(truth)
    return min(counts, key=lambda level: (-counts[level], level))


def grade_by(scores: NDArray[np.float64], thresholds: Sequence[float]) -> NDArray[np.int64]:
    """Levels by three rising thresholds: L1 below the first, L4 from the third on."""
    return 1 + np.searchsorted(np.asarray(thresholds, dtype=float), scores, side="right").astype(np.int64)


def fit_thresholds(scores: NDArray[np.float64], truth: NDArray[np.int64]) -> tuple[float, float, float]:
    """The three thresholds of the highest quadratic kappa, searched exhaustively over quantiles of the scores."""
    cuts = np.unique(np.quantile(scores, np.linspace(0, 1, _CUTS)))
    cuts = np.append(cuts, np.inf)
    # Pairs below a cut, per level: a triple's confusion matrix is then a difference of columns.
    below = np.array([[((truth == level) & (scores < cut)).sum() for cut in cuts] for level in range(1, 5)])
    total = np.array([(truth == level).sum() for level in range(1, 5)])
    triples = np.array(list(combinations_with_replacement(range(len(cuts)), 3)))
    first, second, third = below[:, triples[:, 0]], below[:, triples[:, 1]], below[:, triples[:, 2]]
    counts = np.stack([first, second - first, third - second, total[:, None] - third], axis=-1)  # (4, m, 4)
    kappas = quadratic_kappa(counts.transpose(1, 0, 2))
    i, j, k = triples[int(np.nanargmax(kappas))]
    return float(cuts[i]), float(cuts[j]), float(cuts[k])


def folds_of(groups: Sequence[str], folds: int = 5, seed: int = 0) -> NDArray[np.int64]:
    """The fold of each row, by lot: rows of one group share one. With fewer groups than folds each is its own."""
    names, of_row = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    fold = np.empty(len(names), dtype=np.int64)
    fold[order] = np.arange(len(names)) % max(1, min(folds, len(names)))
    result: NDArray[np.int64] = fold[of_row]
    return result


def cross_fitted(
    scores: Sequence[float], truth: Sequence[int], groups: Sequence[str], folds: int = 5, seed: int = 0
) -> NDArray[np.int64]:
    """Grades for every pair, each query graded by thresholds fitted on the queries of the other folds.

    Scores that are NaN are missing and get grade 0. With fewer queries than folds every query is a fold of its own.
    """
    s, t, fold = np.asarray(scores, dtype=float), np.asarray(truth, dtype=np.int64), folds_of(groups, folds, seed)
    known = ~np.isnan(s)
    grades = np.zeros(len(s), dtype=np.int64)
    for number in np.unique(fold[known]):
        here, rest = (fold == number) & known, (fold != number) & known
        fitting = rest if rest.any() else known
        grades[here] = grade_by(s[here], fit_thresholds(s[fitting], t[fitting]))
    return grades
