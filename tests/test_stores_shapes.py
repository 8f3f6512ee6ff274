"""Stores of an earlier version, whose demands knew fewer columns and fewer fields: read, asked and appended to."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from lore_mm.errors import StoreError
from lore_mm.rows import demands_table, understanding_from_row
from lore_mm.tables import DEMANDS
from lore_mm.types import Demand, Provenance, Query, Understanding
from stores.features import FeatureStore, open_store
from stores.shapes import is_earlier
from stores.snapshot import Snapshot
from stores.views import Views

LATER_COLUMNS, LATER_FIELDS = ("referent", "readings", "confidence", "engine"), ("links", "knowledge")
SOFA = Demand("category", "sofa", "sofa", role="head", start=4, end=8, alternatives=("couch",))
LAMP = Demand("category", "lamp", "lamp", links=("shopify:hg-13",), knowledge=("categories/lamp",))
ASK = "SELECT query_id, engine, canonical, links FROM demands ORDER BY query_id"


def earlier(type_: pa.DataType) -> pa.DataType:
    """The type as it was before fields were added."""
    if isinstance(type_, pa.ListType):
        return pa.list_(earlier(type_.value_type))
    if isinstance(type_, pa.StructType):
        return pa.struct([pa.field(f.name, earlier(f.type)) for f in type_ if f.name not in LATER_FIELDS])
    return type_


EARLIER = pa.schema(
    [pa.field(f.name, earlier(f.type), nullable=f.nullable) for f in DEMANDS if f.name not in LATER_COLUMNS]
)


def without_later(value: Any) -> Any:
    if isinstance(value, dict):
        later = (*LATER_COLUMNS, *LATER_FIELDS) if "query_id" in value else LATER_FIELDS
        return {name: without_later(v) for name, v in value.items() if name not in later}
    return [without_later(v) for v in value] if isinstance(value, list) else value


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    """A store as the earlier version wrote it."""
    rows = demands_table([Understanding(Query("q1", "red sofa"), "red sofa", (SOFA,))], Provenance("run", "understand"))
    old = pa.Table.from_pylist([without_later(row) for row in rows.to_pylist()], schema=EARLIER)
    write_deltalake(str(tmp_path / "store" / "demands"), old)
    return open_store(tmp_path / "store")


def understood(store: FeatureStore) -> dict[str, Understanding]:
    return {row["query_id"]: understanding_from_row(row) for row in store.latest("demands").collect().to_dicts()}


def test_an_earlier_table_is_read_with_nulls_for_what_it_did_not_know(store: FeatureStore) -> None:
    assert understood(store) == {"q1": Understanding(Query("q1", "red sofa"), "red sofa", (SOFA,))}
    [batch] = store.batches("demands", latest=True)
    assert batch.schema.equals(DEMANDS)
    assert understanding_from_row(batch.to_pylist()[0]).demands == (SOFA,)
    assert Snapshot(store).sql(ASK).to_pylist() == [
        {"query_id": "q1", "engine": None, "canonical": "sofa", "links": None}
    ]


def test_an_earlier_table_is_appended_to(store: FeatureStore) -> None:
    new = [
        Understanding(Query("q2", "a lamp"), "a lamp", (LAMP,), referent="precise", confidence=0.9, engine="knowledge"),
        Understanding(Query("q0", "lamp"), "lamp", (LAMP,), engine="tagger"),
    ]
    store.append("demands", demands_table(new, Provenance(maker="knowledge 1")), transaction=("job", 0))
    assert store.last_transaction("demands", "job") == 0
    found = understood(store)
    assert (found["q1"].demands, found["q2"], found["q0"]) == ((SOFA,), new[0], new[1])
    assert pa.Table.from_batches(store.batches("demands")).schema.equals(DEMANDS)
    links = ["shopify:hg-13"]
    assert Snapshot(store).sql(ASK).to_pylist() == [
        {"query_id": "q0", "engine": "tagger", "canonical": "lamp", "links": links},
        {"query_id": "q1", "engine": None, "canonical": "sofa", "links": None},
        {"query_id": "q2", "engine": "knowledge", "canonical": "lamp", "links": links},
    ]
    store.append("demands", demands_table([new[0]], Provenance("again")))  # the table is of this version by now
    assert store.count("demands") == 4
    assert Snapshot(store, {"demands": 0}).sql(ASK).num_rows == 1  # the version of before is still there


def test_a_table_of_this_version_is_not_cast(tmp_path: Path) -> None:
    """Casts would keep DuckDB from skipping row groups."""
    store = open_store(tmp_path / "new", create=True)
    row = demands_table([Understanding(Query("q1", "x"), "x", (LAMP,))], Provenance())
    store.append("demands", row)
    views = Views(store, store.snapshot())
    assert views.run("SELECT count(*) AS n FROM understood")["n"].to_pylist() == [1]
    [(defined,)] = views._do("SELECT sql FROM duckdb_views() WHERE view_name = 'newest_demands'")
    assert "read_parquet" in defined
    assert "CAST" not in defined


def test_what_is_not_merely_earlier_is_refused(store: FeatureStore) -> None:
    struct = pa.struct([pa.field("a", pa.string()), pa.field("b", pa.list_(pa.int64()))])
    assert is_earlier(pa.list_(pa.struct([pa.field("a", pa.string())])), pa.list_(struct))
    assert not is_earlier(struct, pa.struct([pa.field("a", pa.string())]))  # a later version's
    assert not is_earlier(pa.struct([pa.field("a", pa.int64())]), struct)
    needed = pa.struct([pa.field("a", pa.string()), pa.field("c", pa.string(), nullable=False)])
    assert not is_earlier(pa.struct([pa.field("a", pa.string())]), needed)
    later = EARLIER.append(pa.field("mood", pa.string()))
    row = {"query_id": "q", "query": "x", "status": "ok", "provenance": {"made_at": datetime.now(UTC)}, "mood": "good"}
    write_deltalake(
        f"{store.uri}/demands", pa.Table.from_pylist([row], schema=later), mode="append", schema_mode="merge"
    )
    with pytest.raises(StoreError, match="written by another version of lore-mm: unknown column 'mood'"):
        store.latest("demands")
