"""Vacuum: files that no version needs any more are deleted, and with them the versions that needed them.

Deleted are the files that compaction or retention took out of a table long enough ago, files that no commit ever named
(dead writers leave them) once they are a day old, and old checkpoints of the log, which only make opening quicker. The
entries of the log stay: they are the table's history. What a version that the caller names needs is kept.

Which versions may lack files is noted (`stores.vacuumed`). This module does not know why a version is to be kept.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import unquote

from pyarrow import fs

from lore_mm.errors import InputError, StoreError
from stores.features import FeatureStore
from stores.log_faults import one_line
from stores.table_files import committed, ordered_files
from stores.vacuumed import note_vacuumed

__all__ = ["Vacuumed", "vacuum"]

_DAY_S = 86_400.0
_DATA = re.compile(r"[^_.][^/]*\.parquet(#\d+)?")  # with a number: one that the Delta library had not finished
_ENTRY = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint(\.[^/]+)?\.parquet")
_UNFINISHED = re.compile(r".+(\.tmp|#\d+)")
_KEPT_CHECKPOINTS = 1000  # of old ones, that of every so many versions; they are written at 99, 199 …
_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Vacuumed:
    """Files that were deleted, or would be, and their bytes."""

    files: int
    bytes: int


def vacuum(store: FeatureStore, table: str, days: float, keep: Collection[int] = (), dry_run: bool = False) -> Vacuumed:
    """Delete the files that no version of the last so many days needs, and none of those to `keep`.

    With less than a day, who reads an earlier version at this moment may miss a file. Others may append and compact.

    Raises:
        InputError: the number of days is negative, or none.
        StoreError: no such table; or it cannot be read, or not be deleted from.
    """
    if not 0 <= days < 1e6:
        raise InputError(f"--vacuum is {days:g} days; legal: 0 and more")
    system = store.filesystem(table)
    try:
        gone, log, last = _unneeded(store, table, system, days, keep)
        if not dry_run:
            _delete(system, log)  # first, as a full disk may have no room for the note
            if gone:
                note_vacuumed(system, last)
            _delete(system, gone)
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot vacuum {table} in {store.uri}: {one_line(error)}") from None
    return Vacuumed(len(gone) + len(log), sum(info.size or 0 for info in (*gone, *log)))


def _unneeded(
    store: FeatureStore, table: str, system: fs.FileSystem, days: float, keep: Collection[int]
) -> tuple[list[fs.FileInfo], list[fs.FileInfo], int]:
    """Data files, files of the log, and the last version that needed one of the former."""
    now = time.time()
    at_least, a_day = now - days * _DAY_S, now - max(days, 1.0) * _DAY_S
    # listed before the table is opened: what is named by a commit in between is no leftover
    data = [info for info in _listed(system, "") if _DATA.fullmatch(info.base_name)]
    log = list(_listed(system, "_delta_log"))
    delta = store.open_table(table)
    needed = {file.path for file in ordered_files(delta, table)}
    for version in {v for v in keep if 0 <= v < delta.version()}:
        needed |= {file.path for file in ordered_files(store.open_table(table, version), table)}
    recent = [
        int(found[1])
        for info in log
        if (found := _ENTRY.fullmatch(info.base_name)) and _written(info) > a_day - _DAY_S  # clocks differ
    ]
    removed = dict(_removed(system, sorted(recent)))
    gone, last = [], -1
    for info in data:
        if info.path in needed:
            continue
        at, version = removed.get(info.path, (None, min(recent, default=delta.version())))
        if at / 1000 <= at_least if at is not None else _written(info) <= a_day:
            gone.append(info)
            last = max(last, version - 1)
    return gone, list(_old_in_log(log, a_day)), last


def _removed(system: fs.FileSystem, versions: list[int]) -> Iterator[tuple[str, tuple[int, int]]]:
    """The files that these commits took out: path → when, in milliseconds since 1970, and by which version."""
    for version, actions in zip(versions, committed(system, versions), strict=True):
        for action in actions:
            if "remove" in action:
                remove = action["remove"]
                yield unquote(remove["path"]), (int(remove.get("deletionTimestamp") or 0), version)


def _old_in_log(log: Iterable[fs.FileInfo], a_day: float) -> Iterator[fs.FileInfo]:
    """Checkpoints but for the newest and some for quick opening, and what dead writers have left."""
    checkpoints = {info.path: int(found[1]) for info in log if (found := _CHECKPOINT.fullmatch(info.base_name))}
    newest = max(checkpoints.values(), default=0)
    for info in log:
        version = checkpoints.get(info.path, 0)
        if _written(info) <= a_day and (
            (version and version != newest and (version + 1) % _KEPT_CHECKPOINTS)
            or _UNFINISHED.fullmatch(info.base_name)
        ):
            yield info


def _listed(system: fs.FileSystem, folder: str) -> Iterator[fs.FileInfo]:
    found = system.get_file_info(fs.FileSelector(folder))
    return (info for info in found if info.type == fs.FileType.File)


def _written(info: fs.FileInfo) -> float:
    """Seconds since 1970; where nobody knows, now."""
    return time.time() if info.mtime_ns is None else info.mtime_ns / 1e9


def _delete(system: fs.FileSystem, files: Iterable[fs.FileInfo]) -> None:
    def delete(info: fs.FileInfo) -> None:
        with suppress(FileNotFoundError):  # another vacuum was faster
            system.delete_file(info.path)

    with ThreadPoolExecutor(_AT_ONCE, "vacuum") as workers:
        list(workers.map(delete, files))
