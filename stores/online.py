"""An online view: items ready to be judged, by id, and queries understood, by text, of one snapshot in LMDB.

A view never changes; the next one is made beside it (`stores.online_write`) and swapped in (`stores.swap`), while
readers of the old go on reading. It knows the tables and versions it was made from. It holds items with the merged
verdict on each, one entry an item, and understandings under the key of their query's text
(`stores.understood.query_key`); those that failed are left out, to be read anew by who asks. It does not know of
vectors, SQL or engines.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import lmdb
import msgspec

from lore_mm.errors import StoreError
from lore_mm.types import ItemFeatures, Understanding
from stores.changes import same_rows
from stores.features import FeatureStore
from stores.online_codec import collector_paused, features_from_bytes, key_of, understood_from_bytes
from stores.swap import current_version
from stores.understood import Understood, fitted, query_key

__all__ = ["DATABASES", "FORMAT", "SOURCES", "Manifest", "OnlineView", "TableAt", "open_online"]

SOURCES = ("items", "attributes")  # the tables that items are made from
FORMAT = "lore-mm online view 3"
DATABASES = ("items", "queries", "asked")  # asked: query id → the key under which its understanding stands
_BULK = 64  # ids from which on the collector rests
_AHEAD_BELOW = 1 << 32  # bytes; of a larger file the system shall not read pages that nobody asked for

_ONE = TypeVar("_ONE")

# one environment a file in a process, as LMDB wants it
_environments: WeakValueDictionary[str, lmdb.Environment] = WeakValueDictionary()
_opening = threading.Lock()


@dataclass(frozen=True, slots=True)
class TableAt:
    """A table at a version. `id`: what tells it from another that was made in its place."""

    version: int
    id: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a view says of itself, beside its data.

    Attributes:
        tables: those it was made from; `queries` (the log) only where it holds the head alone.
        items: its entries of items.
        queries: its entries of queries.
        head: of how many of the most frequent queries it holds the understandings; None for all.
        bytes: the size of its data file.
        made_at: in ISO 8601, UTC.
    """

    format: str
    tables: dict[str, TableAt]
    items: int
    queries: int
    head: int | None
    bytes: int
    made_at: str


def open_online(store: FeatureStore) -> OnlineView:
    """Open a store's current online view.

    Raises:
        StoreError: there is none, or it is damaged or foreign.
    """
    folder = store.beside() / "online"
    while True:
        version = current_version(folder)
        if version is None:
            raise StoreError(f"no online view at {folder}: make one with `lore online`")
        try:
            return OnlineView(folder / version)
        except StoreError:
            if current_version(folder) == version:
                raise  # else it was swapped, and removed, in between


class OnlineView:
    """An open view. Safe to use from several threads.

    Attributes:
        path: its folder.
        manifest: what it says of itself.
        versions: the versions of `items`, `attributes` and `demands` it was made from, of those that there were.
        queries: how many queries it knows.
        whole: whether those are all that are understood, and not the most frequent ones.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.manifest = path, _read_manifest(path)
        self.versions = {t: at.version for t, at in self.manifest.tables.items() if t in (*SOURCES, "demands")}
        self.queries, self.whole = self.manifest.queries, self.manifest.head is None
        try:
            self.environment = _open(path / "data.mdb")
            self._items, self._queries, _ = open_databases(self.environment)
        except lmdb.Error as error:
            raise StoreError(f"online view {path} cannot be read: {error}; run `lore online`") from None

    def __len__(self) -> int:
        return self.manifest.items

    def is_of(self, store: FeatureStore, versions: Mapping[str, int], tables: Sequence[str]) -> bool:
        """Whether these tables, at these versions, hold the rows it was made from."""
        return all(
            (t not in self.versions and t not in versions)
            or (
                t in self.versions
                and t in versions
                and self.manifest.tables[t].id == store.table_id(t)
                and same_rows(store, t, self.versions[t], versions[t])
            )
            for t in tables
        )

    def get(self, ids: Sequence[str]) -> list[ItemFeatures | None]:
        """What is known of these items, in their order; None for one that is not there or that failed.

        Of many ids, Python's collector of cyclic garbage rests in this process until they are decoded.

        Raises:
            StoreError: the view is damaged.
        """
        return self._read(self._items, ids, features_from_bytes)

    def understood(self, texts: Sequence[str]) -> list[Understanding | None]:
        """The stored understanding of each text, fitted to it; None where there is none that is ok."""
        return [None if one is None else one.understanding for one in self.served(texts)]

    def served(self, texts: Sequence[str]) -> list[Understood | None]:
        """As `understood`, with what made each, and when.

        Raises:
            StoreError: the view is damaged.
        """
        found = self._read(self._queries, [query_key(text) for text in texts], understood_from_bytes)
        return [None if one is None else fitted(one, text) for one, text in zip(found, texts, strict=True)]

    def _read(self, database: Any, keys: Sequence[str], decode: Callable[[bytes], _ONE]) -> list[_ONE | None]:
        """One get and one decoding a key, in one transaction; each entry is decoded while the processor holds it."""
        try:
            with collector_paused() if len(keys) > _BULK else nullcontext(), self.environment.begin() as transaction:
                get = transaction.get
                return [None if (data := get(key_of(key), None, database)) is None else decode(data) for key in keys]
        except lmdb.Error as error:
            raise StoreError(f"online view {self.path} is damaged: {error}; run `lore online --anew`") from None


def open_databases(environment: lmdb.Environment, create: bool = False) -> list[Any]:
    """The databases of a view's file, as in `DATABASES`."""
    return [environment.open_db(name.encode(), create=create) for name in DATABASES]


def _open(path: Path) -> lmdb.Environment:
    name = os.path.realpath(path)
    with _opening:
        environment = _environments.get(name)
        if environment is None:
            ahead = os.stat(name).st_size < _AHEAD_BELOW
            environment = lmdb.open(
                name, subdir=False, lock=False, readonly=True, create=False, max_dbs=len(DATABASES), readahead=ahead
            )
            _environments[name] = environment
        return environment


def _read_manifest(path: Path) -> Manifest:
    try:
        manifest = msgspec.json.decode((path / "manifest.json").read_bytes(), type=Manifest)
        if manifest.format == FORMAT and manifest.bytes == (path / "data.mdb").stat().st_size:
            return manifest
    except (OSError, msgspec.MsgspecError):
        pass
    raise StoreError(f"online view {path} is damaged or of another version; run `lore online`")
