"""An online view: items ready to be judged, by id, and queries understood, by text, of one snapshot in LMDB.

A view never changes; a new one is built beside it from the tables and swapped in (`stores.swap`), while readers of the
old go on reading. It knows the table versions it was made from. It holds items with the merged verdict on each, and
understandings under the key of their query's text (`stores.understood.query_key`); those that failed are left out, to
be read anew by who asks. It does not know of vectors, SQL or engines.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import lmdb
import pyarrow as pa
import pyarrow.compute as pc

from lore_mm.errors import StoreError
from lore_mm.rows import attribute_from_row, item_from_row
from lore_mm.types import Demand, ItemFeatures, Understanding
from stores.features import FeatureStore
from stores.swap import clean, current_version, new_draft, publish, settle
from stores.understood import Understood, fitted, newer, query_key, understood_from_row

__all__ = ["SOURCES", "OnlineView", "build_online", "features_from_rows", "open_online"]

SOURCES = ("items", "attributes")  # the tables that items are made from
MERGED = "merge"  # the extractor whose rows are the verdict over all others
_FORMAT = "lore-mm online view 2"
_BATCH = 1024
_FIRST_SIZE = 1 << 26  # bytes; doubled whenever it is full
_LONGEST_KEY = 500  # LMDB takes 511 bytes
_DATABASES = 3  # items, merged, queries

_AS_ALWAYS = {f.name: f.default if f.default != () else [] for f in fields(Demand) if f.default is not MISSING}

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


def build_online(
    store: FeatureStore, versions: Mapping[str, int] | None = None, queries: int | None = None
) -> OnlineView:
    """Build STORE/online from the newest rows at these versions (the present ones unless given), and open it.

    `queries`: only so many understandings, those of the most frequent queries of the log; all unless given. Memory is
    flat but for the keys. A build that dies leaves the view before in place.

    Raises:
        StoreError: the store holds no items, or its folder (`FeatureStore.beside`) cannot be written to.
    """
    present = versions if versions is not None else store.snapshot()
    made_from = {table: present[table] for table in (*SOURCES, "demands") if table in present}
    folder = store.beside() / "online"
    try:
        draft = new_draft(folder)
        head = None if queries is None else _most_frequent(store, present.get("queries"), queries)
        count, understood = _write(store, made_from, draft / "data.mdb", head)
        manifest = {
            "format": _FORMAT,
            "versions": made_from,
            "n": count,
            "queries": understood,
            "whole": queries is None,
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
    folder = store.beside() / "online"
    version = current_version(folder)
    if version is None:
        raise StoreError(f"no online view at {folder}")
    return OnlineView(folder / version)


class OnlineView:
    """An open view. Safe to use from several threads.

    Attributes:
        versions: the versions of `items`, `attributes` and `demands` it was made from, of those that there were.
        queries: how many queries it knows.
        whole: whether those are all that are understood, and not the most frequent ones.
    """

    def __init__(self, path: Path) -> None:
        manifest = _read_manifest(path)
        self.versions: dict[str, int] = dict(manifest["versions"])
        self._count, self.queries = int(manifest["n"]), int(manifest["queries"])
        self.whole = bool(manifest["whole"])
        try:
            self._environment = _open(path / "data.mdb")
            self._items = self._environment.open_db(b"items", create=False)
            self._merged = self._environment.open_db(b"merged", create=False)
            self._queries = self._environment.open_db(b"queries", create=False)
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

    def understood(self, texts: Sequence[str]) -> list[Understanding | None]:
        """The stored understanding of each text, fitted to it; None where there is none that is ok."""
        return [None if one is None else one.understanding for one in self.served(texts)]

    def served(self, texts: Sequence[str]) -> list[Understood | None]:
        """As `understood`, with what made each, and when."""
        found: list[Understood | None] = []
        with self._environment.begin(buffers=True) as transaction:
            for text in texts:
                row = transaction.get(_key(query_key(text)), db=self._queries)
                found.append(None if row is None else fitted(understood_from_row(_loads(row)), text))
        return found


def _write(store: FeatureStore, versions: Mapping[str, int], path: Path, head: pa.Array[Any] | None) -> tuple[int, int]:
    """Fill a new file; returns how many items and how many queries it holds."""
    environment = lmdb.open(
        str(path), subdir=False, lock=False, max_dbs=_DATABASES, map_size=_FIRST_SIZE, sync=False, metasync=False
    )
    try:
        tables = {"items": b"items", "attributes": b"merged", "demands": b"queries"}
        databases = {table: environment.open_db(name) for table, name in tables.items()}
        for table, version in versions.items():
            for batch in store.batches(table, version=version, rows=_BATCH, latest=True):
                if table == "demands":
                    _put(environment, databases[table], _understandings(batch, head), _newest)
                else:
                    _put(environment, databases[table], [_entry(row) for row in _rows(batch, table)])
        environment.sync(True)
        with environment.begin() as transaction:
            items, queries = (int(transaction.stat(databases[t])["entries"]) for t in ("items", "demands"))
            return items, queries
    finally:
        environment.close()


def _most_frequent(store: FeatureStore, version: int | None, n: int) -> pa.Array[Any]:
    """The ids of the n most frequent queries of the log; one whose frequency is not known counts as asked never."""
    if version is None:
        raise StoreError(f"no query log in {store.uri}, so that none of its queries is more frequent than another")
    log = store.latest("queries", version).select("query_id", "frequency").collect()
    ordered = log.sort("frequency", descending=True, nulls_last=True, maintain_order=True)
    return pa.array(ordered["query_id"].head(n).to_list(), pa.string())


def _rows(batch: pa.RecordBatch, table: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = batch.to_pylist()
    return rows if table == "items" else [row for row in rows if row["extractor"] == MERGED]


def _understandings(batch: pa.RecordBatch, head: pa.Array[Any] | None) -> list[tuple[bytes, bytes]]:
    good = batch.filter(pc.equal(batch.column("status"), pa.scalar("ok")))
    if head is not None:
        good = good.filter(pc.is_in(good.column("query_id"), head))
    return [(_key(query_key(row["query"])), _dumps(_said(row))) for row in good.to_pylist()]


def _said(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of DEMANDS without what is empty or as always, which `understood_from_row` fills in again."""
    provenance = {k: str(v) for k, v in (row["provenance"] or {}).items() if v}
    demands = [
        {k: v for k, v in d.items() if k not in _AS_ALWAYS or v not in (_AS_ALWAYS[k], [])}
        for d in row["demands"] or ()
    ]
    return {k: v for k, v in row.items() if v not in (None, [])} | {"demands": demands, "provenance": provenance}


