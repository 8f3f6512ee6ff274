"""What a row of ATTRIBUTES or ITEMS says, name by name, in one form for both, so that it can be compared with another.

Of an item the names are its fields (title, price …) and, as `given.<key>`, the seller's own attributes. This module
knows one row at a time.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa

__all__ = ["ABSENT", "FIELDS", "NEEDED", "Said", "Statement", "lean", "meaning", "said_in", "statement_in", "words"]

# columns of a row that have to be there for `said_in`, and for `stores.why`
NEEDED: Mapping[str, tuple[str, ...]] = {
    "attributes": ("item_id", "extractor", "attributes", "status", "error", "provenance", "made_from"),
    "items": (
        *("item_id", "title", "description", "category", "brand", "attributes", "price", "currency", "images"),
        *("store", "status", "error", "provenance"),
    ),
}
FIELDS = ("title", "description", "category", "brand", "price", "currency", "images", "store")
ABSENT = "absent"  # the status of what a later row does not speak of any more
_SILENT = {"not_stated", "not_applicable", ABSENT}


class Said(NamedTuple):
    """One value of one name, or why there is none. `status` as in `lore_mm.types`, or absent."""

    value: str | None = None
    status: str = "value"
    number: float | None = None
    unit: str | None = None
    share: float | None = None
    confidence: float | None = None
    error: str | None = None


Statement = tuple[Said, ...]  # all values of one name, in their order
_READ = ("name", "value", "status", "number", "unit", "share", "confidence", "error")  # of the struct of an attribute


def lean(rows: pa.Table, table: str) -> pa.Table:
    """Rows without what `said_in` does not read of them, the evidence above all, which is most of their bytes."""
    if table != "attributes":
        return rows
    frame = pl.DataFrame(pl.from_arrow(rows))
    read = pl.struct(pl.element().struct.field(name) for name in _READ)
    return frame.with_columns(pl.col("attributes").list.eval(read)).to_arrow()


def said_in(table: str, row: Mapping[str, Any]) -> dict[str, Statement]:
    """Name → what a row says of it. A name that it does not speak of is not there."""
    return _of_item(row) if table == "items" else _of_attributes(row)


def statement_in(table: str, row: Mapping[str, Any] | None, name: str, says: Mapping[str, Statement]) -> Statement:
    """What a row, which `says` what `said_in` gave, says of one name: a failed one of an extractor, that it failed."""
    if name in says or row is None:
        return says.get(name, ())
    if table == "attributes" and row["status"] == "failed":
        return (Said(None, "failed", error=row["error"]),)
    return ()


def meaning(statement: Statement, *, silence: bool = True) -> Hashable:
    """What two statements are compared by: values, numbers, units and statuses, in any order; not confidence and share.

    Without `silence` all that is no value and no failure is the same as nothing.
    """
    return frozenset(
        (one.value, repr(one.number), one.unit, one.status, one.error if one.status == "failed" else None)
        for one in statement
        if silence or one.status not in _SILENT
    )


def words(statement: Statement) -> str | None:
    """The values in one text, " | " between them; None where there is none."""
    return " | ".join(one.value for one in statement if one.value is not None) or None


def _of_attributes(row: Mapping[str, Any]) -> dict[str, Statement]:
    found: dict[str, list[Said]] = {}
    for one in row["attributes"] or ():
        numbers = one["number"], one["unit"], one["share"], one["confidence"]
        found.setdefault(one["name"] or "", []).append(
            Said(one["value"], one["status"] or "value", *numbers, one["error"])
        )
    return {name: tuple(values) for name, values in found.items()}


def _of_item(row: Mapping[str, Any]) -> dict[str, Statement]:
    """A field that the seller left empty is not spoken of. Why a row could not be used is its `fault`."""
    found: dict[str, Statement] = {}
    for name in FIELDS:
        value = row[name]
        if name == "images":
            found[name] = tuple(Said(str(one)) for one in value or ())
        elif isinstance(value, float):
            found[name] = (Said(f"{value:.15g}", number=value),)
        elif value:
            found[name] = (Said(str(value)),)
    for given in row["attributes"] or ():
        found[f"given.{given['name']}"] = tuple(Said(str(value)) for value in given["values"] or ())
    if row["status"] != "ok":
        found["fault"] = (Said(None, "failed", error=row["error"]),)
    return {name: statement for name, statement in found.items() if statement}
