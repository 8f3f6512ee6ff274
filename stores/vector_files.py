"""The files of one version of a vector index, whether they are whole, and FAISS itself.

    vectors-00000.f32  rows of length 1, little-endian float32; a file holds `block_rows` of them, the last one fewer
    ids-00000.arrow    their ids
    live.bits          a bit a row, the lowest first: 0 where it was removed or replaced
    hashes.u64         the hash of each live id, rising
    places.i64         the row that each hash stands for
    sample.npz         what the recall is measured with
    index.faiss        the FAISS index; none of the kind flat
    manifest.json      kind, model, table version, recall …, size and sha of every other file
    checked.json       the files that were found whole here, and by what each is known again

A file that does not change from one version to the next is the same file under two names (a hard link). FAISS's own
format is not safe to read from strangers: the shas find damage, not malice. An index that came with a store of unknown
origin is built anew; that takes only its tables. This module knows nothing of searching.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lore_mm.errors import MissingExtraError, StoreError
from lore_mm.fingerprint import sha_of, sha_of_file

__all__ = [
    "BLOCK_ROWS",
    "KINDS",
    "block_name",
    "check_files",
    "load_faiss",
    "map_array",
    "map_ids",
    "read_manifest",
    "share_file",
    "write_manifest",
]

BLOCK_ROWS = 524_288  # a change copies the last block, which at a width of 512 is up to 1 GiB
KINDS = ("flat", "hnsw", "ivfpq")
_FORMAT = "lore-mm vector index 2"
_METRIC = "cosine similarity"
_NEEDED = {"width", "n", "rows", "block_rows", "search", "recall_at_10", "hashed", "files"}


@cache
def load_faiss() -> Any:
    """The module faiss, imported when it is first needed.

    Raises:
        MissingExtraError: it is not installed.
    """
    told = os.environ.get("OMP_WAIT_POLICY")
    # Read by the OpenMP that comes with FAISS, at its import: threads that wait for one another by spinning take a
    # hundred times as long where another process has the core.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        with warnings.catch_warnings():
            # SWIG's generated types lack a module; nothing here or there depends on it.
            warnings.filterwarnings("ignore", "builtin type .* has no __module__ attribute", DeprecationWarning)
            import faiss
    except ModuleNotFoundError as error:
        if error.name != "faiss":
            raise
        raise MissingExtraError("faiss", "cpu") from None
    finally:
        if told is None:
            del os.environ["OMP_WAIT_POLICY"]
    return faiss


def block_name(kind: str, block: int) -> str:
    """The name of a block's file; `kind` is vectors or ids."""
    return f"{kind}-{block:05}.{'f32' if kind == 'vectors' else 'arrow'}"


def write_manifest(path: Path, manifest: Mapping[str, Any], shas: Mapping[str, str]) -> None:
    """Write the manifest of a draft, over all files in it; those whose sha is not in `shas` are read for it."""
    files = {
        file.name: {"bytes": file.stat().st_size, "sha256": shas.get(file.name) or sha_of_file(file)}
        for file in sorted(path.iterdir())
    }
    whole = {**manifest, "format": _FORMAT, "metric": _METRIC, "files": files}
    whole["sha256"] = sha_of(whole)
    (path / "manifest.json").write_text(json.dumps(whole, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    _note(path, {name: _mark(path / name, told) for name, told in files.items()})


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a version.

    Raises:
        StoreError: it is damaged, of an earlier version of lore-mm, or none at all.
        FileNotFoundError: there is none.
    """
    file = path / "manifest.json"
    try:
        manifest: Any = json.loads(file.read_text(encoding="utf-8"))
        told = manifest.get("format")
    except (ValueError, AttributeError):
        raise StoreError(f"{file} is damaged; build the index again with `lore embed`") from None
    if isinstance(told, str) and told.startswith("lore-mm vector index") and told != _FORMAT:
        raise StoreError(f"vector index {path} is of another version of lore-mm; `lore embed` builds it anew")
    if told != _FORMAT or manifest.get("metric") != _METRIC:
        raise StoreError(f"{file} is not the manifest of a vector index")
    sound = manifest.pop("sha256", None) == sha_of(manifest)
    if not (sound and manifest.get("kind") in KINDS and manifest.keys() >= _NEEDED):
        raise StoreError(f"{file} is damaged; build the index again with `lore embed`")
    return dict(manifest)


def check_files(path: Path, manifest: Mapping[str, Any], verify: bool = False) -> None:
    """Check the files of a version: the size of each, and the sha of those that were not found whole here before.

    A file is known again by inode, size and time of change, so that only the first opening of a copy reads every byte;
    where the folder cannot be written, each does. Damage that leaves all three as they were (a bit that fell over on
    the disk) is found with `verify`, which reads every byte.

    Raises:
        StoreError: one is damaged.
        FileNotFoundError: one is not there.
    """
    known = _noted(path)
    seen: dict[str, list[Any]] = {}
    for name, told in manifest["files"].items():
        file = path / name
        seen[name] = _mark(file, told)
        whole = file.stat().st_size == told["bytes"]
        if whole and (verify or known.get(name) != seen[name]):
            whole = sha_of_file(file) == told["sha256"]
        if not whole:
            raise StoreError(f"vector index {file} is damaged; build it again with `lore embed`")
    if seen != known:
        _note(path, seen)


def _mark(file: Path, told: Mapping[str, Any]) -> list[Any]:
    stat = file.stat()
    return [stat.st_ino, stat.st_size, stat.st_mtime_ns, told["sha256"]]


def _noted(path: Path) -> dict[str, Any]:
    try:
        noted = json.loads((path / "checked.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}


def _note(path: Path, seen: Mapping[str, list[Any]]) -> None:
    draft = path / f"tmp-checked-{uuid4().hex[:8]}"
    try:
        draft.write_text(json.dumps(seen), encoding="utf-8")
        os.replace(draft, path / "checked.json")
    except OSError:
        return  # a folder that may only be read: it is checked again next time


def share_file(source: Path, target: Path) -> None:
    """Give a file that will not change a second name; a copy where the file system knows no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def map_array(file: Path, dtype: str, width: int | None = None) -> NDArray[Any]:
    """The numbers in a file, memory-mapped, read-only; rows of `width` where that is given."""
    size = file.stat().st_size
    if size == 0:
        return np.empty((0,) if width is None else (0, width), dtype)
    with file.open("rb") as handle:
        mapped = mmap.mmap(handle.fileno(), size, access=mmap.ACCESS_READ)
    numbers = np.frombuffer(mapped, dtype)
    return numbers if width is None else numbers.reshape(-1, width)


def map_ids(file: Path) -> pa.Array[Any]:
    """The ids of a block, memory-mapped."""
    with pa.memory_map(str(file)) as source:
        return pa.ipc.open_file(source).get_batch(0).column(0)
