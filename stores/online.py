"""An online view: the items of one snapshot in LMDB, ready to be judged, found by id in microseconds.

A view never changes; a new one is built beside it from the tables and swapped in (`stores.swap`), while readers of the
old go on reading. It knows the table versions it was made from. It holds items and the merged verdict on each, nothing
else, and does not know of vectors or SQL.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import lmdb
import pyarrow as pa

from lore_mm.errors import StoreError
from lore_mm.rows import attribute_from_row, item_from_row
from lore_mm.types import ItemFeatures
from stores.features import FeatureStore
from stores.swap import clean, current_version, new_draft, publish, settle

__all__ = ["SOURCES", "OnlineView", "build_online", "features_from_rows", "open_online"]

SOURCES = ("items", "attributes")  # the tables a view is made from
MERGED = "merge"  # the extractor whose rows are the verdict over all others
_FORMAT = "lore-mm online view 1"
_BATCH = 1024
_FIRST_SIZE = 1 << 26  # bytes; doubled whenever it is full
_LONGEST_KEY = 500  # LMDB takes 511 bytes

# LMDB forbids opening one file twice in a process
_environments: WeakValueDictionary[str, lmdb.Environment] = WeakValueDictionary()
_opening = threading.Lock()


def features_from_rows(item: Mapping[str, Any], merged: Mapping[str, Any] | None) -> ItemFeatures | None:
    """What a judge sees, from a row of ITEMS and the item's row of ATTRIBUTES by `merge`; None where the item failed.

    `input_sha` is that of what was extracted from (pictures and text), and where nothing was, that of the seller's row.
    """
    if item["status"] != "ok":
        return None
    source = merged or item
    return ItemFeatures(
        item=item_from_row(item),
        attributes=tuple(attribute_from_row(row) for row in (merged or {}).get("attributes") or ()),
        input_sha=(source.get("provenance") or {}).get("input_sha") or "",
    )


def build_online(store: FeatureStore, versions: Mapping[str, int] | None = None) -> OnlineView:
    """Build STORE/online from the newest rows at these versions (the present ones unless given), and open it.

    Memory is flat but for the keys. A build that dies leaves the view before in place.

    Raises:
        StoreError: the store is not a local folder, holds no items, or cannot be written to.
    """
    if store.folder is None:
        raise StoreError(f"an online view needs a store in a local folder, not {store.uri}")
    present = versions if versions is not None else store.snapshot()
    made_from = {table: present[table] for table in SOURCES if table in present}
    folder = store.folder / "online"
    try:
        draft = new_draft(folder)
        count = _write(store, made_from, draft / "data.mdb")
        manifest = {
            "format": _FORMAT,
            "versions": made_from,
            "n": count,
            "bytes": (draft / "data.mdb").stat().st_size,
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        (draft / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        version = settle(draft)
        publish(folder, version)
    except (OSError, lmdb.Error) as error:
        raise StoreError(f"cannot write the online view {folder}: {error}") from None
    clean(folder, version)
    return open_online(store)


def open_online(store: FeatureStore) -> OnlineView:
    """Open a store's current online view.

    Raises:
        StoreError: there is none, or it is damaged or foreign.
    """
    if store.folder is None:
        raise StoreError(f"an online view needs a store in a local folder, not {store.uri}")
    folder = store.folder / "online"
    version = current_version(folder)
    if version is None:
        raise StoreError(f"no online view at {folder}")
    return OnlineView(folder / version)


class OnlineView:
    """An open view. Safe to use from several threads.

    Attributes:
        versions: the versions of `items` and `attributes` it was made from.
    """

    def __init__(self, path: Path) -> None:
        manifest = _read_manifest(path)
        self.versions: dict[str, int] = dict(manifest["versions"])
        self._count = int(manifest["n"])
        try:
            self._environment = _open(path / "data.mdb")
            self._items = self._environment.open_db(b"items", create=False)
            self._merged = self._environment.open_db(b"merged", create=False)
        except lmdb.Error as error:
            raise StoreError(f"online view {path} cannot be read: {error}; build it again") from None

    def __len__(self) -> int:
        return self._count

    def get(self, ids: Sequence[str]) -> list[ItemFeatures | None]:
        """What is known of these items, in their order; None for one that is not there or that failed."""
        found: list[ItemFeatures | None] = []
        with self._environment.begin(buffers=True) as transaction:
            for item_id in ids:
                key = _key(item_id)
                row = transaction.get(key, db=self._items)
                if row is None:
                    found.append(None)
                    continue
                merged = transaction.get(key, db=self._merged)
                found.append(features_from_rows(_loads(row), None if merged is None else _loads(merged)))
        return found


def _write(store: FeatureStore, versions: Mapping[str, int], path: Path) -> int:
    environment = lmdb.open(
        str(path), subdir=False, lock=False, max_dbs=2, map_size=_FIRST_SIZE, sync=False, metasync=False
    )
    try:
        databases = {
            table: environment.open_db(name) for table, name in zip(SOURCES, (b"items", b"merged"), strict=True)
        }
        for table, version in versions.items():
            for batch in store.batches(table, version=version, rows=_BATCH, latest=True):
                _put(environment, databases[table], [_entry(row) for row in _rows(batch, table)])
        environment.sync(True)
        with environment.begin() as transaction:
            return int(transaction.stat(databases["items"])["entries"])
    finally:
        environment.close()


def _rows(batch: pa.RecordBatch, table: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = batch.to_pylist()
    return rows if table == "items" else [row for row in rows if row["extractor"] == MERGED]


def _entry(row: Mapping[str, Any]) -> tuple[bytes, bytes]:
    provenance = {"input_sha": (row.get("provenance") or {}).get("input_sha")}
    value = json.dumps({**row, "provenance": provenance}, ensure_ascii=False, separators=(",", ":"))
    return _key(row["item_id"]), value.encode("utf-8", "surrogatepass")


def _put(environment: lmdb.Environment, database: Any, entries: Sequence[tuple[bytes, bytes]]) -> None:
    while True:
        try:
            with environment.begin(write=True) as transaction:
                for key, value in entries:
                    transaction.put(key, value, db=database)
            return
        except lmdb.MapFullError:
            environment.set_mapsize(2 * environment.info()["map_size"])


def _key(item_id: str) -> bytes:
    key = item_id.encode("utf-8", "surrogatepass")
    if len(key) <= _LONGEST_KEY:
        return b"=" + key
    return b"#" + hashlib.sha256(key).digest()


def _loads(data: memoryview) -> dict[str, Any]:
    row: dict[str, Any] = json.loads(str(data, "utf-8", "surrogatepass"))
    return row


def _open(path: Path) -> lmdb.Environment:
    name = os.path.realpath(path)
    with _opening:
        environment = _environments.get(name)
        if environment is None:
            environment = lmdb.open(name, subdir=False, lock=False, readonly=True, create=False, max_dbs=2)
            _environments[name] = environment
        return environment


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        whole = manifest["format"] == _FORMAT and manifest["bytes"] == (path / "data.mdb").stat().st_size
        if whole and set(manifest["versions"]) <= set(SOURCES) and int(manifest["n"]) >= 0:
            return manifest
    except (OSError, ValueError, TypeError, KeyError):
        pass
    raise StoreError(f"online view {path} is damaged or of another version; build it again")
