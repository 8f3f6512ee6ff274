"""Which rows of a table are the newest of their keys, by hashes of the keys: 32 bytes a row while it is found out.

Keys are compared by two 64-bit hashes: one alone would merge two keys, and so lose a row, once in some 400,000 tables
of ten million keys (n² / 2⁶⁵). The second, and the times, are looked at only where the first stands more than once.
This module knows no files and no versions.
"""

from __future__ import annotations

from collections.abc import Iterable

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


def columns_of(table: str) -> list[str]:
    """The columns that `newest_rows` looks at."""
    return [*KEYS[table], *[name for name in ("provenance", "at") if name in TABLES[table].names][:1]]


def newest_rows(batches: Iterable[pa.RecordBatch], table: str) -> NDArray[np.int64]:
    """The positions, rising, of the newest row of each key of a table; among rows of one time the last one."""
    key, made = pl.struct(KEYS[table]), made_at(table).to_physical().fill_null(_NEVER)
    wanted = [key.hash(0).alias("one"), key.hash(1).alias("two"), made]
    parts: list[list[NDArray[np.generic]]] = [[], [], []]
    for batch in batches:
        found = pl.DataFrame(pl.from_arrow(batch)).select(wanted)
        for held, column in zip(parts, found.iter_columns(), strict=True):
            held.append(column.to_numpy())
    if not parts[0]:
        return np.empty(0, np.int64)
    times, two, one = (np.concatenate(parts.pop()) for _ in range(3))  # each list is let go once it is one array
    again = _repeated(one)
    rows = np.flatnonzero(again)
    if not len(rows):
        return np.arange(len(one), dtype=np.int64)
    one, two = one[rows], two[rows]
    order = np.lexsort((times[rows], two, one))  # stable: rows of one key and time stay in their order
    one, two = one[order], two[order]
    last = np.append((one[1:] != one[:-1]) | (two[1:] != two[:-1]), True)
    again[rows[order[last]]] = False
    return np.flatnonzero(~again).astype(np.int64)


def _repeated(values: NDArray[np.generic]) -> NDArray[np.bool_]:
    """True where a value stands more than once."""
    ordered = np.sort(values)
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(twice):
        return np.zeros(len(values), np.bool_)
    at = np.minimum(np.searchsorted(twice, values), len(twice) - 1)
    return np.asarray(twice[at] == values)
