"""Statements that would do harm: refused, or harmless; and any text at all is an answer or one line."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lore_mm.errors import InputError, LoreError, StoreError
from lore_mm.rows import item_to_row
from lore_mm.tables import ITEMS, LABELS
from lore_mm.types import Item
from stores.features import FeatureStore, open_store
from stores.snapshot import Snapshot
from stores.statements import TABLE_FUNCTIONS, refuses
from stores.views import VIEWS

SECRET = "t0p-s3cret"
# {file}: a file with the secret in it; {data}: a file of the store; {new}: one that is not to come into being
HOSTILE = """
SELECT * FROM '{file}'
SELECT * FROM "{file}"
SELECT * FROM '{data}'
SELECT * FROM read_csv('{file}')
SELECT * FROM read_csv_auto('{file}', all_varchar = true)
SELECT * FROM READ_TEXT('{file}')
SELECT * FROM "read_text"('{file}')
SELECT * FROM system.main.read_text('{file}')
SELECT * FROM read_blob('{file}')
SELECT * FROM read_json('{file}')
SELECT * FROM read_ndjson_objects('{file}')
SELECT * FROM read_parquet('{data}')
SELECT * FROM parquet_scan('{data}')
SELECT * FROM parquet_metadata('{data}')
SELECT * FROM parquet_kv_metadata('{data}')
SELECT * FROM read_duckdb('{file}')
SELECT * FROM sniff_csv('{file}')
SELECT * FROM glob('{folder}/*')
SELECT (SELECT content FROM read_text('{file}'))
SELECT * FROM items, LATERAL (SELECT * FROM read_text('{file}'))
SELECT * FROM items WHERE title IN (SELECT content FROM read_text('{file}'))
SELECT * FROM items ORDER BY (SELECT content FROM read_text('{file}'))
SELECT * FROM items GROUP BY ALL HAVING EXISTS (FROM read_text('{file}'))
SELECT * FROM items LIMIT (SELECT count(*) FROM read_text('{file}'))
SELECT * FROM items TABLESAMPLE ((SELECT 1 FROM read_text('{file}')) ROWS)
SELECT sum(price) OVER (ORDER BY (SELECT content FROM read_text('{file}'))) FROM items
SELECT sum(price) FILTER (WHERE EXISTS (FROM read_text('{file}'))) FROM items
SELECT * FROM items a JOIN items b ON EXISTS (FROM read_text('{file}'))
SELECT CASE WHEN true THEN (SELECT content FROM read_text('{file}')) END
SELECT list_transform([1], lambda x: (SELECT content FROM read_text('{file}')))
SELECT * FROM items UNION SELECT * FROM read_text('{file}')
WITH t AS (SELECT * FROM read_text('{file}')) SELECT * FROM t
WITH t AS MATERIALIZED (FROM read_text('{file}')) SELECT 1
WITH RECURSIVE t AS (SELECT content FROM read_text('{file}') UNION SELECT * FROM t) FROM t
WITH "{file}" AS (SELECT * FROM '{file}') SELECT * FROM "{file}"
SELECT * FROM '{file}', (WITH "{file}" AS (SELECT 1) SELECT 1)
WITH a AS (FROM '{file}'), "{file}" AS (SELECT 1) FROM a
WITH duckdb_views AS (SELECT * FROM duckdb_views) SELECT sql FROM duckdb_views
SELECT sql FROM duckdb_views, (WITH duckdb_views AS (SELECT 1) SELECT 1)
VALUES ((SELECT content FROM read_text('{file}')))
PIVOT (FROM read_text('{file}')) ON filename IN ('x') USING count(*)
UNPIVOT (FROM read_text('{file}')) ON size
PIVOT items ON title
DESCRIBE '{file}'
DESCRIBE (FROM read_text('{file}'))
SUMMARIZE '{file}'
SUMMARIZE (FROM read_csv('{file}'))
SHOW DATABASES
SHOW ALL TABLES
SHOW VARIABLES
SHOW allowed_paths
FROM (SHOW ALL TABLES)
SELECT * FROM query('SELECT * FROM ''{file}''')
SELECT * FROM query_table('{file}')
SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))
SELECT json_serialize_plan('SELECT * FROM ''{file}''')
SELECT * FROM duckdb_settings()
SELECT * FROM duckdb_secrets()
SELECT * FROM which_secret('{file}', 's3')
SELECT * FROM duckdb_views()
SELECT * FROM duckdb_tables
SELECT * FROM duckdb_logs
SELECT * FROM duckdb_temporary_files()
SELECT * FROM duckdb_external_file_cache()
SELECT * FROM duckdb_extensions()
SELECT * FROM duckdb_variables()
SELECT * FROM pragma_database_list
SELECT * FROM pragma_show('items')
SELECT * FROM information_schema.tables
SELECT * FROM pg_catalog.pg_views
SELECT * FROM sqlite_master
SELECT * FROM main.items
SELECT * FROM memory.main.items
SELECT * FROM rows.newest_items
SELECT * FROM rows.shape_of_items
SELECT * FROM temp.items
SELECT pg_get_viewdef(0)
SELECT pg_get_viewdef(range) FROM range(2000)
SELECT pg_sleep(1)
SELECT sleep_ms(1000)
SELECT current_setting('allowed_paths')
SELECT "current_setting"('temp_directory')
SELECT system.main.current_setting('home_directory')
SELECT 'temp_directory'.current_setting()
SELECT list_transform(['temp_directory'], lambda x: current_setting(x))
SELECT getenv('LORE_TEST_SECRET')
SELECT GETENV('LORE_TEST_SECRET')
SELECT getvariable('x')
SELECT nextval('s')
SELECT setseed(0.5)
SELECT write_log('x')
SELECT to_aggregate_state('\\x00'::BLOB, 'sum', [])
SELECT finalize('\\x00'::BLOB)
SELECT * FROM register_external_resource('x')
SELECT * FROM enable_logging()
SELECT * FROM enable_profiling()
SELECT * FROM force_checkpoint()
SELECT * FROM test_all_types()
SELECT * FROM repeat('x', 100000000000)
SELECT * FROM items AT (VERSION => 1)
SELECT $1
SELECT ?
SELECT @@version
EXPLAIN SELECT 1
EXPLAIN ANALYZE SELECT 1
INSERT INTO items SELECT * FROM items
UPDATE items SET title = 'x'
DELETE FROM items
TRUNCATE items
MERGE INTO items USING items AS b USING (item_id) WHEN MATCHED THEN DELETE
WITH t AS (DELETE FROM items RETURNING *) SELECT * FROM t
CREATE TABLE t AS SELECT 1
CREATE TEMP TABLE t AS SELECT 1
CREATE OR REPLACE VIEW items AS SELECT 1
CREATE MACRO f() AS TABLE FROM read_text('{file}')
CREATE FUNCTION f(a) AS current_setting(a)
CREATE SECRET s (TYPE s3, KEY_ID 'x', SECRET 'y')
CREATE SEQUENCE s
CREATE SCHEMA x
CREATE TYPE t AS ENUM ('a')
DROP VIEW items
DROP SCHEMA rows CASCADE
ALTER VIEW items RENAME TO x
COMMENT ON VIEW items IS 'x'
COPY items TO '{new}'
COPY (SELECT 1) TO '{new}' (FORMAT parquet)
COPY items FROM '{file}'
EXPORT DATABASE '{new}'
IMPORT DATABASE '{folder}'
ATTACH '{new}' AS x
ATTACH ':memory:' AS x
DETACH memory
USE rows
INSTALL httpfs
LOAD httpfs
LOAD '{file}'
UPDATE EXTENSIONS
PRAGMA database_list
PRAGMA enable_profiling = 'json'
PRAGMA profiling_output = '{new}'
SET enable_external_access = true
SET GLOBAL allowed_directories = ['/']
SET VARIABLE x = 1
SET search_path = 'rows'
SET log_query_path = '{new}'
RESET lock_configuration
CALL pragma_version()
CALL enable_logging()
CHECKPOINT
VACUUM
ANALYZE
BEGIN
COMMIT
PREPARE p AS SELECT 1
EXECUTE p
DEALLOCATE p
SELECT 1; SELECT 2
SELECT 1; DROP VIEW items
SELECT 1 /* ; */ ; COPY items TO '{new}'
SELECT * FROM 'http://127.0.0.1:9/x.csv'
SELECT * FROM 's3://bucket/x.parquet'
SELECT * FROM read_csv('http://127.0.0.1:9/x.csv')
SELECT * FROM '/proc/self/environ'
SELECT * FROM read_text('/proc/self/environ')
SELECT * FROM read_blob('/dev/zero')
SELECT * FROM pandas_scan(0)
SELECT * FROM arrow_scan(0, 0, 0)
SELECT * FROM python_map_function()
SELECT * FROM seq_scan()
SELECT * FROM secret
SELECT * FROM SECRET
SELECT * FROM store
""".strip().splitlines()
HARMLESS = """
SELECT version()
SELECT current_user
SELECT current_database(), current_schema(), current_query_id()
SELECT random(), uuid(), now()
SELECT parse_path('{file}')
SELECT json_serialize_sql('SELECT * FROM ''{file}''')
SELECT * FROM json_each('[1, 2]')
SELECT * FROM items TABLESAMPLE 10%
SELECT COLUMNS('i.*') FROM items
SELECT '{file}'
SHOW TABLES
DESCRIBE items
""".strip().splitlines()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    store = open_store(tmp_path_factory.mktemp("confined") / "store", create=True)
    row = item_to_row(Item("a", "A", price=1.0))
    row |= {"image_root": None, "status": "ok", "error": None, "provenance": None}
    store.append("items", pa.Table.from_pylist([row], schema=ITEMS))
    label = {"query_id": "q", "item_id": "a", "grade": "L1", "reason": None}
    store.append("labels", pa.Table.from_pylist([label], schema=LABELS))
    return store


@pytest.fixture(scope="module")
def snapshot(store: FeatureStore) -> Snapshot:
    return Snapshot(store)


def listing(*folders: Path) -> list[str]:
    return sorted(str(p) for folder in folders for p in folder.rglob("*"))


def told(snapshot: Snapshot, text: str) -> str:
    """The whole answer, or the one line of the refusal."""
    secret = pa.table({"a": [SECRET]})  # DuckDB could find it by its name on the stack
    try:
        answer = snapshot.sql(text, timeout_s=20)
    except InputError as error:
        assert "\n" not in str(error)
        return f"refused: {error}"
    assert secret.num_rows == 1
    return repr(answer.to_pylist())


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_statement_gets_nothing(
    store: FeatureStore, snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("LORE_TEST_SECRET", SECRET)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.csv").write_text(f"a\n{SECRET}\n")
    before = listing(tmp_path, store.folder)
    names = {
        "file": tmp_path / "secret.csv",
        "new": tmp_path / "new",
        "folder": tmp_path,
        "data": store.files("items")[0],
    }
    for name, place in names.items():
        text = text.replace("{" + name + "}", str(place))
    answer = told(snapshot, text)
    assert SECRET not in answer
    assert answer.startswith("refused: "), answer
    assert listing(tmp_path, store.folder) == before
    assert snapshot.sql("SELECT title FROM items").to_pydict() == {"title": ["A"]}


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_harmless_is_answered(snapshot: Snapshot, tmp_path: Path, text: str) -> None:
    (tmp_path / "secret.csv").write_text(f"a\n{SECRET}\n")
    answer = told(snapshot, text.replace("{file}", str(tmp_path / "secret.csv")))
    assert not answer.startswith("refused: ")
    assert SECRET not in answer


@pytest.mark.parametrize(
    "condition",
    [
        "current_setting('temp_directory') <> ''",
        "title = getenv('HOME')",
        "sleep_ms(1000) IS NULL",
        "title IN (SELECT content FROM read_text('/etc/hostname'))",
        "EXISTS (FROM read_text('/etc/hostname'))",
        "pg_get_viewdef(1) <> ''",
    ],
)
def test_a_condition_is_as_confined(snapshot: Snapshot, condition: str) -> None:
    with pytest.raises(InputError, match=r"not allowed here|may not hold"):
        snapshot.where(condition)


# --- what DuckDB has ---


WHO = {"current_role", "current_user", "session_user", "user"}  # of DuckDB, and always the same


def functions(kinds: str, condition: str = "true") -> set[str]:
    rows = duckdb.connect().sql(
        f"SELECT DISTINCT lower(function_name) FROM duckdb_functions() WHERE function_type IN ({kinds}) AND {condition}"
    )
    return {str(row[0]) for row in rows.fetchall()}


def test_every_function_that_looks_beyond_its_arguments_is_refused() -> None:
    """Read from this DuckDB's own list, so that a later one that has learned something new is found out."""
    harmless = set(
        "current_connection_id current_database current_date current_query_id current_schema current_schemas"
        " current_transaction_id error gen_random_uuid get_current_time get_current_timestamp now random stats today"
        " transaction_timestamp txid_current uuid uuidv4 uuidv7 vector_type".split()
    )
    changing = functions("'scalar', 'aggregate'", "coalesce(stability, '') <> 'CONSISTENT'")
    assert {name for name in changing if not refuses(name)} <= harmless
    looking = functions("'macro'", "(macro_definition ILIKE '%from %' OR macro_definition ILIKE '%duckdb_%')")
    assert {name for name in looking if not refuses(name)} <= {"histogram", "histogram_values", *WHO}
    telling = re.compile(r"file|path|env|setting|secret|config|log_|_log|http|sleep|exec|plan|privilege|catalog|state$")
    harmless = {"parse_path", "parse_filename", "parse_dirpath", "parse_dirname", "path_join", "json_extract_path"}
    harmless |= {"json_extract_path_text", "current_catalog", "unicode"}
    named = {name for name in functions("'scalar', 'aggregate', 'macro'") if telling.search(name)}
    assert {name for name in named if not refuses(name)} <= harmless
    assert len(functions("'table', 'table_macro', 'pragma'")) > 100
    assert TABLE_FUNCTIONS <= functions("'table', 'table_macro'")


