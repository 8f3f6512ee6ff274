"""More entries than memory holds, put in order: sorted runs on disk, merged as they are read back.

What fits in memory never touches the disk. It knows bytes alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from heapq import merge
from pathlib import Path
from uuid import uuid4

import pyarrow as pa

__all__ = ["Entry", "SortedRuns"]

Entry = tuple[bytes, bytes, bytes]  # key, rank among those of the key, value

_HELD_BYTES = 1 << 28  # of keys, ranks and values, in memory at once
_EACH = 150  # bytes of an entry beside its own
_BATCH = 128  # entries of a run read at a time
_SCHEMA = pa.schema([pa.field(name, pa.binary()) for name in ("key", "rank", "value")])


class SortedRuns:
    """Entries added in any order, read in the order of (key, rank, value). Close it to remove its files."""

    def __init__(self, folder: Path) -> None:
        """`folder`: where runs are written when memory is full; it is there."""
        self._folder, self._name = folder, f"run-{uuid4().hex[:8]}"
        self._held: list[Entry] = []
        self._bytes = 0
        self._runs: list[Path] = []

    def __enter__(self) -> SortedRuns:
        return self

    def __exit__(self, *_: object) -> None:
        for run in self._runs:
            with suppress(OSError):
                run.unlink()

    def add(self, key: bytes, rank: bytes, value: bytes) -> None:
        """Add one entry.

        Raises:
            OSError: the folder cannot be written to, or its disk is full.
        """
        self._held.append((key, rank, value))
        self._bytes += len(key) + len(rank) + len(value) + _EACH
        if self._bytes > _HELD_BYTES:
            self._write()

    def __iter__(self) -> Iterator[Entry]:
        self._held.sort()
        return merge(*map(_read, self._runs), self._held)

    def _write(self) -> None:
        self._held.sort()
        path = self._folder / f"{self._name}-{len(self._runs)}.arrow"
        self._runs.append(path)
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, _SCHEMA) as writer:
            for start in range(0, len(self._held), _BATCH):
                columns = zip(*self._held[start : start + _BATCH], strict=True)
                writer.write_batch(pa.record_batch([pa.array(c, pa.binary()) for c in columns], schema=_SCHEMA))
        self._held, self._bytes = [], 0


def _read(path: Path) -> Iterator[Entry]:
    with pa.OSFile(str(path), "rb") as file, pa.ipc.open_stream(file) as reader:
        for batch in reader:
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
