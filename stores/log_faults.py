"""What is wrong with a Delta log on a local disk: the entry that a power cut, a full disk or a hand has broken.

The Delta library says what it could not parse and not where, and reads an empty entry as a commit of nothing, which
would hide the rows that it had named. This module knows no table and no row.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from lore_mm.errors import StoreError

__all__ = ["broken_entry", "check_end", "one_line"]

_LOOK_AT = 200  # the newest entries: behind a checkpoint none is read


def check_end(folder: Path | None, version: int) -> None:
    """Refuse a local table whose entry of this version is there and holds nothing.

    Raises:
        StoreError: it does; the text names it.
    """
    if folder is None:
        return
    entry = folder / "_delta_log" / f"{version:020}.json"
    try:
        empty = entry.stat().st_size == 0
    except OSError:  # none, where a checkpoint stands for it
        return
    if empty:
        raise StoreError(f"cannot read table {folder.name} in {folder.parent}: {broken_entry(folder)}")


def broken_entry(folder: Path) -> str | None:
    """The newest entry of a table's log that cannot be read, and what may be done; None where none is found.

    A commit whose entry is taken out is undone: what it held is made again by the command that had written it.
    """
    try:
        entries = sorted((folder / "_delta_log").glob("[0-9]*.json"), reverse=True)
    except OSError:
        return None
    for i, entry in enumerate(entries[:_LOOK_AT]):
        try:
            lines = entry.read_bytes().splitlines()
            if not lines:
                raise ValueError("it is empty")
            for line in lines:
                json.loads(line)
        except (OSError, ValueError) as error:
            way_out = "delete it, and run again what wrote it" if i == 0 else "put it back from a copy"
            return f"the entry {entry.name} of its log is broken ({error}); {way_out}"
    return None


def one_line(error: BaseException) -> str:
    """An error's text without line ends and the colours that the Delta library adds."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())[:300]
