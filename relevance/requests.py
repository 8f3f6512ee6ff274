"""What the judge is asked, from whichever door: options, a file of pairs, or JSON lines on stdin. One request a row.

A line that cannot be read is a request with an error, never a crash and never a gap. This module opens no store.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lore_mm.errors import InputError, nearest
from lore_mm.fingerprint import sha_of_bytes
from lore_mm.types import Item

__all__ = ["Request", "query_id_of", "read_lines", "read_requests"]

_KEYS = ("query", "query_id", "item_id", "item")
_LONGEST_LINE = 4 * 2**20  # bytes; a longer line is refused without being parsed or kept


@dataclass(frozen=True, slots=True)
class Request:
    """One pair to judge: an item of the store by its id, or the item itself; or the store's `top` nearest items."""

    query: str
    query_id: str = ""
    item_id: str = ""
    item: Item | None = None
    top: int | None = None
    error: str | None = None
    streamed: bool = False  # somebody waits for the answer to this line


def query_id_of(text: str) -> str:
    """The id of a query that was given none: made of its text."""
    return "q-" + sha_of_bytes(text.encode("utf-8", "surrogatepass"))[:12]


def read_requests(query: str | None, items: Sequence[str], top: int | None, pairs: Path | None) -> Iterator[Request]:
    """The requests of a command line.

    Raises:
        InputError: the options do not go together, or nothing was asked.
    """
    if pairs is not None:
        if query is not None or items or top is not None:
            raise InputError("--pairs names its own queries and items: leave out --query, --item and --top")
        return _from_file(pairs)
    if query is not None:
        if items and top is not None:
            raise InputError("name the items with --item or take the nearest with --top, not both")
        if not items and top is None:
            raise InputError("--query needs items to judge: --item ID (once or several times), or --top K")
        if top is not None:
            return iter([Request(query, query_id_of(query), top=top)])
        return iter([Request(query, query_id_of(query), item_id) for item_id in items])
    if items or top is not None:
        raise InputError('--item and --top need a query: --query "red sofa"')
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError(
            "nothing to judge: give --query with --item or --top, or --pairs FILE, or JSON lines on stdin; see --help"
        )
    return read_lines(sys.stdin.buffer)


def _from_file(path: Path) -> Iterator[Request]:
    from lore_mm.catalogue import read_pairs

    for batch in read_pairs(path).to_batches(4096):
        for row in batch.to_pylist():
            yield Request(row["query"], row["query_id"], row["item_id"])


def read_lines(stream: IO[bytes]) -> Iterator[Request]:
    """One request a JSON line of {"query", "item_id"} or {"query", "item": {…}}; blank lines are passed over."""
    number = 0
    while raw := stream.readline(_LONGEST_LINE + 1):
        number += 1
        length = len(raw)
        while not raw.endswith(b"\n") and (more := stream.readline(_LONGEST_LINE)):  # read on, keep nothing
            length, raw = length + len(more), more
        if length > _LONGEST_LINE:
            yield _fault(f"stdin line {number}: {length:,} bytes, the limit is {_LONGEST_LINE:,}")
        elif raw.strip():
            yield _from_line(raw, f"stdin line {number}")


def _fault(error: str, query: str = "", item_id: str = "") -> Request:
    return Request(query, query_id_of(query) if query else "", item_id, error=error, streamed=True)


def _from_line(raw: bytes, where: str) -> Request:
    def fault(reason: str, query: str = "", item_id: str = "") -> Request:
        return _fault(f"{where}: {reason}", query, item_id)

    try:
        row = json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return fault(f"not UTF-8 at byte {error.start}")
    except json.JSONDecodeError as error:
        return fault(f"not JSON: {error.msg} at character {error.colno}")
    except RecursionError:
        return fault("JSON nested too deeply")
    except ValueError as error:  # a number of thousands of digits
        return fault(f"not JSON that can be read: {str(error).split(';')[0]}")
    if not isinstance(row, dict):
        return fault('not an object; legal: {"query": TEXT, "item_id": ID} or {"query": TEXT, "item": {…}}')
    query, item_id = row.get("query"), row.get("item_id")
    shown = item_id if isinstance(item_id, str) else ""
    if not isinstance(query, str):
        return fault("no query; legal: a text under 'query'", item_id=shown)
    if unknown := next((k for k in row if k not in _KEYS), None):
        return fault(f"unknown key {unknown!r}{nearest(unknown, _KEYS)}; legal: {', '.join(_KEYS)}", query, shown)
    return _read_row(row, query, fault)


def _read_row(row: dict[str, Any], query: str, fault: Any) -> Request:
    from lore_mm.item_rows import COLUMNS, PREFIX, key_fault, read_item, read_text

    faults: list[str] = []
    read_text(query, "query", faults, kept=False)
    if faults:
        return fault(faults[0], query)  # type: ignore[no-any-return]
    if row.get("query_id") is not None and (wrong := key_fault(row["query_id"], "query_id")):
        return fault(f"query_id: {wrong}", query)  # type: ignore[no-any-return]
    query_id = row.get("query_id") or query_id_of(query)
    item_id, inline = row.get("item_id"), row.get("item")
    if inline is None:
        wrong = key_fault(item_id, "item_id")
        if wrong:
            return fault(wrong, query)  # type: ignore[no-any-return]
        return Request(query, str(query_id), str(item_id), streamed=True)
    if not isinstance(inline, dict):
        return fault("item: not an object", query)  # type: ignore[no-any-return]
    if unknown := next((k for k in inline if k not in COLUMNS and not k.startswith(PREFIX)), None):
        hint = f"{nearest(unknown, COLUMNS)}; legal: {', '.join(COLUMNS)}"
        return fault(f"item: unknown key {unknown!r:.80}{hint}", query)  # type: ignore[no-any-return]
    inline = {"item_id": item_id or "inline", **inline}
    wrong = key_fault(inline["item_id"], "item_id")
    if wrong:
        return fault(f"item: {wrong}", query)  # type: ignore[no-any-return]
    item, error = read_item(inline)
    if error:
        return fault(f"item: {error}", query, item.item_id)  # type: ignore[no-any-return]
    return Request(query, str(query_id), item.item_id, item, streamed=True)
