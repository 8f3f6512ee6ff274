"""The files of a vector index: written aside, flushed, named, and only then pointed at.

    FOLDER/current            the name of the version that readers open; replaced atomically, last
    FOLDER/v-…/index.faiss    the index; row i belongs to id i
    FOLDER/v-…/ids.arrow      the ids; null where the row was removed or replaced
    FOLDER/v-…/manifest.json  model, width, n, kind, recall, table version …, sizes and shas of the two files

A build that dies leaves the old version in place. FAISS's own format is not safe to read from strangers: the shas find
damage, not malice. Build an index that came with a store of unknown origin anew; it takes only its tables.

This module knows nothing of searching.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa

from lore_mm.errors import MissingExtraError, StoreError
from lore_mm.fingerprint import sha_of_file

__all__ = ["FORMAT", "METRIC", "clean", "current_version", "load_faiss", "publish", "read_manifest", "write_version"]

FORMAT = "lore-mm vector index 1"
METRIC = "cosine similarity"
_VERSION = re.compile(r"v-[0-9TZ]+-[0-9a-f]{8}")


@cache
def load_faiss() -> Any:
    """The module faiss, imported when it is first needed.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            # SWIG's generated types lack a module; nothing here or there depends on it.
            warnings.filterwarnings("ignore", "builtin type .* has no __module__ attribute", DeprecationWarning)
            import faiss
    except ModuleNotFoundError as error:
        if error.name != "faiss":
            raise
        raise MissingExtraError("faiss", "cpu") from None
    return faiss


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of one version.

    Raises:
        StoreError: it is not one, or of another format.
        FileNotFoundError: there is none.
    """
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        complete = (
            manifest["format"] == FORMAT
            and manifest["metric"] == METRIC
            and manifest["kind"] in ("flat", "hnsw", "ivf")
            and {"width", "n", "search"} <= manifest.keys()
            and set(manifest["files"]) == {"index.faiss", "ids.arrow"}
        )
    except (ValueError, TypeError, KeyError):
        complete = False
    if not complete:
        raise StoreError(f"{path / 'manifest.json'} is not the manifest of a vector index of this version")
    return dict(manifest)


def current_version(folder: Path) -> str:
    """The name of the version that readers open.

    Raises:
        StoreError: there is no index, or the pointer is not one of ours.
    """
    try:
        version = (folder / "current").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise StoreError(f"no vector index at {folder}: make one with `lore embed`") from None
    if not _VERSION.fullmatch(version):
        raise StoreError(f"{folder / 'current'} does not name a version of a vector index")
    return version


def write_version(folder: Path, index: Any, ids: Sequence[str | None], manifest: Mapping[str, Any]) -> str:
    """Write all files of a new version under its final name; readers do not see it yet."""
    version = f"v-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}-{uuid4().hex[:8]}"
    draft = folder / f"tmp-{version}"
    draft.mkdir(parents=True)
    load_faiss().write_index(index, str(draft / "index.faiss"))
    table = pa.table({"item_id": pa.array(ids, pa.string())})
    with pa.OSFile(str(draft / "ids.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    files = {
        name: {"bytes": (draft / name).stat().st_size, "sha256": sha_of_file(draft / name)}
        for name in ("index.faiss", "ids.arrow")
    }
    text = json.dumps({**manifest, "files": files}, ensure_ascii=False, indent=1)
    (draft / "manifest.json").write_text(text + "\n", encoding="utf-8")
    for file in draft.iterdir():
        _flush(file)
    draft.rename(folder / version)
    _flush(folder)
    return version


def publish(folder: Path, version: str) -> None:
    """Point readers at a version; atomic."""
    pointer = folder / f"tmp-current-{uuid4().hex[:8]}"
    pointer.write_text(version + "\n", encoding="utf-8")
    _flush(pointer)
    os.replace(pointer, folder / "current")
    _flush(folder)


def clean(folder: Path, version: str) -> None:
    """Drop versions before the last two, and what builds that died a day ago left. Open readers keep their pages."""
    versions = sorted(p.name for p in folder.iterdir() if _VERSION.fullmatch(p.name) and p.name <= version)
    for name in versions[:-2]:
        shutil.rmtree(folder / name, ignore_errors=True)
    for path in folder.glob("tmp-*"):
        try:
            if time.time() - path.stat().st_mtime > 86_400:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        except OSError:
            continue  # another build was faster


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