def test_a_view_that_duckdb_brings_is_none_of_ours(snapshot: Snapshot) -> None:
    rows = duckdb.connect().sql("SELECT DISTINCT view_name FROM duckdb_views() WHERE internal").fetchall()
    assert len(rows) > 20
    for (name,) in rows:
        assert told(snapshot, f'SELECT * FROM "{name}"').startswith("refused: no table")


# --- any text ---

WORDS = """
SELECT FROM WHERE WITH RECURSIVE AS UNION ALL VALUES ( ) , ; * items latest labels title price name value 1 'x' "t"
JOIN USING(item_id) ON GROUP BY ORDER LIMIT OVER PARTITION CASE WHEN THEN END IN NOT NULL [1] {'a':1} lambda x:
read_text('/etc/hostname') current_setting('threads') getenv('HOME') range(3) unnest([1]) count(*) sum ::INT = < + -
PIVOT SUMMARIZE DESCRIBE SHOW TABLES COPY ATTACH SET INSERT INTO DROP VIEW EXPLAIN COLUMNS EXCLUDE QUALIFY $1 ? -- /*
""".split()


@settings(deadline=None, max_examples=150)
@given(st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join) | st.text(max_size=40))
def test_any_words_are_an_answer_or_one_line(snapshot: Snapshot, text: str) -> None:
    for ask in (lambda: snapshot.sql(text, 10, 20), lambda: snapshot.where(text)):
        try:
            ask()
        except InputError as error:
            assert "\n" not in str(error) and len(str(error)) < 2000
    assert snapshot.sql("SELECT count(*) AS n FROM items")["n"].to_pylist() == [1]


