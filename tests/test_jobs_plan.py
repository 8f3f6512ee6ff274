"""The spine: fingerprints, refusals, what is skipped, what is made again, one bad row, counts."""

import importlib.util
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from threading import Barrier, Event

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import spine, standing
from jobs.plan import Counts, Plan, changes, read_runs
from jobs.spine import run_job
from lore_mm.errors import InputError, ModelError, PlanError, StoreError
from stores.features import open_store
from stores.streams import slices

_spec = importlib.util.spec_from_file_location("scripted_job", Path(__file__).with_name("scripted_job.py"))
scripted_job = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(scripted_job)
Work, queries = scripted_job.ScriptedWork, scripted_job.queries


@pytest.fixture
def store(tmp_path):
    """Ten queries, q0 … q9."""
    store = open_store(tmp_path / "store", create=True)
    store.append("queries", queries({f"q{i}": f"text {i}" for i in range(10)}))
    return store


def newest(store, column="normalized"):
    rows = store.latest("demands").collect()
    return dict(zip(rows["query_id"], rows[column], strict=True))


class Interrupted(BaseException):
    """Stands for a kill: no part of the spine may catch it."""


def interrupt(work, after):
    """Let `work` be interrupted in its `after`th call of process."""
    process = work.process

    def interrupted(rows, loaded):
        if len(work.batches) == after - 1:
            raise Interrupted
        return process(rows, loaded)

    work.process = interrupted
    return work


# ------------------------------------------------------------------------------------------------ plans and refusals


def test_fingerprint_is_of_the_content():
    plan = Plan("job", "demands", {"a": 1, "b": {"c": 2}}, {"queries": 3}, 4, "run-1")
    assert plan.fingerprint == Plan("job", "demands", {"b": {"c": 2}, "a": 1}, {"queries": 3}, 4, "run-2").fingerprint
    others = [
        Plan("other", "demands", {"a": 1, "b": {"c": 2}}, {"queries": 3}, 4),
        Plan("job", "judgments", {"a": 1, "b": {"c": 2}}, {"queries": 3}, 4),
        Plan("job", "demands", {"a": 1, "b": {"c": 3}}, {"queries": 3}, 4),
        Plan("job", "demands", {"a": 1, "b": {"c": 2}}, {"queries": 4}, 4),
        Plan("job", "demands", {"a": 1, "b": {"c": 2}}, {"queries": 3}, 5),
    ]
    assert len({plan.fingerprint, *(o.fingerprint for o in others)}) == 6


def test_changes_name_what_differs():
    old = {"batch_rows": 64, "model": {"sha": "a" * 64, "name": "x"}, "gone": True}
    new = {"batch_rows": 128, "model": {"sha": "b" * 64, "name": "x"}, "come": [1]}
    assert changes(old, new) == [
        "batch_rows 64 → 128",
        f"model.sha {'a' * 12} → {'b' * 12}",
        "gone true → not there",
        "come not there → [1]",
    ]
    assert changes(old, dict(reversed(old.items()))) == []


def test_an_unfinished_run_with_other_settings_is_refused(store):
    with pytest.raises(Interrupted):
        run_job(store, interrupt(Work(store), 2), batch_rows=4)
    with pytest.raises(PlanError) as refused:
        run_job(store, Work(store, voice="lower"), batch_rows=5)
    text = str(refused.value)
    (run,) = read_runs(store)
    assert "\n" not in text
    assert run.plan.run_id in text
    assert 'voice.name "upper" → "lower"; batch_rows 4 → 5' in text
    assert "--new-run" in text
    assert newest(store) == {f"q{i}": f"TEXT {i}" for i in range(4)}  # nothing was written by the refused one
    assert run_job(store, Work(store, voice="lower"), batch_rows=5, new_run=True) == Counts(10, 10, 0, 0)
    assert set(newest(store, "provenance")[f"q{i}"]["settings_sha"] for i in range(10)) == {"voice lower"}
    # the old run is given up: the new one is the newest, and finished
    assert run_job(store, Work(store, voice="upper"), batch_rows=4) == Counts(10, 10, 0, 0)


