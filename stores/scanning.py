"""Parquet files of a table as one lazy Polars frame of this version's columns. It knows no log and no keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from lore_mm.tables import TABLES

__all__ = ["scan_files"]


def scan_files(
    table: str, files: Sequence[str], options: Mapping[str, str] | None = None, row_index: str | None = None
) -> pl.LazyFrame:
    """Every row of the files, in their order; with `row_index` the place of each, from 0, as a column of that name.

    What is not in a file of an earlier version is null. `options` go to a bucket's client.
    """
    empty = pl.DataFrame(pl.from_arrow(TABLES[table].empty_table()))
    if not files:
        lazy = empty.lazy()
        return lazy.with_row_index(row_index) if row_index else lazy
    return pl.scan_parquet(
        list(files),
        glob=False,
        schema=empty.schema,
        missing_columns="insert",
        cast_options=pl.ScanCastOptions(missing_struct_fields="insert"),
        row_index_name=row_index,
        storage_options=dict(options) if options else None,
    )
