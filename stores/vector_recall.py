"""What an approximate index finds of what there is: measured on a sample, and kept up to date with it cheaply.

The sample is some stored vectors, each with its nearest others by exact search. The build compares them with every row;
a change only compares them with the rows that came. What is measured is the share of the 10 nearest others that a
search returns after re-ranking: a row as similar as the tenth counts as found, so that equal vectors do no harm.
Queries that lie far from all stored vectors, such as texts among pictures, may find less.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lore_mm.errors import StoreError
from stores.vector_rows import Positions, Rows, Selection, Vectors, in_order

__all__ = ["RECALL_GOAL", "Sample", "draw", "measured", "read_sample", "renewed", "write_sample"]

RECALL_GOAL = 0.95
_QUERIES, _K = 200, 10
_KEPT = 32  # of the nearest, so that some may go before the sample must be drawn anew
_CLOSE = 1e-6  # similarities of one pair differ by so much, by the order of summing


@dataclass(frozen=True)
class Sample:
    """Queries (s, d), the row of each, and its nearest rows, exact down to the similarity `floor` (s,).

    `places` (s, 32) are -1 behind the last. The row itself is among them as long as it is live.
    """

    queries: Vectors
    own: Positions
    similarity: Vectors
    places: Positions
    floor: Vectors

    def __len__(self) -> int:
        return len(self.own)

    def goal(self) -> tuple[Vectors, NDArray[np.int64]]:
        """For each query the similarity that a found row must reach, and how many there are to find, up to 10."""
        others = np.where((self.places < 0) | (self.places == self.own[:, None]), -np.inf, self.similarity)
        others = -np.sort(-others, axis=1)
        there = np.minimum(np.isfinite(others).sum(axis=1), _K)
        last = np.take_along_axis(others, np.maximum(there - 1, 0)[:, None], 1)[:, 0]
        return last.astype(np.float32), there.astype(np.int64)


def draw(rows: Rows, live: NDArray[np.bool_]) -> Sample:
    """A new sample, compared with every live row."""
    there = np.flatnonzero(live)
    own = np.sort(np.random.default_rng(0).choice(there, min(_QUERIES, len(there)), replace=False)).astype(np.int64)
    queries = rows.take(own)
    similarity, places = rows.nearest(queries, _KEPT, None if live.all() else Selection.of_mask(live))
    floor = np.where(places[:, -1] < 0, -np.inf, similarity[:, -1]).astype(np.float32)
    return Sample(queries, own, similarity, places, floor)


def renewed(sample: Sample, rows: Rows, live: NDArray[np.bool_], first: int) -> Sample | None:
    """The sample after rows were removed, and those from `first` on came; None where too little is left of it."""
    gone = (sample.places >= 0) & ~live[sample.places]
    similarity = np.where(gone, -np.inf, sample.similarity)
    places = np.where(gone, -1, sample.places)
    came = Selection.of_places(first + np.flatnonzero(live[first:]), len(rows))
    found = rows.nearest(sample.queries, _KEPT, came)
    below = found[0] < sample.floor[:, None]  # there may be rows as near that were not kept
    similarity = np.concatenate([similarity, np.where(below, -np.inf, found[0])], axis=1)
    places = np.concatenate([places, np.where(below, -1, found[1])], axis=1)
    similarity, places = in_order(similarity, places)
    cut = np.where(places[:, _KEPT] >= 0, similarity[:, _KEPT - 1], sample.floor)
    known = Sample(sample.queries, sample.own, similarity[:, :_KEPT], places[:, :_KEPT], cut.astype(np.float32))
    enough = (known.goal()[1] >= _K) | np.isneginf(known.floor)
    if np.count_nonzero(enough) * 2 < min(_QUERIES, int(np.count_nonzero(live))):
        return None
    parts = ("queries", "own", "similarity", "places", "floor")
    return replace(known, **{name: getattr(known, name)[enough] for name in parts})


def measured(sample: Sample, near: Callable[[Vectors, int], tuple[Vectors, Positions]]) -> float:
    """The recall at 10 of a search for (queries, k), in [0, 1]; 1 where there is nothing to find."""
    least, there = sample.goal()
    use = there > 0
    if not use.any():
        return 1.0
    similarity, places = near(sample.queries[use], _K + 1)
    similarity = np.where((places < 0) | (places == sample.own[use, None]), -np.inf, similarity)
    hits = np.count_nonzero(similarity >= least[use, None] - _CLOSE, axis=1)
    return round(float(np.mean(np.minimum(hits / there[use], 1.0))), 4)


def write_sample(sample: Sample, file: Path) -> None:
    """Write it."""
    with file.open("wb") as sink:
        np.savez(sink, **vars(sample))


def read_sample(file: Path) -> Sample:
    """Read it.

    Raises:
        StoreError: it cannot be read.
    """
    try:
        with np.load(file, allow_pickle=False) as parts:
            return Sample(*(parts[name] for name in ("queries", "own", "similarity", "places", "floor")))
    except (OSError, ValueError, KeyError, EOFError):
        raise StoreError(f"vector index {file} is damaged; build it again with `lore embed`") from None
