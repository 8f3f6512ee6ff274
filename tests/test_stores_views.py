"""Views by SQL and as frames: the same rows by both doors, and nothing else to be had through the first."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from lore_mm.errors import InputError
from lore_mm.rows import attributes_table, demands_table, item_to_row, provenance_to_row
from lore_mm.tables import CHAINS, EMBEDDINGS, ITEMS, JUDGMENTS, LABELS, QUERIES, RUNS
from lore_mm.types import AttributeValue, Demand, Evidence, Item, Provenance, Query, Understanding
from stores.features import FeatureStore, open_store
from stores.snapshot import Snapshot
from stores.views import VIEWS

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def items(*ids: str, hours: int = 0, title: str = "Title of") -> pa.Table:
    made = provenance_to_row(Provenance(input_sha="row"), NOON + timedelta(hours=hours))
    rows = [
        item_to_row(Item(i, f"{title} {i}", price=float(n), attributes={"a": ("b", "c")}))
        | {"image_root": None, "status": "ok", "error": None, "provenance": made}
        for n, i in enumerate(ids)
    ]
    return pa.Table.from_pylist(rows, schema=ITEMS)


def attributes(item_id: str, extractor: str, *values: AttributeValue) -> dict[str, object]:
    made = {"status": "ok", "error": None, "provenance": Provenance()}
    return {"item_id": item_id, "extractor": extractor, "category": "things", "attributes": list(values)} | made


def fill(store: FeatureStore) -> None:
    """Every table, in several files, with rows that newer ones replaced: none, some, or all of a file."""
    store.append("items", items("a", "b", "c", title="Old"))  # all replaced
    store.append("items", items("d", "e", "f"))  # one replaced
    store.append("items", items("a", "b", "c", "e", hours=1, title="New"))
    store.append("items", items("g"))
    red = AttributeValue("color", "color", "red", share=0.5, evidence=(Evidence("title", "red", 0, 3),), extractor="x")
    tall = AttributeValue("height", "spec", "3 cm", number=3.0, unit="cm")
    none = AttributeValue("season", "season", None, status="not_stated")
    store.append("attributes", attributes_table([attributes("a", "merge", red), attributes("a", "given", red, tall)]))
    store.append("attributes", attributes_table([attributes("a", "merge", red, tall), attributes("b", "merge")]))
    store.append("attributes", attributes_table([attributes("c", "merge", none), attributes("d", "palette", red)]))
    lamp = Demand("category", "lamp", confidence=0.5)
    asked = [Understanding(Query(f"q{i}", "red lamp"), "red lamp", (lamp,) * i) for i in range(3)]
    store.append("demands", demands_table(asked, Provenance()))
    store.append("demands", demands_table(asked[:1], Provenance()))
    for grade in ("L1", "L2"):
        row = {"query_id": "q", "item_id": "a", "grade": grade, "reason": None}
        store.append("labels", pa.Table.from_pylist([row, row | {"query_id": grade}], schema=LABELS))
    judged = {"query_id": "q", "item_id": "a", "query": "x", "grade": "L3", "probabilities": [0.1, 0.2, 0.3, 0.4]}
    judged |= {"legs": [{"attribute": "color", "found": ["red"]}], "mode": "rules", "status": "ok"}
    store.append("judgments", pa.Table.from_pylist([judged, judged | {"mode": "other"}], schema=JUDGMENTS))
    query = {"query_id": "q", "query": "red lamp", "frequency": 2.0}
    store.append("queries", pa.Table.from_pylist([query, query | {"frequency": 3.0}], schema=QUERIES))
    vector = {"item_id": "a", "model": "m", "image": None, "text": [0.6, 0.8], "status": "ok"}
    store.append("embeddings", pa.Table.from_pylist([vector], schema=EMBEDDINGS))
    ran = {"run_id": "r", "job": "ingest", "event": "finished", "n_in": 1, "at": NOON}
    store.append("runs", pa.Table.from_pylist([ran, ran | {"n_in": 2}], schema=RUNS))
    filled = {pa.string(): "x", pa.bool_(): True}
    needed = {field.name: filled.get(field.type, 1) for field in CHAINS if not field.nullable}
    store.append("chains", pa.Table.from_pylist([needed], schema=CHAINS))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    store = open_store(tmp_path_factory.mktemp("views") / "store", create=True)
    fill(store)
    return store


@pytest.fixture(scope="module")
def snapshot(store: FeatureStore) -> Snapshot:
    return Snapshot(store)


def in_order(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(map(repr, rows))


# --- both doors ---


@pytest.mark.parametrize("view", VIEWS)
def test_a_frame_has_the_rows_and_columns_of_the_view(snapshot: Snapshot, view: str) -> None:
    shown = snapshot.sql(f"SELECT * FROM {view}")
    frame = snapshot.frame(view)
    assert frame.collect_schema().names() == shown.column_names
    rows = frame.collect()
    assert in_order(rows.to_dicts()) == in_order(shown.to_pylist())
    assert shown.num_rows > 0


def test_what_is_replaced_is_in_neither(snapshot: Snapshot) -> None:
    titles = {"a": "New a", "b": "New b", "c": "New c", "d": "Title of d", "e": "New e", "f": "Title of f"}
    titles["g"] = "Title of g"
    frame = snapshot.frame("items").select("item_id", "title").collect()
    assert dict(frame.iter_rows()) == titles
    assert frame["item_id"].to_list() == ["d", "f", "a", "b", "c", "e", "g"]  # in the order of their files
    shown = snapshot.sql("SELECT item_id, title FROM items").to_pylist()
    assert {row["item_id"]: row["title"] for row in shown} == titles
    values = snapshot.frame("latest").select("item_id", "name", "extractor").collect().rows()
    assert sorted(values) == [("a", "color", "x"), ("a", "height", ""), ("c", "season", "")]
    assert snapshot.frame("runs").collect()["n_in"].to_list() == [2]


def test_a_frame_of_a_table_that_is_not_there_is_empty(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s", create=True)
    store.append("items", items("a"))
    empty = Snapshot(store)
    for view in set(VIEWS) - {"items"}:
        rows = empty.frame(view).collect()
        assert (rows.height, rows.columns) == (0, empty.sql(f"SELECT * FROM {view}").column_names)


def test_a_frame_is_pinned_and_lazy(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s", create=True)
    store.append("items", items(*(f"i{n}" for n in range(1000))))
    before = Snapshot(store).frame("items")
    store.append("items", items("i1", "new", hours=1, title="New"))
    asked = before.filter(pl.col("item_id") == "i1").select("title", "price")
    assert asked.collect().rows() == [("Title of i1", 1.0)]
    after = Snapshot(store).frame("items").filter(pl.col("item_id") == "i1").select("title", "price")
    assert after.collect().rows() == [("New i1", 0.0)]
    for frame in (asked, after):
        scans = frame.explain().split("Parquet SCAN")[1:]
        assert scans
        for scan in scans:  # the title, the price and the id, of fourteen columns, and not of every row group
            assert re.search(r"PROJECT [34]/1\d COLUMNS\s+SELECTION: .*item_id.*i1", scan), scan


def test_a_frame_of_values_reads_what_it_needs(snapshot: Snapshot) -> None:
    asked = snapshot.frame("latest").filter(pl.col("item_id") == "a", pl.col("name") == "height")
    assert asked.select("value").collect()["value"].to_list() == ["3 cm"]
    for scan in asked.select("value").explain().split("Parquet SCAN")[1:]:
        assert re.search(r"PROJECT [34]/12 COLUMNS", scan), scan
        assert "merge" in scan and "item_id" in scan.split("SELECTION")[1]


def test_an_unknown_view_names_the_nearest(snapshot: Snapshot) -> None:
    with pytest.raises(InputError, match="no view 'latests', did you mean 'latest'"):
        snapshot.frame("latests")
