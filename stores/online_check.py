"""Whether an online view holds what the tables say: all of it, or counts and a sample by lot. It writes nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from heapq import merge
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import lmdb

from lore_mm.errors import StoreError
from stores.features import FeatureStore
from stores.online import OnlineView, open_databases, open_online
from stores.online_codec import features_from_bytes, key_of, understood_from_bytes
from stores.online_entries import OnlineSource, most_frequent

__all__ = ["SAMPLE", "Checked", "check_online", "sampled_differences"]

_NAMED = 10  # differences that are named
_RUNS, _EACH = 10, 100
SAMPLE = _RUNS * _EACH  # rows of a table looked up before a view is swapped in, as ten runs of neighbours by lot

_Difference = tuple[bytes, bytes | None, bytes | None]  # key, what the tables say, what the view holds


@dataclass(frozen=True, slots=True)
class Checked:
    """How a view compares with its tables.

    Attributes:
        view: the view.
        different: how many entries differ, are missing or are too many.
        first: the first of them, a line each.
    """

    view: OnlineView
    different: int
    first: tuple[str, ...]


def check_online(store: FeatureStore) -> Checked:
    """Compare every entry of a store's view with the tables it was made from, at their versions.

    Memory is flat but for the keys.

    Raises:
        StoreError: there is no view, or it cannot be read; its tables are gone, or not those it was made from.
    """
    view = open_online(store)
    made_from = view.manifest.tables
    for table, at in made_from.items():
        if store.table_id(table) != at.id:
            raise StoreError(f"table {table} is not the one that the online view was made from: run `lore online`")
    head = None
    if view.manifest.head is not None:
        head = most_frequent(store, made_from["queries"].version, view.manifest.head)
    with tempfile.TemporaryDirectory(prefix="lore-online-") as spill:
        source = OnlineSource(store, view.versions, head, Path(spill))
        try:
            found, first = 0, []
            for line in _all_differences(source, view.environment):
                found += 1
                first += [line] if found <= _NAMED else []
        except lmdb.Error as error:
            raise StoreError(f"online view {view.path} is damaged: {error}; run `lore online --anew`") from None
    return Checked(view, found, tuple(first))


def sampled_differences(source: OnlineSource, environment: lmdb.Environment) -> Iterator[str]:
    """Where a view's counts, or what it holds of a sample of the tables' rows, differ from what the tables say."""
    items, queries, asked = open_databases(environment)
    with environment.begin() as transaction:
        yield from _counts(transaction, items, source.count_items(), "items")
        for database in (queries, asked):
            yield from _counts(transaction, database, len(source.texts()), "queries")
        expected = source.features(source.sample("items", _RUNS, _EACH))
        yield from _items_said((key, value, transaction.get(key, None, items)) for key, value in expected)
        keys = source.keys_of(source.sample("demands", _RUNS, _EACH))
        expected_queries = ((key, value) for key, _, value in source.understood(keys))
        yield from _queries_said((key, value, transaction.get(key, None, queries)) for key, value in expected_queries)


def _counts(transaction: Any, database: Any, expected: int, what: str) -> Iterator[str]:
    held = transaction.stat(database)["entries"]
    if held != expected:
        yield f"{held} {what} in the view, {expected} in the tables"


def _all_differences(source: OnlineSource, environment: lmdb.Environment) -> Iterator[str]:
    items, queries, asked = open_databases(environment)
    with environment.begin() as transaction:
        yield from _items_said(_aligned(source.features(), transaction.cursor(items)))
        astray = 0

        def understood() -> Iterator[tuple[bytes, bytes]]:
            nonlocal astray
            for key, query_id, value in source.understood():
                astray += transaction.get(key_of(query_id), None, asked) != key
                yield key, value

        yield from _queries_said(_aligned(understood(), transaction.cursor(queries)))
        astray += transaction.stat(asked)["entries"] != transaction.stat(queries)["entries"]
        if astray:
            yield f"{astray} query ids in the view do not lead to their queries: the next refresh would go wrong"


def _aligned(expected: Iterable[tuple[bytes, bytes | None]], held: Iterable[Any]) -> Iterator[_Difference]:
    """Both sides, in the order of their keys."""
    said = ((key, 0, value) for key, value in expected)
    have = ((key, 1, value) for key, value in held)
    for key, parts in groupby(merge(said, have, key=itemgetter(0)), itemgetter(0)):
        found = {side: value for _, side, value in parts}
        yield key, found.get(0), found.get(1)


def _items_said(entries: Iterable[_Difference]) -> Iterator[str]:
    for _, said, held in entries:
        if said != held:
            yield f"item {_named(held if said is None else said, _item_id)!r}: {_how(said, held)}"


def _queries_said(entries: Iterable[_Difference]) -> Iterator[str]:
    for _, said, held in entries:
        if said != held:
            yield f"query {_named(held if said is None else said, _query_text)!r}: {_how(said, held)}"


def _how(said: bytes | None, held: bytes | None) -> str:
    if held is None:
        return "not in the view"
    return "in the view, not in the tables" if said is None else "the view holds something else than the tables"


def _named(data: bytes | None, name: Callable[[bytes], str]) -> str:
    try:
        return name(data or b"")
    except StoreError:
        return "(damaged)"


def _item_id(data: bytes) -> str:
    return features_from_bytes(data).item.item_id


def _query_text(data: bytes) -> str:
    return understood_from_bytes(data).understanding.query.text