def test_a_finished_run_with_other_settings_makes_all_again(store):
    run_job(store, Work(store))
    assert run_job(store, Work(store, voice="lower")) == Counts(10, 10, 0, 0)
    assert store.count("demands") == 20
    assert [run.counts.n_ok for run in read_runs(store)] == [10, 10]


def test_nonsense_is_refused(store):
    with pytest.raises(InputError, match="--batch-rows is 0; legal: 1 and more"):
        run_job(store, Work(store), batch_rows=0)


# ---------------------------------------------------------------------------------------------------- several at once


def test_micro_batches_in_flight_are_worked_on_at_once_and_committed_in_order(store):
    """Three of them meet in `process`; the first to begin is the last to end, and is committed first all the same."""
    work, meeting, order = Work(store), Barrier(3, timeout=20), []
    process = work.process

    def slow(rows, loaded):
        ids = rows.column("query_id").to_pylist()
        if ids[0] in ("q0", "q2", "q4"):
            meeting.wait()
        if ids[0] == "q0":
            assert later.wait(20)
        made = process(rows, loaded)
        order.append(ids[0])
        if ids[0] == "q4":
            later.set()
        return made

    later = Event()
    work.process = slow
    assert run_job(store, work, batch_rows=2, in_flight=3) == Counts(10, 10, 0, 0)
    assert order.index("q4") < order.index("q0")
    assert store.scan("demands").collect()["query_id"].to_list() == [f"q{i}" for i in range(10)]


def test_no_more_than_that_many_are_in_flight(store):
    work, now, most = Work(store), [], []
    load = work.load

    def counting(rows):
        now.append(1)
        most.append(len(now))
        return load(rows)

    append = store.append

    def committed(table, *arguments, **options):
        if table == "demands":
            now.pop()
        return append(table, *arguments, **options)

    work.load, store.append = counting, committed
    run_job(store, work, batch_rows=1, in_flight=2)
    assert max(most) == 3  # two in flight, one being loaded


def test_a_dead_engine_ends_the_job_and_a_bad_row_does_not_with_several_in_flight(store):
    assert run_job(store, Work(store, bad=["q3"]), batch_rows=2, in_flight=3) == Counts(10, 9, 1, 0)
    work = Work(store, voice="lower")
    process = work.process

    def dying(rows, loaded):
        if "q4" in rows.column("query_id").to_pylist():
            raise ModelError("the engine is gone")
        return process(rows, loaded)

    work.process = dying
    with pytest.raises(ModelError, match="gone"):
        run_job(store, work, batch_rows=2, in_flight=3)
    assert set(newest(store, "provenance")[f"q{i}"]["settings_sha"] for i in range(4)) == {"voice lower"}
    assert run_job(store, Work(store, voice="lower"), batch_rows=2, in_flight=2) == Counts(10, 10, 0, 0)
    assert store.count("demands") == 20


@pytest.mark.parametrize("in_flight", [1, 2])
def test_an_interrupt_does_not_wait_for_what_is_in_flight(store, in_flight):
    held = Event()
    work = Work(store)
    process = work.process

    def stuck(rows, loaded):
        if "q2" in rows.column("query_id").to_pylist():
            held.wait(20)
        return process(rows, loaded)

    work.process = stuck
    append = store.append

    def interrupted(table, *arguments, **options):
        if table == "demands":
            raise Interrupted
        return append(table, *arguments, **options)

    store.append = interrupted
    with pytest.raises(Interrupted):
        run_job(store, work, batch_rows=2, in_flight=in_flight)
    assert not held.is_set()
    held.set()


# ----------------------------------------------------------------------------------------------- what is made and not


def test_nothing_changed_nothing_is_done(store, capsys):
    assert run_job(store, Work(store), batch_rows=3) == Counts(10, 10, 0, 0)
    before = store.snapshot()
    work = Work(store)
    assert run_job(store, work, batch_rows=3) == Counts(10, 0, 0, 10)
    assert work.batches == []
    assert store.snapshot() == before  # not a byte, not even in runs
    assert "scripted: 10 in = 0 ok + 0 failed + 10 skipped; nothing had changed" in capsys.readouterr().err


