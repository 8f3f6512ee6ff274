"""What users give: catalogues, query logs, labels and pairs, from files to tables of `lore_mm.tables`.

An items file has the columns item_id and title, and may have description, category, brand, attributes (an object: name
→ value or list of values; or columns `attributes.<name>`), price, currency, images (a list) or image, and store. A
folder is read by its items.* file, or else every picture in it is an item.

A fault of the whole file (columns, encoding, syntax, keys) is one InputError, raised before the first row is given. A
fault of a row is that row with status failed. Files may lie in a bucket (`lore_mm.places`). This module does not open
pictures and knows no store.
"""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lore_mm.errors import InputError, nearest
from lore_mm.fingerprint import sha_of, sha_of_bytes
from lore_mm.images import PICTURE_ENDINGS
from lore_mm.item_rows import COLUMNS, PREFIX, key_fault, number_of, read_item, read_text
from lore_mm.places import Place, entries, place_of
from lore_mm.records import ENDINGS, Record, Records, open_records
from lore_mm.rows import item_to_row, provenance_to_row
from lore_mm.tables import ITEMS, LABELS, PAIRS, QUERIES
from lore_mm.types import Grade, Provenance

__all__ = ["Catalogue", "open_catalogue", "read_items", "read_labels", "read_pairs", "read_queries"]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """A catalogue whose file was read through once and found sound: columns, encoding, syntax and keys."""

    records: Records
    image_root: Path | Place  # absolute; relative picture paths start here
    n_rows: int

    def batches(self, batch_rows: int = 1024) -> Iterator[pa.Table]:
        """Tables of ITEMS in the order of the file; all rows are given, failed ones too."""
        rows = iter(self.records)
        while some := list(islice(rows, batch_rows)):
            yield pa.Table.from_pylist([self._row(record) for record in some], schema=ITEMS)

    def _row(self, record: Record) -> dict[str, Any]:
        place, values = record
        _check_columns(values, self.records.where(place))  # again, lest the file changed meanwhile
        _key(values.get("item_id"), self.records, place, "item_id")
        item, error = read_item(values, self.records.textual)
        row = item_to_row(item)
        # what the seller said; the picture files themselves are not in it, their paths are
        sha = sha_of([row, error])
        return {
            **row,
            "image_root": str(self.image_root),
            "status": "failed" if error else "ok",
            "error": error,
            "provenance": provenance_to_row(Provenance(maker="catalogue", input_sha=sha)),
        }


def open_catalogue(path: str | os.PathLike[str] | Place) -> Catalogue:
    """Open a file of items, or a folder, and read it through once: about 9 bytes of memory a row.

    A folder that holds one items.jsonl, .json, .csv, .tsv or .parquet is read by it; otherwise each picture in it, at
    any depth and in the order of the names, becomes an item: item_id its path without the ending (with it, where two
    pictures share the rest), title the words of its name.

    Raises:
        InputError: the file cannot be read, a column is unknown or missing, an id is missing, unfit or there twice, or
            there are no rows. It names the file, the row and the column.
    """
    given = place_of(path)
    try:
        records = _folder(given) if _is_folder(given) else open_records(given)
    except OSError as error:
        raise InputError(f"{given}: {error.strerror or error}") from None
    root = given if records.unit == "picture" else records.path.parent
    return Catalogue(records, root.resolve(), _check_items(records))


def read_items(path: str | os.PathLike[str] | Place, batch_rows: int = 1024) -> Iterator[pa.Table]:
    """The items of a file or folder as tables of ITEMS, in order; see `open_catalogue`, whose errors are raised here.

    Row faults (a price that is none, an empty title …) are rows with status failed and the reasons.
    """
    return open_catalogue(path).batches(batch_rows)


def _is_folder(place: Path | Place) -> bool:
    """Of a bucket's names, one with an ending of a file that is read is taken for one: looking costs a request."""
    return place.is_dir() if isinstance(place, Path) else not place.name.lower().endswith(ENDINGS) and place.is_dir()


