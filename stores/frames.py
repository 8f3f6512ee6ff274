"""The views of `stores.views` as lazy Polars frames: the same rows, columns and names, at the same pinned versions.

It knows how a view is made of its table's rows, as the SQL does, and runs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from lore_mm.errors import InputError, nearest
from lore_mm.tables import TABLES
from stores.features import FeatureStore
from stores.scanning import scan_files
from stores.standing import StandingFile, standing_files
from stores.views import UNDER, VIEWS

__all__ = ["frame_of"]

_ROW = "__row"
# the fields of an attribute that `attributes` and `latest` show, but for its extractor, in their order
_VALUES = "name dimension value number unit share status confidence kind evidence error".split()
_QUERY = "query_id query normalized hard_type referent engine".split()
_MADE = pl.col("provenance").struct.field("made_at").alias("made_at")


def frame_of(store: FeatureStore, versions: Mapping[str, int], view: str) -> pl.LazyFrame:
    """A view at these versions.

    Raises:
        InputError: there is no such view.
        StoreError: its table cannot be read.
    """
    if view not in VIEWS:
        raise InputError(f"no view {view!r}{nearest(view, VIEWS) or ';'} views: {', '.join(VIEWS)}")
    table = UNDER.get(view, view)
    rows = _newest(store, table, versions.get(table))
    if view in ("attributes", "latest"):
        return _values(rows, view)
    return _demands(rows) if view == "demands" else rows


def _values(rows: pl.LazyFrame, view: str) -> pl.LazyFrame:
    if view == "latest":
        rows = rows.filter(pl.col("extractor") == "merge")
    one = pl.col("attributes").struct
    found = rows.select("item_id", "extractor", "category", _MADE, "attributes")
    found = found.explode("attributes", keep_nulls=False)
    who = one.field("extractor") if view == "latest" else pl.col("extractor")
    return found.select("item_id", who, *(one.field(name) for name in _VALUES), "category", "made_at")


def _demands(rows: pl.LazyFrame) -> pl.LazyFrame:
    confidence = pl.col("confidence").alias("query_confidence")
    found = rows.select(*_QUERY, confidence, _MADE, "demands").explode("demands", keep_nulls=False)
    fields = [field.name for field in TABLES["demands"].field("demands").type.value_type]
    return found.select(
        *_QUERY, "query_confidence", *(pl.col("demands").struct.field(name) for name in fields), "made_at"
    )


def _newest(store: FeatureStore, table: str, version: int | None) -> pl.LazyFrame:
    """The rows of a table that stand, in the order of `FeatureStore.batches`."""
    standing = [] if version is None else standing_files(store, table, version)
    parts: list[pl.LazyFrame] = []
    whole: list[str] = []
    for file in standing:
        if file.replaced is None:
            whole.append(file.address)
            continue
        if whole:
            parts.append(scan_files(table, whole, store.address.options))
            whole = []
        parts.append(_without_replaced(store, table, file))
    if whole or not parts:
        parts.append(scan_files(table, whole, store.address.options))
    return pl.concat(parts)


def _without_replaced(store: FeatureStore, table: str, file: StandingFile) -> pl.LazyFrame:
    replaced = pl.LazyFrame({_ROW: pl.Series(file.replaced, dtype=pl.UInt32)})
    rows = scan_files(table, [file.address], store.address.options, _ROW)
    return rows.join(replaced, on=_ROW, how="anti", maintain_order="left").drop(_ROW)
