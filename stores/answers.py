"""Rows to a file or into a pipe as they are found: JSON lines, CSV, Parquet or Arrow; memory does not grow with them.

A file is there whole or not at all. It knows Arrow batches, not where they come from.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.ipc as ipc
import pyarrow.parquet as parquet

from lore_mm.errors import InputError

__all__ = ["json_value", "write_batches"]

_Write = Callable[[pa.RecordBatch], object]


def write_batches(schema: pa.Schema, batches: Iterable[pa.RecordBatch], format: str, output: Path | None) -> None:
    """Write batches of one schema to stdout, or to a file; `format` is jsonl, csv, parquet (to a file) or arrow.

    Arrow is the IPC stream in a pipe, and the IPC file format (Feather 2) in a file.

    Raises:
        InputError: the file cannot be written, or the format has no such type.
    """
    if output is None:
        sys.stdout.flush()
        _write_to(sys.stdout.buffer, schema, batches, format, False)
        sys.stdout.buffer.flush()
        return
    draft = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        with draft.open("wb") as sink:
            _write_to(sink, schema, batches, format, True)
        os.replace(draft, output)
    except OSError as error:
        raise InputError(f"cannot write {output}: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def json_value(value: Any) -> Any:
    """A value of an answer as JSON has it: times as ISO 8601, numbers that are none as null, structs without nulls."""
    if isinstance(value, dict):
        return {str(k): json_value(v) for k, v in value.items() if v is not None}
    if isinstance(value, (list, tuple)):
        return [json_value(v) for v in value]
    if isinstance(value, (float, Decimal)):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return value.total_seconds() if isinstance(value, timedelta) else str(value)


def _write_to(sink: Any, schema: pa.Schema, batches: Iterable[pa.RecordBatch], format: str, seekable: bool) -> None:
    try:
        with _writer(sink, schema, format, seekable) as write:
            for batch in batches:
                if batch.num_rows:
                    write(batch)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
        what = " ".join(str(error).split())[:200]
        raise InputError(f"this answer cannot be written as {format}: {what}; try another --format") from None


@contextmanager
def _writer(sink: Any, schema: pa.Schema, format: str, seekable: bool) -> Iterator[_Write]:
    if format == "jsonl":
        yield lambda batch: sink.writelines(_lines(batch))
    elif format == "csv":
        flat = pa.schema([pa.field(f.name, f.type if _is_plain(f.type) else pa.string()) for f in schema])
        with csv.CSVWriter(sink, flat) as writer:
            yield lambda batch: writer.write_batch(_flat(batch, flat))
    elif format == "parquet":
        with parquet.ParquetWriter(sink, schema, compression="zstd") as writer:
            yield writer.write_batch
    else:
        with ipc.new_file(sink, schema) if seekable else ipc.new_stream(sink, schema) as writer:
            yield writer.write_batch


def _lines(batch: pa.RecordBatch) -> Iterator[bytes]:
    for row in batch.to_pylist():
        line = json.dumps({name: json_value(value) for name, value in row.items()}, ensure_ascii=False)
        yield line.encode() + b"\n"


def _is_plain(type_: pa.DataType) -> bool:
    """Whether CSV has a way of writing a type; others stand as JSON in their cell."""
    is_ = pa.types
    one_of = (is_.is_string, is_.is_large_string, is_.is_boolean, is_.is_integer, is_.is_floating, is_.is_decimal)
    return any(is_type(type_) for is_type in (*one_of, is_.is_date, is_.is_timestamp))


def _flat(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    columns: list[pa.Array[Any]] = []
    for i, field in enumerate(schema):
        column = batch.column(i)
        if not _is_plain(column.type):
            said = (json_value(value) for value in column.to_pylist())
            texts = [s if s is None or isinstance(s, str) else json.dumps(s, ensure_ascii=False) for s in said]
            column = pa.array(texts, field.type)
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=schema)