def test_what_is_nested_too_deeply_is_one_line(snapshot: Snapshot) -> None:
    for text in ("(" * 5000, "SELECT " + "(" * 900 + "1" + ")" * 900, "SELECT " + "-" * 1 + "+".join("1" * 3000)):
        told(snapshot, text)
    deep = "SELECT * FROM " + "(SELECT * FROM " * 400 + "items" + ")" * 400
    told(snapshot, deep)
    assert snapshot.sql("SELECT title FROM items").num_rows == 1


# --- a store that is damaged, a machine that is full ---


@pytest.fixture
def copied(store: FeatureStore, tmp_path: Path) -> Path:
    shutil.copytree(store.folder, tmp_path / "copy")
    return tmp_path / "copy"


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_a_damaged_file_is_an_error_of_its_table_alone(store: FeatureStore, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / "store"
        shutil.copytree(store.folder, copy)
        (file,) = (copy / "items").glob("*.parquet")
        content = bytearray(file.read_bytes())
        if data.draw(st.booleans(), "cut"):
            content = content[: data.draw(st.integers(0, len(content) - 1), "length")]
        else:
            for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=20), "places"):
                content[at] ^= data.draw(st.integers(1, 255), "bits")
        file.write_bytes(content)
        snapshot = Snapshot(copy)
        for ask in (lambda: snapshot.sql("SELECT * FROM items"), lambda: snapshot.get(["a"])):
            try:
                ask()
            except StoreError as error:
                assert "cannot" in str(error) and "\n" not in str(error)
            except UnicodeDecodeError:
                pass  # what the damage made of a text
        assert snapshot.sql("SELECT grade FROM labels").to_pydict() == {"grade": ["L1"]}


