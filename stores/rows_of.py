"""Every row ever written of some items (or queries): what history and comparisons are made of.

Of a version's files only the column of keys is read, and of the row groups that hold such a row the columns asked for;
row groups whose keys lie elsewhere in the alphabet are passed over. This module does not know what rows say.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import dataset, fs

from lore_mm.errors import StoreError
from lore_mm.tables import KEYS, TABLES
from stores.features import FeatureStore
from stores.newest import made_at
from stores.table_files import ordered_files
from stores.vacuumed import check_kept

__all__ = ["newest_of", "rows_of"]

_SURROGATE = re.compile("[\ud800-\udfff]")


def rows_of(
    store: FeatureStore, table: str, ids: Collection[str], columns: Sequence[str], version: int | None = None
) -> pa.Table:
    """All rows of a version whose first key (item_id, query_id …) is one of `ids`, in the order of `batches`.

    Memory holds the rows found, and one row group while they are picked out of it.

    Raises:
        StoreError: no such table or version, or it was vacuumed, or a file is broken.
    """
    names = list(columns)
    found = [pa.schema([TABLES[table].field(name) for name in names]).empty_table()]
    known = [one for one in ids if not _SURROGATE.search(one)]  # no table holds such a one
    if not known:
        return found[0]
    wanted = pa.array(sorted(known), pa.string())
    system = store.filesystem(table)
    delta = store.open_table(table, version)
    files = ordered_files(delta, table)
    try:
        for file in files:
            found += _in_file(file.path, system, table, wanted, names)
    except (OSError, pa.ArrowException) as error:
        check_kept(system, table, delta.version(), files)
        what = " ".join(str(error).split())[:300]
        raise StoreError(f"cannot read table {table} in {store.uri}: {what}") from None
    return pa.concat_tables(found)


def _in_file(
    path: str, system: fs.FileSystem, table: str, wanted: pa.StringArray, names: list[str]
) -> Iterator[pa.Table]:
    key, schema = KEYS[table][0], TABLES[table]
    fragment: Any = dataset.ParquetFileFormat().make_fragment(path, filesystem=system)
    near = (dataset.field(key) >= wanted[0]) & (dataset.field(key) <= wanted[-1])
    for group in fragment.subset(near, schema=schema).row_groups:
        one = fragment.subset(row_group_ids=[group.id])
        here = pc.is_in(one.to_table(schema=schema, columns=[key]).column(key), value_set=wanted)
        if pc.any(here).as_py():
            yield one.to_table(schema=schema, columns=names).filter(here)


def newest_of(rows: pa.Table, table: str) -> pa.Table:
    """Of rows in the order of `batches` the newest of each key, in that order; as `FeatureStore.latest` has it.

    `rows` have the key columns, and `provenance` or `at` where the table has it.
    """
    frame = pl.DataFrame(pl.from_arrow(rows.select([*KEYS[table], *_time_columns(table)])))
    order = frame.select(*KEYS[table], made_at(table)).with_row_index("row").sort("__made", "row", nulls_last=False)
    keep = order.unique(subset=list(KEYS[table]), keep="last")["row"].sort()
    return rows.take(keep.to_arrow())


def _time_columns(table: str) -> list[str]:
    return [str(name) for name in ("provenance", "at") if name in TABLES[table].names][:1]
