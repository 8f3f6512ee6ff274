"""`lore query` in a pipe and to files: many ids, every format, large answers, time limits."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import pytest

from lore_mm.console import command_app, run
from lore_mm.rows import item_to_row
from lore_mm.tables import ITEMS
from lore_mm.types import Item
from stores.features import FeatureStore, open_store
from stores.query import main
from stores.vector_build import build_index

N = 50


def item_rows(n: int) -> pa.Table:
    rows = [
        item_to_row(Item(f"i{k}", f"Thing {k}", price=float(k)))
        | {"image_root": None, "status": "ok", "error": None, "provenance": None}
        for k in range(n)
    ]
    return pa.Table.from_pylist(rows, schema=ITEMS)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    store = open_store(tmp_path_factory.mktemp("query") / "store", create=True)
    store.append("items", item_rows(N))
    vectors = np.eye(N, 64, dtype=np.float32)
    ids = [f"i{k}" for k in range(N)]
    build_index(ids, vectors, store.folder / "vectors" / "items", manifest={"model": "m", "table_version": None})
    return store


@pytest.fixture(autouse=True)
def here(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORE_STORE", store.uri)


def ask(capfdbinary: pytest.CaptureFixture[bytes], *arguments: str) -> tuple[int, bytes, str]:
    code = 0
    try:
        run(command_app(main, "lore query"), list(arguments))
    except SystemExit as stop:
        code = int(stop.code or 0)
    out, err = capfdbinary.readouterr()
    return code, out, err.decode()


def given(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))


def test_ids_of_stdin_or_a_file_in_their_order(capfdbinary, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("stores.query._AT_ONCE", 3)
    wanted = ["i7", "i3", "no", "i3", "i49", "i0", "nor this"]
    text = "\r\n".join(wanted).encode() + b"\n\n\xff\n"
    given(monkeypatch, text)
    code, out, err = ask(capfdbinary, "--ids", "-")
    assert [json.loads(line)["item_id"] for line in out.splitlines()] == ["i7", "i3", "i3", "i49", "i0"]
    assert code == 1
    assert [line.partition("in the store")[0] for line in err.splitlines()] == [
        "error: no item 'no' ", "error: no item 'nor this' ", "error: no item '\\udcff' ",
    ]  # fmt: skip
    (tmp_path / "ids.txt").write_bytes(text)
    code, out, _ = ask(capfdbinary, "--ids", str(tmp_path / "ids.txt"), "--output", str(tmp_path / "found.parquet"))
    assert (code, out) == (1, b"")
    found = pq.read_table(tmp_path / "found.parquet")
    assert found["item_id"].to_pylist() == ["i7", "i3", "i3", "i49", "i0"]
    assert found["price"].to_pylist() == [7.0, 3.0, 3.0, 49.0, 0.0]


def test_many_that_are_not_there_are_counted(capfdbinary, monkeypatch) -> None:
    given(monkeypatch, b"".join(b"x%d\n" % i for i in range(1000)) + b"i1\n")
    code, out, err = ask(capfdbinary, "--ids", "-", "--format", "csv")
    assert code == 1
    assert out.splitlines()[1].startswith(b'"i1","Thing 1"')
    assert len(err.splitlines()) == 101
    assert err.splitlines()[-1] == "error: 1,000 ids are not there, these among them"


def test_arrow_in_a_pipe_and_in_a_file(capfdbinary, tmp_path) -> None:
    query = "SELECT item_id, price, [title] AS titles FROM items WHERE price < 2 ORDER BY price"
    wanted = [{"item_id": f"i{k}", "price": float(k), "titles": [f"Thing {k}"]} for k in range(2)]
    _, out, _ = ask(capfdbinary, "--sql", query, "--format", "arrow")
    assert ipc.open_stream(out).read_all().to_pylist() == wanted
    assert ask(capfdbinary, "--sql", query, "--output", str(tmp_path / "a.arrow"))[0] == 0
    assert pl.read_ipc(tmp_path / "a.arrow").to_dicts() == wanted
    _, out, _ = ask(capfdbinary, "--sql", "SELECT 1 AS a WHERE false", "--format", "arrow")
    assert ipc.open_stream(out).read_all().to_pydict() == {"a": []}


def test_arrow_goes_into_another_program(store: FeatureStore) -> None:
    asking = f"{sys.executable} -m stores.query --sql 'SELECT sum(price) AS s FROM items' --format arrow"
    reading = (
        f'{sys.executable} -c "import sys, pyarrow.ipc as i; print(i.open_stream(sys.stdin.buffer).read_all()[0])"'
    )
    root = Path(__file__).parent.parent
    done = subprocess.run(f"{asking} | {reading}", shell=True, capture_output=True, text=True, cwd=root, check=True)
    assert "1225" in done.stdout and done.stderr == ""


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet", "arrow"])
def test_every_format_holds_every_row(capfdbinary, tmp_path, ending: str) -> None:
    file = tmp_path / f"all.{ending}"
    query = "SELECT range AS n, range * 0.5 AS half, 'é' || range AS text, [range] AS list FROM range(100000)"
    assert ask(capfdbinary, "--sql", query, "-o", str(file)) == (0, b"", "")
    read = {"jsonl": pl.read_ndjson, "csv": pl.read_csv, "parquet": pl.read_parquet, "arrow": pl.read_ipc}[ending]
    rows = read(file).sort("n")
    assert rows.height == 100_000
    assert rows["half"].cast(pl.Float64).sum() == 0.5 * 99_999 * 50_000
    last = rows.row(-1)
    assert (last[0], float(last[1]), last[2]) == (99_999, 49_999.5, "é99999")
    assert last[3] == ("[99999]" if ending == "csv" else [99_999])


def test_what_a_format_has_no_word_for(capfdbinary, tmp_path) -> None:
    _, out, _ = ask(
        capfdbinary, "--sql", "SELECT INTERVAL 1 DAY AS i, MAP {'a': 1} AS m, 1.5::DECIMAL(4,2) AS d", "--json"
    )
    assert json.loads(out)["d"] == 1.5
    _, out, _ = ask(capfdbinary, "--sql", "SELECT {'a': NULL} AS s, 'nan'::DOUBLE AS n", "--format", "csv")
    assert out.splitlines() == [b'"s","n"', b'"{}",nan']


def test_a_file_is_there_whole_or_not_at_all(capfdbinary, tmp_path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("before")
    failing = "SELECT CASE WHEN range = 300000 THEN error('half-way')::INT ELSE range END AS n FROM range(400000)"
    code, out, err = ask(capfdbinary, "--sql", failing, "--output", str(file))
    assert (code, out, len(err.splitlines())) == (2, b"", 1)
    assert "half-way" in err
    assert (file.read_text(), [p.name for p in tmp_path.iterdir()]) == ("before", ["a.csv"])
    (tmp_path / "blocked").write_text("")
    code, _, err = ask(capfdbinary, "--sql", "SELECT 1", "--output", str(tmp_path / "blocked" / "x.csv"))
    assert (code, len(err.splitlines())) == (2, 1)


def test_a_time_limit_ends_a_statement(capfdbinary, tmp_path) -> None:
    code, _, err = ask(capfdbinary, "--sql", "SELECT count(*) FROM range(100000000000000)", "--timeout", "0.3")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "the time limit is over" in err
    endless = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT * FROM t"
    code, _, err = ask(capfdbinary, "--sql", endless, "--timeout", "0.3", "-o", str(tmp_path / "x.csv"))
    assert (code, "the time limit is over" in err, list(tmp_path.iterdir())) == (2, True, [])
    assert "above 0 seconds" in ask(capfdbinary, "--sql", "SELECT 1", "--timeout", "0")[2]
    assert ask(capfdbinary, "--sql", "SELECT 1 AS a", "--timeout", "60", "--json")[1] == b'{"a": 1}\n'


def test_a_process_ends_in_time_whatever_one_expression_does(store: FeatureStore) -> None:
    """Some functions hear no interrupt, and what they make is not counted by DuckDB."""
    root = Path(__file__).parent.parent
    for bomb in ("SELECT list_sum(range(1000000000000))", "SELECT length(repeat(repeat('x', 1000000), 4000000))"):
        command = [sys.executable, "-m", "stores.query", "--timeout", "2", "--sql", bomb]
        done = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=60)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)


def test_search_by_vectors_of_a_file(capfdbinary, tmp_path) -> None:
    np.save(tmp_path / "one.npy", np.eye(N, 64)[3])
    np.save(tmp_path / "two.npy", np.eye(N, 64)[[5, 9]])
    code, out, _ = ask(capfdbinary, "--vector", str(tmp_path / "one.npy"), "-k", "1")
    assert (code, json.loads(out)["item_id"], json.loads(out)["similarity"]) == (0, "i3", 1.0)
    where = ("--where", "price > 5")
    _, out, _ = ask(capfdbinary, "--vector", str(tmp_path / "two.npy"), "-k", "2", *where)
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(r["vector"], r["price"] > 5) for r in rows] == [(0, True), (0, True), (1, True), (1, True)]
    assert (rows[2]["item_id"], rows[2]["similarity"]) == ("i9", 1.0)
    (tmp_path / "bad.npy").write_bytes(b"no array")
    np.save(tmp_path / "objects.npy", np.array([object()]), allow_pickle=True)
    np.save(tmp_path / "nan.npy", np.full(64, np.nan))
    np.save(tmp_path / "wide.npy", np.zeros(65) + 1)
    for name in ("bad", "objects", "nan", "wide", "not-there"):
        code, out, err = ask(capfdbinary, "--vector", str(tmp_path / f"{name}.npy"))
        assert (code, out, len(err.splitlines())) == (2, b"", 1), err


def test_conditions_are_answered_without_the_ids_in_memory(capfdbinary) -> None:
    code, out, _ = ask(capfdbinary, "--where", "price >= 48", "--json")
    assert code == 0
    assert [json.loads(line) for line in out.splitlines()] == [
        {"item_id": f"i{k}", "title": f"Thing {k}", "brand": None, "price": float(k), "currency": None}
        for k in (48, 49)
    ]
    assert len(ask(capfdbinary, "--where", "price >= 0", "--limit", "7", "--json")[1].splitlines()) == 7


def test_nothing_asked_shows_how_to_ask(capfdbinary) -> None:
    code, out, err = ask(capfdbinary)
    assert (code, err) == (0, "")
    assert b"lore query laptop" in out


def test_a_person_sees_the_first_rows_of_an_endless_answer(capfdbinary) -> None:
    query = "SELECT * FROM range(100000000000)"
    code, out, err = ask(capfdbinary, "--sql", query, "--format", "table")
    assert (code, err.strip()) == (
        0, "only the first 100 rows are shown; --format jsonl or --output FILE gives them all",
    )  # fmt: skip
    assert "99" in out.decode() and "100 " not in out.decode()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_answer(store: FeatureStore, tmp_path: Path) -> None:
    """Twenty times the rows take as good as the same memory, in every format."""
    code = (
        "import resource, sys; from lore_mm.console import command_app, run; from stores.query import main\n"
        "try:\n    run(command_app(main, 'q'), sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    root = Path(__file__).parent.parent
    for ending in ("parquet", "arrow", "csv"):
        taken = []
        for rows in (200_000, 4_000_000):
            query = f"SELECT range AS n, repeat('x', 100) || range AS t FROM range({rows})"
            command = [sys.executable, "-c", code, "--sql", query, "-o", str(tmp_path / f"a.{ending}")]
            done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=True)
            taken.append(int(done.stdout))
        assert taken[1] < taken[0] + 200, taken
