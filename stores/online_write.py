"""Making an online view: anew from the tables, or from the view before and what commits since then touched.

Either way a file of its own is written, compared with the tables (`stores.online_check`), flushed, and only then
swapped in; a writer that dies leaves the view before in place.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import lmdb
import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from lore_mm.errors import StoreError
from lore_mm.tables import KEYS, TABLES
from stores.changes import touched_keys
from stores.features import FeatureStore
from stores.online import DATABASES, FORMAT, SOURCES, Manifest, OnlineView, TableAt, open_databases, open_online
from stores.online_check import sampled_differences
from stores.online_codec import key_of, understood_from_bytes
from stores.online_entries import MERGED, OnlineSource, most_frequent
from stores.swap import clean, new_draft, publish, settle
from stores.understood import query_key

__all__ = ["Made", "build_online", "refresh_online"]

_BATCH = 1024  # entries in one transaction
_FIRST_SIZE = 1 << 26  # bytes; doubled whenever it is full
_FEW = 1_000  # touched keys that are never too many
_MANY = 0.3  # share of a view's entries from which on a refresh is no quicker than a new one
_TABLES = (*SOURCES, "demands")

_Change = tuple[str, bytes, bytes | None]  # database, key, and the entry, None for none


class _AnewError(Exception):
    """Why the view before is of no use."""


class _DiffersError(Exception):
    """What was written is not what the tables say."""


@dataclass(frozen=True, slots=True)
class Made:
    """A view just made, and how.

    Attributes:
        view: opened.
        put: entries written, by database (`items`, `queries`), new ones and other ones than before.
        deleted: entries taken away.
        anew: why it was built from nothing; None where it was refreshed.
        unchanged: whether the view before is of these very versions, and stays.
    """

    view: OnlineView
    put: Mapping[str, int]
    deleted: Mapping[str, int]
    anew: str | None
    unchanged: bool = False


def build_online(
    store: FeatureStore, versions: Mapping[str, int] | None = None, queries: int | None = None
) -> OnlineView:
    """Build STORE/online anew from the newest rows at these versions (the present ones unless given), and open it.

    `queries`: only so many understandings, those of the most frequent queries of the log; all unless given. Memory is
    flat but for the keys.

    Raises:
        StoreError: the tables cannot be read; the folder (`FeatureStore.beside`) cannot be written to; or what was
            written differs from the tables, and is not swapped in.
    """
    return refresh_online(store, versions, queries, anew=True).view


def refresh_online(
    store: FeatureStore,
    versions: Mapping[str, int] | None = None,
    queries: int | None = None,
    anew: bool = False,
) -> Made:
    """Make STORE/online one of these versions: the view before, with what was touched since written to it.

    It is built anew where that is asked for, where there is no view that can be used, its tables are not the same ones,
    the commits between cannot be told any more, or they touched more than three in ten entries.

    Raises:
        StoreError: as in `build_online`.
    """
    making = _Making(store, versions, queries)
    if anew:
        return making.anew("it was asked for")
    try:
        return making.refreshed()
    except _AnewError as why:
        return making.anew(str(why))


class _Making:
    """One view being made, at versions that do not change meanwhile."""

    def __init__(self, store: FeatureStore, versions: Mapping[str, int] | None, queries: int | None) -> None:
        present = versions if versions is not None else store.snapshot()
        tables = _TABLES if queries is None else (*_TABLES, "queries")
        self.tables = {t: TableAt(present[t], store.table_id(t) or "") for t in tables if t in present}
        self.versions = {t: present[t] for t in _TABLES if t in present}
        self.head = None if queries is None else most_frequent(store, present.get("queries"), queries)
        self.store, self.queries = store, queries
        self.folder = store.beside() / "online"

    def anew(self, why: str) -> Made:
        with self._drafted() as draft:
            source = OnlineSource(self.store, self.versions, self.head, draft / "spill")
            with _File(draft / "data.mdb") as file:
                file.write(_everything(source), in_order=True)
            try:
                return self._published(draft, source, file, why)
            except _DiffersError as error:
                raise StoreError(f"the new online view differs from the tables, and is not used: {error}") from None

    def refreshed(self) -> Made:
        try:
            before = open_online(self.store)
        except StoreError as error:
            raise _AnewError(str(error).split(":")[0].split(";")[0]) from None
        touched = self._touched(before)
        if before.manifest.tables == self.tables and before.manifest.head == self.queries:
            return Made(before, {}, {}, None, unchanged=True)
        with self._drafted() as draft:
            _copy(before.path / "data.mdb", draft / "data.mdb")
            source = OnlineSource(self.store, self.versions, self.head, draft / "spill")
            try:
                with _File(draft / "data.mdb") as file:
                    if len(touched["items"]):
                        file.write(("items", key, value) for key, value in source.features(touched["items"]))
                    self._refresh_queries(source, file, touched["demands"])
                return self._published(draft, source, file, None)
            except lmdb.DiskError:
                raise  # full, whatever is written
            except (lmdb.Error, StoreError, _DiffersError) as error:
                raise _AnewError(f"the view before is damaged: {error}") from None

    # --- what was touched ---

    def _touched(self, before: OnlineView) -> dict[str, pa.Array[Any]]:
        """The ids of the items, and of the queries, whose entries are to be made again."""
        if (before.manifest.head is None) != (self.queries is None):
            raise _AnewError("the view before is of other queries: all of them, or the most frequent ones")
        found = {table: self._touched_keys(before, table) for table in _TABLES}
        verdicts = found["attributes"].filter(pc.equal(found["attributes"]["extractor"], pa.scalar(MERGED)))
        touched = {
            "items": _distinct(found["items"]["item_id"], verdicts["item_id"]),
            "demands": _distinct(found["demands"]["query_id"]),
        }
        for kind, n in (("items", before.manifest.items), ("demands", before.manifest.queries)):
            if len(touched[kind]) > max(_FEW, _MANY * n):
                raise _AnewError(f"{len(touched[kind])} {kind} were written since, and the view before holds {n}")
        return touched

    def _touched_keys(self, before: OnlineView, table: str) -> pa.Table:
        old, new = before.manifest.tables.get(table), self.tables.get(table)
        if new is None:
            if old is not None:
                raise _AnewError(f"table {table} is gone")
            return pa.schema([TABLES[table].field(key) for key in KEYS[table]]).empty_table()
        if old is not None and old.id != new.id:
            raise _AnewError(f"table {table} was made anew")
        if old is not None and old.version > new.version:
            raise _AnewError(f"the view before is of {table} {old.version}, later than {new.version}")
        keys = touched_keys(self.store, table, -1 if old is None else old.version, new.version)
        if keys is None:
            since = "the beginning" if old is None else f"version {old.version}"
            raise _AnewError(f"what was written to {table} from {since} to version {new.version} cannot be told")
        return keys

    # --- queries ---

    def _refresh_queries(self, source: OnlineSource, file: _File, touched: pa.Array[Any]) -> None:
        keys, stood = self._affected(source, file, touched)
        if not keys:
            return
        file.write(("asked", query_id, None) for query_id in stood)
        gone = {key_of(key) for key in keys}

        def standing() -> Iterator[_Change]:
            for key, query_id, value in source.understood(keys):
                gone.discard(key)
                yield "queries", key, value
                yield "asked", key_of(query_id), key

        file.write(standing())
        file.write(("queries", key, None) for key in gone)

    def _affected(self, source: OnlineSource, file: _File, touched: pa.Array[Any]) -> tuple[set[str], list[bytes]]:
        """The keys whose entries may be others now, and the query ids (as in `asked`) that stand there so far."""
        ids = {key_of(str(query_id)) for query_id in touched.to_pylist()}
        with file.environment.begin() as transaction:
            asked, queries = file.databases["asked"], file.databases["queries"]
            if self.head is not None:
                head = {key_of(str(query_id)): query_id for query_id in self.head.to_pylist()}
                held = set(transaction.cursor(asked).iternext(values=False))
                ids |= held - head.keys()  # no longer of the head
                come = [query_id for key, query_id in head.items() if key not in held]
                touched = _distinct(pa.chunked_array([touched, pa.array(come, pa.string())]))
            entries = (transaction.get(key, None, asked) for key in ids)
            texts = (_text(transaction.get(key, None, queries)) for key in entries if key is not None)
            keys = {query_key(text) for text in texts} | (source.keys_of(touched) if len(touched) else set())
            standing = (transaction.get(key_of(key), None, queries) for key in keys)
            return keys, [key_of(understood_from_bytes(one).understanding.query.query_id) for one in standing if one]

    # --- writing ---

    @contextmanager
    def _drafted(self) -> Iterator[Path]:
        """A new folder for a view; gone again where it does not come to be published."""
        draft = None
        try:
            draft = new_draft(self.folder)
            (draft / "spill").mkdir()
            yield draft
        except (OSError, lmdb.Error) as error:
            raise StoreError(f"cannot write the online view {self.folder}: {error}") from None
        finally:
            if draft is not None:
                shutil.rmtree(draft, ignore_errors=True)  # where it was published it has another name

    def _published(self, draft: Path, source: OnlineSource, file: _File, why: str | None) -> Made:
        data = draft / "data.mdb"
        with lmdb.open(str(data), subdir=False, lock=False, readonly=True, max_dbs=len(DATABASES)) as environment:
            differences = list(islice(sampled_differences(source, environment), 3))
            items, queries, _ = open_databases(environment)
            with environment.begin() as transaction:
                held = [transaction.stat(database)["entries"] for database in (items, queries)]
        if differences:
            raise _DiffersError("; ".join(differences))
        made_at = datetime.now(UTC).isoformat(timespec="seconds")
        manifest = Manifest(FORMAT, self.tables, held[0], held[1], self.queries, data.stat().st_size, made_at)
        shutil.rmtree(draft / "spill")
        (draft / "manifest.json").write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
        version = settle(draft)
        publish(self.folder, version)
        clean(self.folder, version)
        return Made(OnlineView(self.folder / version), file.put, file.deleted, why)


class _File:
    """The data file of a draft, open for writing.

    Attributes:
        environment: of LMDB.
        databases: its databases, by name.
        put: how many entries were written that were not there before as they are now, by database.
        deleted: how many were taken away.
    """

    def __init__(self, path: Path) -> None:
        size = max(_FIRST_SIZE, 2 * path.stat().st_size if path.exists() else 0)
        self.environment = lmdb.open(
            str(path), subdir=False, lock=False, max_dbs=len(DATABASES), map_size=size, sync=False, metasync=False
        )
        self.databases = dict(zip(DATABASES, open_databases(self.environment, create=True), strict=True))
        self.put: Counter[str] = Counter()
        self.deleted: Counter[str] = Counter()

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *_: object) -> None:
        self.environment.close()

    def write(self, changes: Iterable[_Change], in_order: bool = False) -> None:
        """Make changes. `in_order`: items and queries come in the order of their keys, and there are none yet."""
        each = iter(changes)
        while batch := list(islice(each, _BATCH)):
            while True:
                try:
                    put, deleted = self._commit(batch, in_order)
                    break
                except lmdb.MapFullError:
                    self.environment.set_mapsize(2 * self.environment.info()["map_size"])
            self.put += put
            self.deleted += deleted

    def _commit(self, batch: list[_Change], in_order: bool) -> tuple[Counter[str], Counter[str]]:
        put: Counter[str] = Counter()
        deleted: Counter[str] = Counter()
        with self.environment.begin(write=True) as transaction:
            for name, key, value in batch:
                database = self.databases[name]
                if value is None:
                    deleted[name] += transaction.delete(key, db=database)
                elif in_order or transaction.get(key, None, database) != value:
                    transaction.put(key, value, append=in_order and name != "asked", db=database)
                    put[name] += 1
        return put, deleted


def _everything(source: OnlineSource) -> Iterator[_Change]:
    for key, value in source.features():
        yield "items", key, value
    for key, query_id, entry in source.understood():
        yield "queries", key, entry
        yield "asked", key_of(query_id), key


def _text(entry: bytes | None) -> str:
    return "" if entry is None else understood_from_bytes(entry).understanding.query.text


def _distinct(*ids: pa.ChunkedArray[Any]) -> pa.Array[Any]:
    return pc.unique(
        pa.chunked_array([chunk for column in ids for chunk in column.chunks], pa.string()).combine_chunks()
    )


def _copy(source: Path, target: Path) -> None:
    """Copy a file; where the file system can, both share their blocks until one is written to."""
    left = source.stat().st_size
    with source.open("rb") as read, target.open("xb") as written, suppress(OSError, AttributeError):
        while left and (n := os.copy_file_range(read.fileno(), written.fileno(), left)):
            left -= n
    if left:  # not of this system, or not of this file system
        shutil.copyfile(source, target)
