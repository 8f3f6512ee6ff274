"""What changed between two snapshots: items added, changed and gone, and values of attributes, old and new, and why.

Where the log tells which keys were written in between, only their rows are read, beside the column of keys; else the
content of every row is compared by a hash of 64 bits and one of its key, and the rows that differ are read by their
places. Rows come in batches, some items at a time. This module does not know how snapshots were chosen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from lore_mm.errors import InputError, nearest
from stores.changes import touched_keys
from stores.rows_of import newest_of, rows_of
from stores.said import NEEDED, Statement, lean, meaning, said_in, statement_in, words
from stores.why import VERDICT, why

if TYPE_CHECKING:
    from stores.snapshot import Snapshot

__all__ = ["DIFFERENCES", "differences", "summary_of"]

_COLUMNS: list[tuple[str, pa.DataType]] = [
    ("table", pa.string()),  # items | attributes
    ("item_id", pa.string()),
    ("extractor", pa.string()),  # null for items
    ("attribute", pa.string()),  # of items the field; null where the whole item came or went
    ("change", pa.string()),  # added | changed | removed, and of items gone
    ("old", pa.string()),  # several values with " | " between them; of a whole item its title
    ("new", pa.string()),
    ("old_status", pa.string()),
    ("new_status", pa.string()),
    ("why", pa.string()),  # one of stores.why.REASONS; null where something is gone
    ("changed", pa.list_(pa.string())),  # as in a history
    ("at", pa.timestamp("us", tz="UTC")),  # when the new row was made
    ("run_id", pa.string()),  # by which run
]
DIFFERENCES = pa.schema(_COLUMNS)
TABLES = ("items", "attributes")
_ITEMS = 2_000  # at a time
_FEW = 40_000  # items up to which the rows of touched keys are looked up; beyond, they are read by place
_READ_ROWS = 16_384
Row = Mapping[str, Any]


def differences(
    old: Snapshot, new: Snapshot, tables: Sequence[str] = TABLES, extractor: str = VERDICT
) -> Iterator[pa.RecordBatch]:
    """What is otherwise in `new` than in `old`, in rows of DIFFERENCES; the verdict's values unless another extractor's
    are asked for. Values are compared as in `stores.said.meaning`; that nothing is stated is no value. A row that
    failed has a line for each attribute that either side names.

    Memory holds the keys that were written in between; where all rows have to be compared 8 bytes a row and some 32
    an item, twice.

    Raises:
        InputError: a table is none of items and attributes.
    """
    for table in tables:
        if table not in TABLES:
            raise InputError(f"no differences of {table!r}{nearest(table, TABLES) or ';'} legal: {', '.join(TABLES)}")
    return (batch for table in tables for batch in _of_table(old, new, table, extractor))


def summary_of(batches: Iterable[pa.RecordBatch]) -> pa.Table:
    """How many differences there are of each table, attribute, change and reason: the most frequent first."""
    names = ("table", "attribute", "change", "why")
    counts: Counter[tuple[str | None, ...]] = Counter()
    for batch in batches:
        counts.update(zip(*(batch.column(name).to_pylist() for name in names), strict=True))
    rows = sorted(counts.items(), key=lambda one: (-one[1], [part or "" for part in one[0]]))
    schema = pa.schema([*(DIFFERENCES.field(name) for name in names), pa.field("n", pa.int64())])
    return pa.Table.from_pylist([dict(zip(names, key, strict=True), n=n) for key, n in rows], schema=schema)


def _of_table(old: Snapshot, new: Snapshot, table: str, extractor: str) -> Iterator[pa.RecordBatch]:
    if _same(old, new, table):
        return
    ids = _touched(old, new, table, extractor)
    pairs = _by_place(old, new, table, extractor) if ids is None else _by_key(old, new, table, ids)
    for before, after in pairs:
        found = list(_compared(before, after, table, extractor))
        if found:
            yield pa.RecordBatch.from_pylist(found, schema=DIFFERENCES)


def _same(old: Snapshot, new: Snapshot, table: str) -> bool:
    versions = old.versions.get(table), new.versions.get(table)
    return versions == (None, None) or (old.store.uri == new.store.uri and versions[0] == versions[1])


# --- which items, and their rows ---


def _touched(old: Snapshot, new: Snapshot, table: str, extractor: str) -> list[str] | None:
    """The items that may differ, as the log tells them, sorted; None where it does not, or where they are many."""
    if old.store.uri != new.store.uri:
        return None
    first, last = sorted((old.versions.get(table, -1), new.versions.get(table, -1)))
    if first < 0 or 2 * (new.store.count(table, last) - new.store.count(table, first)) > new.store.count(table, last):
        return None  # most of it: to read all is less
    keys = touched_keys(new.store, table, first, last)
    if keys is None:
        return None
    frame = pl.DataFrame(pl.from_arrow(keys))
    if "extractor" in frame.columns:
        frame = frame.filter(pl.col("extractor") == extractor)
    return sorted(frame["item_id"].unique().to_list()) if len(frame) <= _FEW else None


def _by_key(old: Snapshot, new: Snapshot, table: str, ids: Sequence[str]) -> Iterator[tuple[pa.Table, pa.Table]]:
    for start in range(0, len(ids), _ITEMS):
        some = ids[start : start + _ITEMS]
        yield _newest_rows(old, table, some), _newest_rows(new, table, some)


def _newest_rows(side: Snapshot, table: str, ids: Sequence[str]) -> pa.Table:
    found = rows_of(side.store, table, ids, NEEDED[table], side.versions[table])
    return lean(newest_of(found, table), table)


def _by_place(old: Snapshot, new: Snapshot, table: str, extractor: str) -> Iterator[tuple[pa.Table, pa.Table]]:
    """The rows of items whose content differs, in the order of the new ones, by comparing all."""
    sides = _Side(old, table, extractor), _Side(new, table, extractor)
    contents = [side.contents for side in sides]
    differ = [
        contents[a].join(contents[b], on=["key", "content"], how="anti")["key"].to_numpy() for a, b in ((0, 1), (1, 0))
    ]
    del contents
    keys = np.unique(np.concatenate(differ))
    for side in sides:
        side.keep(keys)
    order = np.concatenate([sides[1].keys_in_order(), sides[0].keys_in_order()])
    _, first = np.unique(order, return_index=True)
    order = order[np.sort(first)]
    for start in range(0, len(order), _ITEMS):
        some = order[start : start + _ITEMS]
        yield sides[0].take(some), sides[1].take(some)


class _Side:
    """The rows of one snapshot by the hashes of their items.

    `contents`: key and content of each row that is compared; of all rows, the key and the place.
    """

    def __init__(self, snapshot: Snapshot, table: str, extractor: str) -> None:
        self._snapshot, self._table = snapshot, table
        self._version = snapshot.versions.get(table)
        keys: list[NDArray[np.uint64]] = [np.empty(0, np.uint64)]
        contents = [pl.DataFrame(schema={"key": pl.UInt64, "content": pl.UInt64})]
        said = [name for name in NEEDED[table] if name not in ("provenance", "made_from", "extractor", "item_id")]
        if self._version is not None:
            stream = snapshot.store.batches(table, NEEDED[table], self._version, _READ_ROWS, latest=True)
            for batch in stream:
                frame = pl.DataFrame(pl.from_arrow(lean(pa.Table.from_batches([batch]), table)))
                frame = frame.with_columns(key=pl.col("item_id").hash(0))
                keys.append(frame["key"].to_numpy())
                if table == "attributes":
                    frame = frame.filter(pl.col("extractor") == extractor)
                contents.append(frame.select("key", content=pl.struct(said).hash(1)))
        self._keys = np.concatenate(keys)
        self._places = np.arange(len(self._keys))
        self.contents = pl.concat(contents)
        self._rows = None if self._version is None else snapshot.store.newest(table, self._version)

    def keep(self, keys: NDArray[np.uint64]) -> None:
        """Only the rows of these items from now on."""
        self.contents = pl.DataFrame()
        kept = np.flatnonzero(np.isin(self._keys, keys))
        self._order = kept
        kept = kept[np.argsort(self._keys[kept], kind="stable")]
        self._all, self._keys, self._places = self._keys, self._keys[kept], kept

    def keys_in_order(self) -> NDArray[np.uint64]:
        """The keys that are kept, each where its first row stands."""
        keys = self._all[self._order]
        _, first = np.unique(keys, return_index=True)
        return keys[np.sort(first)]

    def take(self, keys: NDArray[np.uint64]) -> pa.Table:
        """The rows of some of the items that are kept."""
        if self._rows is None:
            return lean(rows_of(self._snapshot.store, self._table, (), NEEDED[self._table]), self._table)
        first, last = (np.searchsorted(self._keys, keys, side) for side in ("left", "right"))
        places = [self._places[a:b] for a, b in zip(first.tolist(), last.tolist(), strict=True)]
        return lean(self._rows.take(np.concatenate(places), NEEDED[self._table]), self._table)


# --- what of them ---


def _compared(before: pa.Table, after: pa.Table, table: str, extractor: str) -> Iterator[dict[str, Any]]:
    """The differences between the rows of the same items, in the order of the new ones."""
    old, new = _by_item(before), _by_item(after)
    who = None if table == "items" else extractor
    for item_id in dict.fromkeys([*new, *old]):
        then, now = old.get(item_id, {}), new.get(item_id, {})
        made = (now.get(who) or {}).get("provenance") or {}
        common = {"table": table, "item_id": item_id, "extractor": who}
        common |= {"at": made.get("made_at"), "run_id": made.get("run_id")}
        one_by_one = _item if table == "items" else _values
        for found in one_by_one(then, now, who):
            yield common | found


def _by_item(rows: pa.Table) -> dict[str, dict[str | None, Row]]:
    """Item → extractor (of items None) → its row."""
    found: dict[str, dict[str | None, Row]] = {}
    for row in pl.DataFrame(pl.from_arrow(rows)).to_dicts():
        found.setdefault(row["item_id"], {})[row.get("extractor")] = row
    return found


def _item(old: Mapping[str | None, Row], new: Mapping[str | None, Row], who: str | None) -> Iterator[dict[str, Any]]:
    then, now = old.get(who), new.get(who)
    if now is None:
        yield {"change": "gone", "old": then and then["title"]}
    elif then is None:
        reason, changed = why(None, now)
        yield {"change": "added", "new": now["title"], "why": reason, "changed": changed}
    else:
        before, after = said_in("items", then), said_in("items", now)
        reason, changed = why(then, now)
        for name in dict.fromkeys([*before, *after]):
            said = before.get(name, ()), after.get(name, ())
            if meaning(said[0]) != meaning(said[1]):
                yield _line(name, *said) | {"why": reason, "changed": changed}


def _values(old: Mapping[str | None, Row], new: Mapping[str | None, Row], who: str | None) -> Iterator[dict[str, Any]]:
    """Attribute by attribute; the sources of a verdict are compared only where it differs."""
    rows = old.get(who), new.get(who)
    before, after = (said_in("attributes", row) if row else {} for row in rows)
    others: list[dict[str, dict[str, Statement]]] | None = None
    for name in dict.fromkeys([*before, *after]):
        then, now = (
            statement_in("attributes", row, name, says) for row, says in zip(rows, (before, after), strict=True)
        )
        if meaning(then, silence=False) == meaning(now, silence=False):
            continue
        if rows[1] is None:
            yield _line(name, then, now)
            continue
        if others is None:
            others = [
                {str(e): said_in("attributes", row) for e, row in side.items() if e != who} for side in (old, new)
            ]
        a, b = others
        sources = [e for e in {**a, **b} if a.get(e, {}).get(name, ()) != b.get(e, {}).get(name, ())]
        reason, changed = why(rows[0], rows[1], sources)
        yield _line(name, then, now) | {"why": reason, "changed": changed}


def _line(name: str, then: Statement, now: Statement) -> dict[str, Any]:
    old, new = words(then), words(now)
    change = "removed" if old is not None and new is None else "added" if old is None and new is not None else "changed"
    return {
        "attribute": name,
        "change": change,
        "old": old,
        "new": new,
        "old_status": then[0].status if then else None,
        "new_status": now[0].status if now else None,
    }
