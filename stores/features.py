"""Feature tables: append-only Delta Lake tables, one for each table of `lore_mm.tables`, in one folder or bucket.

A store keeps every row ever written. A row is replaced by appending a newer one of the same key; `latest` shows the
newest. Readers pin a version and see that version for ever; any number of processes may append at once.

It does not know what the rows mean, nor of vectors (`stores.vectors`) or look-ups by id (`stores.online`). Processes
that use it must be started with `spawn`: the library underneath runs threads that do not survive a `fork`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.fs as fs
from deltalake import ColumnProperties, CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.fs import DeltaStorageHandler
from numpy.typing import NDArray

from lore_mm.errors import StoreError, nearest
from lore_mm.tables import KEYS, TABLES, check_table
from stores.address import StoreAddress
from stores.handles import Handles, write_checkpoint
from stores.log_faults import broken_entry, check_end, one_line
from stores.newest import made_at, newest_rows
from stores.rows_at import RowsAt
from stores.scanning import scan_files
from stores.shapes import check_shape, needs_merge
from stores.streams import keep_rows, rebatch, stream_files
from stores.table_files import TableFile, ordered_files
from stores.vacuumed import check_kept

__all__ = ["ROW_GROUP", "FeatureStore", "open_store"]

# Small enough that a reader holds tens of megabytes of vectors, large enough to compress well and scan in parallel.
ROW_GROUP = 32_768
# Columns whose values hardly repeat: to look for those that do takes a quarter of the time of writing, and makes larger
# files; of long texts, least and largest tell a reader nothing.
_HARDLY_ALIKE = {
    "item_id": ColumnProperties(dictionary_enabled=False),
    "title": ColumnProperties(dictionary_enabled=False, statistics_enabled="NONE"),
    "description": ColumnProperties(dictionary_enabled=False, statistics_enabled="NONE"),
}
# History is kept: the log is never trimmed, so that every version stays readable.
_CONFIGURATION = {"delta.enableExpiredLogCleanup": "false"}
_ATTEMPTS = 20
_KEY_ROWS = 65_536


def open_store(uri: str | Path, create: bool = False, storage_options: Mapping[str, str] | None = None) -> FeatureStore:
    """Open the store at a local path or in a bucket (s3://, gs://, az://).

    A store is there once one of its tables is. With `create` a missing one is no error: tables come with their first
    row. `storage_options` go to the bucket's clients (`aws_region`, `aws_endpoint_url` …), before the environment.

    Raises:
        StoreError: there is no store, or its place cannot be one, or cannot be reached.
    """
    store = FeatureStore(uri, storage_options)
    store.address.check()
    if create:
        store.address.make()
    elif not store.tables():
        raise StoreError(f"no store at {store.uri}: make one with `lore ingest` or `lore demo`")
    return store


class FeatureStore:
    """The tables of one store. Cheap to make, holds no file open, safe to use from several threads.

    Attributes:
        uri: the address, absolute where it is a local path.
        folder: the local folder, None in a bucket.
    """

    def __init__(self, uri: str | Path, storage_options: Mapping[str, str] | None = None) -> None:
        self.address = StoreAddress(uri, storage_options)
        self.uri, self.folder, self._options = self.address.text, self.address.folder, self.address.options
        self._known_newest: dict[str, tuple[tuple[Any, int], NDArray[np.int64] | None]] = {}
        self._seen: dict[str, tuple[str, int]] = {}  # table → its id, and the version that stands at least
        self._handles = Handles()

    def __repr__(self) -> str:
        return f"FeatureStore({self.uri!r})"

    def __reduce__(self) -> tuple[Any, ...]:  # sent to another process it is opened there anew
        return FeatureStore, (self.uri, self._options)

    # --- what is there ---

    def tables(self) -> list[str]:
        """The names of the tables that exist, in the order of `lore_mm.tables.TABLES`."""
        try:
            return [t for t in TABLES if DeltaTable.is_deltatable(self._address(t), self._options)]
        except (DeltaError, OSError) as error:
            raise StoreError(f"cannot read {self.uri}: {one_line(error)}") from None

    def version(self, table: str) -> int | None:
        """The present version of a table, None where it does not exist."""
        with self._lent(table) as delta:
            return None if delta is None else delta.version()

    def table_id(self, table: str) -> str | None:
        """What tells a table from another that was made in its place later; None where there is none."""
        with self._lent(table) as delta:
            return None if delta is None else str(delta.metadata().id)

    def snapshot(self) -> dict[str, int]:
        """The present version of every table that exists.

        Tables are looked at one after the other; between two of them a writer may commit. Rows refer to one another by
        key only, so that such a snapshot is still one in which nothing is half-written.
        """
        return {t: v for t in TABLES if (v := self.version(t)) is not None}

    def last_transaction(self, table: str, app_id: str) -> int | None:
        """The highest number committed under an application id, None where there is none."""
        return self.last_transactions(table, [app_id])[0]

    def last_transactions(self, table: str, app_ids: Sequence[str]) -> list[int | None]:
        """As `last_transaction`, of several application ids at one moment."""
        with self._lent(table) as delta:
            return [None if delta is None else delta.transaction_version(one) for one in app_ids]

    def count(self, table: str, version: int | None = None) -> int:
        """The number of rows, every one ever written; from the log alone."""
        delta = self._open(table, version)
        return 0 if delta is None else delta.count()

    def beside(self) -> Path:
        """The local folder for what is made of the tables and can be made again (vector index, online view): the
        store's own; of one in a bucket, a folder of this machine's cache, another where the items were made anew.
        """
        if self.folder:
            return self.folder
        items = self._open("items")
        return self.address.cache("" if items is None else str(items.metadata().id))

    # --- writing ---

    def append(
        self, table: str, rows: pa.Table, transaction: tuple[str, int] | None = None, after: int | None = None
    ) -> int | None:
        """Append rows in one atomic commit; returns the table's version after it, None where nothing was written.

        With `transaction` = (app_id, n) the rows are committed exactly once, however often and by however many
        processes this is called: where n or a higher number is committed under that app_id, nothing is written. So the
        numbers of one app_id must be committed in rising order. With `after`, below n, nothing is written where any
        number above `after` is committed: the rows stand for all that comes behind it up to n.

        Raises:
            TableError: the rows have other columns than `lore_mm.tables` says; nothing is written.
            StoreError: the table on disk has another shape, or cannot be written; nothing is written.
        """
        schema = TABLES[self._known(table)]
        check_table(rows, schema, f"append to {table}")
        # in one piece: the writer takes pieces in any order, and the order of rows is to be kept
        rows = rows.select(schema.names).cast(schema).combine_chunks()
        for attempt in range(_ATTEMPTS):
            try:
                seen = self._seen.get(table)
                with self._lent(table) as known:
                    delta = self._same(table, seen, known) or self._create(table)
                    if transaction:
                        app_id, n = transaction
                        done = delta.transaction_version(app_id)
                        if done is not None and done > (n - 1 if after is None else after):
                            return None
                    if not self.address.may_write(table):  # the writer would say so at length
                        raise StoreError(f"cannot append to {table} in {self.uri}: no permission to write there")
                    _write(delta, rows, transaction)
                    write_checkpoint(delta)
                    self._saw(table, delta)
                    return delta.version()
            except CommitFailedError:  # another process was faster: look again at what it did
                time.sleep(random.uniform(0.5, 1.0) * min(0.02 * 2**attempt, 2.0))
            except (DeltaError, OSError) as error:
                raise StoreError(f"cannot append to {table} in {self.uri}: {one_line(error)}") from None
        raise StoreError(f"cannot append to {table} in {self.uri}: too many writers at once; the same call may succeed")

    def _same(self, table: str, seen: tuple[str, int] | None, delta: DeltaTable | None) -> DeltaTable | None:
        """Refuse to append to a table that is not the one seen before: rows already there would be missing."""
        if seen and (delta is None or str(delta.metadata().id) != seen[0] or delta.version() < seen[1]):
            raise StoreError(f"cannot append to {table} in {self.uri}: deleted, replaced or set back while in use")
        return delta

    def _saw(self, table: str, delta: DeltaTable) -> None:
        now = str(delta.metadata().id), delta.version()
        self._seen[table] = max(now, self._seen.get(table, now), key=lambda one: one[1])

    def _create(self, table: str) -> DeltaTable:
        if self.folder is not None and not self.folder.is_dir():
            raise StoreError(f"cannot append to {table} in {self.uri}: there is no such folder any more")
        try:
            DeltaTable.create(
                self._address(table),
                schema=TABLES[table],
                mode="ignore",
                configuration=_CONFIGURATION,
                storage_options=self._options,
                commit_properties=CommitProperties(max_commit_retries=0),  # else it makes it again over another's
            )
        except DeltaError:
            if self._open(table) is None:
                raise
        return self.open_table(table, None)  # another process may have made it in between: it is that one

    # --- reading ---

    def batches(
        self,
        table: str,
        columns: Sequence[str] | None = None,
        version: int | None = None,
        rows: int = 1024,
        latest: bool = False,
        start: int = 0,
    ) -> Iterator[pa.RecordBatch]:
        """Stream a table in batches of exactly `rows` rows (the last may be shorter), in a stable order.

        The order is that of files by time of writing, then of rows in the file: for one writer the order of its
        commits; between writers, and where a clock was set back, it is that of their clocks. At one version it is
        always the same; that version (the present one unless named) is read throughout.
        With `latest` only the newest row of each key comes, as in `latest()`. `start` leaves out that many of the rows
        that would come first; their files are not read. Memory holds a row group and a batch; for `latest` also the
        keys, while they are sorted.

        Raises:
            StoreError: no such table, version or column, or the version was vacuumed.
        """
        delta = self.open_table(table, version)
        names = list(columns) if columns is not None else TABLES[table].names
        for name in names:
            if name not in TABLES[table].names:
                raise StoreError(f"table {table} has no column {name!r}{nearest(name, TABLES[table].names)}")
        files, system = self._ordered(table, delta, version), self.filesystem(table)
        keep = self.newest_positions(table, delta) if latest else None
        if keep is not None:
            keep = keep[start:]
            if not len(keep):
                return
            start = int(keep[0])
        schema = pa.schema([TABLES[table].field(name) for name in names])
        stream = stream_files(files, system, table, names, rows, start)
        try:
            yield from rebatch(keep_rows(stream, keep, start), schema, rows)
        except (OSError, pa.ArrowException) as error:
            check_kept(system, table, delta.version(), files)  # vacuumed as it was read
            raise StoreError(f"cannot read table {table} in {self.uri}: {one_line(error)}") from None

    def scan(self, table: str, version: int | None = None) -> pl.LazyFrame:
        """Every row ever written, lazily, in the order of `batches`.

        Raises:
            StoreError: no such table or version, or it was vacuumed.
        """
        return self._scan(table, self.open_table(table, version), version)

    def latest(self, table: str, version: int | None = None) -> pl.LazyFrame:
        """The newest row of each key (`lore_mm.tables.KEYS`), lazily, in the order of `batches`.

        Newest is the latest time of making (`provenance.made_at`; `at` in runs; tables without one have none). Among
        rows made at the same microsecond, or without a time, the one that was committed last, and within one commit the
        one further down. Nothing else breaks a tie, so that two readers of a version always see the same rows.

        Raises:
            StoreError: no such table or version.
        """
        delta = self.open_table(table, version)
        winners = self._winners(table, delta)
        rows = self._scan(table, delta, version, row_index="__row").join(winners, on="__row", how="semi")
        return rows.sort("__row").drop("__row")

    def newest(self, table: str, version: int | None = None) -> RowsAt:
        """The rows that `latest` shows, to be read back by their places."""
        delta = self.open_table(table, version)
        files = self._ordered(table, delta, version)
        rows = self.newest_positions(table, delta)
        rows = np.arange(delta.count()) if rows is None else rows
        return RowsAt(table, files, self.filesystem(table), rows)

    def files(self, table: str, version: int | None = None) -> list[str]:
        """The addresses of a version's Parquet files, in the order of `batches`; local ones are plain paths."""
        return self._files(table, self.open_table(table, version), version)

    def _ordered(self, table: str, delta: DeltaTable, version: int | None) -> list[TableFile]:
        """The files of a table that was opened at a version, if need be an earlier one, which may be vacuumed."""
        files = ordered_files(delta, table)
        if version is not None:
            check_kept(self.filesystem(table), table, version, files)
        return files

    def _files(self, table: str, delta: DeltaTable, version: int | None) -> list[str]:
        root = self._address(table)
        return [f"{root}/{file.path}" for file in self._ordered(table, delta, version)]

    def _scan(
        self, table: str, delta: DeltaTable, version: int | None = None, row_index: str | None = None
    ) -> pl.LazyFrame:
        return scan_files(table, self._files(table, delta, version), self._options, row_index)

    def _winners(self, table: str, delta: DeltaTable) -> pl.LazyFrame:
        keys = list(KEYS[table])
        made = made_at(table)
        rows = self._scan(table, delta, row_index="__row").select(*keys, made, "__row")
        return rows.sort("__made", "__row").unique(subset=keys, keep="last", maintain_order=True).select("__row")

    def newest_positions(self, table: str, delta: DeltaTable) -> NDArray[np.int64] | None:
        """The positions of the rows that `latest` shows; None: all. Kept for the version that was asked for last."""
        this = delta.metadata().id, delta.version()  # a table that was deleted and made again has another id
        if (known := self._known_newest.get(table)) and known[0] == this:
            return known[1]
        files, system = ordered_files(delta, table), self.filesystem(table)
        try:
            newest = newest_rows(lambda names: stream_files(files, system, table, names, _KEY_ROWS), table)
        except (OSError, pa.ArrowException) as error:
            raise StoreError(f"cannot read table {table} in {self.uri}: {one_line(error)}") from None
        self._known_newest[table] = this, newest
        return newest

    # --- opening ---

    def _known(self, table: str) -> str:
        if table not in TABLES:
            raise StoreError(f"no table {table!r}{nearest(table, TABLES) or ';'} legal tables: {', '.join(TABLES)}")
        return table

    def _address(self, table: str) -> str:
        return f"{self.uri}/{table}"

    def filesystem(self, folder: str) -> fs.FileSystem:
        """The files of a table, or of another folder beside the tables, whether it is there or not."""
        if self.folder:
            return fs.SubTreeFileSystem(self._address(folder), fs.LocalFileSystem())
        return fs.PyFileSystem(DeltaStorageHandler(self._address(folder), self._options))

    def _open(self, table: str, version: int | None = None) -> DeltaTable | None:
        address = self._address(self._known(table))
        try:
            delta = DeltaTable(address, version=version, storage_options=self._options)
        except TableNotFoundError:
            return None
        except (DeltaError, OSError, OverflowError) as error:  # a negative version overflows
            if version is not None and (present := self._open(table)) and not 0 <= version <= present.version():
                raise StoreError(f"table {table} has versions 0 to {present.version()}, not {version}") from None
            fault = self.folder and broken_entry(self.folder / table)
            raise StoreError(f"cannot read table {table} in {self.uri}: {fault or one_line(error)}") from None
        check_shape(table, delta, self.uri)
        check_end(self.folder and self.folder / table, delta.version())
        self._saw(table, delta)
        return delta

    @contextmanager
    def _lent(self, table: str) -> Iterator[DeltaTable | None]:
        """A table at its present version for one caller alone, as it was known before, and kept for the next."""
        if (delta := self._handles.take(table, self.filesystem(table))) is None:
            delta = self._open(table)
        else:
            check_shape(table, delta, self.uri)
        yield delta
        if delta is not None:
            self._handles.keep(table, delta, self.filesystem(table))

    def open_table(self, table: str, version: int | None = None) -> DeltaTable:
        """The table of the Delta library itself, for what keeps a store small.

        Raises:
            StoreError: no such table or version.
        """
        delta = self._open(table, version)
        if delta is None:
            there = ", ".join(self.tables()) or "none"
            raise StoreError(f"no table {table} in {self.uri} yet; tables there: {there}")
        return delta


def _write(delta: DeltaTable, rows: pa.Table, transaction: tuple[str, int] | None) -> None:
    write_deltalake(
        delta,
        rows,
        mode="append",
        schema_mode="merge" if needs_merge(delta, rows) else None,  # the table is of an earlier version
        writer_properties=WriterProperties(
            compression="ZSTD", max_row_group_size=ROW_GROUP, column_properties=_HARDLY_ALIKE
        ),
        commit_properties=CommitProperties(app_transactions=[Transaction(*transaction)] if transaction else None),
    )
