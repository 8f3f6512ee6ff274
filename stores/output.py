"""Answers in the form that was asked for: a table for a person, and for a program what `stores.answers` writes.

It knows Arrow tables and item features, not where they came from.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa
from rich.table import Table as RichTable
from rich.text import Text

from lore_mm.console import for_people, print_table, say
from lore_mm.errors import InputError
from lore_mm.rows import attribute_to_row, item_to_row
from lore_mm.tables import ATTRIBUTE, ITEMS
from lore_mm.types import AttributeValue, ItemFeatures
from stores.answers import json_value, write_batches

__all__ = ["FEATURES", "FORMATS", "Format", "choose_format", "features_rows", "plain", "show_features", "write_rows"]

Format = Literal["table", "jsonl", "csv", "parquet", "arrow"]
FORMATS: tuple[Format, ...] = ("table", "jsonl", "csv", "parquet", "arrow")
_BY_SUFFIX: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
_SELLERS = ("item_id", "title", "description", "category", "brand", "price", "currency", "images", "store")
# items with their merged values, as rows
FEATURES = pa.schema(
    [
        *(ITEMS.field(name) for name in _SELLERS),
        pa.field("given", pa.string()),  # the seller's own attributes, as a JSON object of lists
        pa.field("attributes", pa.list_(ATTRIBUTE)),
        pa.field("input_sha", pa.string()),
    ]
)
_MOST_SHOWN = 100  # rows of a table on a terminal
_MANY_COLUMNS = 8  # beyond these, empty ones are left out for a person
_LONGEST_CELL = 200
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def choose_format(wanted: str | None, output: Path | None, json_wanted: bool) -> Format:
    """The format by name, else by the output file's ending, else a table on a terminal and JSON lines in a pipe.

    Raises:
        InputError: there is no such format, or it cannot go where it is to go.
    """
    if wanted is not None and wanted not in FORMATS:
        raise InputError(f"no format {wanted!r}; legal formats: {', '.join(FORMATS)}")
    chosen = next((f for f in FORMATS if f == wanted), None)
    if chosen is None and output is not None and not json_wanted:
        chosen = _BY_SUFFIX.get(output.suffix.lower())
        if chosen is None:
            raise InputError(f"{output}: the ending names no format; name one with --format {'|'.join(FORMATS[1:])}")
    chosen = chosen or ("table" if for_people(json_wanted) else "jsonl")
    if chosen == "parquet" and output is None:
        raise InputError("Parquet goes to a file: name it with --output")
    if chosen == "arrow" and output is None and sys.stdout.isatty():
        raise InputError("Arrow goes into a pipe, or to a file: name it with --output")
    if chosen == "table" and output is not None:
        raise InputError(f"a table goes to the terminal; for a file use --format {'|'.join(FORMATS[1:])}")
    return chosen


def write_rows(rows: pa.Table | pa.RecordBatchReader, format: Format, output: Path | None = None) -> None:
    """Write rows to stdout, or whole or not at all to a file; of a table for a person only the first ones are read.

    Raises:
        InputError: the file cannot be written, or the format has no way of writing them.
    """
    if format != "table":
        batches = rows.to_batches() if isinstance(rows, pa.Table) else rows
        write_batches(rows.schema, batches, format, output)
        return
    shown = _first(rows, _MOST_SHOWN + 1)
    empty = [field.name for i, field in enumerate(shown.schema) if shown[i].null_count == shown.num_rows]
    if shown.num_columns > _MANY_COLUMNS and empty and shown.num_rows:
        shown = shown.select([i for i, field in enumerate(shown.schema) if field.name not in empty])
        say(f"empty columns left out: {', '.join(empty)}")
    print_table(_rich(shown))
    if shown.num_rows > _MOST_SHOWN:
        say(f"only the first {_MOST_SHOWN} rows are shown; --format jsonl or --output FILE gives them all")


def _first(rows: pa.Table | pa.RecordBatchReader, n: int) -> pa.Table:
    if isinstance(rows, pa.Table):
        return rows.slice(0, n)
    found: list[pa.RecordBatch] = []
    for batch in rows:
        found.append(batch.slice(0, n - sum(one.num_rows for one in found)))
        if sum(one.num_rows for one in found) >= n:
            break
    return pa.Table.from_batches(found, rows.schema)


def features_rows(features: Sequence[ItemFeatures]) -> pa.Table:
    """Items as rows: the seller's columns (his attributes as `given`), then `attributes` with their evidence."""
    rows = []
    for one in features:
        row = item_to_row(one.item)
        given = {a["name"]: a["values"] for a in row.pop("attributes")}
        rows.append(
            row
            | {
                "given": json.dumps(given, ensure_ascii=False),
                "attributes": [attribute_to_row(a) for a in one.attributes],
                "input_sha": one.input_sha,
            }
        )
    return pa.Table.from_pylist(rows, schema=FEATURES)


def show_features(features: Sequence[ItemFeatures]) -> None:
    """Items for a person: one table each, a line per value with where it was read."""
    for one in features:
        item = one.item
        facts = [item.brand, item.category, f"{item.price:g} {item.currency or ''}" if item.price is not None else None]
        table = RichTable(title=plain(f"{item.item_id}: {item.title}"), title_justify="left", title_style="bold")
        table.caption = plain(" · ".join(f for f in facts if f))
        for column in ("attribute", "value", "share", "confidence", "from"):
            table.add_column(column, justify="right" if column in ("share", "confidence") else "left")
        for value in one.attributes:
            said = value.value if value.value is not None else value.status.replace("_", " ")
            said = f"{said} (sources disagree)" if value.status == "conflict" else said
            share = "" if value.share is None else f"{value.share:.0%}"
            table.add_row(
                plain(value.name), plain(said), share, f"{value.confidence:.2f}", plain("; ".join(_sources(value)))
            )
        print_table(table)


def _sources(value: AttributeValue) -> list[str]:
    return [f"{e.source} “{e.quote}”" if e.quote else e.source for e in value.evidence] or [value.extractor]


def _rich(rows: pa.Table) -> RichTable:
    table = RichTable()
    for field in rows.schema:
        number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type) or pa.types.is_decimal(field.type)
        table.add_column(plain(field.name), justify="right" if number else "left")
    for row in rows.slice(0, _MOST_SHOWN).to_pylist():
        table.add_row(*(plain(_cell(value)) for value in row.values()))
    return table


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:g}"
    return value if isinstance(value, str) else json.dumps(json_value(value), ensure_ascii=False).strip('"')


def plain(text: str) -> Text:
    """Words from a store on a terminal: no markup, no control characters, of bearable length."""
    text = _CONTROLS.sub(" ", text)
    return Text(text if len(text) <= _LONGEST_CELL else text[: _LONGEST_CELL - 1] + "…")
