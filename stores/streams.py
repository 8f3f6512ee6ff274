"""Streams of record batches: read file after file, thinned to wanted rows, re-cut to one size. Flat in memory.

This module knows nothing of Delta's log, of keys or of versions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import dataset, fs

from lore_mm.tables import TABLES

__all__ = ["keep_rows", "rebatch", "slices", "stream_files"]


def stream_files(
    paths: Sequence[str], system: fs.FileSystem, table: str, names: Sequence[str], rows: int
) -> Iterator[pa.RecordBatch]:
    """Batches of at most `rows` rows; one file is read after the other, so that memory holds a row group or two."""
    make = dataset.ParquetFileFormat().make_fragment
    for path in paths:
        yield from make(path, filesystem=system).to_batches(
            schema=TABLES[table], columns=list(names), batch_size=rows, batch_readahead=1, fragment_readahead=0
        )


def keep_rows(batches: Iterator[pa.RecordBatch], keep: NDArray[np.int64] | None) -> Iterator[pa.RecordBatch]:
    """Only the rows whose positions in the stream are in `keep` (sorted); all where it is None."""
    start = 0
    for batch in batches:
        if keep is None:
            yield batch
            continue
        low, high = np.searchsorted(keep, [start, start + batch.num_rows])
        if high > low:
            yield batch.take(keep[low:high] - start)
        start += batch.num_rows


def slices(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """Re-cut a stream of batches into tables of exactly `rows` rows, the last one shorter; nothing is copied."""
    held: list[pa.RecordBatch] = []
    n = 0
    for batch in batches:
        while n + batch.num_rows >= rows:
            take = rows - n
            yield pa.Table.from_batches([*held, batch.slice(0, take)])
            batch, held, n = batch.slice(take), [], 0
        if batch.num_rows:
            held.append(batch)
            n += batch.num_rows
    if n:
        yield pa.Table.from_batches(held)


def rebatch(batches: Iterator[pa.RecordBatch], schema: pa.Schema, rows: int) -> Iterator[pa.RecordBatch]:
    """The same rows, each slice in one piece and of one schema."""
    for table in slices(batches, rows):
        yield table.cast(schema).combine_chunks().to_batches()[0]