def test_only_what_changed_is_made_again(store):
    run_job(store, Work(store), batch_rows=3)
    store.append("queries", queries({"q2": "other", "q7": "text 7", "q10": "new"}))
    work = Work(store)
    assert run_job(store, work, batch_rows=3) == Counts(11, 2, 0, 9)
    assert work.batches == [["q2", "q10"]]  # gathered over slices into one micro-batch
    assert newest(store) == {f"q{i}": f"TEXT {i}" for i in range(10)} | {"q2": "OTHER", "q10": "NEW"}


def test_content_that_comes_back_is_made_again(store):
    """a → b → a: what once stood is not what stands."""
    run_job(store, Work(store))
    for text in ("b", "text 0"):
        store.append("queries", queries({"q0": text}))
        assert run_job(store, Work(store)) == Counts(10, 1, 0, 9)
        assert newest(store)["q0"] == text.upper()


def test_failed_rows_wait_for_retry(store, capsys):
    assert run_job(store, Work(store, bad=["q3", "q5"])) == Counts(10, 8, 2, 0)
    assert run_job(store, Work(store)) == Counts(10, 0, 0, 10, n_still_failed=2)
    assert "2 of the skipped failed before (--retry-failed takes them again)" in capsys.readouterr().err
    assert run_job(store, Work(store, bad=["q5"]), retry_failed=True) == Counts(10, 1, 1, 8)
    assert run_job(store, Work(store, bad=["q5"]), retry_failed=True) == Counts(10, 0, 1, 9)
    assert run_job(store, Work(store), retry_failed=True) == Counts(10, 1, 0, 9)
    assert newest(store) == {f"q{i}": f"TEXT {i}" for i in range(10)}


def test_a_failed_row_that_changed_is_made_again(store):
    run_job(store, Work(store, bad=["q3"]))
    store.append("queries", queries({"q3": "better"}))
    assert run_job(store, Work(store)) == Counts(10, 1, 0, 9)
    assert newest(store)["q3"] == "BETTER"


def test_limit_and_sample(store):
    assert run_job(store, Work(store), limit=3) == Counts(3, 3, 0, 0)
    assert list(newest(store)) == ["q0", "q1", "q2"]
    work = Work(store, voice="lower")
    assert run_job(store, work, sample=4) == Counts(4, 4, 0, 0)
    (first,) = work.batches
    again = Work(store, voice="third")
    run_job(store, again, sample=4)
    assert again.batches == [first]  # the same lot each time
    assert run_job(store, Work(store, voice="lower")) == Counts(10, 6 + sum(q in first for q in first), 0, 0)


def test_a_clock_set_back_hides_no_new_row(store):
    run_job(store, Work(store))
    ahead = datetime.now(UTC) + timedelta(days=2)
    rows = pa.Table.from_pylist(
        store.latest("demands").collect().to_dicts(), schema=store.batches("demands").__next__().schema
    )
    column = [{**p, "made_at": ahead} for p in rows.column("provenance").to_pylist()]
    at = rows.schema.get_field_index("provenance")
    store.append("demands", rows.set_column(at, rows.schema.field(at), pa.array(column, rows.schema.field(at).type)))
    store.append("queries", queries({"q0": "later"}))
    assert run_job(store, Work(store)) == Counts(10, 1, 0, 9)
    assert newest(store)["q0"] == "LATER"


def test_the_next_micro_batch_is_loaded_beside_the_work_and_no_more(store):
    work = Work(store)
    load, process, loads, beside = work.load, work.process, [], []
    one_more = {2: Event(), 3: Event()}

    def noted_load(rows):
        loads.append(rows.num_rows)
        if len(loads) in one_more:
            one_more[len(loads)].set()
        return load(rows)

    def waiting_process(rows, loaded):
        if not work.batches:
            beside.append((one_more[2].wait(timeout=30), one_more[3].wait(timeout=0.2)))
        return process(rows, loaded)

    work.load, work.process = noted_load, waiting_process
    assert run_job(store, work, batch_rows=2) == Counts(10, 10, 0, 0)
    assert beside == [(True, False)]
    assert loads == [2, 2, 2, 2, 2]


