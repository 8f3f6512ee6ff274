"""Graded pairs of your own: a file of pairs with their items in it, or a folder of items, queries and labels.

A file (JSON lines, CSV, Parquet) has query and grade, the columns of an item as `lore ingest` reads them (item_id,
title, …), and may have query_id, kind, split and frequency. Grades are L1 … L4 unless a scale is named. An item that
stands in several rows may be told in one of them alone. A folder has items.*, queries.* and labels.*, as for ingesting.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lore_mm.catalogue import open_catalogue, read_labels, read_queries
from lore_mm.datasets.relevance_scales import scale_named
from lore_mm.datasets.relevance_set import PairReader, RelevanceSet, Wanted, item_of
from lore_mm.errors import InputError, nearest
from lore_mm.item_rows import COLUMNS, PREFIX
from lore_mm.records import ENDINGS, open_records
from lore_mm.rows import item_from_row
from lore_mm.types import Item

__all__ = ["read_folder", "read_own"]

_PAIR = ("query", "grade", "query_id", "kind", "split", "frequency", "reason")
_NEED = ("query", "item_id", "grade")
_FOUND = {"query": "query", "item_id": "item_id", "label": "grade", "kind": "kind", "split": "split"}


def read_own(path: Path, wanted: Wanted) -> RelevanceSet:
    """The pairs of a file with their items, or a folder.

    Raises:
        InputError: no file, an unknown or missing column, an item told twice and differently, or a row is wrong.
    """
    if path.is_dir():
        return read_folder(path, wanted)
    records = open_records(path)
    reader = PairReader(scale_named(wanted.scale or "levels"))
    told: dict[str, tuple[dict[str, Any], str]] = {}
    items: dict[str, Item] = {}
    unusable: dict[str, str] = {}
    for place, row in records:
        where = records.where(place)
        _check_columns(row, where)
        columns = _FOUND | {"frequency": "frequency"} | ({"query_id": "query_id"} if row.get("query_id") else {})
        pair = reader.add(where, row, columns)
        item = {name: value for name, value in row.items() if name not in _PAIR and value not in (None, "")}
        item["item_id"] = pair.item_id
        if item.keys() <= {"item_id"}:
            continue
        known, first = told.setdefault(pair.item_id, (item, where))
        if first == where:
            item_of(item, where, items, unusable, records.textual)
        elif known != item:
            raise InputError(f"{where}, column 'item_id': {pair.item_id!r} is another item here than in {first}")
    if not reader.pairs:
        raise InputError(f"{path}: no rows")
    return RelevanceSet(
        str(path), reader.scale, reader.pairs, items, (path,), unusable, reader.notes(), picture_root=path.parent
    )


def _check_columns(row: dict[str, Any], where: str) -> None:
    legal = (*_PAIR, *COLUMNS)
    for name in row:
        if name not in legal and not name.startswith(PREFIX):
            hint = nearest(name[:80], legal)
            raise InputError(f"{where}: unknown column {name[:80]!r}{hint}; legal: {', '.join(legal)}, {PREFIX}NAME")
    for name in _NEED:
        if name not in row:
            raise InputError(f"{where}: no column {name!r}; needed: {', '.join(_NEED)}")


def read_folder(path: Path, wanted: Wanted) -> RelevanceSet:
    """A folder of items.*, queries.* and labels.*.

    Raises:
        InputError: a file is missing, a label names an unknown query, or a row is wrong.
    """
    queries, labels = (_named(path, name) for name in ("queries", "labels"))
    catalogue = open_catalogue(path)
    asked = {row["query_id"]: row for row in read_queries(queries).to_pylist()}
    reader = PairReader(scale_named("levels"))
    columns = _FOUND | {"query_id": "query_id", "frequency": "frequency"}
    for number, row in enumerate(read_labels(labels).to_pylist(), 1):
        where = f"{labels}, label {number}"
        if row["query_id"] not in asked:
            hint = nearest(row["query_id"], asked)
            raise InputError(f"{where}: query_id {row['query_id']!r} is not among the queries of {queries}{hint}")
        reader.add(where, asked[row["query_id"]] | row, columns)
    rows = [row for table in catalogue.batches() for row in table.to_pylist()]
    items = {row["item_id"]: item_from_row(row) for row in rows if row["status"] == "ok"}
    unusable = {row["item_id"]: row["error"] for row in rows if row["status"] != "ok"}
    files = (Path(str(catalogue.records.path)), queries, labels)
    return RelevanceSet(
        str(path), reader.scale, reader.pairs, items, files, unusable, reader.notes(), picture_root=path
    )


def _named(folder: Path, name: str) -> Path:
    found = [folder / f"{name}{ending}" for ending in ENDINGS if (folder / f"{name}{ending}").is_file()]
    if len(found) != 1:
        told = " and ".join(path.name for path in found) or "none"
        raise InputError(f"{folder}: needs one {name}.* ({', '.join(ENDINGS)}); there: {told}")
    return found[0]
