"""`lore status`: tables, indexes, runs and what finishes them, failed rows by reason."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from jobs import status
from jobs.spine import run_job
from jobs.status import EngineStatus, error_classes, status_of
from lore_mm.console import command_app, run
from lore_mm.rows import understanding_to_row
from lore_mm.tables import DEMANDS
from lore_mm.types import Provenance, Query, Understanding
from stores.features import open_store

_spec = importlib.util.spec_from_file_location("scripted_job", Path(__file__).with_name("scripted_job.py"))
scripted_job = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(scripted_job)
Work, queries = scripted_job.ScriptedWork, scripted_job.queries


@pytest.fixture
def store(tmp_path):
    store = open_store(tmp_path / "store", create=True)
    store.append("queries", queries({f"q{i}": f"text {i}" for i in range(10)}))
    return store


def test_queries_by_the_engine_that_read_them(store, capsys):
    def row(query_id, engine, status="ok", error=None, confidence=0.0):
        one = Understanding(Query(query_id, "lamp"), "lamp", status=status, error=error, confidence=confidence)
        return understanding_to_row(replace(one, engine=engine), Provenance(maker=f"{engine} 1"))

    rows = [
        row("q1", "knowledge", confidence=0.9),
        row("q2", "knowledge", error="llm:x: no reply", confidence=0.5),
        row("q3", "llm:x", "failed", "not JSON"),
        row("q4", "knowledge"),
    ]
    rows[3] |= {"engine": None, "provenance": {"maker": "understand"}}  # of an earlier version
    store.append("demands", pa.Table.from_pylist(rows, schema=DEMANDS))
    assert status_of(store).engines == [
        EngineStatus("knowledge", 2, 0, 1, 0.7),
        EngineStatus("llm:x", 1, 1, 0, None),
        EngineStatus("understand", 1, 0, 0, 0.0),
    ]
    (error,) = status_of(store).errors
    assert (error.table, error.key, error.example) == ("demands", "q3", "not JSON")
    with pytest.raises(SystemExit):
        run(command_app(status.main, "status"), ["--store", store.uri])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(e["engine"], e["queries"], e["failed"]) for e in lines if e["kind"] == "engine"] == [
        ("knowledge", 2, 0),
        ("llm:x", 1, 1),
        ("understand", 1, 0),
    ]


class Interrupted(BaseException):
    pass


def half_done(store, **kind):
    work = Work(store, **kind)
    process = work.process

    def interrupted(rows, loaded):
        if work.batches:
            raise Interrupted
        return process(rows, loaded)

    work.process = interrupted
    with pytest.raises(Interrupted):
        run_job(store, work, batch_rows=4, new_run=True)


def test_counts_add_up(store):
    run_job(store, Work(store, bad=["q1", "q2"]))
    store.append("queries", queries({"q1": "better"}))
    run_job(store, Work(store))
    found = status_of(store)
    demands = next(t for t in found.tables if t.table == "demands")
    assert (demands.n_rows, demands.n_newest, demands.n_failed) == (11, 10, 1)
    assert [(r.n_in, r.n_ok, r.n_failed, r.n_skipped, r.state) for r in found.runs] == [
        (10, 8, 2, 0, "finished"),
        (10, 1, 0, 9, "finished"),
    ]
    (error,) = found.errors
    assert (error.table, error.n, error.key, error.example) == ("demands", 1, "q2", "ValueError: no voice for q2")


def test_unfinished_and_given_up_runs(store):
    half_done(store, voice="one")
    half_done(store, voice="two")
    given_up, unfinished = status_of(store).runs
    assert (given_up.state, given_up.command) == ("given up", "")
    assert (unfinished.state, unfinished.done_up_to, unfinished.n_in) == ("unfinished", 4, 10)
    assert (unfinished.n_ok, unfinished.n_untold, unfinished.n_left) == (4, 0, 6)
    assert [(w.state, w.n_ok, w.error) for w in unfinished.workers] == [("failed", 4, "Interrupted:")]
    assert (unfinished.partitions_done, unfinished.partitions) == (0, 1)
    assert "pytest" in unfinished.command  # what started this process
    run_job(store, Work(store, voice="two"), batch_rows=4)
    assert [(r.state, r.resumed) for r in status_of(store).runs] == [("given up", 0), ("finished", 1)]
    assert len(status_of(store, last=1).runs) == 1


def test_errors_of_one_kind_are_one_class():
    rows = pl.DataFrame(
        {
            "item_id": ["a", "b", "c", "d", "e", "f"],
            "error": [
                "image:0: x/1.jpg: no such file in /home/me/shop",
                "image:2: y.png: no such file in /srv/x",
                "ValueError: 'red' is 12.5 too red",
                "ValueError: 'blue' is 3 too red",
                None,
                "image:0: z.png: '..' is outside the shop's folder /srv/x",
            ],
        }
    )
    found = [(e.n, e.error, e.key) for e in error_classes("attributes", rows, ["item_id"])]
    assert found == [
        (2, "image: no such file in …", "a"),
        (2, "ValueError: '…' is # too red", "c"),
        (1, "no reason was kept", "e"),
        (1, "image: '…' is outside the shop's folder …", "f"),
    ]


def test_an_index_that_lags_is_stale(store):
    store.append("labels", store_labels())
    folder = store.folder / "vectors" / "items" / "v-1"
    folder.mkdir(parents=True)
    manifest = {"n": 3, "model": "m", "table": "labels", "table_version": store.version("labels")}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder.parent / "current").write_text("v-1\n")
    assert [(i.index, i.n, i.stale) for i in status_of(store).indexes] == [("items", 3, False)]
    store.append("labels", store_labels("q2"))
    assert [i.stale for i in status_of(store).indexes] == [True]
    (folder / "manifest.json").write_text("{")
    assert [(i.model, i.stale) for i in status_of(store).indexes] == [("unreadable", True)]


def store_labels(query_id="q1"):
    from lore_mm.tables import LABELS

    row = {"query_id": query_id, "item_id": "i", "grade": "L1"}
    return pl.DataFrame([row | {"reason": None}], schema=dict.fromkeys(LABELS.names, pl.String)).to_arrow().cast(LABELS)


def test_the_command_prints_json_lines_in_a_pipe(store, capsys):
    run_job(store, Work(store, bad=["q1"]))
    capsys.readouterr()
    with pytest.raises(SystemExit) as done:
        run(command_app(status.main, "lore status"), ["--store", store.uri])
    assert done.value.code == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["kind"] for line in lines] == ["table", "table", "table", "run", "engine", "error"]
    assert [line["table"] for line in lines[:3]] == ["queries", "demands", "runs"]
    assert lines[3]["n_ok"] == 9


def test_the_command_shows_tables_to_people(store, capsys, monkeypatch):
    half_done(store)
    monkeypatch.setattr(status, "for_people", lambda json: True)
    status.main(store=store.uri, last=10)
    out = capsys.readouterr().out
    assert f"store {store.uri}" in out.replace("\n", "")
    assert "is not finished (4 rows are behind it); finish it: python" in " ".join(out.split())


def test_no_store_is_an_error(tmp_path, capsys):
    with pytest.raises(SystemExit) as wrong:
        run(command_app(status.main, "lore status"), ["--store", str(tmp_path)])
    assert wrong.value.code == 1
    assert "no store at" in capsys.readouterr().err
