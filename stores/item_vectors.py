"""The vector that an item is found by, from its row of EMBEDDINGS, and the rows that an index has to look at again.

It is the mean of the image and the text vector, again of length 1; the one there is; the image's where the two cancel
out. A row without either has none. This module does not know how vectors are indexed, nor what a model is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stores.changes import touched_keys
from stores.features import FeatureStore
from stores.vector_ids import as_places

__all__ = ["all_vectors", "item_vectors", "touched_items", "vectors_of"]

Vectors = NDArray[np.float32]
_TABLE = "embeddings"
_COLUMNS = ("item_id", "model", "image", "text")
_READ_ROWS, _KEY_ROWS = 8_192, 262_144


def item_vectors(rows: pa.RecordBatch | pa.Table, model: str, width: int) -> tuple[pa.Array[Any], Vectors, int]:
    """Ids and unit vectors (n, width) of the rows of a model that have one, and how many have one of no use: of
    another width, or with NaN or infinity in it.
    """
    mine = rows.filter(pc.equal(rows.column("model"), pa.scalar(model)))
    mine = (pa.Table.from_batches([mine]) if isinstance(mine, pa.RecordBatch) else mine).combine_chunks()
    image, text = (_rows_of(mine.column(name), width) for name in ("image", "text"))
    given = [pc.is_valid(mine.column(name)).to_numpy() for name in ("image", "text")]
    bad = (given[0] & ~image.any(axis=1)) | (given[1] & ~text.any(axis=1))
    total = image.astype(np.float64) + text
    length = np.linalg.norm(total, axis=1)
    opposite = (length < 1e-6) & image.any(axis=1)
    total[opposite], length[opposite] = image[opposite], np.linalg.norm(image[opposite].astype(np.float64), axis=1)
    there = np.flatnonzero(length > 0)
    vectors = (total[there] / length[there, None]).astype(np.float32)
    ids = mine.column("item_id").take(as_places(there)).combine_chunks()
    ids = ids if isinstance(ids, pa.Array) else pa.concat_arrays(ids.chunks or [pa.array([], pa.string())])
    return ids, vectors, int(np.count_nonzero(bad))


def _rows_of(column: pa.ChunkedArray[Any], width: int) -> Vectors:
    """A list column as float32 (n, d); zeros where it is null, of another width than the model's, or not finite."""
    rows = np.zeros((len(column), width), np.float32)
    fits = np.nan_to_num(pc.list_value_length(column).to_numpy(zero_copy_only=False)) == width
    if fits.any():
        rows[fits] = pc.list_flatten(column.filter(pa.array(fits))).to_numpy().reshape(-1, width)
    rows[~np.isfinite(rows).all(axis=1)] = 0
    return rows


def all_vectors(
    store: FeatureStore, version: int, model: str, width: int
) -> Iterator[tuple[pa.Array[Any], Vectors, int]]:
    """`item_vectors` of all newest rows at a version, some at a time."""
    for batch in store.batches(_TABLE, list(_COLUMNS), version, _READ_ROWS, latest=True):
        yield item_vectors(batch, model, width)


def touched_items(store: FeatureStore, old: int, new: int, model: str) -> pa.Array[Any] | None:
    """The items whose vectors of a model were written between two versions; None where it cannot be told."""
    keys = touched_keys(store, _TABLE, min(old, new), max(old, new))
    if keys is None:
        return None
    mine = keys.filter(pc.equal(keys.column("model"), pa.scalar(model))).column("item_id").combine_chunks()
    return mine if isinstance(mine, pa.Array) else pa.concat_arrays(mine.chunks or [pa.array([], pa.string())])


def vectors_of(
    store: FeatureStore, version: int, model: str, width: int, items: pa.Array[Any]
) -> Iterator[tuple[pa.Array[Any], Vectors, int]]:
    """`item_vectors` of these items at a version; of the rest only the keys are read."""
    if not len(items):
        return
    found, start = [], 0
    for batch in store.batches(_TABLE, ["item_id", "model"], version, _KEY_ROWS, latest=True):
        wanted = pc.and_(
            pc.is_in(batch.column("item_id"), value_set=items), pc.equal(batch.column("model"), pa.scalar(model))
        )
        found.append(start + np.flatnonzero(wanted.to_numpy(zero_copy_only=False)))
        start += batch.num_rows
    places = np.concatenate(found).astype(np.int64) if found else np.empty(0, np.int64)
    rows = store.newest(_TABLE, version)
    for low in range(0, len(places), _READ_ROWS):
        yield item_vectors(rows.take(places[low : low + _READ_ROWS], _COLUMNS), model, width)