# ------------------------------------------------------------------------------------------------- one bad row alone


def test_one_bad_row_fails_alone(store):
    assert run_job(store, Work(store, bad=["q3", "q8"]), batch_rows=10) == Counts(10, 8, 2, 0)
    rows = store.latest("demands").collect()
    assert rows["query_id"].to_list() == [f"q{i}" for i in range(10)]  # order and keys as they came
    failed = rows.filter(pl.col("status") == "failed")
    assert dict(zip(failed["query_id"], failed["error"], strict=True)) == {
        "q3": "ValueError: no voice for q3",
        "q8": "ValueError: no voice for q8",
    }
    assert failed["provenance"].struct.field("input_sha").to_list() == ["sha of text 3", "sha of text 8"]


def test_a_row_that_cannot_be_loaded_fails_alone(store):
    work = Work(store, unloadable=["q0", "q9"])
    assert run_job(store, work, batch_rows=4) == Counts(10, 8, 2, 0)
    assert newest(store, "error")["q9"] == "OSError: cannot load q9"
    assert {q for batch in work.batches for q in batch} == {f"q{i}" for i in range(1, 9)}
    assert run_job(store, Work(store), retry_failed=True) == Counts(10, 2, 0, 8)


def test_a_dead_engine_stops_the_job_and_it_resumes(store):
    work = Work(store)
    process = work.process

    def dead(rows, loaded):
        if "q4" in loaded:
            raise ModelError("the engine is gone")
        return process(rows, loaded)

    work.process = dead
    with pytest.raises(ModelError, match="the engine is gone"):
        run_job(store, work, batch_rows=4)
    assert list(newest(store)) == ["q0", "q1", "q2", "q3"]
    again = Work(store)
    assert run_job(store, again, batch_rows=4) == Counts(10, 10, 0, 0)
    assert again.batches == [["q4", "q5", "q6", "q7"], ["q8", "q9"]]


@pytest.mark.parametrize("fault", ["lost", "doubled", "turned", "strange"])
def test_a_work_that_breaks_the_row_law_fails_its_rows(store, fault):
    work = Work(store)
    process = work.process

    def unlawful(rows, loaded):
        made = process(rows, loaded)
        if fault == "lost":
            return made.slice(1)
        if fault == "doubled":
            return pa.concat_tables([made, made])
        if fault == "turned" and made.num_rows > 1:
            return made.take(list(range(made.num_rows))[::-1])
        if fault == "strange":
            return made.set_column(6, "status", pa.array(["maybe"] * made.num_rows))
        return made

    work.process = unlawful
    counts = run_job(store, work, batch_rows=5)
    # a turned batch of one is whole: halving finds the rows their places again
    assert counts == (Counts(10, 10, 0, 0) if fault == "turned" else Counts(10, 0, 10, 0))
    assert list(newest(store)) == [f"q{i}" for i in range(10)]


# ------------------------------------------------------------------------------------------- resuming, and what stands


def test_a_resumed_run_skips_as_it_had_planned(store):
    """What stood before the run is skipped, what the run has made is counted as made, and both only once."""
    run_job(store, Work(store, bad=["q1"]), limit=5)  # q0 … q4 stand, q1 failed
    store.append("queries", queries({"q3": "other"}))  # newest rows now in the order q0 q1 q2 q4 … q9 q3
    with pytest.raises(Interrupted):
        run_job(store, interrupt(Work(store), 2), batch_rows=2)
    assert list(newest(store)) == ["q0", "q1", "q2", "q3", "q4", "q5", "q6"]
    work = Work(store)
    assert run_job(store, work, batch_rows=2) == Counts(10, 6, 0, 4, n_still_failed=1)
    assert work.batches == [["q7", "q8"], ["q9", "q3"]]
    assert newest(store) == {f"q{i}": f"TEXT {i}" for i in range(10)} | {"q1": None, "q3": "OTHER"}
    keys = store.scan("demands").collect()["query_id"].to_list()
    assert {q: keys.count(q) for q in keys} == {f"q{i}": 1 for i in range(10)} | {"q3": 2}


