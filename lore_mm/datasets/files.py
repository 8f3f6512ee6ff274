"""The files of data sets, row by row, with errors that name file, line and column. It knows no data set."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lore_mm.errors import InputError, nearest
from lore_mm.records import kind_of, open_records

__all__ = ["column", "prose", "read_json", "rows_of", "texts"]

_LARGEST_JSON = 64 * 1024 * 1024  # bytes; held whole


def rows_of(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a file (see `lore_mm.records`), each after where it stands, for errors.

    Raises:
        InputError: there is no such file, or it cannot be read.
    """
    records = open_records(path)
    for place, row in records:
        yield records.where(place), row


def column(row: Mapping[str, Any], name: str, where: str) -> str:
    """A column that must hold text, or a whole number, which is read as text.

    Raises:
        InputError: it is missing, empty or something else.
    """
    if name not in row:
        raise InputError(f"{where}: no column {name!r}{nearest(name, row)}; it has: {', '.join(map(str, row))[:300]}")
    value = row[name]
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise InputError(f"{where}, column {name!r}: {kind_of(value)}; legal: text that is not empty")
    return str(value).strip()


def texts(value: object, where: str) -> tuple[str, ...]:
    """One text or a list of texts, as a tuple; empty ones are dropped.

    Raises:
        InputError: it is something else.
    """
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise InputError(f"{where}: {kind_of(value)}; legal: a text or a list of texts")
    return tuple(one.strip() for one in given if one.strip())


def prose(row: Mapping[str, Any], name: str, where: str) -> str:
    """A column that may be missing or null, and else holds text.

    Raises:
        InputError: it holds something else.
    """
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        raise InputError(f"{where}, column {name!r}: {kind_of(value)}; legal: text")
    return value or ""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
        InputError: there is no such file, it is larger than 64 MiB, or it holds something else.
    """
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise InputError(f"{path}: larger than {_LARGEST_JSON:,} bytes")
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: holds {kind_of(value)}; legal: an object")
    return value
