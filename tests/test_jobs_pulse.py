"""What a worker tells of itself while it works, who reads it, and what becomes of it where it cannot be told."""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import types
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from jobs import pulse, status
from jobs.plan import Counts, read_runs
from jobs.pulse import Pulse, read_pulses
from jobs.spine import run_job
from jobs.status import status_of
from lore_mm.console import command_app, run
from lore_mm.errors import InputError, StoreError
from lore_mm.models.chat import Usage
from stores.features import open_store
from stores.notes import put_note, read_notes

ASKING = Path(__file__).with_name("asking_job.py")
_spec = importlib.util.spec_from_file_location("asking_job", ASKING)
asking_job = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(asking_job)
Work, queries = asking_job.AskingWork, asking_job.queries


def open_with(tmp_path, n):
    store = open_store(tmp_path / "store", create=True)
    store.append("queries", queries({f"q{i:04}": "four words of text" for i in range(n)}))
    return store


def at_work(store, **options):
    """A process that runs the asking job on a store."""
    command = [sys.executable, str(ASKING), store.uri, json.dumps(options)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def until(found, seconds=60):
    """What `found` gives as soon as it gives something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if seen := found():
            return seen
        time.sleep(0.05)
    raise AssertionError("it never came")


def running(store):
    """The status of a run somebody is at work on, with rows that it told of."""
    if not read_runs(store):
        return None
    one = status_of(store).runs[-1]
    return one if one.state == "running" and one.n_ok else None


# ------------------------------------------------------------------------------------------------ while it goes on


def test_a_running_job_is_seen_and_a_killed_one_too(tmp_path, capsys):
    store = open_with(tmp_path, 400)
    worker = at_work(store, batch_rows=10, delay_s=0.02, price="prompt=100,completion=100")
    one = until(lambda: running(store))
    assert one.n_in == 400 == one.n_ok + one.n_failed + one.n_skipped + one.n_untold + one.n_left
    assert 0 < one.rate and 0 < one.eta_s and 0 < one.busy <= 1
    assert one.prompt_tokens == 4 * one.calls >= 4 * one.n_ok and one.cost == pytest.approx(one.calls * 5 / 10_000)
    assert [(w.pid, w.state) for w in one.workers] == [(worker.pid, "running")]
    assert (one.partitions, one.command) == (2, f"python {ASKING} {worker.args[2]} {json_argument(worker)}")
    status.main(store=store.uri, last=10, watch=None, json=False)
    assert '"state": "running"' in capsys.readouterr().out

    worker.send_signal(signal.SIGKILL)
    worker.communicate()
    (dead,) = status_of(store).runs
    assert (dead.state, [w.state for w in dead.workers], dead.rate) == ("unfinished", ["killed"], None)
    assert dead.n_in == 400 == dead.n_ok + dead.n_failed + dead.n_skipped + dead.n_untold + dead.n_left
    assert dead.n_ok + dead.n_untold == store.count("demands") == dead.done_up_to

    assert run_job(store, Work(store), batch_rows=10) == Counts(400, 400, 0, 0)
    (done,) = status_of(store).runs
    assert (done.state, done.n_ok, done.n_untold, done.n_left) == ("finished", 400, 0, 0)
    assert [w.state for w in done.workers] == ["killed", "finished"]


def json_argument(worker):
    import shlex

    return shlex.quote(worker.args[3])


def test_the_command_tells_people_how_far_it_is(tmp_path, capsys, monkeypatch):
    store = open_with(tmp_path, 40)
    work = Work(store, bad=["q0003"])

    def interrupted(rows, loaded, process=work.process):
        if work.chat.requests >= 15:  # nine of the first ten, ten of the second
            raise KeyboardInterrupt
        return process(rows, loaded)

    work.process = interrupted
    with pytest.raises(KeyboardInterrupt):
        run_job(store, work, batch_rows=10)
    monkeypatch.setattr(status, "for_people", lambda json: True)
    monkeypatch.setenv("COLUMNS", "200")
    status.main(store=store.uri, last=10, watch=None, json=False)
    said = " ".join(capsys.readouterr().out.split())
    assert "20 of 40 rows, 0 of 1 partitions; nobody is at work" in said
    assert "is not finished (20 rows are behind it); finish it: python" in said
    assert "KeyboardInterrupt:" in said
    assert "q0003: ValueError: no voice for q0003" in said


def test_watching_shows_runs_again_and_again(tmp_path, capsys, monkeypatch):
    store = open_with(tmp_path, 4)
    run_job(store, Work(store))
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 3:
            raise KeyboardInterrupt

    capsys.readouterr()
    monkeypatch.setattr(status.time, "sleep", sleep)
    with pytest.raises(SystemExit) as stopped:
        run(command_app(status.main, "lore status"), ["--store", store.uri, "--watch", "1.5"])
    assert stopped.value.code == 130 and slept == [1.5] * 3
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["kind"], line["n_ok"]) for line in lines] == [("run", 4)] * 3


# ------------------------------------------------------------------------------------------------------- what is told


def test_a_pulse_of_each_start_is_kept(tmp_path):
    store = open_with(tmp_path, 30)
    work = Work(store, bad=["q0007"])
    assert run_job(store, work, batch_rows=10) == Counts(30, 29, 1, 0)
    (one,) = read_pulses(store, read_runs(store)[-1].plan.run_id)
    assert (one.state, one.rows, one.done, one.n_in, one.n_ok, one.n_failed) == ("finished", 30, 30, 30, 29, 1)
    assert (one.pid, one.host, one.at_work, one.passed) == (os.getpid(), socket.gethostname(), 0, (0,))
    assert one.spent == {"scripted:7": work.usage} and one.cost is None
    assert run_job(store, Work(store), batch_rows=10) == Counts(30, 0, 0, 30, 1)
    assert len(read_runs(store)) == len(list((store.folder / "pulses").iterdir())) == 1  # nothing done: nothing told


def test_a_pulse_that_is_none_is_left_out(tmp_path):
    store = open_with(tmp_path, 3)
    run_job(store, Work(store))
    run_id = read_runs(store)[-1].plan.run_id
    (folder,) = (store.folder / "pulses").iterdir()
    for name, text in (("a.json", "{"), ("b.json", "[]"), ("c.json", '{"run_id": 3}'), ("d.json", '{"spent": 1}')):
        (folder / name).write_text(text)
    (folder / "e.json").write_bytes(b"\xff\xfe")
    (folder / "f.json").write_text(
        json.dumps({**json.loads(next(folder.glob("????????????.json")).read_text()), "rows": "x"})
    )
    (folder / "g.json").write_text(json.dumps({"run_id": "another", "start": "s", "worker": "w"}))
    (folder / "h.json").write_text("[" * 100_000)
    assert [p.n_ok for p in read_pulses(store, run_id)] == [3]
    assert status_of(store).runs[-1].n_ok == 3


def test_a_store_that_keeps_no_pulses_is_warned_of_once(tmp_path, capsys):
    store = open_with(tmp_path, 100)
    (store.folder / "pulses").write_text("in the way")
    assert run_job(store, Work(store), batch_rows=10).n_ok == 100
    assert capsys.readouterr().err.count("what this worker tells of itself cannot be kept, the job goes on") == 1
    (one,) = status_of(store).runs
    assert (one.n_ok, one.workers) == (100, ())


def test_notes_are_replaced_as_a_whole_and_kept_in_their_folder(tmp_path):
    store = open_with(tmp_path, 1)
    assert read_notes(store, "pulses/r") == {}
    put_note(store, "pulses/r", "a.json", "ü" * 1000)
    put_note(store, "pulses/r", "a.json", "second")
    assert read_notes(store, "pulses/r") == {"a.json": "second"}
    for name in ("../x", "a/b", "", ".hidden"):
        with pytest.raises(ValueError, match="the name of a note"):
            put_note(store, "pulses/r", name, "x")
    store.folder.rename(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="no store at"):
        put_note(store, "pulses/r", "a.json", "x")
    assert not store.folder.exists()


def test_a_worker_of_another_machine_falls_silent():
    one = Pulse("r", "s", "another-machine 12 34", updated_at="2020-01-01T00:00:00+00:00")
    assert not one.gone and one.silent_s > 1e6
    assert replace(one, updated_at="nonsense").silent_s == 0
    from jobs.workers import this_worker

    machine, pid, _ = this_worker().split(" ")
    assert replace(one, worker=f"{machine} {pid} 1").gone  # this machine knows that one to have ended
    assert not replace(one, worker=this_worker()).gone


def test_gpus_are_told_where_the_library_is_there(monkeypatch):
    fake = types.SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda i: i,
        nvmlDeviceGetUtilizationRates=lambda i: types.SimpleNamespace(gpu=(90, 30)[i]),
    )
    monkeypatch.setattr(pulse, "_gpus", [])
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    assert pulse.gpu_share() == pytest.approx(0.6)
    monkeypatch.setattr(pulse, "_gpus", [])
    monkeypatch.setitem(sys.modules, "pynvml", None)  # not installed
    assert pulse.gpu_share() is None


def test_a_pulse_costs_next_to_nothing(tmp_path):
    """Of a run of two seconds there are at most three: at its beginning, after two seconds, at its end."""
    store = open_with(tmp_path, 1)
    one = Pulse("r", "s", "w", spent={"m": Usage(1, 2, 3)})
    told = []

    def tell():
        told.append(1)
        return one

    beat = pulse.Beat(store, "r", "s", tell)
    beat.start()
    beat.end()
    assert len(told) == 2
    assert read_pulses(store, "r") == [one]


# -------------------------------------------------------------------------------------------------------- Prometheus


def labels(store):
    """Those that each figure of a run has."""
    runs = read_runs(store)
    return {"job": "scripted", "run": runs[-1].plan.run_id if runs else ""}


def test_figures_for_prometheus_come_from_a_running_job(tmp_path):
    parser = pytest.importorskip("prometheus_client.parser")
    store = open_with(tmp_path, 300)
    worker = at_work(store, batch_rows=10, delay_s=0.02, metrics_port="0", price="prompt=100,completion=100")
    try:
        said = worker.stderr.readline()
        address = said.rpartition(" ")[2].strip()
        assert said.startswith("scripted: figures for Prometheus at http://127.0.0.1:")

        def figures():
            text = urllib.request.urlopen(address, timeout=30).read().decode()
            samples = [sample for family in parser.text_string_to_metric_families(text) for sample in family.samples]
            found = {(s.name, *sorted(s.labels.items() - labels(store).items())): s.value for s in samples}
            return found if found.get(("lore_rows_total", ("to", "ok"))) else None  # the run is known by then

        found = until(figures)
        assert found["lore_run_rows",] == 300
        assert 0 < found["lore_rows_total", ("to", "ok")] <= found["lore_run_rows_done",] <= 300
        calls = found["lore_calls_total", ("model", "scripted:7")]
        assert found["lore_tokens_total", ("model", "scripted:7"), ("of", "prompt")] == 4 * calls > 0
        assert found["lore_cost_total",] == pytest.approx(5e-4 * calls)
        assert 0 < found["lore_engine_busy_ratio",] <= 1
    finally:
        worker.kill()
        worker.communicate()


def test_a_port_that_is_taken_or_none(tmp_path):
    pytest.importorskip("prometheus_client")
    store = open_with(tmp_path, 3)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"--metrics-port {port}: Address already in use; name another"):
            run_job(store, Work(store), metrics_port=str(port))
    for nonsense in ("http", "70000", "-1", "127.0.0.1:", "a b:80"):
        with pytest.raises(InputError, match="legal: PORT or HOST:PORT"):
            run_job(store, Work(store), metrics_port=nonsense)
    assert run_job(store, Work(store), metrics_port="127.0.0.1:0").n_ok == 3
