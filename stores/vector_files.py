"""The files of one version of a vector index, and FAISS itself.

    index.faiss    the index; row i belongs to id i
    ids.arrow      the ids; null where the row was removed or replaced
    manifest.json  model, width, n, kind, recall, table version …, sizes and shas of the two files

FAISS's own format is not safe to read from strangers: the shas find damage, not malice. An index that came with a
store of unknown origin is built anew; that takes only its tables. This module knows nothing of searching.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from lore_mm.errors import MissingExtraError, StoreError
from lore_mm.fingerprint import sha_of_file

__all__ = ["load_faiss", "read_version", "write_version"]

_FORMAT = "lore-mm vector index 1"
_METRIC = "cosine similarity"
_FILES = ("index.faiss", "ids.arrow")


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


def write_version(path: Path, index: Any, ids: Sequence[str | None], manifest: Mapping[str, Any]) -> None:
    """Write all files of a version into an empty folder."""
    load_faiss().write_index(index, str(path / "index.faiss"))
    table = pa.table({"item_id": pa.array(ids, pa.string())})
    with pa.OSFile(str(path / "ids.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    files = {name: {"bytes": (path / name).stat().st_size, "sha256": sha_of_file(path / name)} for name in _FILES}
    whole = {**manifest, "format": _FORMAT, "metric": _METRIC, "files": files}
    (path / "manifest.json").write_text(json.dumps(whole, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def read_version(path: Path) -> tuple[Any, list[str | None], dict[str, Any]]:
    """Index (memory-mapped), ids and manifest of a version.

    Raises:
        StoreError: it is damaged or foreign.
        FileNotFoundError: one of its files is not there.
    """
    manifest = _read_manifest(path)
    for name, known in manifest["files"].items():
        file = path / name
        if file.stat().st_size != known["bytes"] or sha_of_file(file) != known["sha256"]:
            raise StoreError(f"vector index {file} is damaged; build it again with `lore embed`")
    faiss = load_faiss()
    try:
        index = faiss.read_index(str(path / "index.faiss"), faiss.IO_FLAG_MMAP_IFC)
        with pa.memory_map(str(path / "ids.arrow")) as source:
            ids = pa.ipc.open_file(source).read_all().column("item_id").to_pylist()
    except (RuntimeError, pa.ArrowException, KeyError) as error:
        raise StoreError(f"vector index {path} cannot be read: {' '.join(str(error).split())[:200]}") from None
    live = sum(i is not None for i in ids)
    facts = (index.d, index.ntotal, live, index.metric_type)
    if facts != (manifest["width"], len(ids), manifest["n"], faiss.METRIC_INNER_PRODUCT):
        raise StoreError(f"vector index {path}: index, ids and manifest do not belong together; build it again")
    return index, ids, manifest


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        complete = (
            manifest["format"] == _FORMAT
            and manifest["metric"] == _METRIC
            and manifest["kind"] in ("flat", "hnsw", "ivf")
            and {"width", "n", "search"} <= manifest.keys()
            and set(manifest["files"]) == set(_FILES)
        )
    except (ValueError, TypeError, KeyError):
        complete = False
    if not complete:
        raise StoreError(f"{path / 'manifest.json'} is not the manifest of a vector index of this version")
    return dict(manifest)
