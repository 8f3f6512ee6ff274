"""The vector index over a store's items, kept in step with the table EMBEDDINGS.

A change since the last time is looked up in the table's log, and only what it touched is read and put into the index.
It is built anew where there is none that can be used, where another model or kind is due, where a quarter of it
changed, or where the log cannot tell. Which vector stands for an item is the affair of `stores.item_vectors`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Protocol

import pyarrow as pa

from lore_mm.console import say
from lore_mm.errors import InputError, StoreError
from stores.features import FeatureStore
from stores.item_vectors import all_vectors, touched_items, vectors_of
from stores.vector_build import build_from, update_index
from stores.vector_kinds import Kind, choose_kind, code_bytes
from stores.vector_recall import RECALL_GOAL
from stores.vectors import VectorIndex, open_index

__all__ = ["INDEX", "IndexedModel", "build_item_index", "parse_memory"]

INDEX = "items"  # STORE/vectors/items
_MOSTLY = 0.25  # of the items touched, and the index is built anew
_UNITS = {"": 1, "K": 1_000, "M": 10**6, "G": 10**9, "T": 10**12}


class IndexedModel(Protocol):
    """What an index has to know of an embedder."""

    @property
    def name(self) -> str:
        """The model."""

    @property
    def sha(self) -> str:
        """Of its weights."""

    @property
    def width(self) -> int:
        """Of its vectors."""


def parse_memory(text: str) -> int:
    """Bytes, from a size such as 8GB, 500 MB or 2000000.

    Raises:
        InputError: it is none.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)B?\s*", text, re.IGNORECASE)
    if not found or not (size := int(float(found[1]) * _UNITS[found[2].upper()])):
        raise InputError(f"{text!r} is no amount of memory: write one such as 8GB or 500MB")
    return size


def build_item_index(
    store: FeatureStore, embedder: IndexedModel, kind: Kind | None = None, memory_bytes: int | None = None
) -> bool:
    """Bring STORE/vectors/items in step with the newest embeddings of this model; False where it is.

    `kind` and `memory_bytes` as in `stores.vector_build.build_from`. Every byte of the index that stands is checked
    first. Memory: what the kind takes (`stores.vector_kinds`), and 48 bytes a row of the table.

    Raises:
        StoreError: the store holds no embeddings.
    """
    version = store.version("embeddings")
    if version is None:
        raise StoreError(f"no embeddings in {store.uri} yet: run `lore embed`")
    folder = store.beside() / "vectors" / INDEX
    manifest = {
        "model": embedder.name,
        "model_sha": embedder.sha,
        "width": embedder.width,
        "table": "embeddings",
        "table_id": store.table_id("embeddings"),
        "table_version": version,
    }
    standing = _standing(folder, manifest)
    if standing and standing.manifest["table_version"] == version and _fits(standing, kind, memory_bytes):
        return False
    seen = _Seen()
    touched = _touched(store, standing, manifest) if standing else None
    if standing is None or touched is None or len(touched) > _MOSTLY * len(standing):
        batches = all_vectors(store, version, embedder.name, embedder.width)
        index = build_from(
            seen.counted(batches), folder, width=embedder.width, manifest=manifest, kind=kind,
            memory_budget_bytes=memory_bytes,
        )  # fmt: skip
        did = "built"
    else:
        batches = vectors_of(store, version, embedder.name, embedder.width, touched)
        changed = update_index(
            standing, seen.counted(batches), touched, manifest=manifest, kind=kind, memory_budget_bytes=memory_bytes
        )
        index = changed.index
        did = f"{changed.added:,} added, {changed.replaced:,} replaced, {changed.removed:,} removed"
    _tell(index, did, seen.bad)
    return True


class _Seen:
    """Batches on their way, and how many rows of them were of no use."""

    bad = 0

    def counted(self, batches: Iterator[tuple[Any, Any, int]]) -> Iterator[tuple[Any, Any]]:
        for ids, vectors, bad in batches:
            self.bad += bad
            yield ids, vectors


def _standing(folder: Any, manifest: dict[str, Any]) -> VectorIndex | None:
    """The index that stands, where it is one of the same model and table; None where it cannot be used."""
    try:
        standing = open_index(folder, verify=True)
    except StoreError as error:
        if (folder / "current").exists():
            say(f"building the index anew: {error}")
        return None
    same = ("model", "model_sha", "width", "table", "table_id")
    return standing if all(standing.manifest.get(name) == manifest[name] for name in same) else None


def _fits(standing: VectorIndex, kind: Kind | None, memory_bytes: int | None) -> bool:
    due = kind or choose_kind(len(standing), standing.width, memory_bytes)
    code = code_bytes(len(standing), standing.width, memory_bytes) if due == "ivfpq" else 0
    return not len(standing) or (due, code) == (standing.manifest["kind"], standing.manifest["code_bytes"])


def _touched(store: FeatureStore, standing: VectorIndex, manifest: dict[str, Any]) -> pa.Array[Any] | None:
    old, new = int(standing.manifest["table_version"]), int(manifest["table_version"])
    if old == new:
        return pa.array([], pa.string())
    return touched_items(store, old, new, manifest["model"]) if old < new else None


def _tell(index: VectorIndex, did: str, bad: int) -> None:
    told = index.manifest
    if bad:
        say(f"left out because of another width, NaN or infinity: the vectors of {bad:,} rows")
    how = "exact" if told["kind"] == "flat" else f"recall at 10: {told['recall_at_10']}"
    widely = "".join(f", {name} {value}" for name, value in told["search"].items())
    say(f"index {INDEX}: {did}; {len(index):,} items, {told['kind']}{widely}, {how}")
    if told["recall_at_10"] < RECALL_GOAL:
        say(
            f"the recall is below {RECALL_GOAL}: more memory (--index-memory) or another kind (--index-kind) finds more"
        )
