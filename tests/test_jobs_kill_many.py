"""SIGKILL at instants of nobody's choosing, over and over, and several workers of one run, some of them killed.

The job's own log of what it has made, written before each commit, tells what was made twice.
"""

import importlib.util
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from jobs.plan import Counts, read_runs
from jobs.spine import run_job
from stores.features import open_store

SCRIPT = Path(__file__).with_name("scripted_job.py")
_spec = importlib.util.spec_from_file_location("scripted_job", SCRIPT)
scripted_job = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(scripted_job)

N, BATCH = 180, 3
STANDING = 70  # rows that an earlier run has made, where there was one
BAD = ["q007", "q020"]  # of those, failed
WAYS = {
    "one after the other": {},
    "three in flight": {"in_flight": 3},
    "partitions": {"least_slices": 4},
    "partitions, in flight": {"least_slices": 4, "in_flight": 2},
    "incremental": {"least_slices": 4},
}


def ids(start, stop):
    return [f"q{i:03}" for i in range(start, stop)]


def made_store(folder, standing=0):
    """A store of N queries, of which the first are understood already, some of them changed since."""
    store = open_store(folder, create=True)
    texts = {f"q{i:03}": f"text {i}" for i in range(N)}
    store.append("queries", scripted_job.queries(texts))
    if standing:
        run_job(store, scripted_job.ScriptedWork(store, bad=BAD), batch_rows=50, limit=standing)
    return store


def start(folder, **options):
    said = {"batch_rows": BATCH, "pace": 0.005, **options}
    command = [sys.executable, str(SCRIPT), str(folder), str(folder / "log"), json.dumps(said)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def lines(path):
    return path.read_text().split() if path.exists() else []


def kill_at_some_time(folder, process, lots):
    """Kill it after up to four more micro-batches, seen by what was made or by the files that were written, and some
    milliseconds; True where it had not ended before."""
    by_files = lots.random() < 0.5

    def seen():
        return len(list(folder.glob("demands/*.parquet"))) if by_files else len(lines(folder / "log")) // BATCH

    before, more = seen(), lots.randrange(5)
    while process.poll() is None and seen() < before + more:
        time.sleep(0.001)
    time.sleep(lots.choice([0, 0.01, 0.1, 0.5]) * lots.random())
    process.kill()
    process.communicate(timeout=120)
    return process.returncode == -signal.SIGKILL


def check(store, standing):
    """Every row once, and as if nothing had happened; the run's counts add up."""
    skipped = ids(0, standing)
    rows = store.scan("demands").collect()
    times = Counter(rows["query_id"].to_list())
    assert times == {q: 1 for q in ids(0, N)}  # none lost, none doubled
    newest = dict(zip(rows["query_id"], rows["normalized"], strict=True))
    assert newest == {f"q{i:03}": f"TEXT {i}" for i in range(N)} | {q: None for q in BAD if q in skipped}
    run = read_runs(store)[-1]
    assert run.counts == Counts(N, N - standing, 0, standing)
    own = rows.filter(pl.col("provenance").struct.field("run_id") == run.plan.run_id)
    assert set(own["query_id"]) == set(ids(standing, N))


def kill_again_and_again(folder, kills, lots, way):
    """Start the job and kill it so many times, let it end, and look; returns what was made in vain, in rows."""
    standing = STANDING if way == "incremental" else 0
    store = made_store(folder, standing)
    killed = 0
    for _ in range(2 * kills):
        killed += kill_at_some_time(folder, start(folder, **WAYS[way]), lots)
        if killed == kills:
            break
    went_on = any(run.resumed and run.finished_at is None for run in read_runs(store))  # a kill may come after the end
    out, err = (process := start(folder, **WAYS[way])).communicate(timeout=120)
    assert process.returncode == 0, err
    if went_on:
        assert f"n_in={N}, n_ok={N - standing}, n_failed=0, n_skipped={standing}" in out
    check(store, standing)
    in_vain = len(lines(folder / "log")) - (N - standing)
    assert 0 <= in_vain <= killed * BATCH * WAYS[way].get("in_flight", 1)
    not_committed = len(list((folder / "demands").glob("*.parquet"))) - len(store.files("demands"))
    print(f"{way}: {killed} kills, {not_committed} of them between write and commit, {in_vain} rows made twice")


@pytest.mark.parametrize(("way", "kills"), [("three in flight", 3), ("incremental", 4)])
def test_killed_from_outside_at_any_time(tmp_path, way, kills):
    kill_again_and_again(tmp_path / "store", kills, random.Random(7), way)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_killed_a_hundred_times(tmp_path, way):
    """Twenty kills each way; the printed seed gives the same lots again, though not the same instants."""
    seed = random.SystemRandom().randrange(1_000_000)
    print(f"seed {seed}")
    kill_again_and_again(tmp_path / "store", 20, random.Random(seed), way)


# ------------------------------------------------------------------------------------------------- several at once


def share(folder, together, late, kills, lots, **options):
    """Several workers at the same moment, one more later, and some of them killed: the rest do it all."""
    store = made_store(folder)
    options = {"least_slices": 2, "go": str(folder / "go"), **options}
    workers = [start(folder, **options) for _ in range(together)]
    try:
        (folder / "go").touch()
        done = [kill_at_some_time(folder, worker, lots) for worker in workers[:kills]]
        workers += [start(folder, **options) for _ in range(late)]
        for worker in workers[kills:]:
            out, err = worker.communicate(timeout=240)
            assert worker.returncode == 0, err
            assert f"n_in={N}, n_ok={N}, n_failed=0, n_skipped=0" in out  # of the whole run, whoever made what
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    check(store, 0)
    assert len(read_runs(store)) == 1  # starts at the same moment are one run
    lost = len(lines(Path(f"{folder}/log.lost")))
    in_vain = len(lines(folder / "log")) - N
    most = (sum(done) + lost) * BATCH * options.get("in_flight", 1) + together * BATCH  # and who did not start the run
    assert 0 <= in_vain <= most
    print(f"{together} + {late} workers, {sum(done)} killed: {lost} partitions left to others, {in_vain} rows in vain")


def test_several_workers_share_a_run(tmp_path):
    share(tmp_path / "store", together=3, late=1, kills=1, lots=random.Random(3))


@pytest.mark.slow
@pytest.mark.parametrize("in_flight", [1, 3])
def test_eight_workers_share_a_run(tmp_path, in_flight):
    seed = random.SystemRandom().randrange(1_000_000)
    print(f"seed {seed}")
    share(tmp_path / "store", 8, 2, 4, random.Random(seed), in_flight=in_flight, pace=0.03)
