"""`--run-on ray`: the same stages, the same commits, equal tables; whatever dies over there costs rework and no row."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

pytest.importorskip("ray.data", reason="needs the extra ray")

from jobs import ray_engine
from jobs.embed_items import embed_items
from jobs.extract_items import extract_items
from jobs.ingest import ingest_items, ingest_labels, ingest_queries
from jobs.judge_pairs import judge_pairs
from jobs.openers import opened
from jobs.plan import Counts, read_runs
from jobs.ray_stages import Fault, as_bytes, as_table
from jobs.spine import run_job
from jobs.understand_queries import understand_queries
from lore_mm.errors import ConfigError, InputError, LoreError, MissingExtraError, ModelError
from lore_mm.models.chat import Usage
from stores.features import open_store
from stores.vectors import open_index
from tests.scripted_job import queries
from tests.scripted_ray import Opener

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*")  # of its own settings, in its threads
DEMO = Path(__file__).parent.parent / "examples" / "demo"
N, BATCH = 95, 10
RAY = {"run_on": "ray", "workers": 1}


@pytest.fixture(scope="module")
def cluster():
    """One cluster on this machine for all tests of the file."""
    ray = ray_engine._ray()
    ray_engine._connect(ray, None, 2)
    yield ray
    ray.shutdown()


def filled(place):
    store = open_store(place, create=True)
    store.append("queries", queries({f"q{i:03}": f"text {i}" for i in range(N)}))
    return store


def changed(store):
    """Every seventh query has another text; what stands of the others is left alone."""
    store.append("queries", queries({f"q{i:03}": f"new text {i}" for i in range(0, N, 7)}))


def content(store, table="demands"):
    """All rows in their order, without what is different in each run."""
    fields = [pl.col("provenance").struct.field(name) for name in ("maker", "input_sha", "settings_sha")]
    return store.scan(table).with_columns(*fields).drop("provenance").collect()


def noted(path, what):
    """The ids of each call, in order, and the processes."""
    lines = [line.split() for line in Path(path).read_text().splitlines()]
    return [line[2:] for line in lines if line[0] == what], {int(line[1]) for line in lines if line[0] == what}


def test_equal_to_local_and_an_engine_killed(cluster, tmp_path, monkeypatch):
    """Bad rows, rows that cannot be loaded, a rerun over thinned slices, and a killed engine: as in a local run."""
    rest = {"bad": ("q007", "q021"), "unloadable": ("q033",)}
    here, there = filled(tmp_path / "here"), filled(tmp_path / "there")
    local, far = (Opener(str(tmp_path / n), str(tmp_path / f"{n}.notes"), rest=rest) for n in ("here", "there"))
    with opened(far, there, RAY) as it, opened(local, here, {}) as own:
        for step in range(2):
            if step:
                changed(here)
                changed(there)
            counts = run_job(here, own.work, batch_rows=BATCH)
            assert run_job(there, it.work, elsewhere=it.elsewhere, batch_rows=BATCH, **RAY) == counts
            assert content(there).equals(content(here))
            assert counts == (Counts(N, N - 3, 3) if step == 0 else Counts(N, 12, 3, 80))
            # gathered over slices as here: the engine was given the very same micro-batches
            assert noted(far.notes, "process")[0] == noted(local.notes, "process")[0]
        assert not noted(far.notes, "load")[1] & noted(far.notes, "process")[1]  # in another process than the engine
        assert os.getpid() not in noted(far.notes, "load")[1] | noted(far.notes, "process")[1]

        append, killed = there.append, []

        def deadly(table, rows, *args, **kwargs):
            engine = [line.split()[1] for line in Path(far.notes).read_text().splitlines() if line[0] == "p"][-1]
            if table == "demands" and len(killed) < 2 and int(engine) not in killed:
                killed.append(int(engine))
                os.kill(int(engine), signal.SIGKILL)
            return append(table, rows, *args, **kwargs)

        for i, store in enumerate((here, there)):
            store.append("queries", queries({f"x{i:03}": f"more {i}" for i in range(N)}))
            monkeypatch.setattr(there, "append", deadly if i else append)
            work, far_off = (it.work, it.elsewhere) if i else (own.work, None)
            counts = run_job(store, work, elsewhere=far_off, batch_rows=BATCH)
            assert (counts.n_in, counts.n_ok, counts.n_failed, counts.n_skipped) == (2 * N, N, 1, N - 1)
        assert killed
        assert content(there).equals(content(here))
        assert read_runs(there)[-1].counts == replace(counts, n_still_failed=0)


@pytest.mark.slow
def test_a_loading_process_killed(cluster, tmp_path, monkeypatch):
    there = filled(tmp_path / "there")
    far = Opener(str(tmp_path / "there"), str(tmp_path / "notes"), rest={"spends": True})
    append, killed = there.append, []

    def deadly(table, rows, *args, **kwargs):
        if table == "demands" and not killed:
            killed.extend(noted(far.notes, "load")[1])
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
        return append(table, rows, *args, **kwargs)

    monkeypatch.setattr(there, "append", deadly)
    with opened(far, there, RAY) as it:
        assert run_job(there, it.work, elsewhere=it.elsewhere, batch_rows=3, **RAY) == Counts(N, N)
        assert it.work.spent() == {"scripted": Usage(32, 320, 0)}  # by the engine, one call a micro-batch
    assert killed
    assert noted(far.notes, "load")[1] - set(killed)  # others went on
    assert content(there)["query_id"].to_list() == [f"q{i:03}" for i in range(N)]


@pytest.mark.slow
def test_a_dead_engine_stops_the_run(cluster, tmp_path):
    """What came before is kept; the error is the local one; a run here goes on behind it."""
    there = filled(tmp_path / "there")
    far = Opener(str(tmp_path / "there"), str(tmp_path / "notes"), dead="q042")
    with pytest.raises(ModelError, match=r"^the engine is dead$"), opened(far, there, RAY) as it:
        run_job(there, it.work, elsewhere=it.elsewhere, batch_rows=BATCH, **RAY)
    assert content(there)["query_id"].to_list() == [f"q{i:03}" for i in range(40)]
    with opened(Opener(far.address, far.notes), there, {}) as it:
        assert run_job(there, it.work, batch_rows=BATCH) == Counts(N, N)
    assert content(there)["query_id"].to_list() == [f"q{i:03}" for i in range(N)]


@pytest.mark.slow
def test_the_first_may_be_the_last_to_be_made(cluster, tmp_path):
    """Two engines, one of them long at the first micro-batch: commits keep their order."""
    there = filled(tmp_path / "there")
    far = Opener(str(tmp_path / "there"), str(tmp_path / "notes"), rest={"slow": "q000"})
    two = {"run_on": "ray", "workers": 2}
    with opened(far, there, two) as it:
        assert run_job(there, it.work, elsewhere=it.elsewhere, batch_rows=BATCH, **two) == Counts(N, N)
    assert content(there)["query_id"].to_list() == [f"q{i:03}" for i in range(N)]
    assert len(noted(far.notes, "process")[1]) == 2
    (run,) = read_runs(there)
    assert there.last_transaction("demands", run.plan.app_id(0)) == 9


@pytest.mark.slow
def test_an_engine_that_does_not_open(cluster, tmp_path):
    there = filled(tmp_path / "there")
    far = Opener(str(tmp_path / "there"), str(tmp_path / "notes"), unopened="no such model: try another")
    with pytest.raises(ModelError, match=r"^no such model: try another$"), opened(far, there, RAY):
        pass
    assert there.version("demands") is None


DRIVER = """
import os, signal, sys
from jobs.openers import opened
from jobs.spine import run_job
from stores.features import open_store
from tests.scripted_ray import Opener
place, notes, commits = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = open_store(place)
append, done = store.append, 0
def deadly(table, rows, *args, **kwargs):
    global done
    version = append(table, rows, *args, **kwargs)
    done += table == "demands"
    if done == commits:
        os.kill(os.getpid(), signal.SIGKILL)
    return version
