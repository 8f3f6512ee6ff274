"""Compaction: the many small files that small commits leave, merged into large ones, with every row in its place.

The order of rows decides which row of a key is the newest where times do not, and the Delta library's own compaction
sorts files by size: so it is done here, by runs of small files that follow one another. Files that are large already
are left alone. Readers of earlier versions go on with the files these name, until those are vacuumed; `touched_keys`
sees nothing new, for nothing is. It does not know what rows mean.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from lore_mm.errors import StoreError
from stores.features import FeatureStore
from stores.rewrite import Group, Target, Upkeep

__all__ = ["Compacted", "compact", "foreseen"]

_SMALL = 4  # files below one part in so many of the target are merged with their like
_TRIES = 16  # while others change the same files


@dataclass(frozen=True, slots=True)
class Compacted:
    """The files of a table's newest version, and their bytes, before and after."""

    files_before: int
    files: int
    bytes_before: int
    bytes: int


def compact(store: FeatureStore, table: str, target: Target | None = None) -> Compacted:
    """Merge a table's small files, one commit for each file made, while others append, read and compact.

    Where it is interrupted the next call goes on. Memory holds a row group or two. While writers whose clocks are
    behind append, the latest files may be left for another time.

    Raises:
        StoreError: a file cannot be read or written, the table is gone or another, or others change it all the time.
    """
    target = target or Target()
    upkeep = Upkeep(store, table)
    before, merged, latest = _size(upkeep.groups), False, None
    for attempt in range(_TRIES):
        runs = list(_runs(upkeep.groups, target, latest))
        merged = merged or bool(runs)
        if all(_merge(upkeep, run, target) for run in runs):
            break
        time.sleep(random.uniform(0, 0.2))
        upkeep = Upkeep(store, table)
        latest = upkeep.groups[-1][0].written_ms - 1000 * 2**attempt
    else:
        raise StoreError(f"cannot compact {table} in {store.uri}: others change the same files; try again later")
    if merged:
        upkeep.end()
    return Compacted(before[0], (after := _size(Upkeep(store, table).groups))[0], before[1], after[1])


def foreseen(store: FeatureStore, table: str, target: Target | None = None) -> Compacted:
    """About what compaction would make of a table: the fewest files; the bytes, which would be fewer, as they are."""
    groups = Upkeep(store, table).groups
    files, n_bytes = _size(groups)
    fewer = sum(_size(run)[0] - 1 for run in _runs(groups, target or Target()))
    return Compacted(files, files - fewer, n_bytes, n_bytes)


def _runs(groups: Iterable[Group], target: Target, latest: int | None = None) -> Iterator[list[Group]]:
    """Small files that follow one another, two and more of them; none written after `latest`, in milliseconds."""
    run: list[Group] = []
    for group in groups:
        if _is_small(group, target) and (latest is None or group[0].written_ms <= latest):
            run.append(group)
            continue
        if _size(run)[0] > 1:
            yield run
        run = []
    if _size(run)[0] > 1:
        yield run


def _is_small(group: Group, target: Target) -> bool:
    n_bytes, rows = sum(file.n_bytes for file in group), sum(file.rows or 0 for file in group)
    plain = all(quote(file.path) == file.path for file in group)  # another writer's names are spelt otherwise in a log
    return plain and n_bytes * _SMALL < target.n_bytes and rows * _SMALL < target.rows


def _merge(upkeep: Upkeep, run: Sequence[Group], target: Target) -> bool:
    """Merge a run into as few files as are large enough; False where others have changed it."""
    while _size(run)[0] > 1:
        if (replaced := upkeep.replace(run, target)) is None:
            return False
        run = run[replaced.groups :]
    return True


def _size(groups: Iterable[Group]) -> tuple[int, int]:
    files = [file for group in groups for file in group]
    return len(files), sum(file.n_bytes for file in files)
