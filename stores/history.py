"""The values that an item's attributes, and its own fields, ever had: when each came, by whom, and why.

Told from all rows ever written of the item at one snapshot, and from nothing else: those of each extractor, of the
verdict over them (`merge`), and of the seller. Rows are in order of their time of making, as `FeatureStore.latest`
weighs them. This module does not know what made the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from lore_mm.errors import InputError, nearest
from stores.features import FeatureStore
from stores.rows_of import rows_of
from stores.said import ABSENT, NEEDED, Said, Statement, meaning, said_in, statement_in
from stores.why import VERDICT, why

__all__ = ["HISTORY", "SELLER", "history_of"]

SELLER = "seller"  # who says what stands in ITEMS
_COLUMNS: list[tuple[str, pa.DataType]] = [
    ("item_id", pa.string()),
    ("attribute", pa.string()),
    ("extractor", pa.string()),  # merge: the verdict over the others; seller: the catalogue
    ("at", pa.timestamp("us", tz="UTC")),
    ("value", pa.string()),
    ("status", pa.string()),  # as of attributes, or absent: the row does not speak of it any more
    ("number", pa.float64()),
    ("unit", pa.string()),
    ("share", pa.float64()),
    ("confidence", pa.float64()),
    ("why", pa.string()),  # one of stores.why.REASONS
    ("changed", pa.list_(pa.string())),  # which parts of its input, or which sources
    ("times", pa.int64()),  # rows that said so one after the other, up to `last_at`
    ("last_at", pa.timestamp("us", tz="UTC")),
    ("run_id", pa.string()),
    ("error", pa.string()),
]
HISTORY = pa.schema(_COLUMNS)
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class _Row:
    """A row with what it says, in its place among all rows of the item."""

    extractor: str
    row: Mapping[str, Any]
    says: dict[str, Statement]
    at: datetime | None

    @property
    def failed(self) -> bool:
        return bool(self.row["status"] == "failed")


@dataclass(slots=True)
class _Entry:
    """A statement that stood for some rows, one after the other."""

    place: int
    attribute: str
    first: _Row
    statement: Statement
    why: str
    changed: list[str]
    times: int = 1
    last_at: datetime | None = None


def history_of(
    store: FeatureStore,
    versions: Mapping[str, int],
    item_id: str,
    attribute: str | None = None,
    *,
    fold: bool = True,
) -> pa.Table:
    """Every value of one attribute of an item, or of all; with its fields, at these versions. Columns: HISTORY.

    One row a value; values of one attribute, extractor and time belong together. With `fold` a statement that repeats
    the one before it (`stores.said.meaning`) adds to its `times` only. The seller's own attribute of that name is
    `given.<name>`. Memory holds the rows of this one item. Empty where there is no such item.

    Raises:
        InputError: nobody ever spoke of such an attribute; the text names the nearest.
    """
    rows = _rows(store, versions, item_id)
    if not rows:
        return HISTORY.empty_table()
    names = list(dict.fromkeys(name for one in rows for name in one.says))
    if attribute is not None:
        wanted = [name for name in names if name in (attribute, f"given.{attribute}")]
        if not wanted:
            raise InputError(
                f"nobody ever spoke of {attribute!r} of item {item_id!r}{nearest(attribute, names) or ';'}"
                f" there are: {', '.join(sorted(names))}"
            )
        names = wanted
    entries = [entry for name in names for entry in _entries(rows, name, fold)]
    entries.sort(key=lambda entry: entry.place)  # of one row in the order of `names`
    told = [line for entry in entries for line in _lines(item_id, entry)]
    return pa.Table.from_pylist(told, schema=HISTORY)


def _rows(store: FeatureStore, versions: Mapping[str, int], item_id: str) -> list[_Row]:
    """All rows of an item in order of time; the seller's before others of the same microsecond."""
    found: list[_Row] = []
    for table in ("items", "attributes"):
        if table in versions:
            for row in rows_of(store, table, [item_id], NEEDED[table], versions[table]).to_pylist():
                made = (row["provenance"] or {}).get("made_at")
                found.append(_Row(row.get("extractor") or SELLER, row, said_in(table, row), made))
    return sorted(found, key=lambda one: one.at or _NEVER)


def _entries(rows: Sequence[_Row], name: str, fold: bool) -> Iterator[_Entry]:
    """What each extractor said of one name, in turn; who never spoke of it is left out, but for a failed verdict."""
    standing: dict[str, _Entry] = {}  # the last entry by extractor
    spoken: dict[str, Statement] = {}  # the last statement, which the entry may be a repetition of
    before: dict[str, Mapping[str, Any]] = {}
    stood: dict[str, Statement] = {}  # what the extractors said when the verdict was last made
    speakers = {one.extractor for one in rows if name in one.says}
    if any(one.extractor != SELLER for one in rows if name in one.says):
        speakers.add(VERDICT)
    for place, one in enumerate(rows):
        who = one.extractor
        if who not in speakers:
            continue
        now = {e: statement for e, statement in spoken.items() if e not in (VERDICT, SELLER)}
        sources = [e for e in {**stood, **now} if stood.get(e) != now.get(e)] if who == VERDICT else []
        stood = now if who == VERDICT else stood
        reason, changed = why(before.get(who), one.row, sources)
        before[who] = one.row
        statement, last = _statement(one, name, who in standing), standing.get(who)
        if not statement:
            continue
        spoken[who] = statement
        if fold and last is not None and meaning(last.statement) == meaning(statement):
            last.times, last.last_at = last.times + 1, one.at
            continue
        standing[who] = _Entry(place, name, one, statement, reason, changed, last_at=one.at)
        yield standing[who]


def _statement(one: _Row, name: str, spoken: bool) -> Statement:
    """What a row says of a name; of one that is silent now, that."""
    said = statement_in("items" if one.extractor == SELLER else "attributes", one.row, name, one.says)
    return said or ((Said(None, ABSENT),) if spoken else ())


def _lines(item_id: str, entry: _Entry) -> Iterator[dict[str, Any]]:
    fault = entry.first.row["error"] if entry.first.failed else None
    for said in entry.statement:
        yield {
            "item_id": item_id,
            "attribute": entry.attribute,
            "extractor": entry.first.extractor,
            "at": entry.first.at,
            **said._asdict(),
            "error": said.error or fault,
            "why": entry.why,
            "changed": entry.changed,
            "times": entry.times,
            "last_at": entry.last_at,
            "run_id": (entry.first.row["provenance"] or {}).get("run_id"),
        }