def test_a_table_that_cannot_be_read_is_told_beside_the_others(copied: Path) -> None:
    (file,) = (copied / "items").glob("*.parquet")
    file.write_bytes(b"PAR1 not at all")
    rows = {row["table"]: row for row in Snapshot(copied).describe().to_pylist()}
    assert (rows["items"]["rows"], rows["labels"]["rows"], rows["runs"]["rows"]) == (None, 1, 0)
    assert rows["items"]["shows"].startswith("cannot read table items")


def test_a_statement_that_does_not_fit_is_one_line(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"memory_limit": "60MB", "max_temp_directory_size": "40MB", "threads": 2}
    monkeypatch.setattr("stores.views._SETTINGS", {"python_enable_replacements": "false"} | small)
    snapshot = Snapshot(store)
    for text in (
        "SELECT list(i) FROM range(20000000) AS t(i)",
        "SELECT list(sha256(i::VARCHAR)) FROM range(2000000) AS t(i)",
    ):
        answer = told(snapshot, text)
        assert answer.startswith("refused: ") and ("memory" in answer or "time limit" in answer), answer
    assert snapshot.sql("SELECT title FROM items").to_pydict() == {"title": ["A"]}


def test_folders_for_what_spills_are_ones_own_and_go(store: FeatureStore, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / "lore-query-of-a-killed-process"
    left.mkdir()
    (left / "in-use").touch()
    (left / "duckdb_temp_storage_DEFAULT-0.tmp").write_bytes(b"x" * 100)
    others = tmp_path / "lore-query-not-ours"
    others.mkdir()
    first, second = Snapshot(store), Snapshot(store)
    for snapshot in (first, second):
        snapshot.sql("SELECT 1")
    found = {p.name for p in tmp_path.iterdir()}
    assert left.name not in found and others.name in found
    assert len(found) == 3
    del first, second, snapshot
    assert [p.name for p in tmp_path.iterdir()] == [others.name]


def test_an_environment_of_a_user_is_not_read(store: FeatureStore) -> None:
    assert "HOME" in os.environ
    with pytest.raises(LoreError):
        Snapshot(store).sql("SELECT getenv('HOME')")
    assert set(VIEWS) >= {"items", "attributes", "latest", "demands", "judgments"}
