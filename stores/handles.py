"""Opened Delta tables kept from one look or append to the next, so that neither reads a table's log from its beginning.

A kept table is lent to one caller at a time; who finds none opens the table anew. It is lent on only where the last
commit that it knows still stands as it was seen: a folder that was deleted, or put back in an earlier state, is opened
anew. It is given up at every checkpoint of the log, because what it holds of the log grows with each commit, and a
table opened behind a checkpoint holds little. It knows nothing of rows, shapes or what is committed.
"""

from __future__ import annotations

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from pyarrow import fs

__all__ = ["Handles", "Stamp", "stamp_of"]

_CHECKPOINT_EVERY = 100  # versions; the Delta library's own, unless a table is configured otherwise
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
        return delta if delta.version() // _CHECKPOINT_EVERY == before // _CHECKPOINT_EVERY else None

    def keep(self, table: str, delta: DeltaTable, system: fs.FileSystem) -> None:
        """Keep a table for the next caller; this one is not to touch it any more."""
        if delta.version() % _CHECKPOINT_EVERY == 0 or (stamp := stamp_of(delta, system)) is None:
            return
        self._kept[table] = delta, stamp


def stamp_of(delta: DeltaTable, system: fs.FileSystem) -> Stamp | None:
    """What tells the last commit that a table knows from another of its number; None where it is not there."""
    try:
        found = system.get_file_info(f"_delta_log/{delta.version():020}.json")
    except OSError:
        return None
    return (found.mtime_ns, found.size) if found.type == fs.FileType.File else None