def _newest(old: memoryview, new: bytes) -> bool:
    """Whether the new one of two understandings of the same key is to stand."""
    before, after = understood_from_row(_loads(old)), understood_from_row(_loads(memoryview(new)))
    return newer(before, after) is after


def _entry(row: Mapping[str, Any]) -> tuple[bytes, bytes]:
    provenance = {"input_sha": (row.get("provenance") or {}).get("input_sha")}
    return _key(row["item_id"]), _dumps({**row, "provenance": provenance})


def _put(
    environment: lmdb.Environment,
    database: Any,
    entries: Sequence[tuple[bytes, bytes]],
    replaces: Callable[[memoryview, bytes], bool] | None = None,
) -> None:
    """Put entries in one transaction; where a key is there already, only those that `replaces` (old, new) lets."""
    while True:
        try:
            with environment.begin(write=True, buffers=True) as transaction:
                for key, value in entries:
                    old = None if replaces is None else transaction.get(key, db=database)
                    if old is None or replaces is None or replaces(old, value):
                        transaction.put(key, value, db=database)
            return
        except lmdb.MapFullError:
            environment.set_mapsize(2 * environment.info()["map_size"])


def _key(text: str) -> bytes:
    key = text.encode("utf-8", "surrogatepass")
    if len(key) <= _LONGEST_KEY:
        return b"=" + key
    return b"#" + hashlib.sha256(key).digest()


def _dumps(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _loads(data: memoryview) -> dict[str, Any]:
    row: dict[str, Any] = json.loads(str(data, "utf-8", "surrogatepass"))
    return row


def _open(path: Path) -> lmdb.Environment:
    name = os.path.realpath(path)
    with _opening:
        environment = _environments.get(name)
        if environment is None:
            environment = lmdb.open(name, subdir=False, lock=False, readonly=True, create=False, max_dbs=_DATABASES)
            _environments[name] = environment
        return environment


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        whole = manifest["format"] == _FORMAT and manifest["bytes"] == (path / "data.mdb").stat().st_size
        if (
            whole
            and set(manifest["versions"]) <= {*SOURCES, "demands"}
            and min(manifest["n"], manifest["queries"]) >= 0
        ):
            return manifest
    except (OSError, ValueError, TypeError, KeyError):
        pass
    raise StoreError(f"online view {path} is damaged or of another version; build it again")
