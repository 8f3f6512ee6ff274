"""Which rows of a table are the newest of their keys, by hashes of the keys: 16 bytes a row while it is found out.

Keys are compared by two 64-bit hashes: one alone would merge two keys, and so lose a row, once in some 400,000 tables
of ten million keys (n² / 2⁶⁵). The second, and the times, are read only where the first stands more than once: 32 bytes
for each of those rows.
This module knows no files and no versions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from lore_mm.tables import KEYS, TABLES

__all__ = ["columns_of", "made_at", "newest_rows"]

_NEVER = np.iinfo(np.int64).min  # the time of making of a row that has none


def made_at(table: str) -> pl.Expr:
    """When each row was made, as the column `__made`; null where its table has no time."""
    names = TABLES[table].names
    if "provenance" in names:
        made = pl.col("provenance").struct.field("made_at")
    elif "at" in names:
        made = pl.col("at")
    else:
        made = pl.lit(None, dtype=pl.Datetime("us", "UTC"))
    return made.alias("__made")


def newest_rows(read: Callable[[Sequence[str]], Iterable[pa.RecordBatch]], table: str) -> NDArray[np.int64] | None:
    """The positions, rising, of the newest row of each key; among rows of one time the last one. None: all rows are.

    `read` gives some columns of the whole table, in an order that is always the same; it is called once or twice.
    """
    key, keys = pl.struct(KEYS[table]), list(KEYS[table])
    (one,) = columns_of(read(keys), [key.hash(0)])
    again = _repeated(one)
    rows = np.flatnonzero(again)
    if not len(rows):
        return None
    times_of = [name for name in ("provenance", "at") if name in TABLES[table].names][:1]
    made = made_at(table).to_physical().fill_null(_NEVER)
    two, times = columns_of(read([*keys, *times_of]), [key.hash(1).alias("two"), made], again)
    one = one[rows]
    order = np.lexsort((times, two, one))  # stable: rows of one key and time stay in their order
    one, two = one[order], two[order]
    last = np.append((one[1:] != one[:-1]) | (two[1:] != two[:-1]), True)
    again[rows[order[last]]] = False
    return np.flatnonzero(~again).astype(np.int64)


def columns_of(
    batches: Iterable[pa.RecordBatch], wanted: Sequence[pl.Expr], only: NDArray[np.bool_] | None = None
) -> list[NDArray[Any]]:
    """What is `wanted` of each row, of those rows alone where `only` is true."""
    parts: list[list[NDArray[Any]]] = [[] for _ in wanted]
    start = 0
    for batch in batches:
        found = pl.DataFrame(pl.from_arrow(batch)).select(wanted)
        mask = slice(None) if only is None else only[start : start + batch.num_rows]
        start += batch.num_rows
        for held, column in zip(parts, found.iter_columns(), strict=True):
            held.append(column.to_numpy()[mask])
    return [np.concatenate(held) if held else np.empty(0, np.uint64) for held in parts]


def _repeated(values: NDArray[np.generic]) -> NDArray[np.bool_]:
    """True where a value stands more than once."""
    ordered = np.sort(values)
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(twice):
        return np.zeros(len(values), np.bool_)
    at = np.minimum(np.searchsorted(twice, values), len(twice) - 1)
    return np.asarray(twice[at] == values)
