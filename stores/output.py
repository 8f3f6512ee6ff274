"""Answers in the form that was asked for: a table for a person, JSON lines, CSV or Parquet for a program.

It knows Arrow tables and item features, not where they came from.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import sys
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as parquet
from rich.table import Table as RichTable
from rich.text import Text

from lore_mm.console import for_people, print_table, say
from lore_mm.errors import InputError
from lore_mm.rows import attribute_to_row, item_to_row
from lore_mm.tables import ATTRIBUTE, ITEMS
from lore_mm.types import AttributeValue, ItemFeatures

__all__ = ["FORMATS", "Format", "choose_format", "features_rows", "plain", "show_features", "write_rows"]

Format = Literal["table", "jsonl", "csv", "parquet"]
FORMATS: tuple[Format, ...] = ("table", "jsonl", "csv", "parquet")
_BY_SUFFIX: dict[str, Format] = {".jsonl": "jsonl", ".json": "jsonl", ".csv": "csv", ".parquet": "parquet"}
_SELLERS = ("item_id", "title", "description", "category", "brand", "price", "currency", "images", "store")
_FEATURES = pa.schema(
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
    if chosen == "table" and output is not None:
        raise InputError("a table goes to the terminal; for a file use --format jsonl, csv or parquet")
    return chosen


def write_rows(rows: pa.Table, format: Format, output: Path | None = None) -> None:
    """Write rows to stdout, or whole or not at all to a file.

    Raises:
        InputError: the file cannot be written.
    """
    if format == "table":
        empty = [field.name for i, field in enumerate(rows.schema) if rows[i].null_count == rows.num_rows]
        if rows.num_columns > _MANY_COLUMNS and empty and rows.num_rows:
            rows = rows.select([i for i, field in enumerate(rows.schema) if field.name not in empty])
            say(f"empty columns left out: {', '.join(empty)}")
        print_table(_rich(rows))
        if rows.num_rows > _MOST_SHOWN:
            say(f"… and {rows.num_rows - _MOST_SHOWN} more rows; --format jsonl or --output FILE gives them all")
        return
    text = "" if format == "parquet" else _csv(rows) if format == "csv" else _lines(rows)
    if output is None:
        sys.stdout.write(text)
        return
    draft = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        if format == "parquet":
            parquet.write_table(rows, draft)
        else:
            draft.write_text(text, encoding="utf-8")
        os.replace(draft, output)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise InputError(f"cannot write {output}: {error.strerror or error}") from None


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
    return pa.Table.from_pylist(rows, schema=_FEATURES)


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
    return value if isinstance(value, str) else json.dumps(_json(value), ensure_ascii=False).strip('"')


def plain(text: str) -> Text:
    """Words from a store on a terminal: no markup, no control characters, of bearable length."""
    text = _CONTROLS.sub(" ", text)
    return Text(text if len(text) <= _LONGEST_CELL else text[: _LONGEST_CELL - 1] + "…")


def _lines(rows: pa.Table) -> str:
    lines = ({name: _json(value) for name, value in row.items()} for row in rows.to_pylist())
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _csv(rows: pa.Table) -> str:
    """Lists and structs as JSON in their cell."""
    for i, field in enumerate(rows.schema):
        if pa.types.is_nested(field.type):
            values = [None if v is None else json.dumps(_json(v), ensure_ascii=False) for v in rows[i].to_pylist()]
            rows = rows.set_column(i, field.name, pa.array(values, pa.string()))
    sink = io.BytesIO()
    csv.write_csv(rows, sink)
    return sink.getvalue().decode("utf-8")


def _json(value: Any) -> Any:
    """A value of an answer as JSON has it: times as ISO 8601, numbers that are none as null, structs without nulls."""
    if isinstance(value, dict):
        return {str(k): _json(v) for k, v in value.items() if v is not None}
    if isinstance(value, (list, tuple)):
        return [_json(v) for v in value]
    if isinstance(value, (float, Decimal)):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return value.total_seconds() if isinstance(value, timedelta) else str(value)
