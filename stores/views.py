"""A store's tables as SQL views at pinned versions, behind a connection that can only read them.

Three walls, each of which would do: DuckDB runs in memory with file, network and extension access off and its settings
locked (the pinned Parquet files are the only ones it may open); a statement must be one SELECT, by DuckDB's own parser;
and that SELECT may name only these views, in its syntax tree (`stores.statements`). It does not know what is asked.
"""

from __future__ import annotations

import json
import re
import threading
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from lore_mm.errors import InputError, StoreError
from lore_mm.tables import TABLES
from stores.features import FeatureStore
from stores.spill import spill_folder
from stores.standing import StandingFile, standing_files
from stores.statements import check_select, tables_read
from stores.waiting import Waiting, until

__all__ = ["UNDER", "VIEWS", "Views", "quoted"]

# view → what it shows; every one has the newest row per key only
VIEWS: Mapping[str, str] = {
    "items": "the catalogue, one row per item",
    "attributes": "what each extractor found, one row per item, extractor and value",
    "latest": "the verdict over all extractors, one row per item and value",
    "embeddings": "vectors, one row per item and model",
    "queries": "the query log",
    "understood": "queries understood, one row per query",
    "demands": "what they ask for, one row per query and demand",
    "judgments": "grades, one row per query, item and mode",
    "labels": "people's grades",
    "chains": "lines of reasoning to train on, one row per set, pair and teacher",
    "runs": "what ran",
}
UNDER: Mapping[str, str] = {"latest": "attributes", "understood": "demands"}  # views named otherwise than their table
_EXPLODED = """
    SELECT item_id, {who}, a.name AS name, a.dimension AS dimension, a.value AS value, a.number AS number,
        a.unit AS unit, a.share AS share, a.status AS status, a.confidence AS confidence, a.kind AS kind,
        a.evidence AS evidence, a.error AS error, category, made_at
    FROM (
        SELECT item_id, extractor AS row_extractor, category, provenance.made_at AS made_at, unnest(attributes) AS a
        FROM rows.newest_attributes {where}
    )"""
# the fields of a demand stand for themselves, but for confidence, which a query has too
_DEMANDS = """
    SELECT query_id, query, normalized, hard_type, referent, engine, query_confidence, d.*, made_at
    FROM (
        SELECT query_id, query, normalized, hard_type, referent, engine, confidence AS query_confidence,
            provenance.made_at AS made_at, unnest(demands) AS d
        FROM rows.newest_demands
    )"""
_DEFINED = {
    "attributes": {
        "attributes": _EXPLODED.format(who="row_extractor AS extractor", where=""),
        "latest": _EXPLODED.format(who="a.extractor AS extractor", where="WHERE extractor = 'merge'"),
    },
    "demands": {"understood": "SELECT * FROM rows.newest_demands", "demands": _DEMANDS},
}
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "python_enable_replacements": "false",
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "memory_limit": "50%",  # of what this machine, or its container, has; beyond it is written to disk
}
_BATCH = 16_384  # rows that a stream gives at once
_REMEMBERED = 256  # statements that were looked through already
_WORDS = re.compile(r"\w+")


