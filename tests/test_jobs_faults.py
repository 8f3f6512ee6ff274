"""What breaks under a job: the disk, the store, its log, a file that is being read, a signal. Each time one plain line,
nothing lost, and once the fault is gone the same call ends as if nothing had been."""

import functools
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from jobs.ingest import ingest_items
from jobs.plan import Counts, read_runs
from jobs.spine import run_job
from lore_mm.errors import InputError, LoreError, StoreError
from lore_mm.tables import DEMANDS
from stores.features import open_store

SCRIPT = Path(__file__).with_name("scripted_job.py")
_spec = importlib.util.spec_from_file_location("scripted_job", SCRIPT)
scripted_job = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(scripted_job)
Work, queries = scripted_job.ScriptedWork, scripted_job.queries


@pytest.fixture
def store(tmp_path):
    """Twelve queries in three files of four, q0 … q11."""
    return filled(tmp_path / "store")


def filled(folder, text="text"):
    store = open_store(folder, create=True)
    for start in (0, 4, 8):
        store.append("queries", queries({f"q{i}": f"{text} {i}" for i in range(start, start + 4)}))
    return store


def at_call(work, number, happening):
    """Let something happen within the numberth call of process, before its rows are committed."""
    process = work.process

    def interrupted(rows, loaded):
        made = process(rows, loaded)
        if len(work.batches) == number:
            happening()
        return made

    work.process = interrupted
    return work


def breaks(store, happening, number=2, error=StoreError, **options):
    """Run a job under which something breaks; its error, which is one line."""
    with pytest.raises(error) as caught:
        run_job(store, at_call(Work(store), number, happening), batch_rows=2, **options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700
    return str(caught.value)


def ends_well(store, text="text"):
    """The same call again: every row is there once."""
    again = open_store(store.uri)
    assert run_job(again, Work(again), batch_rows=2) == Counts(12, 12, 0, 0)
    rows = again.scan("demands").collect()
    assert sorted(rows["query_id"], key=lambda q: int(q[1:])) == [f"q{i}" for i in range(12)]
    assert dict(zip(rows["query_id"], rows["normalized"], strict=True)) == {
        f"q{i}": f"{text} {i}".upper() for i in range(12)
    }
    (run,) = read_runs(again)
    assert run.counts == Counts(12, 12, 0, 0)


# ------------------------------------------------------------------------------------------------------------ the disk


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one mebibyte of our own; how to mount it anew with other options."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("may not mount a file system here")

    def remount(options):
        subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)

    yield place, remount
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk(small_disk):
    place, remount = small_disk
    long = "".join(map(chr, np.random.default_rng(1).integers(0x4E00, 0x9000, 9000)))  # nothing to compress, no case
    store = filled(place / "store", long)
    with pytest.raises(StoreError) as caught:
        run_job(store, Work(store), batch_rows=2)
    assert "\n" not in str(caught.value)
    assert "No space left on device" in str(caught.value)
    committed = store.count("demands")
    assert committed < 12
    remount("size=8m")
    ends_well(store, long)


def test_a_disk_that_becomes_read_only(small_disk):
    place, remount = small_disk
    store = filled(place / "store")
    said = breaks(store, lambda: remount("ro"))
    assert "cannot append to demands" in said
    assert "no permission to write there" in said
    with pytest.raises(StoreError, match="no permission to write there"):
        run_job(open_store(store.uri), Work(store), batch_rows=2)
    remount("rw")
    ends_well(store)


def test_a_store_that_may_only_be_read(store):
    if os.geteuid() == 0:
        pytest.skip("the superuser may write everywhere")
    run_job(store, Work(store), batch_rows=2, limit=2)
    Path(store.uri, "demands").chmod(0o500)
    with pytest.raises(StoreError, match="no permission to write there"):
        run_job(store, Work(store), batch_rows=2)


# ----------------------------------------------------------------------------------------------------------- the store


def test_a_store_that_is_deleted_under_a_job_is_not_made_again(store, tmp_path):
    """A new table with the rest of the rows would look whole."""
    shutil.copytree(store.uri, tmp_path / "copy")
    said = breaks(store, lambda: shutil.rmtree(store.uri))
    assert "cannot append to" in said or "cannot read" in said
    assert not Path(store.uri).exists()
    with pytest.raises(StoreError, match="no store at"):
        open_store(store.uri)
    shutil.copytree(tmp_path / "copy", store.uri)
    ends_well(store)


