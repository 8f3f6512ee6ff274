"""What a store held at a moment: the versions of its tables then, told by the times that their commits were made at.

A moment is a time, or one commit of one table. Times are those that writers noted in the log, by clocks that go
backwards now and then; a commit counts as made no earlier than those before it, as Delta itself has it. Only the log is
read, each entry once: no table is opened at another version. This module knows no rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import fs

from lore_mm.errors import InputError, StoreError, nearest
from lore_mm.tables import TABLES
from stores.features import FeatureStore

__all__ = ["Commit", "Moment", "commits", "moment_of", "versions_at"]

_COMMIT = re.compile(r"([a-z_]+)@(\S*)")
_ENTRY = re.compile(r"(\d{20})\.json")
_WAITING = 32  # threads where a log lies in a bucket: most of them wait for an answer
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# the operations of the Delta library that lore-mm uses; any other is told by its own name in small letters
_KINDS = {
    "CREATE TABLE": "created",
    "WRITE": "append",
    "OPTIMIZE": "compaction",
    "VACUUM START": "vacuum",
    "VACUUM END": "vacuum",
}
_Made = TypeVar("_Made")


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit of a table.

    Attributes:
        version: the table's version after it.
        at: when it counts as made, in UTC, to the millisecond; never before an earlier version.
        kind: created, append, compaction, vacuum, or the name of another operation of the Delta library.
        rows: how many rows it brought, 0 where it only holds again what was there.
    """

    version: int
    at: datetime
    kind: str
    rows: int


@dataclass(frozen=True, slots=True)
class Moment:
    """A time in UTC; where it was named by a commit also its table and version."""

    at: datetime
    table: str | None = None
    version: int | None = None

    def __str__(self) -> str:
        return f"{self.table}@{self.version}" if self.table else self.at.isoformat()


def moment_of(store: FeatureStore, moment: str | datetime | Moment) -> Moment:
    """A moment from a time, or from text: ISO 8601 (a date alone is its first instant, a time without zone is UTC), or
    TABLE@VERSION, right after that commit.

    Raises:
        InputError: it is none of these.
        StoreError: there is no such table or version.
    """
    if isinstance(moment, Moment):
        return moment
    if isinstance(moment, str) and (named := _COMMIT.fullmatch(moment.strip())):
        return _of_commit(store, *named.groups())
    try:
        at = moment if isinstance(moment, datetime) else datetime.fromisoformat(moment.strip())
        return Moment(at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC))
    except (ValueError, OverflowError):
        raise InputError(
            f"{moment!r} is no moment; legal: a time such as 2026-11-24 or 2026-11-24T09:30+01:00 (UTC unless it says"
            " otherwise), or a commit such as attributes@12"
        ) from None


def versions_at(store: FeatureStore, moment: str | datetime | Moment) -> dict[str, int]:
    """For each table its last version that was committed at or before a moment; one that was not there then is absent.

    Of a moment that is a commit, that table has exactly that version. A time to come gives what is there now.

    Raises:
        InputError, StoreError: as in `moment_of`; or the store had not begun, or its log of then is gone.
    """
    asked = moment_of(store, moment)
    limit = (asked.at - _EPOCH) // timedelta(milliseconds=1)
    found: dict[str, int] = {}
    begun: list[int] = []
    for table in store.tables():
        if table == asked.table and asked.version is not None:
            found[table] = asked.version
            continue
        numbers, times = _log(store, table)
        if not len(numbers):
            continue
        reached = int(np.searchsorted(times, limit, side="right"))
        if reached:
            found[table] = int(numbers[reached - 1])
        elif numbers[0] > 0:
            raise StoreError(
                f"what {table} in {store.uri} held at {asked} is not known: its log begins with version {numbers[0]},"
                f" of {_time(int(times[0])).isoformat()}"
            )
        begun.append(int(times[0]))
    if not found:
        since = f"it began at {_time(min(begun)).isoformat()}" if begun else "it is empty"
        raise StoreError(f"there was no store at {store.uri} at {asked}: {since}")
    return found


