"""Opened Delta tables kept from one look or append to the next, so that neither reads a table's log from its beginning.

A kept table is lent to one caller at a time; who finds none opens the table anew. It is lent on only where the last
commit that it knows still stands as it was seen: a folder that was deleted, or put back in an earlier state, is opened
anew. It is given up at every checkpoint of the log, because a commit takes longer the more of them came since the
checkpoint behind which a table was opened. It knows nothing of rows, shapes or what is committed.
"""

from __future__ import annotations

from contextlib import suppress

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from pyarrow import fs

__all__ = ["Handles", "Stamp", "stamp_of", "write_checkpoint"]

_BY_THE_LIBRARY = 100  # versions from one checkpoint to the next, unless a table is configured otherwise
Stamp = tuple[int | None, int | None]  # when the file of a commit was written, in nanoseconds, and its bytes


class Handles:
    """The tables of one store that were looked at or appended to last. Safe to use from several threads."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[DeltaTable, Stamp]] = {}

    def __reduce__(self) -> tuple[type[Handles], tuple[()]]:
        return Handles, ()  # another process opens its own

    def take(self, table: str, system: fs.FileSystem) -> DeltaTable | None:
        """A kept table at its present version, no longer kept; None where it must be opened. `system` is its folder."""
        delta, stamp = self._kept.pop(table, (None, None))  # one step: no two callers get the same
        if delta is None or stamp_of(delta, system) != stamp:
            return None
        before = delta.version()
        try:
            delta.update_incremental()
        except (DeltaError, OSError):
            return None
        return delta if _checkpoint_of(delta.version()) == _checkpoint_of(before) else None

    def keep(self, table: str, delta: DeltaTable, system: fs.FileSystem) -> None:
        """Keep a table for the next caller; this one is not to touch it any more."""
        if _checkpoint_of(delta.version()) == delta.version() or (stamp := stamp_of(delta, system)) is None:
            return
        self._kept[table] = delta, stamp


def write_checkpoint(delta: DeltaTable) -> None:
    """Write a checkpoint where one is due after a commit, and the Delta library has not; without it rows stand too."""
    version = delta.version()
    if _checkpoint_of(version) == version and (version + 1) % _BY_THE_LIBRARY:
        with suppress(DeltaError, OSError):
            delta.create_checkpoint()


def _checkpoint_of(version: int) -> int:
    """The version of the last checkpoint up to a version, -1 where there is none.

    The hundredth commit behind a checkpoint takes four times as long as the first, and a checkpoint the longer the more
    files a table has. Where both are to cost the same the distance grows with the root of the number of files.
    """
    every = 20 if version < 2_000 else 50 if version < 10_000 else _BY_THE_LIBRARY
    return (version + 1) // every * every - 1


def stamp_of(delta: DeltaTable, system: fs.FileSystem) -> Stamp | None:
    """What tells the last commit that a table knows from another of its number; None where it is not there."""
    try:
        found = system.get_file_info(f"_delta_log/{delta.version():020}.json")
    except OSError:
        return None
    return (found.mtime_ns, found.size) if found.type == fs.FileType.File else None