def _folder(folder: Path | Place) -> Records:
    there = {name for name, is_folder in entries(folder) if not is_folder}
    named = sorted((folder / f"items{ending}" for ending in ENDINGS if f"items{ending}" in there), key=str)
    if len(named) > 1:
        raise InputError(f"{folder}: holds {' and '.join(p.name for p in named)}; name the one to read")
    if named:
        return open_records(named[0])

    def rows() -> Iterator[Record]:
        return enumerate(_picture_rows(folder, ""), 1)

    if next(rows(), None) is None:
        raise InputError(
            f"{folder}: holds neither items{ENDINGS[0]} ({', '.join(ENDINGS[1:])}) "
            f"nor pictures ({', '.join(PICTURE_ENDINGS)})"
        )
    return Records(folder, "picture", False, ("item_id", "title", "images"), rows)


def _picture_rows(folder: Path | Place, prefix: str) -> Iterator[dict[str, Any]]:
    found = [(name, is_folder) for name, is_folder in entries(folder) if not name.startswith((".", "__MACOSX"))]
    files = [name for name, is_folder in found if not is_folder and name.lower().endswith(PICTURE_ENDINGS)]
    stems = [os.path.splitext(name)[0] for name in files]
    shared = {stem for stem in stems if stems.count(stem) > 1} if len(set(stems)) < len(stems) else set()
    names = dict(zip(files, stems, strict=True))
    for name, is_folder in found:
        if is_folder:
            yield from _picture_rows(folder / name, f"{prefix}{name}/")
        elif (stem := names.get(name)) is not None:
            item_id = prefix + (name if stem in shared else stem)
            yield {
                # a name that is not UTF-8 fails as a row, by its picture's path, and still needs an id
                "item_id": item_id.encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
                "title": re.sub(r"[\s_.+-]+", " ", stem).strip() or stem,
                "images": [prefix + name],
            }


def _check_items(records: Records) -> int:
    """Read all rows once; the number of rows."""
    if records.header is not None:
        _check_columns(records.header, str(records.path))
    columns: set[str] = set(records.header or ())
    hashes = array("q")
    for place, row in records:
        if records.header is None and not columns.issuperset(row):
            _check_columns(row, records.where(place))
            columns.update(row)
        if "item_id" in columns:
            hashes.append(hash(_key(row.get("item_id"), records, place, "item_id")))
        else:
            hashes.append(0)
    if not hashes:
        raise InputError(f"{records.path}: no rows")
    for name in ("item_id", "title"):
        if name not in columns:
            raise InputError(_missing(records, name, columns, COLUMNS))
    _check_twins(records, hashes)
    return len(hashes)


def _missing(records: Records, name: str, have: Iterable[str], legal: Iterable[str]) -> str:
    there = ", ".join(sorted(have)) or "none"
    return f"{records.path}: missing column {name!r}; columns there: {there}; legal columns: {', '.join(legal)}"


def _check_columns(names: Iterable[str], where: str, legal: tuple[str, ...] = COLUMNS) -> None:
    for name in names:
        if name in legal or (legal is COLUMNS and name.startswith(PREFIX) and len(name) > len(PREFIX)):
            continue
        hint = nearest(name[:80], legal)
        if separator := next((s for s in ";\t|" if s in name), ""):
            hint = f"; are the columns separated by {separator!r}? legal separators: a comma in .csv, a tab in .tsv"
        elif legal is COLUMNS and name and len(name) < 40:
            hint += f"; a seller's own field is written {PREFIX}{name}"
        raise InputError(f"{where}: unknown column {name[:80]!r}{hint}; legal columns: {', '.join(legal)}")


def _key(value: object, records: Records, place: int, column: str) -> str:
    if fault := key_fault(value, column):
        raise InputError(f"{records.where(place, column)}: {fault}")
    return str(value)


def _check_twins(records: Records, hashes: array[int]) -> None:
    """Equal ids have equal hashes, but not the other way round: rows of equal hash are read again and compared."""
    values = np.frombuffer(hashes, dtype=np.int64)
    ordered = np.sort(values)
    suspects = set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
    if not suspects:
        return
    seen: dict[str, int] = {}
    for place, row in records:
        item_id = str(row["item_id"])
        if hash(item_id) in suspects:
            if item_id in seen:
                raise InputError(_twice(records, "item_id", item_id, seen[item_id], place))
            seen[item_id] = place


def _twice(records: Records, column: str, key: object, first: int, again: int) -> str:
    return (
        f"{records.path}: {column} {key!r} stands in {records.unit} {first} and again in {records.unit} {again}; "
        "each must be there once"
    )


