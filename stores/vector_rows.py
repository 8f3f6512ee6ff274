"""The vectors of an index, memory-mapped: rows by their places, and the exact nearest of them.

Rows have length 1, so that an inner product is the cosine similarity. Which rows may be returned is a `Selection`.
This module knows no ids and no FAISS index, only FAISS's arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lore_mm.errors import InputError
from stores.vector_files import load_faiss

__all__ = ["GATHER_UP_TO", "Positions", "Rows", "Selection", "Vectors", "in_order", "unit_query", "unit_rows"]

Vectors = NDArray[np.float32]
Positions = NDArray[np.int64]
GATHER_UP_TO = 20_000  # allowed rows that are listed, and compared one by one
_COPIED = 16_384  # rows that are copied out at once
_SPARSE = 8  # one allowed row in so many, and they are copied out instead of asked for one by one


@dataclass(frozen=True)
class Selection:
    """Rows that may be returned: listed where they are few, else a bit for every row.

    Attributes:
        count: how many.
        places: they, rising; None where only `bits` says.
        bits: packed, the lowest first.
    """

    count: int
    places: Positions | None
    bits: NDArray[np.uint8] | None

    @classmethod
    def of_places(cls, places: Positions, rows: int) -> Selection:
        """From rising places among `rows`."""
        if len(places) <= GATHER_UP_TO:
            return cls(len(places), places, None)
        mask = np.zeros(rows, np.bool_)
        mask[places] = True
        return cls.of_mask(mask)

    @classmethod
    def of_mask(cls, mask: NDArray[np.bool_]) -> Selection:
        """From a truth value for every row."""
        count = int(np.count_nonzero(mask))
        if count <= GATHER_UP_TO:
            return cls(count, np.flatnonzero(mask).astype(np.int64), None)
        return cls(count, None, np.packbits(mask, bitorder="little"))

    def within(self, start: int, stop: int) -> Positions:
        """The allowed rows from `start`, a multiple of 8, up to `stop`, as places behind `start`."""
        if self.places is not None:
            low, high = np.searchsorted(self.places, [start, stop])
            return self.places[low:high] - start
        assert self.bits is not None
        part = self.bits[start // 8 : (stop + 7) // 8]
        return np.flatnonzero(np.unpackbits(part, count=stop - start, bitorder="little")).astype(np.int64)

    def selector(self, rows: int) -> Any:
        """As FAISS wants it."""
        bits = self.bits
        if bits is None:
            mask = np.zeros(rows, np.bool_)
            mask[self.places] = True
            bits = np.packbits(mask, bitorder="little")
        return load_faiss().IDSelectorBitmap(bits)


class Rows:
    """Vectors in blocks of `block_rows`, a multiple of 8; the last block may be shorter."""

    def __init__(self, blocks: Sequence[Vectors], block_rows: int, width: int) -> None:
        self.width = width
        self._blocks, self._block_rows = blocks, block_rows
        self._count = sum(map(len, blocks))

    def __len__(self) -> int:
        return self._count

    def take(self, places: Positions) -> Vectors:
        """These rows, copied."""
        found = np.empty((len(places), self.width), np.float32)
        of = places // self._block_rows
        for block in np.unique(of).tolist():
            mine = np.flatnonzero(of == block)
            found[mine] = self._blocks[block][places[mine] - block * self._block_rows]
        return found

    def chunks(self, rows: int = _COPIED, live: NDArray[np.bool_] | None = None) -> Iterator[tuple[Positions, Vectors]]:
        """All rows, or the live ones, in order, some at a time: their places and they."""
        for number, block in enumerate(self._blocks):
            for start in range(0, len(block), rows):
                part = block[start : start + rows]
                places = number * self._block_rows + start + np.arange(len(part), dtype=np.int64)
                if live is None:
                    yield places, part
                elif len(kept := np.flatnonzero(live[places])):
                    yield places[kept], part[kept]

    def similarities(self, queries: Vectors, places: Positions) -> Vectors:
        """The similarity of query i to each row in places[i]; -inf where that is -1."""
        found = np.full(places.shape, -np.inf, np.float32)
        if len(self._blocks) == 1:
            _products(found, queries, self._blocks[0], places)
            return found
        of = places // self._block_rows  # -1 for -1
        for block in np.unique(of[places >= 0]).tolist():
            mine = np.where(of == block, places - block * self._block_rows, -1)
            part = np.empty_like(found)
            _products(part, queries, self._blocks[block], mine)
            np.maximum(found, part, out=found)
        return found

    def nearest(self, queries: Vectors, k: int, allowed: Selection | None = None) -> tuple[Vectors, Positions]:
        """The k nearest rows of each query, every allowed row compared; -1 behind the last where there are fewer.

        By similarity falling, rows of one similarity in the order of their places.
        """
        if allowed is None and len(self._blocks) == 1 and k <= self._count:
            return in_order(*_knn(queries, self._blocks[0], k, None))
        best = np.full((len(queries), k), -np.inf, np.float32)
        best_places = np.full((len(queries), k), -1, np.int64)
        for start, rows, selector, places in self._parts(allowed):
            similarity, found = _knn(queries, rows, min(k, len(rows)), selector)
            found = np.where(found < 0, -1, (start + found) if places is None else places[found])
            both = np.concatenate([best, similarity], axis=1), np.concatenate([best_places, found], axis=1)
            ordered = in_order(*both)
            best, best_places = ordered[0][:, :k], ordered[1][:, :k]
        return best, best_places

    def _parts(self, allowed: Selection | None) -> Iterator[tuple[int, Vectors, Any, Positions | None]]:
        """Rows to compare: where they begin, they, a selector among them or None, their places where copied out."""
        for number, block in enumerate(self._blocks):
            start = number * self._block_rows
            if allowed is None:
                yield start, block, None, None
                continue
            mine = allowed.within(start, start + len(block))
            if len(mine) * _SPARSE > len(block) and len(mine) > _COPIED:
                mask = np.zeros(len(block), np.bool_)
                mask[mine] = True
                bits = np.packbits(mask, bitorder="little")
                yield start, block, load_faiss().IDSelectorBitmap(bits), None
                continue
            for low in range(0, len(mine), _COPIED):
                part = mine[low : low + _COPIED]
                yield start, block[part], None, start + part


def in_order(similarity: Vectors, places: Positions) -> tuple[Vectors, Positions]:
    """Each row by similarity falling, then by place; missing ones (-1) last."""
    if not np.any(similarity[:, 1:] >= similarity[:, :-1]):
        return similarity, places
    order = np.lexsort((np.where(places < 0, np.iinfo(np.int64).max, places), -similarity), axis=1)
    return np.take_along_axis(similarity, order, 1), np.take_along_axis(places, order, 1)


def unit_rows(rows: ArrayLike, width: int, ids: Any = None) -> Vectors:
    """Contiguous float32 rows (n, width) of length 1.

    Raises:
        InputError: they are of another shape, or one has no direction: named by its row, and its id where known.
    """
    try:
        given = np.asarray(rows, dtype=np.float32)
    except (ValueError, TypeError):
        raise InputError(f"vectors must be numbers of shape (n, {width})") from None
    if (given.ndim == 2 and len(given) == 0) or given.shape == (0,):
        return np.zeros((0, width), dtype=np.float32)
    if given.ndim != 2 or given.shape[1] != width or width == 0:
        raise InputError(f"vectors are of shape {given.shape}, the index takes (n, {width})")
    # a sum along contiguous rows is the same whatever the number of rows; einsum's is not, nor that of a list's columns
    length = np.sqrt(np.square(np.ascontiguousarray(given), dtype=np.float64).sum(axis=1))
    if not (np.isfinite(length).all() and length.all()):
        row = int(np.flatnonzero(~np.isfinite(length) | (length == 0))[0])
        fault = "is all zeros" if length[row] == 0 else "holds NaN or infinity"
        name = f" (id {str(ids[row])!r})" if ids is not None and row < len(ids) else ""
        raise InputError(f"vector in row {row}{name} {fault}")
    return np.ascontiguousarray(given / length[:, None], dtype=np.float32)


def unit_query(given: Vectors, width: int) -> Vectors:
    """As `unit_rows`, of (width,) or (n, width); of one query in a third of the time."""
    rows = given[None] if given.ndim == 1 else given
    if rows.shape == (1, width):
        row = rows[0].astype(np.float64)
        length = math.sqrt(row.dot(row))
        if 0 < length < math.inf:
            one: Vectors = (row / length).astype(np.float32)[None]
            return one
    return unit_rows(rows, width)


def _knn(queries: Vectors, rows: Vectors, k: int, selector: Any) -> tuple[Vectors, Positions]:
    faiss = load_faiss()
    similarity = np.empty((len(queries), k), np.float32)
    places = np.empty((len(queries), k), np.int64)
    faiss.knn_inner_product(
        faiss.swig_ptr(queries), faiss.swig_ptr(rows), rows.shape[1], len(queries), len(rows), k,
        faiss.swig_ptr(similarity), faiss.swig_ptr(places), selector,
    )  # fmt: skip
    if selector is not None:
        similarity[places < 0] = -np.inf
    return similarity, places


def _products(into: Vectors, queries: Vectors, rows: Vectors, places: Positions) -> None:
    faiss = load_faiss()
    places = np.ascontiguousarray(places)
    faiss.fvec_inner_products_by_idx(
        faiss.swig_ptr(into), faiss.swig_ptr(queries), faiss.swig_ptr(rows), faiss.swig_ptr(places),
        rows.shape[1], len(queries), places.shape[1],
    )  # fmt: skip
