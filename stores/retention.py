"""Retention: rows that newer ones of the same key replaced long ago are left out of a table, and history is shorter.

Of the rows made long enough ago (written, where a row does not say when it was made) those stay that are the newest of
their keys among them: any other was replaced by then, and nobody who asks for a later moment misses it. So `latest`
shows the same rows before, meanwhile and after, whatever others append. The files that still hold the rows go with a
vacuum (`stores.vacuum`), and with them the versions that show them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterator, Sequence
from itertools import groupby

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import dataset, fs

from lore_mm.errors import InputError, StoreError
from lore_mm.tables import TABLES
from stores.features import FeatureStore
from stores.log_faults import one_line
from stores.newest import columns_of, made_at, newest_rows
from stores.rewrite import Group, Target, Upkeep
from stores.streams import keep_rows, stream_files
from stores.table_files import TableFile

__all__ = ["EVENTS", "drop_replaced"]

EVENTS = ("runs",)  # tables in which rows of one key stand beside one another, and none replaces another
_KEY_ROWS = 65_536
_TRIES = 8  # while others change the same files
_DAY_S = 86_400


def drop_replaced(
    store: FeatureStore, table: str, days: float, target: Target | None = None, dry_run: bool = False
) -> int:
    """Leave out the rows that were replaced more than so many days ago; how many those were, or would be.

    Every file that holds such a row is written anew without it. Memory holds a row group or two, and the keys while
    they are sorted. Where it is interrupted the next call goes on.

    Raises:
        InputError: the number of days is negative, or none.
        StoreError: a file cannot be read or written, the table is gone or another, or others change it all the time.
    """
    if not 0 <= days < 1e6:
        raise InputError(f"--drop-replaced is {days:g} days; legal: 0 and more")
    if table in EVENTS:
        return 0
    before_us, dropped = (time.time() - days * _DAY_S) * 1e6, 0
    for attempt in range(_TRIES):
        upkeep = Upkeep(store, table)
        keep, lost = _kept(store, table, upkeep.groups, before_us)
        if dry_run:
            return sum(lost.values())
        for run in _runs(upkeep.groups, keep):
            while run and (replaced := upkeep.replace(run, target or Target(), keep)) is not None:
                dropped += sum(lost.get(file.path, 0) for group in run[: replaced.groups] for file in group)
                run = run[replaced.groups :]
            if run:
                break
        else:
            if keep or attempt:
                upkeep.end()
            return dropped
    raise StoreError(f"cannot compact {table} in {store.uri}: others change the same files; try again later")


def _kept(
    store: FeatureStore, table: str, groups: Sequence[Group], before_us: float
) -> tuple[dict[str, NDArray[np.int64]], dict[str, int]]:
    """Of each file with a row that was replaced by then, by path: which rows stay, and how many do not."""
    files, system = [file for group in groups for file in group], store.filesystem(table)

    def read(names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        return stream_files(files, system, table, names, _KEY_ROWS)

    try:
        counts = [_count(file, system) if file.rows is None else file.rows for file in files]
        old = _times(read, table, files, counts) <= before_us
        newest = newest_rows(lambda names: keep_rows(read(names), np.flatnonzero(old)), table)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"cannot read table {table} in {store.uri}: {one_line(error)}") from None
    keep: dict[str, NDArray[np.int64]] = {}
    lost: dict[str, int] = {}
    if newest is None:
        return keep, lost
    stays = ~old
    stays[np.flatnonzero(old)[newest]] = True
    ends = np.cumsum(counts)
    for file, part in zip(files, np.split(stays, ends[:-1]), strict=True):
        if not part.all():
            keep[file.path], lost[file.path] = np.flatnonzero(part), int((~part).sum())
    return keep, lost


def _times(
    read: Callable[[Sequence[str]], Iterator[pa.RecordBatch]],
    table: str,
    files: Sequence[TableFile],
    counts: Sequence[int],
) -> NDArray[np.int64]:
    """When each row was made, or else written, in microseconds since 1970."""
    written = np.repeat([file.latest_ms * 1000 for file in files], counts).astype(np.int64)
    if "provenance" not in TABLES[table].names:
        return written
    made = made_at(table).to_physical()
    times, known = columns_of(read(["provenance"]), [made.fill_null(0), made.is_not_null().alias("known")])
    return np.where(known, times, written)


def _count(file: TableFile, system: fs.FileSystem) -> int:
    return int(dataset.ParquetFileFormat().make_fragment(file.path, filesystem=system).count_rows())


def _runs(groups: Sequence[Group], keep: Container[str]) -> Iterator[list[Group]]:
    """Groups that follow one another, of which each has a file that loses rows."""
    for loses, run in groupby(groups, key=lambda group: any(file.path in keep for file in group)):
        if loses:
            yield list(run)