def test_input_that_moved_on_is_done_after_the_rest(store, capsys):
    """An interrupted run finishes on the version it began with; what came since is done in a run of its own."""
    with pytest.raises(Interrupted):
        run_job(store, interrupt(Work(store), 2), batch_rows=4)
    store.append("queries", queries({"q0": "other", "q10": "new"}))
    work = Work(store)
    assert run_job(store, work, batch_rows=4) == Counts(11, 2, 0, 9)
    assert work.batches == [["q4", "q5", "q6", "q7"], ["q8", "q9"], ["q0", "q10"]]
    assert newest(store) == {f"q{i}": f"TEXT {i}" for i in range(10)} | {"q0": "OTHER", "q10": "NEW"}
    assert [run.counts.n_ok for run in read_runs(store)] == [10, 2]
    assert "queries changed since it began" in capsys.readouterr().err


def test_rows_lost_from_the_store_are_noticed(store, monkeypatch):
    with pytest.raises(Interrupted):
        run_job(store, interrupt(Work(store), 3), batch_rows=4)
    real = standing.standing_in

    def forgetful(store, table, key, verdict, version, run_ids=None):
        found = real(store, table, key, verdict, version, run_ids)
        return standing.Standing(*(a[1:] for a in (found.keys, found.inputs, found.settings, found.ok)))

    monkeypatch.setattr(spine, "standing_in", forgetful)
    with pytest.raises(StoreError, match="1 rows it committed are gone from demands"):
        run_job(store, Work(store), batch_rows=4)


@pytest.mark.parametrize("lost", [0, 4, 9])
def test_an_input_that_changes_while_it_is_read(store, lost):
    work = Work(store)
    read = work.read

    def shifty(versions, columns, rows, start=0):
        keep = [i for i in range(10) if i != (lost if columns is None else 10)]
        return (batch.take(keep) for batch in read(versions, columns, 1024, start))

    work.read = shifty
    with pytest.raises(InputError, match="changed while it was read: run again"):
        run_job(store, work, batch_rows=4)
    assert run_job(store, Work(store), batch_rows=4) == Counts(10, 10, 0, 0)


def test_an_empty_input(tmp_path):
    store = open_store(tmp_path / "store", create=True)
    store.append("queries", queries({}))
    assert run_job(store, Work(store)) == Counts()


# ------------------------------------------------------------------------------------------------------- small parts


@given(st.lists(st.integers(0, 7), max_size=40))
def test_newest_is_the_last_of_each_key(keys):
    mask = standing.newest(np.array(keys, np.uint64))
    assert [i for i, chosen in enumerate(mask) if chosen] == sorted({k: i for i, k in enumerate(keys)}.values())


@given(st.lists(st.integers(0, 9), max_size=8), st.integers(1, 7))
def test_slices_recut_any_stream(sizes, rows):
    total = sum(sizes)
    at = np.cumsum([0, *sizes])
    batches = (pa.RecordBatch.from_pydict({"x": list(range(a, b))}) for a, b in pairwise(at) if b > a)
    cut = [table.column("x").to_pylist() for table in slices(batches, rows)]
    assert cut == [list(range(a, min(a + rows, total))) for a in range(0, total, rows)]


@given(st.lists(st.text(max_size=3), max_size=20, unique=True))
def test_hashes_tell_texts_apart(texts):
    assert len(set(standing.hashes_of(texts).tolist())) == len(texts)
    table = pa.table({"a": pa.array(texts, pa.string()), "b": pa.array(["x"] * len(texts), pa.string())})
    assert len(set(standing.hashes(table, ["a", "b"]).tolist())) == len(texts)
