"""Which versions of a table may lack files since a vacuum: TABLE/_vacuumed.json, which holds the last of them.

It is written before the first file is deleted, so that whoever then misses one is told why. Later versions are whole,
and need no looking at.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from pyarrow import fs

from lore_mm.errors import StoreError
from stores.table_files import TableFile

__all__ = ["check_kept", "note_vacuumed"]

_NOTE = "_vacuumed.json"


def note_vacuumed(system: fs.FileSystem, version: int) -> None:
    """Say that this version, and any before it, may lack files from now on. `system` is the table's folder.

    Raises:
        OSError: it cannot be written.
    """
    if version > _last(system):
        with system.open_output_stream(f"{_NOTE}.tmp", buffer_size=1024) as note:  # unbuffered, a bucket takes no bytes
            note.write(json.dumps({"version": version}).encode())
        system.move(f"{_NOTE}.tmp", _NOTE)


def check_kept(system: fs.FileSystem, table: str, version: int, files: Sequence[TableFile]) -> None:
    """Refuse a version of which a file was vacuumed. One small file is read, and a folder listed where need be.

    Raises:
        StoreError: one was.
    """
    last = _last(system)
    if version > last:
        return
    there = {info.path for info in system.get_file_info(fs.FileSelector("", recursive=True))}
    if any(file.path not in there for file in files):
        raise StoreError(
            f"version {version} of {table} was vacuumed: its files are deleted; versions from {last + 1} on can be read"
        )


def _last(system: fs.FileSystem) -> int:
    try:
        with system.open_input_stream(_NOTE) as note:
            return int(json.loads(note.read())["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return -1
