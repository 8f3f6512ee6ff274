"""The data files of a Delta table: which there are at a version, in what order their rows come, and what commits added.

This module knows the log, and nothing of rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import pyarrow as pa
from deltalake import DeltaTable
from pyarrow import fs

from lore_mm.errors import StoreError

__all__ = ["TableFile", "any_changing", "committed", "committed_files", "merged_name", "ordered_files"]

_AT_ONCE = 16  # entries of a log that are read at once
_MERGED = re.compile(r"part-(\d{1,15})-[0-9a-f-]{36}-merged\.zstd\.parquet")


@dataclass(frozen=True, slots=True)
class TableFile:
    """A Parquet file of a table.

    Attributes:
        path: inside the table's folder.
        rows: how many it has, None where the log does not say.
        n_bytes: its size.
        written_ms: when, by the writer's clock, in milliseconds since 1970; what files are ordered by. Of a file that
            was merged from others, the time of the first.
    """

    path: str
    rows: int | None
    n_bytes: int
    written_ms: int

    @property
    def latest_ms(self) -> int:
        """When the last of its rows was written, or a little later."""
        merged = _MERGED.fullmatch(self.path)
        return int(merged[1]) if merged else self.written_ms


def merged_name(latest_ms: int) -> str:
    """A new name for a file that others are merged into, the last of them written then."""
    return f"part-{latest_ms}-{uuid4()}-merged.zstd.parquet"


def ordered_files(delta: DeltaTable, table: str) -> list[TableFile]:
    """The files of a version by time of writing, then by name (parts of a commit are numbered).

    Times are those of the writers' clocks. The log knows an order of its own, that of commits; but it is not kept in
    checkpoints, and a file that compaction has made stands where its parts stood, and not where it was committed.

    Raises:
        StoreError: the log points outside of the table's folder.
    """
    actions = pa.table(delta.get_add_actions(flatten=True))
    columns = (actions[name].to_pylist() for name in ("path", "num_records", "size_bytes", "modification_time"))
    files = [TableFile(_inside(str(path), table), n, size, at) for path, n, size, at in zip(*columns, strict=True)]
    return sorted(files, key=lambda file: (file.written_ms, file.path))


def committed_files(system: fs.FileSystem, table: str, versions: Sequence[int]) -> list[str] | None:
    """The paths of the files that these commits brought new rows in, or took rows away with, in order of commits.

    Files that only hold again what others held (compaction) are left out. None where an entry of the log is not there
    to be read, and the question has no answer. `system` is the table's folder.

    Raises:
        StoreError: the log points outside of the table's folder.
    """
    found: dict[str, None] = {}
    try:
        for actions in committed(system, versions):
            found |= dict.fromkeys(_inside(path, table) for path in _changing(actions))
    except (OSError, ValueError):
        return None
    return list(found)


def any_changing(system: fs.FileSystem, versions: Sequence[int]) -> bool:
    """Whether one of these commits brought new rows, or took rows away; True also where it cannot be told any more.

    The log is read up to the first that did. `system` is the table's folder.
    """
    try:
        return any(True for actions in committed(system, versions) for _ in _changing(actions))
    except (OSError, ValueError):
        return True


def committed(system: fs.FileSystem, versions: Sequence[int]) -> Iterator[list[Any]]:
    """The actions of these commits, in their order. `system` is the table's folder.

    Of a log in a bucket some entries are read at once, as it answers slowly one by one.

    Raises:
        OSError: an entry is not there to be read.
        ValueError: one is broken.
    """

    def read(version: int) -> list[Any]:
        with system.open_input_stream(f"_delta_log/{version:020}.json") as entry:
            return [json.loads(line) for line in entry.read().splitlines()]

    local = isinstance(system, fs.SubTreeFileSystem) and isinstance(system.base_fs, fs.LocalFileSystem)
    if local or len(versions) <= _AT_ONCE:
        yield from map(read, versions)
        return
    with ThreadPoolExecutor(_AT_ONCE, "log") as readers:
        for start in range(0, len(versions), 8 * _AT_ONCE):
            yield from readers.map(read, versions[start : start + 8 * _AT_ONCE])


def _changing(actions: Sequence[Any]) -> Iterator[str]:
    for action in actions:
        for kind in ("add", "remove"):
            if kind in action and action[kind]["dataChange"]:
                yield str(action[kind]["path"])


def _inside(path: str, table: str) -> str:
    path = unquote(path)
    if "://" in path or path.startswith("/") or ".." in Path(path).parts:
        raise StoreError(f"table {table} names a file outside of its folder: {path!r}; it is not one of lore-mm's")
    return path