store.append = deadly
options = {"run_on": "ray", "workers": 1}
with opened(Opener(place, notes), store, options) as it:
    run_job(store, it.work, elsewhere=it.elsewhere, batch_rows=10, **options)
"""


@pytest.mark.slow
def test_a_driver_killed(tmp_path):
    """The same command on Ray, killed; then once more; then the rest here."""
    there = filled(tmp_path / "there")
    notes = str(tmp_path / "notes")
    for commits in (2, 3):
        command = [sys.executable, "-c", DRIVER, str(tmp_path / "there"), notes, str(commits)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=Path(__file__).parent.parent)
        assert done.returncode == -signal.SIGKILL, done.stderr
    assert content(there)["query_id"].to_list() == [f"q{i:03}" for i in range(50)]
    with opened(Opener(str(tmp_path / "there"), notes), there, {}) as it:
        assert run_job(there, it.work, batch_rows=BATCH) == Counts(N, N)
    assert content(there)["query_id"].to_list() == [f"q{i:03}" for i in range(N)]
    (run,) = read_runs(there)
    assert run.resumed == 2


@pytest.fixture
def shop(tmp_path):
    """A dozen items of the demo, one picture broken and one not there, its queries and labels."""
    shop = tmp_path / "shop"
    shutil.copytree(DEMO / "images", shop / "images")
    rows = [json.loads(line) for line in (DEMO / "items.jsonl").read_text().splitlines()[:12]]
    (shop / rows[3]["images"][0]).write_bytes(b"no picture")
    (shop / rows[5]["images"][0]).unlink()
    (shop / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("queries.jsonl", "labels.jsonl"):
        shutil.copy(DEMO / name, shop / name)
    return shop


def ingested(shop, place):
    store = open_store(place, create=True)
    ingest_items(store, shop)
    ingest_queries(store, shop / "queries.jsonl")
    ingest_labels(store, shop / "labels.jsonl")
    return store


@pytest.mark.slow
def test_the_jobs_themselves(cluster, shop, tmp_path):
    """Extraction from pictures, vectors, queries and pairs: the tables of a local run."""
    here, there = ingested(shop, tmp_path / "here"), ingested(shop, tmp_path / "there")
    jobs = {
        "attributes": lambda store, **on: extract_items(store, extractors=["given", "palette"], batch_rows=5, **on),
        "embeddings": lambda store, **on: embed_items(store, embedder="scripted:7", batch_rows=5, **on),
        "demands": lambda store, **on: understand_queries(store, batch_rows=40, **on),
        "judgments": lambda store, **on: judge_pairs(store, labels=True, batch_rows=50, **on),
    }
    for table, job in jobs.items():
        counts = job(here)
        assert job(there, **RAY) == counts
        assert content(there, table).equals(content(here, table))
        assert counts.n_ok and counts.n_in == counts.n_ok + counts.n_failed
        if table in ("attributes", "embeddings"):
            assert (counts.n_in, counts.n_failed) == (12, 2)
    index, other = (open_index(store.folder / "vectors" / "items") for store in (here, there))
    of_its_own = {"made_at": None, "table_id": None}
    assert {**index.manifest, **of_its_own} == {**other.manifest, **of_its_own}


@pytest.mark.slow
def test_by_command(shop, tmp_path):
    """`--engine ray`: one line at the end as ever, and none of Ray's."""
    command = [sys.executable, "-m", "jobs.extract_items", str(shop), "--store", str(tmp_path / "store")]
    command += ["--extractors", "palette", "--engine", "ray", "--workers", "1", "--batch-rows", "4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "extract_items: 12 in = 10 ok + 2 failed + 0 skipped" in done.stderr
    assert not any(word in done.stderr.lower() for word in ("ray ", "raylet", "warning", "dataset", "worker"))


def test_what_is_sent_is_small():
    """Of a slice only what it shows; the same rows come back."""
    whole = queries({f"q{i}": "text" * 50 for i in range(1000)})
    sent = as_bytes(whole.slice(500, 2))
    assert len(sent) < 5000
    assert as_table(sent).equals(whole.slice(500, 2))


@pytest.mark.parametrize("error", [ModelError("gone"), ConfigError("odd"), MissingExtraError("torch", "cpu")])
def test_errors_come_back_as_they_were(error):
    again = Fault.of(error).error()
    assert (type(again), str(again), again.exit_code) == (type(error), str(error), error.exit_code)


def test_any_other_error_comes_back_named():
    again = Fault.of(ZeroDivisionError("by zero")).error()
    assert type(again) is LoreError
    assert str(again) == "a worker of the Ray cluster failed: ZeroDivisionError: by zero"


def test_engines_fit_into_the_cluster():
    """On a GPU each where there are some; a CPU is left for loading."""
    assert ray_engine._size({"CPU": 64, "GPU": 8}, None) == (8, 1, 32)
    assert ray_engine._size({"CPU": 16, "GPU": 1}, None) == (1, 1, 4)
    assert ray_engine._size({"CPU": 6}, None) == (3, 0, 3)
    assert ray_engine._size({"CPU": 6}, 5) == (5, 0, 1)
    with pytest.raises(InputError, match="--workers 9: the Ray cluster has 4 GPUs and 64 CPUs, room for 4"):
        ray_engine._size({"CPU": 64, "GPU": 4}, 9)


def test_without_ray(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    store = filled(tmp_path / "store")
    with pytest.raises(MissingExtraError, match=r"pip install 'lore-mm\[ray\]'"):
        understand_queries(store, run_on="ray")
    assert store.version("demands") is None