def _read_table(
    path: str | os.PathLike[str] | Place, schema: pa.Schema, key: tuple[str, ...], optional: str = ""
) -> pa.Table:
    """A whole file as a table: its columns are those of the schema, nothing of a row may be wrong, keys are there once.

    `optional`: a needed column that may be left out all the same.
    """
    records = open_records(place_of(path))
    legal = tuple(schema.names)
    needed = {field.name for field in schema if not field.nullable} - {optional}
    if records.header is not None:
        _check_columns(records.header, str(records.path), legal)
    columns: set[str] = set(records.header or ())
    rows: list[dict[str, Any]] = []
    seen: dict[tuple[object, ...], int] = {}
    texts: dict[object, tuple[object, int]] = {}  # of pairs: what a query id stands for
    for place, values in records:
        if not columns.issuperset(values):
            _check_columns(values, records.where(place), legal)
            columns.update(values)
        if missing := sorted(needed - columns):
            raise InputError(_missing(records, missing[0], columns, legal))
        typed = {"query"} if schema is QUERIES else set()
        row = {name: _cell(values.get(name), name, records, place, name in typed) for name in columns}
        row.setdefault("query_id", _query_id(row))
        if schema is PAIRS:
            text, first = texts.setdefault(row["query_id"], (row["query"], place))
            if text != row["query"]:
                raise InputError(
                    f"{records.where(place, 'query_id')}: {row['query_id']!r} is {row['query']!r:.60} here, "
                    f"but was another query in {records.unit} {first}"
                )
        mark = tuple(row[name] for name in key)
        if mark in seen:
            shown = mark[0] if len(mark) == 1 else mark
            raise InputError(_twice(records, " and ".join(key), shown, seen[mark], place))
        seen[mark] = place
        rows.append(row)
    if not rows:
        raise InputError(f"{records.path}: no rows")
    return pa.Table.from_pylist(rows, schema=schema)


def _query_id(row: Mapping[str, Any]) -> str:
    """An id made of the query's text, for pairs that name none."""
    return "q-" + sha_of_bytes(str(row.get("query")).encode())[:12]


def _cell(value: object, column: str, records: Records, place: int, typed: bool = False) -> str | float | None:
    """One value, read or refused; `typed`: what a person typed into a search box."""
    where = records.where(place, column)
    if column in ("query_id", "item_id"):
        return _key(value, records, place, column)
    if column == "grade":
        if not isinstance(value, str) or value not in Grade.__members__:
            raise InputError(f"{where}: {value!r:.60} is not a grade; legal values: {', '.join(Grade.__members__)}")
        return value
    if column == "frequency":
        number = None if value in (None, "") else number_of(value)
        if value not in (None, "") and (number is None or not 0 <= number < float("inf")):
            raise InputError(f"{where}: {value!r:.60} is not a count; legal: a number from 0, or nothing")
        return number
    faults: list[str] = []
    text = read_text(value, column, faults, kept=False)
    if faults and not (typed and isinstance(value, str)):
        raise InputError(f"{where}: {faults[0].removeprefix(f'{column}: ')}")
    return text if text is not None or column != "query" else ""


def read_queries(path: str | os.PathLike[str] | Place) -> pa.Table:
    """A query log: columns query_id and query, and perhaps frequency, kind and split, as a table of QUERIES.

    What people typed is let through, so that one query does not stop a log: an empty one, or one of more than 10,000
    characters, which is cut there, fails as a row when it is understood; a control character becomes a space, half a
    surrogate pair U+FFFD.

    Raises:
        InputError: whatever is wrong, naming file, row, column and what is legal.
    """
    return _read_table(path, QUERIES, ("query_id",))


def read_labels(path: str | os.PathLike[str] | Place) -> pa.Table:
    """Graded pairs: columns query_id, item_id, grade (L1 … L4), and perhaps reason, as a table of LABELS.

    Raises:
        InputError: whatever is wrong, naming file, row, column and what is legal.
    """
    return _read_table(path, LABELS, ("query_id", "item_id"))


def read_pairs(path: str | os.PathLike[str] | Place) -> pa.Table:
    """Pairs to judge: columns query, item_id, and perhaps query_id (else made of the query), as a table of PAIRS.

    Raises:
        InputError: whatever is wrong, naming file, row, column and what is legal.
    """
    return _read_table(path, PAIRS, ("query_id", "item_id"), optional="query_id")
