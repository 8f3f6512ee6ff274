"""How well scores rank the items of a query: nDCG, reciprocal rank, and the share of good ones.

A ranking is that of the judged pairs of one query by falling score. Equal scores are no ranking: a metric is then its
mean over all orders of the tied items (McSherry & Najork, Computing information retrieval performance measures
efficiently in the presence of tied scores, 2008), so that a judge of few distinct scores neither gains nor loses by
the order of its input. Tools that break ties by document id cannot say that, which is why this is not left to them.

    ndcg             Σ gain / log2(rank + 2) over ranks 0 … k−1, over the same of the best order; gain = level − 1, as
                     trec_eval takes it. NaN where no item has a gain: there is nothing to find
    reciprocal_rank  1 / (1 + rank of the first relevant item); NaN where none is relevant
    good_rate        share of the query's items that are judged L3 or L4: "item goodrate" as Taobao's main search
                     defines it; LORE reports a GoodRate and does not define it

It knows nothing of judges, stores or files.
"""

from __future__ import annotations

from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["good_rate", "ndcg", "reciprocal_rank"]

Floats = NDArray[np.float64]


def ndcg(levels: ArrayLike, scores: ArrayLike, k: int = 10) -> float:
    """Normalised discounted cumulated gain of one query's items in the order of their scores. In [0, 1], or NaN."""
    gains = np.asarray(levels, dtype=float) - 1
    s = np.asarray(scores, dtype=float)
    discounts = np.zeros(len(gains))
    discounts[:k] = 1 / np.log2(np.arange(len(gains[:k])) + 2)
    best = float((np.sort(gains)[::-1] * discounts).sum())
    if best <= 0:
        return float("nan")
    order = np.argsort(-s, kind="stable")
    starts = _starts(s[order])
    sizes = np.diff(np.append(starts, len(s)))
    mean_gains = np.add.reduceat(gains[order], starts) / sizes
    return float((mean_gains * np.add.reduceat(discounts, starts)).sum()) / best


def reciprocal_rank(levels: ArrayLike, scores: ArrayLike) -> float:
    """One over the place (from 1) of the first item of level 3 or 4, by falling scores. In (0, 1], or NaN."""
    relevant = np.asarray(levels) >= 3
    if not relevant.any():
        return float("nan")
    s = np.asarray(scores, dtype=float)
    order = np.argsort(-s, kind="stable")
    starts = _starts(s[order])
    found = np.add.reduceat(relevant[order].astype(int), starts)
    first = int(np.flatnonzero(found)[0])
    before, hits = int(starts[first]), int(found[first])
    size = int(np.diff(np.append(starts, len(s)))[first])
    # of `size` tied items `hits` are relevant: the first of these stands at place j in C(size − j, hits − 1) of the
    # C(size, hits) ways to lay them out
    ways = (comb(size - j, hits - 1) / (before + j) for j in range(1, size - hits + 2))
    return float(sum(ways) / comb(size, hits))


def good_rate(levels: ArrayLike) -> float:
    """The share of items of level 3 or 4; NaN for none."""
    good = np.asarray(levels) >= 3
    return float(good.mean()) if len(good) else float("nan")


def _starts(s: Floats) -> NDArray[np.int64]:
    """Where each run of equal scores begins in sorted scores."""
    return np.flatnonzero(np.r_[True, s[1:] != s[:-1]]) if len(s) else np.zeros(0, dtype=np.int64)
