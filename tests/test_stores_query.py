from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lore_mm.console import command_app, run
from lore_mm.errors import InputError, LoreError, PictureError, StoreError
from lore_mm.models import open_embedder
from lore_mm.rows import attributes_table, item_to_row, provenance_to_row
from lore_mm.tables import ITEMS, LABELS, RUNS
from lore_mm.types import AttributeValue, Item, ItemFeatures, Provenance
from stores.features import FeatureStore, open_store
from stores.online_write import build_online
from stores.query import main
from stores.snapshot import Snapshot
from stores.vector_build import build_index
from stores.views import VIEWS

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
EMBEDDER = open_embedder("scripted:0")


def value(name: str, words: str | None, number: float | None = None, **more: object) -> AttributeValue:
    return AttributeValue(name, more.pop("dimension", "spec"), words, number=number, **more)  # type: ignore[arg-type]


# item_id → title, seller's brand, price, merged values
CATALOGUE: dict[str, tuple[str, str | None, float | None, list[AttributeValue]]] = {
    "boot": ("Black boot", "Adidas", 150.0, [value("color", "black"), value("height", "30 cm", 30.0, unit="cm")]),
    "bag": ("Bag", None, 20.0, [value("color", None, status="not_stated")]),
    "shoe": (
        "Red and black shoe",
        "Nike",
        60.0,
        [
            value("color", "red", share=0.75),
            value("color", "black", share=0.25),
            value("size", "42"),
            value("height", "10 cm", 10.0, unit="cm"),
            value("brand", "Nike", status="conflict"),
        ],
    ),
    "ring": ("Ring", "Acme", None, [value("brand", "O'Neill"), value("color", "silver")]),
}


def item_rows(*items: Item, hours: int = 0, failed: str | None = None) -> pa.Table:
    provenance = provenance_to_row(Provenance(input_sha="row"), NOON + timedelta(hours=hours))
    rows = [
        item_to_row(i)
        | {"image_root": None, "status": "failed" if failed else "ok", "error": failed, "provenance": provenance}
        for i in items
    ]
    return pa.Table.from_pylist(rows, schema=ITEMS)


def attribute_row(item_id: str, extractor: str, values: list[AttributeValue]) -> dict[str, object]:
    provenance = Provenance(input_sha="pixels")
    row = {"item_id": item_id, "extractor": extractor, "category": "things", "attributes": values}
    return row | {"status": "ok", "error": None, "provenance": provenance}


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> FeatureStore:
    """Four items that can be read and one that cannot; the titles of two were corrected later."""
    store = open_store(tmp_path_factory.mktemp("it's a") / "store", create=True)
    items = [Item(i, title, brand=brand, price=price) for i, (title, brand, price, _) in CATALOGUE.items()]
    store.append("items", item_rows(*(Item(i.item_id, "Old " + i.title) for i in items[:2]), hours=-1))
    store.append("items", item_rows(*items))
    store.append("items", item_rows(Item("broken", ""), failed="title is empty"))
    store.append("attributes", attributes_table([attribute_row(i, "merge", v[3]) for i, v in CATALOGUE.items()]))
    store.append("attributes", attributes_table([attribute_row("bag", "given", [value("color", "green")])]))
    labels = [{"query_id": "q1", "item_id": i, "grade": g, "reason": None} for i, g in (("shoe", "L4"), ("bag", "L1"))]
    store.append("labels", pa.Table.from_pylist(labels, schema=LABELS))
    titles = [item.title for item in items]
    build_index(
        list(CATALOGUE),
        EMBEDDER.embed_texts(titles),
        store.folder / "vectors" / "items",
        manifest={"model": EMBEDDER.name, "model_sha": EMBEDDER.sha, "table_version": None},
    )
    return store


@pytest.fixture(scope="module")
def snapshot(store: FeatureStore) -> Snapshot:
    return Snapshot(store)


def features(item_id: str) -> ItemFeatures:
    title, brand, price, values = CATALOGUE[item_id]
    return ItemFeatures(Item(item_id, title, brand=brand, price=price), tuple(values), "pixels")