def quoted(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


class Views:
    """The views of a store at given table versions. Safe to use from several threads.

    A table is looked at when a statement first names it: its shape, and which of its rows newer ones replaced, for
    which all its keys are read once. One that cannot be read does not keep the others from answering. Local tables and
    those of a bucket are read in place.
    """

    def __init__(self, store: FeatureStore, versions: Mapping[str, int]) -> None:
        self._store, self._versions = store, {t: v for t, v in versions.items() if t in TABLES}
        self._defining = threading.Lock()
        self._waiting = Waiting()
        self._checked_before: dict[str, tuple[duckdb.Statement, frozenset[str]]] = {}
        self._open()

    def _open(self) -> None:
        self._defined: set[str] = set()
        self._cursors: deque[duckdb.DuckDBPyConnection] = deque()
        self._connection = duckdb.connect(":memory:", config=_SETTINGS | {"temp_directory": str(spill_folder(self))})
        self._do("CREATE SCHEMA rows")  # what the views stand on is out of the asker's sight
        if self._store.folder is None:
            self._connection.register_filesystem(self._store.address.for_sql())
        files: list[str] = []
        for table, version in self._versions.items():
            with suppress(StoreError):  # said to who names the table
                files += self._store.files(table, version)
        self._do(f"SET allowed_paths = [{', '.join(quoted(f) for f in files)}]")
        self._do("SET GLOBAL TimeZone = 'UTC'")  # whatever the machine's
        self._do("SET enable_external_access = false")
        self._do("SET lock_configuration = true")

    def run(self, text: str, values: Sequence[object] = ()) -> pa.Table:
        """Run a statement of this project's own; `values` stand for its question marks.

        Raises:
            StoreError: a table cannot be read.
        """
        words = set(_WORDS.findall(text.lower()))
        self._define({t for t in TABLES if t in words or f"newest_{t}" in words} | {UNDER.get(w, "") for w in words})
        with self._lent() as cursor:
            work = lambda: cursor.sql(text, params=list(values) or None).to_arrow_table()  # noqa: E731
            try:
                table: pa.Table = self._waiting.do(work, cursor.interrupt)
                return table
            except (duckdb.Error, RuntimeError) as error:
                if broken := self._broken(error):
                    raise broken from None
                raise

    def select(self, text: str, limit: int | None = None, timeout_s: float | None = None) -> pa.Table:
        """Run a statement from outside, after checking it; at most `limit` rows.

        Raises:
            InputError: it is not one SELECT over these views, or is wrong in itself, or takes longer than `timeout_s`;
                in one line, with a hint.
            StoreError: a table cannot be read.
        """
        end = until(timeout_s)
        statement = self._checked(text)
        with self._lent() as cursor, self._explained():
            table: pa.Table = self._waiting.do(
                lambda: _limited(cursor, statement, limit).to_arrow_table(), cursor.interrupt, end
            )
            return table

    def stream(self, text: str, limit: int | None = None, timeout_s: float | None = None) -> pa.RecordBatchReader:
        """As `select`, batch by batch as they are found, so that memory does not grow with the answer.

        An error may come with any batch. The reader is to be read to its end, or closed.
        """
        end = until(timeout_s)
        statement = self._checked(text)
        batches = self._stream(statement, limit, end)
        schema = next(batches)
        return pa.RecordBatchReader.from_batches(schema, batches)

    def _stream(self, statement: duckdb.Statement, limit: int | None, end: float | None) -> Iterator[Any]:
        """First the schema, then the batches."""
        with self._lent() as cursor, self._explained():
            reader = self._waiting.do(
                lambda: _limited(cursor, statement, limit).to_arrow_reader(_BATCH), cursor.interrupt, end
            )
            yield reader.schema
            while (batch := self._waiting.do(lambda: next(reader, None), cursor.interrupt, end)) is not None:
                yield batch

    def tree(self, text: str) -> dict[str, Any]:
        """The syntax tree of one SELECT.

        Raises:
            InputError: the text is not one.
        """
        self._statement(text)
        return self._tree(text)

    def text(self, tree: Mapping[str, Any]) -> str:
        """The reverse of `tree`."""
        whole = json.dumps({"error": False, "statements": [{"node": tree}]})
        return str(self.run("SELECT json_deserialize_sql(?::JSON) AS t", [whole])["t"][0].as_py())

    # --- checking ---

    def _checked(self, text: str) -> duckdb.Statement:
        known = self._checked_before.get(text)
        if known is None:
            if len(self._checked_before) >= _REMEMBERED:
                self._checked_before.clear()
            known = self._checked_before[text] = self._looked_through(text)
        statement, tables = known
        self._define(tables)
        return statement

    def _looked_through(self, text: str) -> tuple[duckdb.Statement, frozenset[str]]:
        statement = self._statement(text)
        tree = self._tree(text)
        check_select(tree, VIEWS)
        named = tables_read(tree)
        if '"tables"' in named:  # SHOW TABLES
            named = set(VIEWS)
        return statement, frozenset(UNDER.get(view, view) for view in named)

    def _statement(self, text: str) -> duckdb.Statement:
        try:
            text.encode()
            statements = self._connection.extract_statements(text)
        except UnicodeEncodeError:
            raise InputError("the text is not Unicode") from None
        except duckdb.Error as error:
            raise InputError(_one_line(error)) from None
        if len(statements) != 1:
            raise InputError(f"one SELECT is wanted, not {len(statements)} statements")
        try:
            kind = statements[0].type.name
        except ValueError:  # a kind that DuckDB's Python has no name for: UPDATE EXTENSIONS
            kind = "another statement"
        if kind != "SELECT":
            hint = "; a PIVOT lists its values: PIVOT items ON brand IN ('a', 'b')" if kind == "MULTI" else ""
            raise InputError(f"only SELECT and WITH … SELECT are allowed here, not {kind}{hint}")
        return statements[0]

    def _tree(self, text: str) -> dict[str, Any]:
        try:
            with self._lent() as cursor:  # of short texts and at once: nothing to wait for
                [(said,)] = cursor.execute("SELECT json_serialize_sql(?)", [text]).fetchall()
            answer = json.loads(said)
        except RecursionError:
            raise InputError("the statement is nested too deeply") from None
        if answer["error"]:
            raise InputError(f"only SELECT is allowed here: {' '.join(str(answer.get('error_message')).split())}")
        tree: dict[str, Any] = answer["statements"][0]["node"]
        return tree

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Errors of DuckDB as ours, in one line: of the store where a file is broken, else of the statement."""
        try:
            yield
        except duckdb.OutOfMemoryException as error:
            raise InputError(
                f"the statement needs more memory, or room on disk, than it may use: {_one_line(error)}"
            ) from None
        except (duckdb.InternalException, duckdb.FatalException) as error:
            with self._defining:
                self._open()  # behind such an error DuckDB answers nothing more
            raise InputError(f"DuckDB cannot answer this statement: {_one_line(error)}") from None
        except (duckdb.Error, RuntimeError) as error:
            if broken := self._broken(error):
                raise broken from None
            if isinstance(error, duckdb.Error):
                raise InputError(_one_line(error)) from None
            raise

    def _broken(self, error: duckdb.Error | RuntimeError) -> StoreError | None:
        """What is to be said where a file of the store is the cause: DuckDB has no class of errors for that."""
        if isinstance(error, RuntimeError) and "interrupted" in str(error):
            return None
        ours = type(error) in (duckdb.Error, duckdb.IOException, RuntimeError) or ".parquet" in str(error)
        return StoreError(f"a table of {self._store.uri} cannot be read: {_one_line(error)}") if ours else None

    # --- defining ---

    def _define(self, tables: Collection[str]) -> None:
        """Make the views over these tables, where they are not there yet.

        Raises:
            StoreError: one cannot be read.
        """
        wanted = [table for table in TABLES if table in tables]
        if all(table in self._defined for table in wanted):
            return
        with self._defining:
            for table in wanted:
                if table in self._defined:
                    continue
                try:
                    self._define_one(table)
                except (duckdb.Error, RuntimeError) as error:
                    raise StoreError(f"cannot read table {table} in {self._store.uri}: {_one_line(error)}") from None
                self._defined.add(table)

    def _define_one(self, table: str) -> None:
        version = self._versions.get(table)
        standing = [] if version is None else standing_files(self._store, table, version)
        shape = f"rows.shape_of_{table}"
        self._keep(shape, TABLES[table].empty_table())
        newest = self._newest(table, standing, self._types(shape)) if standing else f"SELECT * FROM {shape}"
        self._do(f"CREATE OR REPLACE VIEW rows.newest_{table} AS {newest}")
        # over the files and not over the view above them: a short statement feels one view more
        for view, text in _DEFINED.get(table, {table: newest}).items():
            self._do(f"CREATE OR REPLACE VIEW {view} AS {text}")

    def _newest(self, table: str, standing: Sequence[StandingFile], want: Mapping[str, str]) -> str:
        """A SELECT of the rows that stand. Where none is replaced, which is the rule, as fast as the files beneath."""
        files = f"[{', '.join(quoted(file.address) for file in standing)}]"
        # to read files by the names of their columns, each is opened whenever a statement is: only where it must be
        source = f"read_parquet({files})" if self._alike(files) else f"read_parquet({files}, union_by_name = true)"
        have = self._types(source)
        same = list(have.items()) == list(want.items())
        columns = "*" if same else ", ".join(_as_now(name, type_, have) for name, type_ in want.items())
        if all(file.replaced is None for file in standing):
            return f"SELECT {columns} FROM {source}"
        rows = [(i, file.replaced) for i, file in enumerate(standing) if file.replaced is not None]
        old = {
            "file_index": np.concatenate([np.full(len(replaced), i, np.uint64) for i, replaced in rows]),
            "file_row_number": np.concatenate([replaced for _, replaced in rows]),
        }
        self._keep(f"rows.old_{table}", pa.table(old))
        names = ", ".join(f'"{name}"' for name in want)
        return (
            f"SELECT {names} FROM (SELECT {columns}, file_index, file_row_number FROM {source})"
            f" ANTI JOIN rows.old_{table} USING (file_index, file_row_number)"
        )

    def _alike(self, files: str) -> bool:
        """Whether all these files have the same columns of the same types in the same order."""
        columns = "list((name, type, num_children, converted_type, logical_type) ORDER BY column_id)"
        one_each = f"SELECT {columns} AS shape FROM parquet_schema({files}) GROUP BY file_name"
        shapes = self._do(f"SELECT count(DISTINCT shape) FROM ({one_each})")
        return bool(shapes[0][0] == 1)

    def _types(self, source: str) -> dict[str, str]:
        return {str(row[0]): str(row[1]) for row in self._do(f"DESCRIBE SELECT * FROM {source}")}

    def _keep(self, name: str, rows: pa.Table) -> None:
        self._connection.register("incoming", rows)
        self._do(f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM incoming")
        self._connection.unregister("incoming")

    def _do(self, text: str) -> list[Any]:
        rows: list[Any] = self._connection.execute(text).fetchall()
        return rows

    @contextmanager
    def _lent(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor for one statement: a result belongs to one, and threads do not share them."""
        kept = self._cursors
        try:
            cursor = kept.pop()
        except IndexError:
            cursor = self._connection.cursor()
        yield cursor
        kept.append(cursor)


def _limited(cursor: duckdb.DuckDBPyConnection, statement: duckdb.Statement, limit: int | None) -> Any:
    relation = cursor.sql(statement)
    return relation if limit is None else relation.limit(limit)


def _as_now(name: str, type_: str, have: Mapping[str, str]) -> str:
    """A column as this version knows it: null where the table is older than the column, or than a field in it."""
    if have.get(name) == type_:
        return f'"{name}"'
    given = f'"{name}"' if name in have else "NULL"
    return f'CAST({given} AS {type_}) AS "{name}"'


def _one_line(error: Exception) -> str:
    """DuckDB's message without its drawing of the place."""
    return " ".join(str(error).split("\n\nLINE ")[0].split())
