"""The ids of an index's rows, and the row of an id, from memory-mapped files: nothing of them is read at the opening.

An id is found by a 64-bit hash in a sorted array, and compared in full. The hash is Polars', which may be another in
another version of Polars: the manifest says what it was of a given word (`hash_mark`), and where that differs the
hashes are made anew in memory. This module does not know what rows hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lore_mm.errors import InputError

__all__ = ["Ids", "as_ids", "as_places", "hash_mark", "sorted_hashes"]

Positions = NDArray[np.int64]
_AT_ONCE = 1 << 20
_FEW = 64
_SURROGATE = re.compile("[\ud800-\udfff]")


def as_ids(ids: Iterable[str] | pa.Array[Any] | pa.ChunkedArray[Any]) -> pa.Array[Any]:
    """Ids as one Arrow array; those that no table can hold (half of a surrogate pair) are null, and found nowhere."""
    if isinstance(ids, pa.ChunkedArray):
        ids = pa.concat_arrays([chunk.cast(pa.string()) for chunk in ids.chunks]) if ids.num_chunks else []
    if isinstance(ids, pa.Array):
        return ids.cast(pa.string())
    listed = list(ids)
    try:
        return pa.array(listed, pa.string())
    except UnicodeEncodeError:
        return pa.array([None if _SURROGATE.search(i) else i for i in listed], pa.string())
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        raise InputError("ids are texts") from None


def as_places(places: Positions) -> pa.Int64Array:
    """Places as Arrow takes them."""
    return pa.array(places, pa.int64())


def _hashes(ids: pa.Array[Any]) -> NDArray[np.uint64]:
    return pl.Series(ids).hash(0).to_numpy()


def hash_mark() -> int:
    """The hash of a given word; where two of them are equal, so are all hashes."""
    return int(_hashes(pa.array(["lore-mm"]))[0])


def sorted_hashes(
    blocks: Sequence[pa.Array[Any]], block_rows: int, live: NDArray[np.bool_]
) -> tuple[NDArray[np.uint64], Positions]:
    """The hashes of all live ids, rising, and the row of each. Memory: 32 bytes a row while they are sorted.

    Raises:
        InputError: an id stands in two live rows; names it and the second of them.
    """
    places = np.flatnonzero(live).astype(np.int64)
    found = np.concatenate([_hashes(block) for block in blocks]) if blocks else np.empty(0, np.uint64)
    found = found[places]
    order = np.argsort(found, kind="stable")
    found, places = found[order], places[order]
    for at in np.flatnonzero(found[1:] == found[:-1]).tolist():
        one, two = (str(blocks[p // block_rows][p % block_rows]) for p in (places[at], places[at + 1]))
        if one == two:
            raise InputError(f"id {one!r} comes twice, the second time in row {places[at + 1]}")
    return found, places


class Ids:
    """Which id a row has, and which row an id. Safe to use from several threads."""

    def __init__(
        self, blocks: Sequence[pa.Array[Any]], block_rows: int, hashes: NDArray[np.uint64], places: Positions
    ) -> None:
        self._blocks, self._block_rows = blocks, block_rows
        self._hashes, self._places = hashes, places
        # an id by its row without Arrow's detours: ten a search, and a search may take a tenth of a millisecond
        self._parts = [_parts(block) for block in blocks]

    @property
    def blocks(self) -> Sequence[pa.Array[Any]]:
        """The ids of each block, those of removed rows too."""
        return self._blocks

    def at(self, places: Positions) -> list[str]:
        """The ids of these rows."""
        if len(places) > _FEW:
            return cast(list[str], self.take(places).to_pylist())
        found = []
        for place in places.tolist():
            offsets, text = self._parts[place // self._block_rows]
            row = place % self._block_rows
            found.append(str(text[offsets[row] : offsets[row + 1]], "utf-8"))
        return found

    def take(self, places: Positions) -> pa.Array[Any]:
        """The ids of these rows, as an Arrow array."""
        order = np.argsort(places, kind="stable")
        ordered = places[order]
        parts = []
        for block in np.unique(ordered // self._block_rows).tolist():
            low, high = np.searchsorted(ordered, [block * self._block_rows, (block + 1) * self._block_rows])
            parts.append(self._blocks[block].take(as_places(ordered[low:high] - block * self._block_rows)))
        back = np.empty(len(places), np.int64)
        back[order] = np.arange(len(places))
        return pa.concat_arrays(parts).take(as_places(back)) if parts else pa.array([], pa.string())

    def find(self, ids: pa.Array[Any]) -> Positions:
        """The row of each id, -1 where it has none."""
        parts = [self._find(ids.slice(start, _AT_ONCE)) for start in range(0, len(ids), _AT_ONCE)]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def _find(self, ids: pa.Array[Any]) -> Positions:
        found = np.full(len(ids), -1, np.int64)
        hashes = _hashes(ids)
        order = np.argsort(hashes)  # neighbours lie near one another in the mapped file
        at = np.empty(len(ids), np.int64)
        at[order] = np.searchsorted(self._hashes, hashes[order])
        left = np.arange(len(ids))
        while len(left := left[self._same_hash(at[left], hashes[left])]):
            places = np.asarray(self._places[at[left]])
            equal = (
                pc.equal(self.take(places), ids.take(as_places(left))).fill_null(False).to_numpy(zero_copy_only=False)
            )
            found[left[equal]] = places[equal]
            left = left[~equal]  # another id of the same hash: look at the next one
            at[left] += 1
        return found

    def _same_hash(self, at: Positions, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        same = at < len(self._hashes)
        same[same] = self._hashes[at[same]] == hashes[same]
        return same


def _parts(block: pa.Array[Any]) -> tuple[memoryview, memoryview]:
    """Where each id begins in the text of a block, and the text; memory views are the quickest to take a few from."""
    _, offsets, text = block.buffers()
    return memoryview(offsets or b"").cast("i")[block.offset :], memoryview(text or b"")
