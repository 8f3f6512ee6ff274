"""pytest tests/test_jobs_compact.py"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

import jobs.tidy
from jobs.compact import keep_small, main
from jobs.plan import Counts, read_runs, write_event
from jobs.spine import run_job
from jobs.tidy import unfinished_runs
from lore_mm.console import command_app
from lore_mm.errors import StoreError
from lore_mm.tables import ITEMS
from stores.features import open_store
from stores.online_write import build_online
from stores.snapshot import Snapshot

SCRIPT = Path(__file__).with_name("scripted_job.py")
_spec = importlib.util.spec_from_file_location("scripted_job", SCRIPT)
scripted_job = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(scripted_job)
Work, queries = scripted_job.ScriptedWork, scripted_job.queries


@pytest.fixture
def store(tmp_path):
    """Twelve queries in six files, q0 … q11; q0 and q1 stand twice."""
    store = open_store(tmp_path / "store", create=True)
    store.append("queries", queries({"q0": "old", "q1": "old"}))
    for start in range(0, 12, 2):
        store.append("queries", queries({f"q{i}": f"text {i}" for i in (start, start + 1)}))
    return store


def told(capsys, store, *options):
    with pytest.raises(SystemExit) as stop:
        command_app(main, "compact")(["--store", store.uri, *options])
    assert stop.value.code == 0
    out, err = capsys.readouterr()
    return {row["table"]: row for row in map(json.loads, out.splitlines())}, err


def interrupt(store, at, **options):
    """A run that is broken off in the micro-batch of this number."""
    work = Work(store)
    process = work.process

    def process_some(rows, loaded):
        if len(work.batches) == at - 1:
            raise KeyboardInterrupt
        return process(rows, loaded)

    work.process = process_some
    with pytest.raises(KeyboardInterrupt):
        run_job(store, work, batch_rows=2, **options)


def test_it_says_what_it_does_and_does_what_it_said(store, capsys):
    run_job(store, Work(store), batch_rows=2)
    newest = {table: store.latest(table).collect() for table in store.tables()}
    asked = ("--vacuum", "0", "--drop-replaced", "0")
    would, _ = told(capsys, store, *asked, "--dry-run")
    assert {t: (row["files_before"], row["files"], row["dropped"]) for t, row in would.items()} == {
        "queries": (7, 1, 2),
        "demands": (6, 1, 0),
        "runs": (2, 1, 0),
    }
    assert {table: store.version(table) for table in would} == {t: row["version"] for t, row in would.items()}
    done, said = told(capsys, store, *asked)
    assert {t: (row["files_before"], row["files"], row["dropped"], row["deleted"]) for t, row in done.items()} == {
        "queries": (7, 1, 2, 7),
        "demands": (6, 1, 0, 6),
        "runs": (2, 1, 0, 2),
    }
    assert said == ""
    for table, row in done.items():
        assert store.latest(table).collect().equals(newest[table])
        assert row["version"] == store.version(table)
        assert row["bytes"] == sum(os.path.getsize(file) for file in store.files(table))
        assert row["earlier"] == 0
    again, _ = told(capsys, store, *asked)
    assert all((row["files"], row["dropped"], row["deleted"]) == (1, 0, 0) for row in again.values())
    assert run_job(store, Work(store), batch_rows=2) == Counts(12, 0, 0, 12)


def test_an_online_view_serves_on(store, capsys):
    """It holds the same rows as before."""
    for i in range(3):
        item = {"item_id": f"i{i}", "title": "thing", "status": "ok"}
        store.append("items", pa.Table.from_pylist([item], schema=ITEMS))
    build_online(store)
    told(capsys, store, "--vacuum", "0")
    served = Snapshot(store)
    assert served._online is not None
    assert served.get(["i2"])[0].item.title == "thing"
    store.append("items", pa.Table.from_pylist([{**item, "title": "newer"}], schema=ITEMS))
    assert Snapshot(store)._online is None


def test_nothing_is_deleted_unless_asked_for(store, capsys, monkeypatch):
    monkeypatch.setattr("jobs.compact._WORTH_SAYING", 1)
    old = store.version("queries")
    rows = store.scan("queries", old).collect()
    done, said = told(capsys, store)
    assert (done["queries"]["deleted"], done["queries"]["earlier"] > 0) == (0, True)
    assert "lore compact --vacuum 7 deletes what is older than a week" in said
    assert store.scan("queries", old).collect().equals(rows)


def test_what_an_unfinished_run_reads_is_kept(store, capsys):
    """Compaction, a vacuum of everything, then the rest of the run: as if nothing had been."""
    interrupt(store, 3)
    (run,) = unfinished_runs(store)
    pinned = run.plan.inputs["queries"]
    done, said = told(capsys, store, "--vacuum", "0")
    assert done["queries"]["kept_for"] == [run.plan.run_id]
    assert f"queries: kept what {run.plan.run_id} reads; finish it, or give it up with --new-run" in said
    assert store.version("queries") > pinned
    assert store.scan("queries", pinned).collect().height == 14
    again = open_store(store.uri)
    assert run_job(again, Work(again), batch_rows=2) == Counts(12, 12, 0, 0)
    assert sorted(again.scan("demands").collect()["query_id"]) == sorted(f"q{i}" for i in range(12))
    told(capsys, store, "--vacuum", "0")
    with pytest.raises(StoreError, match=f"version {pinned} of queries was vacuumed"):
        again.scan("queries", pinned)


def test_of_a_table_that_is_being_written_no_row_is_dropped(store):
    run_job(store, Work(store), batch_rows=2)
    store.append("queries", queries({f"q{i}": f"new {i}" for i in range(12)}))
    work = Work(store)
    work.input_shas = lambda rows: [f"newer {text}" for text in rows.column("query").to_pylist()]
    process, work.process = work.process, None

    def once(rows, loaded):
        if len(work.batches) == 1:
            raise KeyboardInterrupt
        return process(rows, rows.column("query_id").to_pylist())

    work.process = once
    with pytest.raises(KeyboardInterrupt):
        run_job(store, work, batch_rows=2)
    runs = unfinished_runs(store)
    assert store.count("demands") == 14
    assert keep_small(store, "demands", runs, drop_days=0).dropped == 0
    assert keep_small(store, "demands", (), drop_days=0).dropped == 2


def test_which_runs_are_unfinished(store):
    interrupt(store, 2)
    interrupt(store, 2, new_run=True)  # which gives the first one up
    interrupt(store, 2, apart=True)  # beside the others; its worker has said that it stopped
    beside, _, second = sorted(read_runs(store), key=lambda run: run.plan.number)
    assert [run.plan.run_id for run in unfinished_runs(store)] == [second.plan.run_id]
    write_event(store, beside.plan, "resumed")  # this process is at work on it
    assert {run.plan.run_id for run in unfinished_runs(store)} == {second.plan.run_id, beside.plan.run_id}
    run_job(store, Work(store), batch_rows=2)
    assert {run.plan.run_id for run in unfinished_runs(store)} == {beside.plan.run_id}


def test_a_job_merges_what_it_left(store, capsys, monkeypatch):
    run_job(store, Work(store), batch_rows=2, limit=4)
    assert len(store.files("demands")) == 2
    monkeypatch.setattr(jobs.tidy, "_MANY", 4)
    assert run_job(store, Work(store), batch_rows=2) == Counts(12, 8, 0, 4)
    assert len(store.files("demands")) == 1
    assert "demands: 6 files merged into 1" in capsys.readouterr().err
    assert store.scan("demands").collect().height == 12


def test_a_job_does_not_fail_for_what_it_left(store, capsys, monkeypatch):
    monkeypatch.setattr(jobs.tidy, "_MANY", 1)

    def broken(store, table):
        raise StoreError("no space left")

    monkeypatch.setattr(jobs.tidy, "compact", broken)
    assert run_job(store, Work(store), batch_rows=2) == Counts(12, 12, 0, 0)
    assert "demands keeps its small files (no space left); lore compact merges them" in capsys.readouterr().err
    assert len(store.files("demands")) == 6


def test_in_a_bucket(tmp_path, monkeypatch, capsys):
    boto3 = pytest.importorskip("boto3", reason="comes with moto, of the extra dev")
    pytest.importorskip("moto", reason="of the extra dev")
    pytest.importorskip("obstore", reason="needs the extra buckets")
    command = [sys.executable, "-m", "tests.s3_server", str(tmp_path / "requests.log")]
    with subprocess.Popen(command, cwd=SCRIPT.parent.parent, stdout=subprocess.PIPE, text=True) as server:
        try:
            url = f"http://127.0.0.1:{int(server.stdout.readline())}"
            for name in [n for n in os.environ if n.startswith("AWS_") or n.lower().endswith("_proxy")]:
                monkeypatch.delenv(name)
            for name, value in {"ACCESS_KEY_ID": "id", "SECRET_ACCESS_KEY": "x", "REGION": "us-east-1"}.items():
                monkeypatch.setenv(f"AWS_{name}", value)
            monkeypatch.setenv("AWS_ENDPOINT_URL", url)
            boto3.client("s3").create_bucket(Bucket="shop")
            store = open_store("s3://shop/store", create=True)
            for i in range(4):
                store.append("queries", queries({"q0": f"text {i}", f"q{i + 1}": f"text {i}"}))
            old, newest = store.version("queries"), store.latest("queries").collect()
            done, _ = told(capsys, store, "--vacuum", "0", "--drop-replaced", "0")
            assert {k: done["queries"][k] for k in ("files_before", "files", "dropped", "deleted")} == {
                "files_before": 4,
                "files": 1,
                "dropped": 3,
                "deleted": 5,  # one was written when three rows had been dropped
            }
            assert store.latest("queries").collect().equals(newest)
            assert store.scan("queries").collect().height == 5
            with pytest.raises(StoreError, match=f"version {old} of queries was vacuumed"):
                list(store.batches("queries", version=old))
        finally:
            server.kill()