@pytest.mark.parametrize("remade", [False, True])
def test_a_table_that_is_deleted_or_made_anew_under_a_job(store, remade):
    def happening():
        shutil.rmtree(Path(store.uri, "demands"))
        if remade:
            open_store(store.uri).append("demands", DEMANDS.empty_table())

    assert "deleted, replaced or set back while in use" in breaks(store, happening)
    assert remade == Path(store.uri, "demands").exists()
    ends_well(store)  # nothing of it stands, and all is made


def test_a_table_that_is_set_back_under_a_job(store):
    """Its last commit is taken out by hand: the next one would take its number."""

    def happening():
        sorted(Path(store.uri, "demands", "_delta_log").glob("*.json"))[-1].unlink()

    assert "deleted, replaced or set back while in use" in breaks(store, happening, number=3)


@pytest.mark.parametrize("harm", ["empty", "half", "noise", "missing"])
def test_a_broken_log(store, harm):
    log, kept = Path(store.uri, "demands", "_delta_log"), []

    def happening():
        entry = sorted(log.glob("*.json"))[-2 if harm == "missing" else -1]
        kept.append((entry, entry.read_bytes()))
        if harm == "missing":
            entry.unlink()
        else:
            whole = entry.read_bytes()
            entry.write_bytes({"empty": b"", "half": whole[: len(whole) // 2], "noise": bytes(range(255))}[harm])

    said = breaks(store, happening, number=4)
    assert "cannot append to" in said or "cannot read table demands" in said
    ((entry, whole),) = kept
    with pytest.raises(StoreError) as caught:
        run_job(open_store(store.uri), Work(store), batch_rows=2)
    if harm != "missing":
        assert f"the entry {entry.name} of its log is broken" in str(caught.value)
        assert "delete it, and run again what wrote it" in str(caught.value)
    entry.write_bytes(whole)
    ends_well(store)


def test_the_way_out_of_a_broken_log_that_the_error_tells(store):
    """As after a power cut: the newest entry is half there. Deleted, its commit is undone, and made again."""
    with pytest.raises(KeyboardInterrupt):

        def stop():
            raise KeyboardInterrupt

        run_job(store, at_call(Work(store), 4, stop), batch_rows=2)
    newest = sorted(Path(store.uri, "demands", "_delta_log").glob("*.json"))[-1]
    newest.write_bytes(b"")
    with pytest.raises(StoreError, match=f"the entry {newest.name} of its log is broken .it is empty.; delete it"):
        run_job(open_store(store.uri), Work(store), batch_rows=2)
    newest.unlink()
    ends_well(store)


def test_a_table_of_a_newer_version(store):
    """It has a column that this one would lose."""
    newer = DEMANDS.append(pa.field("mood", pa.string())).empty_table()
    write_deltalake(f"{store.uri}/demands", newer)
    with pytest.raises(StoreError, match="unknown column 'mood'") as caught:
        run_job(store, Work(store), batch_rows=2)
    assert "written by another version of lore-mm" in str(caught.value)
    assert store.version("runs") is None


# ------------------------------------------------------------------------------------------- what is read as it is read


@pytest.mark.parametrize("harm", ["removed", "truncated", "emptied", "flipped", "other keys", "fewer rows"])
def test_a_data_file_of_the_input_that_changes_while_it_is_read(tmp_path, harm):
    """The last of three files, while rows of the first are made; the files are longer than what is read ahead."""
    store, n = open_store(tmp_path / "store", create=True), 1500
    for start in (0, n, 2 * n):
        store.append("queries", queries({f"q{i:04}": f"text {i}" for i in range(start, start + n)}))
    file = Path(store.files("queries")[2])
    whole = file.read_bytes()

    def happening():
        if harm == "removed":
            file.unlink()
        elif harm == "truncated":
            file.write_bytes(whole[:-40])
        elif harm == "emptied":
            file.write_bytes(b"")
        elif harm == "flipped":
            file.write_bytes(bytes(b ^ (255 if 100 < i < 400 else 0) for i, b in enumerate(whole)))
        else:
            rows = pq.read_table(file)
            ids = pa.array(["x", *rows.column("query_id").to_pylist()[1:]], rows.schema.field("query_id").type)
            field = rows.schema.field("query_id")
            pq.write_table(rows.slice(1) if harm == "fewer rows" else rows.set_column(0, field, ids), file)

    with pytest.raises((StoreError, InputError)) as caught:
        run_job(store, at_call(Work(store), 1, happening), batch_rows=500)
    assert "\n" not in str(caught.value)
    assert "cannot read table queries" in str(caught.value) or "changed while it was read" in str(caught.value)
    assert 0 < store.count("demands") <= 2 * n
    file.write_bytes(whole)
    again = open_store(store.uri)
    assert run_job(again, Work(again), batch_rows=500) == Counts(3 * n, 3 * n, 0, 0)
    assert sorted(again.scan("demands").collect()["query_id"]) == [f"q{i:04}" for i in range(3 * n)]


@pytest.mark.parametrize("harm", ["removed", "truncated"])
def test_a_data_file_of_the_output_that_is_broken(store, harm):
    """It is needed to know what stands, and for the counts of a resumed run."""
    with pytest.raises(KeyboardInterrupt):

        def stop():
            raise KeyboardInterrupt

        run_job(store, at_call(Work(store), 3, stop), batch_rows=2)
    file = Path(store.files("demands")[0])
    whole = file.read_bytes()
    file.unlink() if harm == "removed" else file.write_bytes(whole[:-40])
    with pytest.raises(StoreError, match="cannot read table demands"):
        run_job(open_store(store.uri), Work(store), batch_rows=2)
    file.write_bytes(whole)
    ends_well(store)


def test_a_catalogue_that_changes_while_it_is_ingested(tmp_path):
    """A shop's export is written anew while it is read: refused, and the next ingest brings what it is then."""
    shop, store = tmp_path / "items.jsonl", open_store(tmp_path / "store", create=True)

    def export(word, n=2400):
        shop.write_text(
            "".join(
                json.dumps({"item_id": f"i{i}", "title": f"{word} {i}", "description": f"{i} " * 900}) + "\n"
                for i in range(n)
            )
        )

    export("old")
    append, commits = store.append, []

    def between(table, *arguments, **options):
        if table == "items":
            commits.append(1)
            if len(commits) == 2:
                export("new", 2000)
        return append(table, *arguments, **options)

    store.append = between
    with pytest.raises(LoreError, match="chang") as caught:
        ingest_items(store, shop, batch_rows=100)
    assert "\n" not in str(caught.value)
    again = open_store(store.uri)
    assert ingest_items(again, shop, batch_rows=1000).add_up
    titles = dict(again.latest("items").select("item_id", "title").collect().rows())
    assert {q: titles[q] for q in (f"i{i}" for i in range(2000))} == {f"i{i}": f"new {i}" for i in range(2000)}


# ---------------------------------------------------------------------------------------------------------- told to end


def start(folder, **options):
    said = json.dumps({"batch_rows": 2, "pace": 0.02, **options})
    command = [sys.executable, str(SCRIPT), str(folder), str(folder / "log"), said]
    # as a terminal starts it: under nohup SIGHUP would be ignored, and stay so
    heeding = functools.partial(signal.signal, signal.SIGHUP, signal.SIG_DFL)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heeding)
    assert process.stdout.readline() == "ready\n"
    return process


def has_made(folder, n, process):
    """Wait until so many micro-batches are made by a process that lives."""
    log = folder / "log"
    while not log.exists() or log.read_text().count("\n") < n:
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)], ids=["TERM", "INT", "HUP"]
)
def test_told_to_end(store, number, code):
    """A spot machine's notice, Ctrl-C, a terminal that goes: nothing half, and it says that it has stopped."""
    process = start(Path(store.uri), pace=0.3)
    has_made(Path(store.uri), 2, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert err.splitlines()[-1] == "interrupted; the same command goes on where it stopped"
    assert "Traceback" not in err
    (run,) = read_runs(store)
    assert (run.workers, run.finished_at) == ((), None)
    assert store.scan("runs").collect()["event"].to_list() == ["started", "stopped"]
    ends_well(store)


def test_a_second_interrupt_ends_at_once(store):
    """What is in work in threads would be waited for otherwise."""
    process = start(Path(store.uri), in_flight=2, stuck=3)
    has_made(Path(store.uri), 4, process)
    time.sleep(1)  # by then the one thread that heeds signals waits for those that are stuck
    try:
        process.send_signal(signal.SIGINT)
        assert any("interrupted" in line for line in iter(process.stderr.readline, ""))
        assert process.poll() is None  # a thread is in a call that nothing can end
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == -signal.SIGINT
    finally:
        process.kill()
        process.communicate()
    ends_well(store)