def commits(store: FeatureStore, table: str) -> list[Commit]:
    """Every commit of a table whose entry of the log is there, oldest first.

    Raises:
        StoreError: there is no such table, or its log cannot be read.
    """
    _must_be(store, table)
    numbers = _entries(store, table)
    told = _each(store, table, numbers, _whole)
    times = np.maximum.accumulate(np.array([at for at, _, _ in told], np.int64)) if told else ()
    return [
        Commit(version, _time(int(at)), kind, rows)
        for version, at, (_, kind, rows) in zip(numbers, times, told, strict=True)
    ]


def _of_commit(store: FeatureStore, table: str, number: str) -> Moment:
    _must_be(store, table)
    present = store.version(table)
    assert present is not None
    if not (number.isascii() and number.isdigit()) or int(number) > present:
        raise StoreError(f"table {table} has versions 0 to {present}, not {number or 'none'}")
    numbers, times = _log(store, table, up_to=int(number))
    if not len(numbers) or int(numbers[-1]) != int(number):
        raise StoreError(f"when {table}@{number} was committed is not known: its entry of the log is gone")
    return Moment(_time(int(times[-1])), table, int(number))


def _must_be(store: FeatureStore, table: str) -> None:
    if table not in TABLES:
        raise StoreError(f"no table {table!r}{nearest(table, TABLES) or ';'} legal tables: {', '.join(TABLES)}")
    if store.version(table) is None:
        raise StoreError(f"no table {table} in {store.uri} yet; tables there: {', '.join(store.tables()) or 'none'}")


def _log(store: FeatureStore, table: str, up_to: int | None = None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Versions, rising, and the milliseconds since 1970 that each counts as committed at, never falling."""
    numbers = [n for n in _entries(store, table) if up_to is None or n <= up_to]
    times = np.array(_each(store, table, numbers, _committed_ms), np.int64)
    return np.array(numbers, np.int64), np.maximum.accumulate(times) if len(times) else times


def _entries(store: FeatureStore, table: str) -> list[int]:
    try:
        listed = store.filesystem(table).get_file_info(fs.FileSelector("_delta_log", allow_not_found=True))
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(store, table, error) from None
    return sorted(int(named[1]) for info in listed if (named := _ENTRY.fullmatch(info.base_name)))


def _each(
    store: FeatureStore, table: str, numbers: Sequence[int], read: Callable[[fs.FileSystem, str], _Made]
) -> list[_Made]:
    """What `read` makes of each entry, in order; from a bucket many at once."""
    system = store.filesystem(table)
    paths = [f"_delta_log/{number:020}.json" for number in numbers]
    try:
        if store.folder is not None:
            return [read(system, path) for path in paths]
        with ThreadPoolExecutor(_WAITING, "log") as pool:
            return list(pool.map(lambda path: read(system, path), paths))
    except (OSError, ValueError, TypeError, KeyError, pa.ArrowException) as error:
        raise _unreadable(store, table, error) from None


def _committed_ms(system: fs.FileSystem, path: str) -> int:
    with system.open_input_stream(path) as entry:
        for line in entry.read().splitlines():
            if line.startswith(b'{"commitInfo"'):
                at = json.loads(line)["commitInfo"].get("timestamp")
                break
        else:
            at = None
    return int(at) if at is not None else _modified_ms(system, path)


def _modified_ms(system: fs.FileSystem, path: str) -> int:
    """Of an entry that says no time, that of its file."""
    return int(system.get_file_info(path).mtime_ns or 0) // 1_000_000


def _whole(system: fs.FileSystem, path: str) -> tuple[int, str, int]:
    with system.open_input_stream(path) as entry:
        actions = [json.loads(line) for line in entry.read().splitlines()]
    info: dict[str, Any] = next((action["commitInfo"] for action in actions if "commitInfo" in action), {})
    at, operation = info.get("timestamp"), str(info.get("operation") or "unknown")
    kind = _KINDS.get(operation, operation.lower())
    rows = sum(_rows(actions)) if kind != "compaction" else 0
    return int(at) if at is not None else _modified_ms(system, path), kind, rows


def _rows(actions: Sequence[Any]) -> Iterator[int]:
    for action in actions:
        if "add" in action and action["add"]["dataChange"]:
            yield int(json.loads(action["add"].get("stats") or "{}").get("numRecords", 0))


def _time(ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=ms)


def _unreadable(store: FeatureStore, table: str, error: Exception) -> StoreError:
    return StoreError(f"cannot read the log of {table} in {store.uri}: {' '.join(str(error).split())[:300]}")
