"""A store's tables as SQL views at pinned versions, behind a connection that can only read them.

Three walls, each of which would do: DuckDB runs in memory with file, network and extension access off and its settings
locked (the pinned Parquet files are the only ones it may open); a statement must be one SELECT, by DuckDB's own parser;
and that SELECT may name only these views, in its syntax tree. It does not know what is asked.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from lore_mm.errors import InputError, StoreError, nearest
from lore_mm.tables import KEYS, TABLES
from stores.features import FeatureStore

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
    "attributes": _EXPLODED.format(who="row_extractor AS extractor", where=""),
    "latest": _EXPLODED.format(who="a.extractor AS extractor", where="WHERE extractor = 'merge'"),
    "understood": "SELECT * FROM rows.newest_demands",
    "demands": _DEMANDS,
}
_NODES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
_TABLE_FUNCTIONS = {"generate_series", "range", "unnest"}
_SCALARS_REFUSED = {"current_setting", "getenv", "getvariable", "nextval", "currval", "write_log"}


def quoted(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


class Views:
    """The views of a store at given table versions. Safe to use from several threads.

    Local tables are read in place by DuckDB; those of an object store are read into memory, newest rows only.
    """

    def __init__(self, store: FeatureStore, versions: Mapping[str, int]) -> None:
        self._connection = duckdb.connect(
            ":memory:",
            config={
                "python_enable_replacements": "false",
                "autoload_known_extensions": "false",
                "autoinstall_known_extensions": "false",
                "temp_directory": str(Path(tempfile.gettempdir()) / "lore-query"),
            },
        )
        self._sources: dict[str, str] = {}  # of tables whose replaced rows are not known yet
        self._settling = threading.Lock()
        self._do("CREATE SCHEMA rows")  # what the views stand on is out of the asker's sight
        if store.folder is None:
            self._connection.register_filesystem(store.address.for_sql())
        files: list[str] = []
        for table in TABLES:
            files += self._define(store, table, versions.get(table))
        for view, text in _DEFINED.items():
            self._do(f"CREATE VIEW {view} AS {text}")
        self._do(f"SET allowed_paths = [{', '.join(quoted(f) for f in files)}]")
        self._do("SET enable_external_access = false")
        self._do("SET lock_configuration = true")

    def run(self, text: str) -> pa.Table:
        """Run a statement of this project's own."""
        self._settle(text)
        return self._fetch(text, None)

    def select(self, text: str, limit: int | None = None) -> pa.Table:
        """Run a statement from outside, after checking it; at most `limit` rows.

        Raises:
            InputError: it is not one SELECT over these views, or is wrong in itself; in one line, with a hint.
        """
        self._check(text)
        self._settle(text)
        try:
            return self._fetch(text, limit)
        except duckdb.Error as error:
            raise InputError(_one_line(error)) from None

    def tree(self, text: str) -> dict[str, Any]:
        """The syntax tree of one SELECT.

        Raises:
            InputError: the text is not one.
        """
        try:
            text.encode()
            statements = self._connection.cursor().extract_statements(text)
        except UnicodeEncodeError:
            raise InputError("the text is not Unicode") from None
        except duckdb.Error as error:
            raise InputError(_one_line(error)) from None
        if len(statements) != 1:
            raise InputError(f"one SELECT is wanted, not {len(statements)} statements")
        kind = statements[0].type.name
        if kind == "SELECT":
            answer = json.loads(self.run(f"SELECT json_serialize_sql({quoted(text)}) AS t")["t"][0].as_py())
            if not answer["error"]:
                tree: dict[str, Any] = answer["statements"][0]["node"]
                return tree
        raise InputError(f"only SELECT and WITH … SELECT are allowed here, not {kind}")

    def text(self, tree: Mapping[str, Any]) -> str:
        """The reverse of `tree`."""
        whole = json.dumps({"error": False, "statements": [{"node": tree}]})
        return str(self.run(f"SELECT json_deserialize_sql({quoted(whole)}::JSON) AS t")["t"][0].as_py())

    def _check(self, text: str) -> None:
        tree = self.tree(text)
        nodes = list(walk(tree))
        own = {entry["key"].lower() for node in nodes for entry in _entries(node)}
        own |= {str(node["cte_name"]).lower() for node in nodes if node.get("cte_name")}
        for node in nodes:
            kind = str(node.get("type", ""))
            if kind.endswith("_NODE") and kind not in _NODES:
                raise InputError(f"only SELECT is allowed here, not {kind.removesuffix('_QUERY_NODE')} inside it")
            if kind == "BASE_TABLE":
                self._check_table(node, own)
            elif kind == "TABLE_FUNCTION" and node["function"]["function_name"].lower() not in _TABLE_FUNCTIONS:
                raise InputError(f"the table function {node['function']['function_name']} is not allowed here")
            elif kind == "FUNCTION" and str(node.get("function_name", "")).lower() in _SCALARS_REFUSED:
                raise InputError(f"the function {node['function_name']} is not allowed here")

    def _check_table(self, node: Mapping[str, Any], own: set[str]) -> None:
        path = [str(part) for part in node.get("qualified_name", {}).get("path") or [node["table_name"]]]
        name = path[-1].lower()
        if len(path) > 1 or (name not in VIEWS and name not in own):
            raise InputError(
                f"no table {'.'.join(path)!r}{nearest(name, VIEWS) or ';'} tables here: {', '.join(VIEWS)}"
            )

    def _define(self, store: FeatureStore, table: str, version: int | None) -> list[str]:
        """Make `rows.newest_<table>` and the view over it; returns the files it reads."""
        files = [] if version is None else store.files(table, version)
        empty = TABLES[table].empty_table()
        if files:
            source = f"read_parquet([{', '.join(quoted(f) for f in files)}], union_by_name = true)"
            try:
                have = self._types(source)
            except duckdb.Error as error:
                raise StoreError(f"cannot read table {table} in {store.uri}: {_one_line(error)}") from None
            self._register(f"rows.shape_of_{table}", empty)
            want = self._types(f"rows.shape_of_{table}")
            columns = ", ".join(_as_now(name, type_, have) for name, type_ in want.items())
            self._sources[table] = f"(SELECT {columns}, file_index, file_row_number FROM {source})"
            self._do(f"CREATE VIEW rows.newest_{table} AS SELECT {_names(table)} FROM {self._sources[table]}")
        else:
            self._register(f"rows.newest_{table}", empty)
        if table not in _DEFINED:
            self._do(f"CREATE VIEW {table} AS SELECT {_names(table)} FROM rows.newest_{table}")
        return files

    def _settle(self, text: str) -> None:
        """Find once, for every table that a statement may read, the rows that newer ones replaced, and leave them out.

        Where there are none, which is the rule, a view is as fast as the files beneath it.
        """
        with self._settling:
            for table in [t for t in self._sources if _reads(text, t)]:
                try:
                    self._leave_out_replaced(table, self._sources[table])
                except duckdb.Error as error:
                    raise StoreError(f"cannot read table {table}: {_one_line(error)}") from None
                del self._sources[table]

    def _leave_out_replaced(self, table: str, source: str) -> None:
        made = "provenance.made_at DESC NULLS LAST, " if "provenance" in TABLES[table].names else ""
        made = '"at" DESC, ' if table == "runs" else made  # quoted: AT is a word of DuckDB's SQL
        old = f"rows.old_{table}"
        newest_first = f"PARTITION BY {', '.join(KEYS[table])} ORDER BY {made}file_index DESC, file_row_number DESC"
        self._do(
            f"CREATE OR REPLACE TABLE {old} AS SELECT file_index, file_row_number FROM {source}"
            f" QUALIFY row_number() OVER ({newest_first}) > 1"
        )
        if self._fetch(f"SELECT count(*) AS n FROM {old}", None)["n"][0].as_py():
            source += f" ANTI JOIN {old} USING (file_index, file_row_number)"
            self._do(f"CREATE OR REPLACE VIEW rows.newest_{table} AS SELECT {_names(table)} FROM {source}")

    def _types(self, source: str) -> dict[str, str]:
        described = self._fetch(f"DESCRIBE SELECT * FROM {source}", None)
        return dict(zip(*(map(str, described[n].to_pylist()) for n in ("column_name", "column_type")), strict=True))

    def _register(self, name: str, rows: pa.Table) -> None:
        self._connection.register("incoming", rows)
        self._do(f"CREATE TABLE {name} AS SELECT * FROM incoming")
        self._connection.unregister("incoming")

    def _do(self, text: str) -> None:
        self._connection.execute(text).fetchall()

    def _fetch(self, text: str, limit: int | None) -> pa.Table:
        cursor = self._connection.cursor()  # a result belongs to one cursor, and threads do not share them

        def work() -> pa.Table:
            relation = cursor.sql(text)
            table: pa.Table = (relation if limit is None else relation.limit(limit)).to_arrow_table()
            return table

        try:
            # aside, because inside DuckDB an interrupt from the keyboard is not heard until a long statement ends
            with ThreadPoolExecutor(1, "query") as aside:
                answer = aside.submit(work)
                try:
                    while not wait([answer], timeout=0.1).done:
                        pass
                    return answer.result()
                except KeyboardInterrupt:
                    cursor.interrupt()
                    raise
        finally:
            cursor.close()


def _names(table: str) -> str:
    return ", ".join(f'"{name}"' for name in TABLES[table].names)


def _as_now(name: str, type_: str, have: Mapping[str, str]) -> str:
    """A column as this version knows it: null where the table is older than the column, or than a field in it."""
    if have.get(name) == type_:
        return f'"{name}"'
    given = f'"{name}"' if name in have else "NULL"
    return f'CAST({given} AS {type_}) AS "{name}"'


def _reads(text: str, table: str) -> bool:
    """Whether a statement may read a table: whether it says the name of one of its views anywhere."""
    words = text.lower()
    return table in words or any(view in words for view, under in UNDER.items() if under == table)


def walk(node: object) -> Iterator[dict[str, Any]]:
    """Every object in a syntax tree, outermost first."""
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from walk(value)


def _entries(node: Mapping[str, Any]) -> list[dict[str, Any]]:
    ctes = node.get("cte_map")
    return list(ctes.get("map") or ()) if isinstance(ctes, dict) else []


def _one_line(error: Exception) -> str:
    """DuckDB's message without its drawing of the place."""
    return " ".join(str(error).split("\n\nLINE ")[0].split())
