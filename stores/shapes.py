"""Whether a table on disk is one this version reads: the same columns, or those of an earlier version.

An earlier version wrote fewer nullable columns, and structs (also within lists) of fewer fields; what it did not know
is null. It knows types alone, no rows and no files.
"""

from __future__ import annotations

import pyarrow as pa
from deltalake import DeltaTable

from lore_mm.errors import StoreError
from lore_mm.tables import TABLES

__all__ = ["check_shape", "is_earlier", "needs_merge"]


def check_shape(table: str, delta: DeltaTable, uri: str) -> None:
    """Refuse a table whose columns this version would misread; one that only lacks what came later is fine.

    Raises:
        StoreError: naming the columns.
    """
    have = _types(delta)
    want = {field.name: field for field in TABLES[table]}
    faults = [f"table feature {name!r}" for name in delta.protocol().reader_features or ()]
    faults += [f"unknown column {name!r}" for name in have if name not in want]
    faults += [f"no column {name!r}" for name, field in want.items() if name not in have and not field.nullable]
    faults += [
        f"column {name!r} is {_short(have[name])}, not {_short(field.type)}"
        for name, field in want.items()
        if name in have and not is_earlier(have[name], field.type)
    ]
    if faults:
        raise StoreError(
            f"table {table} in {uri} was written by another version of lore-mm: {'; '.join(faults)};"
            " read it with that version, or start a new store"
        )


def needs_merge(delta: DeltaTable, rows: pa.Table) -> bool:
    """Whether the table lacks columns, or fields of structs, that these rows have."""
    have = _types(delta)
    return any(have.get(field.name) != field.type for field in rows.schema)


def is_earlier(have: pa.DataType, want: pa.DataType) -> bool:
    """True for the same type, and for one whose structs, at any depth, lack some of the nullable fields."""
    if have == want:
        return True
    if isinstance(have, pa.ListType) and isinstance(want, pa.ListType):
        return is_earlier(have.value_type, want.value_type)
    if isinstance(have, pa.StructType) and isinstance(want, pa.StructType):
        fields = {field.name: field for field in have}
        return set(fields) <= {field.name for field in want} and all(
            is_earlier(fields[field.name].type, field.type) if field.name in fields else field.nullable
            for field in want
        )
    return False


def _types(delta: DeltaTable) -> dict[str, pa.DataType]:
    present: pa.Schema = pa.schema(delta.schema().to_arrow())  # type: ignore[arg-type]
    return {field.name: field.type for field in present}


def _short(type_: pa.DataType) -> str:
    text = str(type_)
    return text if len(text) <= 60 else f"{text[:57]}…"
