"""Folders that are replaced whole: written aside, flushed, named, and only then pointed at.

    FOLDER/current   the name of the version that readers open; replaced atomically, last
    FOLDER/v-…/      a version; never changed once it is named
    FOLDER/tmp-…/    one that is being written

A writer that dies leaves the version before in place. It does not know what the files are.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from lore_mm.errors import StoreError

__all__ = ["clean", "current_version", "new_draft", "publish", "settle"]

_VERSION = re.compile(r"v-[0-9TZ]+-[0-9a-f]{8}")


def current_version(folder: Path) -> str | None:
    """The name of the version that readers open; None where there is none.

    Raises:
        StoreError: the pointer is not one of ours.
    """
    try:
        version = (folder / "current").read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        version = ""
    except OSError:
        return None
    if not _VERSION.fullmatch(version):
        raise StoreError(f"{folder / 'current'} does not name a version")
    return version


def new_draft(folder: Path) -> Path:
    """A new folder to write a version in; readers do not see it."""
    draft = folder / f"tmp-v-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}-{uuid4().hex[:8]}"
    draft.mkdir(parents=True)
    return draft


def settle(draft: Path) -> str:
    """Flush a draft's files and give it its final name, which is returned; readers still see the one before."""
    for file in draft.iterdir():
        _flush(file)
    version = draft.name.removeprefix("tmp-")
    draft.rename(draft.parent / version)
    _flush(draft.parent)
    return version


def publish(folder: Path, version: str) -> None:
    """Point readers at a version; atomic."""
    pointer = folder / f"tmp-current-{uuid4().hex[:8]}"
    pointer.write_text(version + "\n", encoding="utf-8")
    _flush(pointer)
    os.replace(pointer, folder / "current")
    _flush(folder)


def clean(folder: Path, version: str) -> None:
    """Drop versions older than the one before this, and what writers that died a day ago left.

    Open readers keep their pages: a file that is mapped lives on until it is closed.
    """
    versions = sorted(p.name for p in folder.iterdir() if _VERSION.fullmatch(p.name) and p.name <= version)
    for name in versions[:-2]:
        shutil.rmtree(folder / name, ignore_errors=True)
    for path in folder.glob("tmp-*"):
        try:
            if time.time() - path.stat().st_mtime > 86_400:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        except OSError:
            continue  # another writer was faster


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
