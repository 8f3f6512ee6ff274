"""Folders for what does not fit into memory while a statement runs: one for each connection, gone with it.

A folder is locked as long as its process lives; what a killed one has left is removed by the next that makes one.
This module knows nothing of what is written there.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path

__all__ = ["spill_folder"]

_BEGINNING = "lore-query-"
_LOCK = "in-use"


def spill_folder(owner: object) -> Path:
    """A new folder in the system's temporary one (TMPDIR), removed when `owner` is gone or the process ends."""
    place = Path(tempfile.gettempdir())
    for left in place.glob(f"{_BEGINNING}*"):
        if (held := _hold(left)) is not None:
            shutil.rmtree(left, ignore_errors=True)
            os.close(held)
    folder = Path(tempfile.mkdtemp(prefix=_BEGINNING))
    weakref.finalize(owner, _remove, folder, _hold(folder, create=True))
    return folder


def _hold(folder: Path, create: bool = False) -> int | None:
    """Lock a folder for this process; None where another has it, or it is none of this user's."""
    try:
        import fcntl
    except ImportError:  # Windows: nothing is swept there
        return None
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR | (os.O_CREAT if create else 0), 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def _remove(folder: Path, lock: int | None) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if lock is not None:
        with suppress(OSError):
            os.close(lock)
