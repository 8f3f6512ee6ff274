"""What a statement from outside may say, by its syntax tree: one SELECT over known views, and no function that looks
beyond its arguments. What is not named here is left to DuckDB, which says itself what it does not know.

It knows DuckDB's trees and functions, not what the views show, and runs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from lore_mm.errors import InputError, nearest

__all__ = ["TABLE_FUNCTIONS", "check_functions", "check_select", "refuses", "tables_read", "walk"]

TABLE_FUNCTIONS = frozenset({"generate_series", "json_each", "json_tree", "range", "unnest"})
_NODES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
_SOURCES = {"BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EXPRESSION_LIST", "EMPTY", "PIVOT", "SHOW_REF"}
# read or set what is none of an asker's business, wait, write a log, or take bytes for a state of memory
_REFUSED = {
    "combine", "combine_aggr", "currval", "current_query", "current_setting", "finalize", "getenv", "getvariable",
    "index_key", "in_search_path", "json_execute_serialized_sql", "json_serialize_plan", "nextval",
    "parse_duckdb_log_message", "setseed", "setval", "sleep_ms", "to_aggregate_state", "write_log",
}  # fmt: skip
# macros over DuckDB's own catalogue, which tells the paths of files; and everything of other databases and extensions
_REFUSED_BEGINNINGS = re.compile(
    r"(duckdb_|pg_(?!typeof$|size_pretty$)|pragma_|has_.*privilege$|inet_|read_|write_|sniff_|parquet_|icu_calendar"
    r"|http_|sqlite_|postgres_|mysql_|col_description|obj_description|shobj_description|format_type|format_pg_type"
    r"|get_block_size|map_to_pg_oid)"
)


def refuses(function: str) -> bool:
    """Whether a function of one row or of many may not be called, by its name."""
    name = function.lower()
    return name in _REFUSED or _REFUSED_BEGINNINGS.match(name) is not None


def check_select(tree: Mapping[str, Any], views: Collection[str]) -> None:
    """Refuse a SELECT that names anything else than these views, its own WITH tables and harmless functions.

    Raises:
        InputError: naming what is not allowed, with the nearest view as a hint.
    """
    waiting: list[tuple[object, frozenset[str]]] = [(tree, frozenset())]
    while waiting:
        node, own = waiting.pop()
        if isinstance(node, list):
            waiting += [(value, own) for value in node]
        elif isinstance(node, dict):
            _check_node(node, own, views)
            if node.get("cte_name"):
                own |= {str(node["cte_name"]).lower()}
            entries = (node.get("cte_map") or {}).get("map") or ()
            for entry in entries:  # each sees those before it, as DuckDB has it
                waiting.append((entry["value"], own))
                own |= {str(entry["key"]).lower()}
            waiting += [(value, own) for key, value in node.items() if key != "cte_map"]


def check_functions(tree: object) -> None:
    """Refuse the functions that `check_select` does, in an expression.

    Raises:
        InputError: naming the function.
    """
    for node in walk(tree):
        if node.get("class") == "FUNCTION":
            _check_function(node)


def tables_read(tree: object) -> set[str]:
    """The names of all tables and views that a tree names, in lower case, those of its own WITH among them."""
    kinds = ("BASE_TABLE", "SHOW_REF")
    return {str(_path(node)[-1]).lower() for node in walk(tree) if node.get("type") in kinds and _path(node)}


def walk(node: object) -> Iterator[dict[str, Any]]:
    """Every object in a syntax tree, each before those within it."""
    waiting = [node]
    while waiting:  # a tree may be deeper than Python's stack
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting += reversed(one.values())
        elif isinstance(one, list):
            waiting += reversed(one)


def _check_node(node: Mapping[str, Any], own: Collection[str], views: Collection[str]) -> None:
    kind = str(node.get("type", ""))
    if kind.endswith("_NODE") and kind not in _NODES:
        raise InputError(f"only SELECT is allowed here, not {kind.removesuffix('_QUERY_NODE')} inside it")
    if "from_table" in node and isinstance(node["from_table"], dict):
        _check_source(node["from_table"])
    if kind == "JOIN":
        _check_source(node["left"])
        _check_source(node["right"])
    if kind == "BASE_TABLE":
        _check_table(_path(node), {*own, *(view.lower() for view in views)}, views)
    elif kind == "SHOW_REF" and _path(node) and _path(node) != ['"tables"']:
        _check_table(_path(node), views, views)
    elif kind == "TABLE_FUNCTION":
        name = str(node["function"]["function_name"])
        if name.lower() not in TABLE_FUNCTIONS:
            raise InputError(f"the table function {name} is not allowed here")
    elif node.get("class") == "FUNCTION":
        _check_function(node)


def _check_source(node: Mapping[str, Any]) -> None:
    if node.get("type") not in _SOURCES:
        raise InputError(f"reading from a {node.get('type')} is not allowed here")


def _check_table(path: list[str], legal: Collection[str], views: Collection[str]) -> None:
    name = path[-1].lower()
    if len(path) > 1 or name not in legal:
        hint = nearest(name, views)
        raise InputError(f"no table {'.'.join(path)!r}{hint or ';'} tables here: {', '.join(views)}")


def _check_function(node: Mapping[str, Any]) -> None:
    name = str(node.get("function_name", ""))
    if refuses(name):
        raise InputError(f"the function {name} is not allowed here")


def _path(node: Mapping[str, Any]) -> list[str]:
    named = node.get("qualified_name", {}).get("path") or [node.get("table_name") or ""]
    return [str(part) for part in named] if any(named) else []
