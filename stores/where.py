"""Conditions on items in plain words: `color = 'black' AND price < 100`, as SQL over the views of `stores.views`.

An attribute is used by its name, as if it were a column. An item may have several values of it, so a comparison asks
whether **any** of them meets it, and its opposite (`<>`, NOT IN, NOT LIKE) whether **none** does. Numbers are compared
with the value's number in its base unit, strings with its words. An item without the attribute is neither: as with
SQL's NULL, it meets no comparison, and `color IS NULL` finds it. Columns of `items` can be used as well; where an
attribute has the same name (brand, price …), its values count, and the seller's column where it has none.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from copy import deepcopy
from typing import Any

from lore_mm.errors import InputError, nearest
from stores.statements import check_functions, walk
from stores.views import Views, quoted

__all__ = ["ITEM_COLUMNS", "items_where"]

ITEM_COLUMNS = ("item_id", "title", "description", "category", "brand", "price", "currency", "store", "status", "error")
_OPPOSITES = {"COMPARE_NOTEQUAL": "COMPARE_EQUAL", "COMPARE_NOT_IN": "COMPARE_IN"}
_OPPOSITE_FUNCTIONS = {"!~~": "~~", "!~~*": "~~*"}  # NOT LIKE, NOT ILIKE
_NULL_TESTS = {"OPERATOR_IS_NULL": "NOT IN", "OPERATOR_IS_NOT_NULL": "IN"}
_ORDERING = ("LESSTHAN", "GREATERTHAN", "LESSTHANOREQUALTO", "GREATERTHANOREQUALTO", "BETWEEN")
_NUMBERS = {"INTEGER", "DECIMAL", "DOUBLE", "FLOAT", "BIGINT", "HUGEINT", "NUMERIC"}
# what is stated; a value whose extractor gave no number has one where its words are a number
_STATED = "(SELECT item_id, name, value, coalesce(number, try_cast(value AS DOUBLE)) AS number FROM latest"
_STATED += " WHERE status IN ('value', 'conflict') AND value IS NOT NULL)"


def items_where(condition: str, views: Views, attributes: Collection[str]) -> str:
    """The SELECT that finds the ids of the items that meet a condition.

    `attributes` are the names that are stored. An item that could not be read (status failed) is never found.

    Raises:
        InputError: the condition is not one boolean expression over attributes and item columns; names what is wrong.
    """
    if not condition.strip():
        raise InputError("the condition is empty; write one such as color = 'black' AND price < 100")
    try:
        tree = views.tree(f"SELECT 1 WHERE ({condition}\n)")
    except InputError as error:
        raise InputError(f"condition {condition!r}: {error}") from None
    clause = tree.pop("where_clause", None)
    plain = views.tree("SELECT 1 WHERE (TRUE\n)")
    plain.pop("where_clause")
    if clause is None or _bare(tree) != _bare(plain):
        raise InputError(f"a condition is one expression such as color = 'black' AND price < 100, not {condition!r}")
    check_functions(clause)
    for node in walk(clause):
        if node.get("class") in ("SUBQUERY", "WINDOW", "LAMBDA", "PARAMETER", "STAR"):
            raise InputError(f"a condition may not hold a {node['class'].lower()}; use a SELECT for that")
    rewritten = _Rewriter(views, {name.lower(): name for name in attributes}).expression(clause)
    return f"SELECT item_id FROM items WHERE status = 'ok' AND ({rewritten})"


def _bare(node: Any) -> Any:
    """A syntax tree without places in the text."""
    if isinstance(node, dict):
        return {k: _bare(v) for k, v in node.items() if not k.startswith("query_location")}
    return [_bare(v) for v in node] if isinstance(node, list) else node


class _Rewriter:
    def __init__(self, views: Views, attributes: Mapping[str, str]) -> None:
        self._views = views
        self._attributes = attributes

    def expression(self, node: Mapping[str, Any]) -> str:
        """SQL of a boolean expression: AND, OR and NOT are kept, what stands between them is a comparison."""
        if node["class"] == "CONJUNCTION":
            word = f" {node['type'].removeprefix('CONJUNCTION_')} "
            return "(" + word.join(self.expression(child) for child in node["children"]) + ")"
        if node["type"] == "OPERATOR_NOT":
            return f"(NOT {self.expression(node['children'][0])})"
        return self._comparison(node)

    def _comparison(self, node: Mapping[str, Any]) -> str:
        names = sorted({self._name(n) for n in walk(node) if n.get("class") == "COLUMN_REF"})
        about = [name for name in names if name in self._attributes]
        if not about:
            return self._sql(node)
        if len(names) > 1:
            raise InputError(f"compare one attribute at a time with a value, not {' with '.join(names)}")
        (name,) = names
        if node["class"] == "COLUMN_REF":
            raise InputError(f"{name} alone is no condition; write {name} = 'value' or {name} IS NOT NULL")
        literal = quoted(self._attributes[name])
        stating = f"SELECT item_id FROM {_STATED} WHERE name = {literal}"
        if node["type"] in _NULL_TESTS and node["children"][0]["class"] == "COLUMN_REF":
            test = f"item_id {_NULL_TESTS[node['type']]} ({stating})"
            if name not in ITEM_COLUMNS:
                return test
            return f"({test} {'AND' if node['type'] == 'OPERATOR_IS_NULL' else 'OR'} {self._sql(node)})"
        if _orders(node) and not _is_numeric(node):
            raise InputError(f"{name} can be less or more than a number only, in the base unit: {name} < 100")
        positive, negated = _positive(node)
        field = "number" if _is_numeric(node) else "value"
        inner = self._sql(_renamed(positive, field))
        found = f"{'NOT ' if negated else ''}item_id IN ({stating} AND {inner})"
        otherwise = f" ELSE {self._sql(node)}" if name in ITEM_COLUMNS else ""
        return f"(CASE WHEN item_id IN ({stating}) THEN {found}{otherwise} END)"

    def _name(self, node: Mapping[str, Any]) -> str:
        path = [str(part) for part in node["column_names"]]
        name = ".".join(path).lower()
        if name not in self._attributes and name not in ITEM_COLUMNS:
            legal = list(dict.fromkeys([*sorted(self._attributes), *ITEM_COLUMNS]))
            raise InputError(
                f"no attribute or column {name!r}{nearest(name, legal) or ';'} there are: {', '.join(legal)}"
            )
        return name

    def _sql(self, node: Mapping[str, Any]) -> str:
        tree = self._views.tree("SELECT TRUE")
        tree["select_list"] = [dict(node)]
        return "(" + self._views.text(tree).removeprefix("SELECT ") + ")"


def _positive(node: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """A comparison and whether it was turned round: `<>` is the opposite of `=`."""
    turned = deepcopy(dict(node))
    if node["type"] in _OPPOSITES:
        turned["type"] = _OPPOSITES[node["type"]]
    elif node.get("function_name") in _OPPOSITE_FUNCTIONS:
        turned["function_name"] = _OPPOSITE_FUNCTIONS[node["function_name"]]
        if "qualified_name" in turned:
            turned["qualified_name"] = {"path": [turned["function_name"]]}
    else:
        return turned, False
    return turned, True


def _renamed(node: dict[str, Any], field: str) -> dict[str, Any]:
    for part in walk(node):
        if part.get("class") == "COLUMN_REF":
            part["column_names"] = [field]
    return node


def _orders(node: Mapping[str, Any]) -> bool:
    """Whether a comparison asks for less or more, which between words is the order of the alphabet."""
    kinds = [str(n.get("type", "")) for n in walk(node)]
    return any(kind.startswith("COMPARE_") and kind.endswith(_ORDERING) for kind in kinds)


def _is_numeric(node: Mapping[str, Any]) -> bool:
    """Whether every constant in a comparison is a number."""
    kinds = {str(_literal_kind(n)) for n in walk(node) if n.get("class") == "CONSTANT"}
    return bool(kinds) and kinds <= _NUMBERS


def _literal_kind(node: Mapping[str, Any]) -> object:
    if "literal" in node:
        return node["literal"]["kind"]
    return node["value"]["type"]["id"]  # DuckDB 1 calls it so