def message(call) -> str:
    with pytest.raises(LoreError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- by id ---


def test_get_keeps_order_repeats_and_gaps(snapshot: Snapshot) -> None:
    ids = ["shoe", "unknown", "bag", "shoe", "broken", "it's", "", "\udcff"]
    assert snapshot.get(ids) == [features("shoe"), None, features("bag"), features("shoe"), *[None] * 4]
    assert snapshot.get([]) == []


def test_get_says_why_not(snapshot: Snapshot) -> None:
    assert snapshot.missing(["shoe", "broken", "bag", "shoo", "\udcff", "'; --", "shoo"]) == {
        "broken": "item 'broken' could not be read: title is empty",
        "shoo": "no item 'shoo' in the store, did you mean 'shoe'?",
        "\udcff": "no item '\\udcff' in the store",
        "'; --": 'no item "\'; --" in the store',
    }
    assert list(snapshot.missing(["zzz", "broken"])) == ["zzz", "broken"]
    assert snapshot.missing([]) == snapshot.missing(["shoe"]) == {}


def test_many_ids_take_several_statements(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stores.snapshot._AT_ONCE", 2)
    ids = ["ring", "no", "boot", "bag", "shoe", "no", "ring"]
    assert [one.item.item_id if one else None for one in snapshot.get(ids)] == [
        "ring", None, "boot", "bag", "shoe", None, "ring",
    ]  # fmt: skip
    assert list(snapshot.missing(ids)) == ["no"]


def test_the_online_view_answers_the_same(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s", create=True)
    store.append("items", item_rows(Item("a", "A"), Item("b", "B")))
    store.append("attributes", attributes_table([attribute_row("a", "merge", [value("color", "red")])]))
    slow = Snapshot(store)
    build_online(store)
    fast = Snapshot(store)
    assert (slow._online, fast._online is not None) == (None, True)
    assert fast.get(["b", "x", "a"]) == slow.get(["b", "x", "a"])
    assert slow.get(["a"])[0].attributes == (value("color", "red"),)
    store.append("items", item_rows(Item("b", "New"), hours=1))
    newer = Snapshot(store)  # the view is of before: not used
    assert newer._online is None
    assert newer.get(["b"])[0].item.title == "New"
    assert fast.get(["b"])[0].item.title == "B"


# --- SQL ---


def test_views_show_the_newest_rows(snapshot: Snapshot) -> None:
    got = snapshot.sql("SELECT item_id, title, status FROM items ORDER BY item_id").to_pylist()
    wanted = [{"item_id": i, "title": v[0], "status": "ok"} for i, v in CATALOGUE.items()]
    wanted.append({"item_id": "broken", "title": "", "status": "failed"})
    assert got == sorted(wanted, key=lambda row: row["item_id"])
    exploded = snapshot.sql("SELECT item_id, name, value, number, unit, share, status, confidence FROM latest")
    assert sorted(map(str, exploded.to_pylist())) == sorted(
        str(
            {
                "item_id": item_id,
                "name": v.name,
                "value": v.value,
                "number": v.number,
                "unit": v.unit,
                "share": v.share,
                "status": v.status,
                "confidence": v.confidence,
            }
        )
        for item_id, (*_, values) in CATALOGUE.items()
        for v in values
    )
    by_extractor = snapshot.sql("SELECT extractor, count(*) AS n FROM attributes GROUP BY extractor ORDER BY extractor")
    n_merged = sum(len(v[3]) for v in CATALOGUE.values())
    assert by_extractor.to_pylist() == [{"extractor": "given", "n": 1}, {"extractor": "merge", "n": n_merged}]
    joined = snapshot.sql("SELECT grade FROM labels JOIN items USING (item_id) WHERE price > 50")
    assert joined.to_pylist() == [{"grade": "L4"}]
    for view in VIEWS:
        assert snapshot.sql(f"SELECT * FROM {view} LIMIT 0").num_rows == 0  # also tables that are not there yet


def test_a_snapshot_is_pinned(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s", create=True)
    store.append("items", item_rows(Item("a", "old")))
    before = Snapshot(store)
    store.append("items", item_rows(Item("a", "new"), Item("b", "B"), hours=1))
    after = Snapshot(store)
    query = "SELECT title FROM items ORDER BY title"
    assert before.sql(query).to_pydict() == {"title": ["old"]}
    assert after.sql(query).to_pydict() == {"title": ["B", "new"]}
    assert Snapshot(store, {"items": 1}).sql(query).to_pydict() == {"title": ["old"]}
    assert before.get(["b"]) == [None]


def test_a_table_of_before_a_column_came_can_be_asked(tmp_path: Path) -> None:
    from deltalake import write_deltalake

    older = pa.table({"query_id": ["q"], "item_id": ["i"], "grade": ["L1"]}, schema=LABELS.remove(3))
    write_deltalake(str(tmp_path / "s" / "labels"), older)
    assert Snapshot(tmp_path / "s").sql("SELECT * FROM labels").to_pylist() == [
        {"query_id": "q", "item_id": "i", "grade": "L1", "reason": None}
    ]


def test_rows_with_and_without_a_time_are_replaced_in_order(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s", create=True)
    store.append("items", item_rows(Item("a", "late"), hours=2))
    store.append("items", item_rows(Item("a", "early"), Item("b", "first"), Item("b", "second"), hours=1))
    for grade in ("L1", "L2"):
        row = {"query_id": "q", "item_id": "a", "grade": grade, "reason": None}
        store.append("labels", pa.Table.from_pylist([row], schema=LABELS))
    snapshot = Snapshot(store)
    got = snapshot.sql("SELECT item_id, title FROM items ORDER BY item_id").to_pydict()
    assert got == {"item_id": ["a", "b"], "title": ["late", "second"]}
    assert snapshot.sql("SELECT grade FROM labels").to_pydict() == {"grade": ["L2"]}
    assert snapshot.sql('SELECT count(*) AS n FROM items JOIN "LABELS" USING (item_id)').to_pydict() == {"n": [1]}
    assert store.latest("items").collect().sort("item_id")["title"].to_list() == got["title"]


def test_a_file_that_is_gone_or_damaged_is_one_line(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s", create=True)
    store.append("items", item_rows(Item("a", "A")))
    early = Snapshot(store)
    early.sql("SELECT 1")
    (file,) = (tmp_path / "s" / "items").glob("*.parquet")
    file.write_bytes(file.read_bytes()[:-20])
    for ask in (lambda: early.get(["a"]), lambda: early.sql("FROM items"), lambda: Snapshot(store).get(["a"])):
        assert "cannot read table items" in message(ask)
    assert "cannot read table items" in message(lambda: list(store.batches("items")))
    file.unlink()
    assert "cannot read table items" in message(lambda: Snapshot(store).sql("FROM items"))
    assert "cannot read table items" in message(lambda: list(store.batches("items")))
    assert Snapshot(store).sql("SELECT count(*) AS n FROM attributes").to_pydict() == {"n": [0]}


def test_legal_statements(snapshot: Snapshot) -> None:
    for text, wanted in [
        ("WITH cheap AS (SELECT * FROM items WHERE price < 50) SELECT item_id FROM cheap", ["bag"]),
        ("FROM items SELECT item_id WHERE price < 50;", ["bag"]),
        ("SELECT item_id FROM items WHERE price < 50 -- the cheap ones", ["bag"]),
        ("SELECT 'bag' UNION ALL SELECT 'it''s; DROP TABLE items'", ["bag", "it's; DROP TABLE items"]),
        ("WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT i FROM n", [1, 2, 3]),
        ("SELECT unnest([3, 1])", [3, 1]),
        ("SELECT * FROM range(3)", [0, 1, 2]),
        ("SELECT item_id FROM items WHERE item_id IN (SELECT item_id FROM labels WHERE grade = 'L4')", ["shoe"]),
        ("SELECT column_name FROM (DESCRIBE labels)", ["query_id", "item_id", "grade", "reason"]),
    ]:  # fmt: skip
        assert snapshot.sql(text).column(0).to_pylist() == wanted
    assert snapshot.sql("SELECT item_id FROM items ORDER BY item_id", limit=2).to_pydict() == {
        "item_id": ["bag", "boot"]
    }
    assert set(snapshot.sql("SHOW TABLES")["name"].to_pylist()) == set(VIEWS)


ONLY_SELECT = "only SELECT"
REFUSED = [
    ("INSERT INTO labels VALUES ('q', 'i', 'L1', NULL)", ONLY_SELECT),
    ("UPDATE items SET title = ''", ONLY_SELECT),
    ("DELETE FROM items", ONLY_SELECT),
    ("DROP VIEW items", ONLY_SELECT),
    ("CREATE TABLE t AS SELECT 1", ONLY_SELECT),
    ("CREATE VIEW items AS SELECT 1", ONLY_SELECT),
    ("COPY (SELECT 1) TO '{file}'", ONLY_SELECT),
    ("COPY items FROM '{file}'", ONLY_SELECT),
    ("EXPORT DATABASE '{file}'", ONLY_SELECT),
    ("ATTACH '{file}'", ONLY_SELECT),
    ("INSTALL httpfs", ONLY_SELECT),
    ("LOAD httpfs", ONLY_SELECT),
    ("PRAGMA database_list", ONLY_SELECT),
    ("PRAGMA enable_profiling", ONLY_SELECT),
    ("SET threads = 1", ONLY_SELECT),
    ("SET enable_external_access = true", ONLY_SELECT),
    ("RESET lock_configuration", ONLY_SELECT),
    ("CALL pragma_version()", ONLY_SELECT),
    ("CHECKPOINT", ONLY_SELECT),
    ("USE rows", ONLY_SELECT),
    ("PREPARE p AS SELECT 1", ONLY_SELECT),
    ("EXPLAIN ANALYZE SELECT 1", ONLY_SELECT),
    ("WITH t AS (INSERT INTO labels VALUES ('q', 'i', 'L1', NULL) RETURNING *) SELECT * FROM t", ONLY_SELECT),
    ("SELECT 1; SELECT 2", "one SELECT is wanted, not 2 statements"),
    ("SELECT 1; DROP VIEW items", "one SELECT is wanted, not 2 statements"),
    ("", "one SELECT is wanted, not 0 statements"),
    ("-- nothing", "one SELECT is wanted, not 0 statements"),
    ("SELECT * FROM read_csv('{file}')", "the table function read_csv is not allowed"),
    ("SELECT * FROM read_parquet('{file}')", "the table function read_parquet is not allowed"),
    ("SELECT * FROM read_text('{file}')", "the table function read_text is not allowed"),
    ("SELECT (SELECT content FROM read_text('{file}'))", "the table function read_text is not allowed"),
    ("WITH t AS (FROM read_blob('{file}')) FROM t", "the table function read_blob is not allowed"),
    ("SELECT * FROM items WHERE item_id IN (FROM glob('/*'))", "the table function glob is not allowed"),
    ("SELECT * FROM sniff_csv('{file}')", "the table function sniff_csv is not allowed"),
    ("SELECT * FROM parquet_metadata('{file}')", "the table function parquet_metadata is not allowed"),
    ("SELECT * FROM query('SELECT 1')", "the table function query is not allowed"),
    ("SELECT * FROM query_table('items')", "the table function query_table is not allowed"),
    ("SELECT * FROM duckdb_settings()", "the table function duckdb_settings is not allowed"),
    ("SELECT * FROM duckdb_views()", "the table function duckdb_views is not allowed"),
    ("SELECT * FROM pragma_table_info('items')", "the table function pragma_table_info is not allowed"),
    ("SELECT * FROM pragma_database_list()", "the table function pragma_database_list is not allowed"),
    ("DESCRIBE (FROM read_csv('{file}'))", "the table function read_csv is not allowed"),
    ("SELECT current_setting('allowed_paths')", "the function current_setting is not allowed"),
    ("SELECT getenv('HOME')", "the function getenv is not allowed"),
    ("SELECT * FROM '{file}'", "no table"),
    ("SELECT * FROM \"{file}\"", "no table"),
    ("SELECT * FROM 'http://127.0.0.1/x.csv'", "no table"),
    ("SELECT * FROM information_schema.tables", "no table 'information_schema.tables'"),
    ("SELECT * FROM sqlite_master", "no table 'sqlite_master'"),
    ("SELECT * FROM rows.newest_items", "no table 'rows.newest_items'"),
    ("SELECT * FROM memory.main.items", "no table 'memory.main.items'"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "words"), REFUSED)
def test_everything_else_is_refused(snapshot: Snapshot, tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "secret.csv"
    file.write_text("a\n1\n")
    before = snapshot.sql("SELECT * FROM items ORDER BY item_id")
    assert words in message(lambda: snapshot.sql(text.replace("{file}", str(file))))
    assert [p.name for p in tmp_path.iterdir()] == ["secret.csv"]
    assert file.read_text() == "a\n1\n"
    assert snapshot.sql("SELECT * FROM items ORDER BY item_id").equals(before)


def test_the_connection_is_a_wall_of_its_own(snapshot: Snapshot, tmp_path: Path) -> None:
    """What the syntax check would let through by mistake, DuckDB itself refuses."""
    import duckdb

    (tmp_path / "secret.csv").write_text("a\n1\n")
    views = snapshot._open_views()
    secret = pa.table({"a": [1]})  # DuckDB would find it by its name in this function
    for text in (
        f"SELECT * FROM read_csv('{tmp_path}/secret.csv')",
        f"SELECT * FROM '{tmp_path}/secret.csv'",
        f"COPY (SELECT 1) TO '{tmp_path}/new.csv'",
        f"ATTACH '{tmp_path}/new.db'",
        "SET threads = 1",
        "SET enable_external_access = true",
        "SET allowed_paths = ['/etc/passwd']",
        "LOAD httpfs",
        "SELECT * FROM secret",
    ):
        with pytest.raises(duckdb.Error):
            views.run(text).to_pylist()
    assert [p.name for p in tmp_path.iterdir()] == ["secret.csv"]
    assert secret.num_rows == 1


def test_mistakes_in_sql_are_one_line_with_a_hint(snapshot: Snapshot) -> None:
    assert "no table 'itmes', did you mean 'items'?" in message(lambda: snapshot.sql("SELECT * FROM itmes"))
    text = message(lambda: snapshot.sql("SELECT titel FROM items"))
    assert 'Referenced column "titel" not found' in text
    assert '"title"' in text
    assert 'syntax error at or near "SELEC"' in message(lambda: snapshot.sql("SELEC 1"))
    assert "does not exist" in message(lambda: snapshot.sql("SELECT lowwer(title) FROM items"))
    assert "Conversion Error" in message(lambda: snapshot.sql("SELECT title::INTEGER FROM items"))


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=40))
def test_any_text_is_an_answer_or_one_line(snapshot: Snapshot, text: str) -> None:
    for ask in (snapshot.sql, snapshot.where, lambda t: snapshot.get([t])):
        try:
            ask(text)
        except InputError as error:
            assert "\n" not in str(error)


# --- conditions ---


@pytest.mark.parametrize(
    ("condition", "wanted"),
    [
        ("color = 'black'", "boot shoe"),  # any of its colours
        ("color = 'black' AND price < 100", "shoe"),
        ("color = 'black' AND color = 'red'", "shoe"),
        ("color <> 'black'", "ring"),  # none of its colours; the bag states none
        ("NOT color = 'black'", "ring"),
        ("color IN ('red', 'silver')", "ring shoe"),
        ("color NOT IN ('red', 'silver')", "boot"),
        ("color LIKE 'bl%'", "boot shoe"),
        ("color NOT LIKE 'bl%'", "ring"),
        ("upper(color) = 'RED' OR title ILIKE 'ba%'", "bag shoe"),
        ("color IS NULL", "bag"),
        ("color IS NOT NULL", "boot ring shoe"),
        ("height < 20", "shoe"),
        ("height BETWEEN 20 AND 40", "boot"),
        ("height * 2 = 20", "shoe"),
        ("height = '10 cm'", "shoe"),
        ("size = 42", "shoe"),  # words that are a number
        ("size = '42'", "shoe"),
        ("price < 100", "bag shoe"),  # a column of the item
        ("price IS NULL", "ring"),
        ("brand = 'Nike'", "shoe"),
        ("brand = 'Adidas'", "boot"),  # no brand was extracted: the seller's counts
        ("brand = 'Acme'", ""),  # the extracted one replaces the seller's
        ("brand = 'O''Neill'", "ring"),
        ("brand <> 'Nike'", "boot ring"),
        ("brand IS NULL", "bag"),
        ("brand IS NOT NULL", "boot ring shoe"),
        ("true", "bag boot ring shoe"),  # never the broken one
        ("\"Color\" = 'red' -- a remark", "shoe"),
    ],
)
def test_conditions_in_plain_words(snapshot: Snapshot, condition: str, wanted: str) -> None:
    assert sorted(snapshot.where(condition)) == wanted.split()


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("colr = 'red'", "no attribute or column 'colr', did you mean 'color'?"),
        ("items.price < 3", "no attribute or column 'items.price'"),
        ("color", "color alone is no condition; write color = 'value' or color IS NOT NULL"),
        ("price < height", "compare one attribute at a time with a value, not height with price"),
        ("color = 'x') UNION SELECT ('a'", "a condition is one expression"),
        ("1 = 1) GROUP BY (1", "a condition is one expression"),
        ("1 = 1) LIMIT (1", "a condition is one expression"),
        ("true); DROP VIEW items; SELECT (1", "one SELECT is wanted, not 3 statements"),
        ("item_id IN (SELECT item_id FROM labels)", "a condition may not hold a subquery"),
        ("count(*) > 1", "aggregate"),
        ("price < 'cheap'", "Could not convert string 'cheap' to DOUBLE"),
        ("color =", "condition 'color =': Parser Error: syntax error"),
        ("height < '30 cm'", "height can be less or more than a number only, in the base unit: height < 100"),
        ("height BETWEEN 'a' AND 'b'", "height can be less or more than a number only"),
        (" ", "the condition is empty"),
        ("title = '\udcff'", "not Unicode"),
    ],
)
def test_wrong_conditions_are_one_line(snapshot: Snapshot, condition: str, words: str) -> None:
    assert words in message(lambda: snapshot.where(condition))


# --- vectors ---


def similarity(a: str, b: str) -> float:
    left, right = EMBEDDER.embed_texts([a, b])
    return float(left @ right)


def test_search_by_text_with_and_without_a_condition(snapshot: Snapshot) -> None:
    hits = snapshot.search(text="Red and black shoe", k=4, embedder=EMBEDDER)[0]
    assert hits[0] == ("shoe", pytest.approx(1.0, abs=1e-5))
    assert dict(hits) == pytest.approx(
        {i: similarity("Red and black shoe", v[0]) for i, v in CATALOGUE.items()}, abs=1e-5
    )
    hits = snapshot.search(text="Red and black shoe", k=4, where="price > 100", embedder=EMBEDDER)[0]
    assert hits == [("boot", pytest.approx(similarity("Red and black shoe", "Black boot"), abs=1e-5))]
    assert snapshot.search(text="shoe", k=4, where="price > 1000", embedder=EMBEDDER) == [[]]
    vectors = EMBEDDER.embed_texts(["Ring", "Bag"])
    assert [[i for i, _ in h] for h in snapshot.search(vector=vectors, k=1)] == [["ring"], ["bag"]]


def test_search_by_picture(snapshot: Snapshot, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(tmp_path / "p.png")
    with Image.open(tmp_path / "p.png") as picture:
        vector = EMBEDDER.embed_images([picture.convert("RGB")])
    [hits] = snapshot.search(image=tmp_path / "p.png", k=2, where="color = 'black'", embedder=EMBEDDER)
    assert sorted(i for i, _ in hits) == ["boot", "shoe"]
    assert [hits] == snapshot.search(vector=vector, k=2, where="color = 'black'")
    with pytest.raises(PictureError, match=r"nothing\.png"):
        snapshot.search(image=tmp_path / "nothing.png", k=2, embedder=EMBEDDER)


def test_search_refuses_other_models_and_names(snapshot: Snapshot) -> None:
    other = open_embedder("scripted:1")
    assert "was built with model 'scripted:0', not 'scripted:1'" in message(
        lambda: snapshot.search(text="x", k=1, embedder=other)
    )
    assert "the text to search for is empty" in message(lambda: snapshot.search(text=" ", embedder=EMBEDDER))
    assert "no vector index at" in message(lambda: snapshot.search(vector=[1.0], k=1, index="other"))
    assert "is no name of an index" in message(lambda: snapshot.search(vector=[1.0], k=1, index="../items"))


def test_an_index_that_lags_says_so(store: FeatureStore, snapshot: Snapshot) -> None:
    assert snapshot.lag() is None
    later = Snapshot(store, {**snapshot.versions, "embeddings": 3})
    assert str(later.lag()).startswith("the index items does not say of which version of the embeddings it is")


# --- the command ---


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = 0
    try:
        run(command_app(main, "lore query"), list(arguments))
    except SystemExit as stop:
        code = int(stop.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def here(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORE_STORE", store.uri)


@pytest.mark.usefixtures("here")
def test_command_ids(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = ask(capsys, "shoe", "shoo", "bag", "broken")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert [line["item_id"] for line in lines] == ["shoe", "bag"]
    assert lines[0]["attributes"][0] == {
        "name": "color",
        "dimension": "spec",
        "value": "red",
        "status": "value",
        "share": 0.75,
        "kind": "inherent",
        "confidence": 1.0,
        "extractor": "",
        "evidence": [],
    }
    assert err.splitlines() == [
        "error: no item 'shoo' in the store, did you mean 'shoe'?",
        "error: item 'broken' could not be read: title is empty",
    ]
    assert ask(capsys, "shoe")[0] == 0


@pytest.mark.usefixtures("here")
def test_command_sql_in_every_form(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    query = "SELECT item_id, price, [title] AS titles FROM items WHERE status = 'ok' ORDER BY item_id"
    wanted = [{"item_id": i, "price": CATALOGUE[i][2], "titles": [CATALOGUE[i][0]]} for i in sorted(CATALOGUE)]
    code, out, _ = ask(capsys, "--sql", query)
    assert (code, [json.loads(line) for line in out.splitlines()]) == (0, wanted)
    _, out, _ = ask(capsys, "--sql", query, "--format", "csv", "--limit", "1")
    assert list(csv.reader(io.StringIO(out))) == [["item_id", "price", "titles"], ["bag", "20", '["Bag"]']]
    _, out, _ = ask(capsys, "--sql", query, "--format", "table")
    assert "boot" in out and "150" in out
    for name in ("a.parquet", "a.jsonl", "a.csv"):
        code, out, _ = ask(capsys, "--sql", query, "--output", str(tmp_path / name))
        assert (code, out) == (0, "")
    assert pq.read_table(tmp_path / "a.parquet").to_pylist() == wanted
    assert [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()] == wanted
    assert (tmp_path / "a.csv").read_text().splitlines()[1] == '"bag",20,"[""Bag""]"'
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "a.jsonl", "a.parquet"]


@pytest.mark.usefixtures("here")
def test_command_numbers_json_has_no_word_for(capsys: pytest.CaptureFixture[str]) -> None:
    query = (
        "SELECT 'nan'::DOUBLE AS a, 1.50::DECIMAL(4, 2) AS b, DATE '2026-01-02' AS c, 'x'::BLOB AS d, {'e': NULL} AS f"
    )
    assert json.loads(ask(capsys, "--sql", query)[1]) == {"a": None, "b": 1.5, "c": "2026-01-02", "d": "78", "f": {}}


@pytest.mark.usefixtures("here")
def test_command_search_and_conditions(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ask(
        capsys, "--text", "black boot", "--where", "color = 'black'", "-k", "1", "--embedder", "scripted:0"
    )
    found = json.loads(out)
    assert (code, found["item_id"], found["title"], found["price"]) == (0, "boot", "Black boot", 150.0)
    assert found["similarity"] == round(similarity("black boot", "Black boot"), 4)
    _, out, _ = ask(capsys, "--where", "color = 'red'", "--json")
    assert [json.loads(line) for line in out.splitlines()] == [
        {"item_id": "shoe", "title": "Red and black shoe", "brand": "Nike", "price": 60.0, "currency": None}
    ]


@pytest.mark.usefixtures("here")
def test_command_tables(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row["table"]: row for row in map(json.loads, ask(capsys, "--tables")[1].splitlines())}
    assert list(rows) == list(VIEWS)
    assert (rows["items"]["rows"], rows["items"]["version"]) == (5, 3)
    assert rows["latest"]["rows"] == sum(len(v[3]) for v in CATALOGUE.values())
    assert (rows["labels"]["rows"], rows["runs"]["rows"]) == (2, 0)


def test_runs_are_a_table_like_the_others(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s", create=True)
    for minute in (1, 2):  # the same event, told twice: the later one stands
        at = NOON + timedelta(minutes=minute)
        told = {"run_id": "r", "job": "ingest", "event": "finished", "n_in": minute, "at": at}
        store.append("runs", pa.Table.from_pylist([told], schema=RUNS))
    snapshot = Snapshot(store)
    assert snapshot.sql("SELECT run_id, n_in FROM runs").to_pylist() == [{"run_id": "r", "n_in": 2}]
    assert {row["table"]: row["rows"] for row in snapshot.describe().to_pylist()}["runs"] == 1


def test_a_long_statement_is_interrupted_from_the_keyboard(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s", create=True)
    store.append("items", item_rows(Item("a", "A")))
    code = (  # sixty seconds of work at the least; the interrupt comes once it runs
        "import signal, threading, time; from stores.query import main; from lore_mm.console import command_app, run;"
        " threading.Timer(1, signal.raise_signal, [signal.SIGINT]).start();"
        f" run(command_app(main, 'q'), ['--store', {store.uri!r}, '--sql',"
        " 'SELECT count(*) FROM range(1000000000000)'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "interrupted; the same command goes on where it stopped\n"


@pytest.mark.usefixtures("here")
def test_command_for_people_is_free_of_control_characters(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    store = open_store(tmp_path / "s", create=True)
    store.append("items", item_rows(Item("evil", "\x1b[31m[bold]red\x07\n")))
    _, out, _ = ask(capsys, "evil", "--format", "table", "--store", store.uri)
    assert "[31m[bold]red" in out
    assert not {"\x1b", "\x07"} & set(out)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--limit", "3"], "ask one thing"),
        (["a", "--tables"], "ask one thing"),
        (["--sql", "SELECT 1", "--where", "true"], "ask one thing"),
        (["a", "--format", "xml"], "no format 'xml'; legal formats: table, jsonl, csv, parquet, arrow"),
        (["a", "--format", "parquet"], "name it with --output"),
        (["a", "--output", "x.xyz"], "the ending names no format"),
        (["a", "--output", "x.csv", "--format", "table"], "a table goes to the terminal"),
        (["--sql", "SELECT 1", "--output", "/nowhere/x.csv"], "cannot write /nowhere/x.csv"),
        (["--sql", "DROP VIEW items"], "only SELECT"),
    ],
)
def test_command_refusals(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    code, out, err = ask(capsys, *arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert len(err.splitlines()) == 1


def test_command_without_a_store(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = ask(capsys, "a", "--store", str(tmp_path / "no"))
    assert (code, "no store at" in err) == (1, True)
    with pytest.raises(StoreError):
        Snapshot(tmp_path / "no")
