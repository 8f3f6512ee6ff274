"""What a store held at a moment: the versions of its tables then, told by the times that their commits were made at.

A moment is a time, or one commit of one table. Times are those that writers noted in the log, by clocks that go
backwards now and then; a commit counts as made no earlier than those before it, as Delta itself has it. Only the log is
read, each entry once: no table is opened at another version. This module knows no rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import fs

from lore_mm.errors import InputError, StoreError, nearest
from lore_mm.tables import TABLES
from stores.features import FeatureStore
from stores.table_files import committed

__all__ = ["Commit", "Moment", "commits", "moment_of", "versions_at"]

_COMMIT = re.compile(r"([a-z_]+)@(\S*)")
_NUMBER = re.compile("[0-9]{1,18}")
_ENTRY = re.compile(r"(\d{20})\.json")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# the operations of the Delta library that lore-mm uses; any other is told by its own name in small letters
_KINDS = {
    "CREATE TABLE": "created",
    "WRITE": "append",
    "OPTIMIZE": "compaction",
    "VACUUM START": "vacuum",
    "VACUUM END": "vacuum",
}


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit of a table.

    Attributes:
        version: the table's version after it.
        at: when it counts as made, in UTC, to the millisecond; never before an earlier version.
        kind: created, append, compaction, retention, vacuum, or the name of another operation of the Delta library.
        rows: how many rows it brought; none where it holds again all or some of what was there.
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
    told = list(_told(store, table))
    times = np.maximum.accumulate([at for _, at, _, _ in told]) if told else ()
    return [
        Commit(version, _time(int(at)), kind, rows) for (version, _, kind, rows), at in zip(told, times, strict=True)
    ]


def _of_commit(store: FeatureStore, table: str, number: str) -> Moment:
    _must_be(store, table)
    numbers, times = _log(store, table)
    present = int(numbers[-1]) if len(numbers) else store.version(table)
    if not _NUMBER.fullmatch(number) or int(number) > (present or 0):
        raise StoreError(f"table {table} has versions 0 to {present}, not {number or 'none'}")
    place = np.searchsorted(numbers, version := int(number))
    if place == len(numbers) or numbers[place] != version:
        raise StoreError(f"when {table}@{number} was committed is not known: its entry of the log is gone")
    return Moment(_time(int(times[place])), table, version)


def _must_be(store: FeatureStore, table: str) -> None:
    if table not in TABLES:
        raise StoreError(f"no table {table!r}{nearest(table, TABLES) or ';'} legal tables: {', '.join(TABLES)}")
    if table not in (there := store.tables()):
        raise StoreError(f"no table {table} in {store.uri} yet; tables there: {', '.join(there) or 'none'}")


def _log(store: FeatureStore, table: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Versions, rising, and the milliseconds since 1970 that each counts as committed at, never falling."""
    told = [(version, at) for version, at, _, _ in _told(store, table)]
    numbers, times = np.array(told, np.int64).reshape(-1, 2).T
    return numbers, np.maximum.accumulate(times) if len(times) else times


def _told(store: FeatureStore, table: str) -> Iterator[tuple[int, int, str, int]]:
    """What each entry of the log says of its commit: version, milliseconds since 1970, kind, rows."""
    system = store.filesystem(table)
    try:
        numbers = _entries(system)
        for number, actions in zip(numbers, committed(system, numbers), strict=True):
            info: dict[str, Any] = next((action["commitInfo"] for action in actions if "commitInfo" in action), {})
            at, operation = info.get("timestamp"), str(info.get("operation") or "unknown")
            kind = str(
                info.get("lore") or _KINDS.get(operation, operation.lower())
            )  # `stores.rewrite` says what it did
            yield number, _modified_ms(system, number) if at is None else int(at), kind, sum(_rows(actions))
    except (OSError, ValueError, TypeError, KeyError, pa.ArrowException) as error:
        what = " ".join(str(error).split())[:300]
        raise StoreError(f"cannot read the log of {table} in {store.uri}: {what}") from None


def _entries(system: fs.FileSystem) -> list[int]:
    listed = system.get_file_info(fs.FileSelector("_delta_log", allow_not_found=True))
    return sorted(int(named[1]) for info in listed if (named := _ENTRY.fullmatch(info.base_name)))


def _modified_ms(system: fs.FileSystem, version: int) -> int:
    """Of an entry that says no time, that of its file."""
    return int(system.get_file_info(f"_delta_log/{version:020}.json").mtime_ns or 0) // 1_000_000


def _rows(actions: Sequence[Any]) -> Iterator[int]:
    """The rows that the files of a commit brought; none where they stand for others."""
    if any("remove" in action for action in actions):
        return
    for action in actions:
        if "add" in action and action["add"]["dataChange"]:
            yield int(json.loads(action["add"].get("stats") or "{}").get("numRecords", 0))


def _time(ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=ms)
