"""Streams of record batches: read file after file, thinned to wanted rows, re-cut to one size. Flat in memory.

This module knows nothing of Delta's log, of keys or of versions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import dataset, fs

from lore_mm.tables import TABLES
from stores.table_files import TableFile

__all__ = ["from_row", "keep_rows", "rebatch", "slices", "stream_files"]


def stream_files(
    files: Sequence[TableFile],
    system: fs.FileSystem,
    table: str,
    names: Sequence[str],
    rows: int,
    start: int = 0,
) -> Iterator[pa.RecordBatch]:
    """Batches of at most `rows` rows, from the row at `start` on.

    One file is read after the other, so that memory holds a row group or two. `files` are in the order of their
    rows; of one whose number of rows is known, what lies before `start` is not read, but for the rest of its row group.
    """
    make = dataset.ParquetFileFormat().make_fragment
    skip = start
    for file in files:
        if file.rows is not None and file.rows <= skip:
            skip -= file.rows
            continue
        fragment = make(file.path, filesystem=system)
        if skip:
            fragment, skip = _behind(fragment, skip)
        for batch in fragment.to_batches(
            schema=TABLES[table], columns=list(names), batch_size=rows, batch_readahead=1, fragment_readahead=0
        ):
            cut = min(skip, batch.num_rows)
            skip -= cut
            if cut < batch.num_rows:
                yield batch.slice(cut)


def _behind(fragment: Any, skip: int) -> tuple[Any, int]:
    """A file without the row groups that lie before row `skip`, and how many rows are still to be skipped."""
    groups = list(fragment.row_groups)
    kept = 0
    while kept < len(groups) - 1 and groups[kept].num_rows <= skip:
        skip -= groups[kept].num_rows
        kept += 1
    return (fragment.subset(row_group_ids=[group.id for group in groups[kept:]]) if kept else fragment), skip


def from_row(batches: Iterator[pa.RecordBatch], start: int) -> Iterator[pa.RecordBatch]:
    """A stream without its first `start` rows, for those that cannot be read from the middle."""
    for batch in batches:
        cut = min(start, batch.num_rows)
        start -= cut
        if cut < batch.num_rows:
            yield batch.slice(cut)


def keep_rows(
    batches: Iterator[pa.RecordBatch], keep: NDArray[np.int64] | None, start: int = 0
) -> Iterator[pa.RecordBatch]:
    """Only the rows whose positions are in `keep` (sorted); all where it is None. The stream begins at `start`."""
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
