"""Several workers in one process, brought to meet at the worst moments; clocks set back; who stops, and who joins."""

import importlib.util
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from jobs import partitions, plan, spine, stamp
from jobs.plan import Counts, read_runs
from jobs.spine import run_job
from lore_mm.errors import ModelError, PlanError, StoreError
from stores.features import FeatureStore, open_store

_spec = importlib.util.spec_from_file_location("scripted_job", Path(__file__).with_name("scripted_job.py"))
scripted_job = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(scripted_job)
Work, queries = scripted_job.ScriptedWork, scripted_job.queries


@pytest.fixture
def store(tmp_path):
    """Twelve queries, q0 … q11."""
    store = open_store(tmp_path / "store", create=True)
    store.append("queries", queries({f"q{i}": f"text {i}" for i in range(12)}))
    return store


def made(store):
    rows = store.scan("demands").collect()
    return sorted(rows["query_id"].to_list(), key=lambda q: int(q[1:]))


def everyone(n=12):
    return [f"q{i}" for i in range(n)]


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


def gone():
    raise ModelError("the engine is gone")


def as_another(monkeypatch, name="elsewhere 1 1"):
    """What is run within seems to come from a worker of another machine."""
    monkeypatch.setattr(plan, "this_worker", lambda: name)


# ------------------------------------------------------------------------------------------- two starts at one moment


@pytest.mark.parametrize("ends", [True, False])
def test_a_start_at_the_same_moment_joins(store, monkeypatch, ends):
    """The second one has made its plan before the first began; it sees that as it begins, and they are one run."""
    real, met = spine.make_plan, []

    def raced(*arguments, **options):
        made = real(*arguments, **options)
        if not met:
            met.append(True)
            if ends:
                run_job(FeatureStore(store.uri), Work(store), batch_rows=3)
            else:
                with pytest.raises(ModelError):
                    run_job(FeatureStore(store.uri), at_call(Work(store), 2, gone), batch_rows=3)
        return made

    monkeypatch.setattr(spine, "make_plan", raced)
    assert run_job(store, Work(store), batch_rows=3) == Counts(12, 12, 0, 0)
    assert made(store) == everyone()
    (run,) = read_runs(store)
    assert (run.counts, run.resumed) == (Counts(12, 12, 0, 0), 0 if ends else 1)


def test_a_start_at_the_same_moment_with_other_settings_is_refused(store, monkeypatch):
    """Neither had seen the other as it made its plan: whose start comes second is refused, and writes nothing."""
    real, met = spine.make_plan, []
    first = at_call(Work(store), 2, gone)

    def raced(*arguments, **options):
        made = real(*arguments, **options)
        if not met:
            met.append(True)
            with pytest.raises(ModelError):
                run_job(FeatureStore(store.uri), first, batch_rows=3)
        return made

    monkeypatch.setattr(spine, "make_plan", raced)
    with pytest.raises(PlanError, match=r'voice\.name "upper" → "lower"'):
        run_job(store, Work(store, voice="lower"), batch_rows=3)
    (run,) = read_runs(store)
    assert run.plan.settings["voice"]["name"] == "upper"
    assert made(store) == everyone(3)


# ----------------------------------------------------------------------------------------------------------- given up


def test_a_run_that_is_given_up_stops_and_writes_nothing_more(store):
    """--new-run while the old one is at work: what it holds made is not written over the new one's."""

    def new_run():
        other = Work(store, voice="lower")
        assert run_job(FeatureStore(store.uri), other, batch_rows=3, new_run=True) == Counts(12, 12, 0, 0)

    with pytest.raises(PlanError, match="was given up: another run of scripted has begun in its place") as stopped:
        run_job(store, at_call(Work(store), 2, new_run), batch_rows=3)
    assert "\n" not in str(stopped.value)
    assert made(store) == sorted(everyone(3) + everyone(), key=lambda q: int(q[1:]))
    newest = store.latest("demands").collect()["provenance"].struct.field("settings_sha")
    assert newest.unique().to_list() == ["voice lower"]
    assert [run.finished_at is None for run in read_runs(store)] == [True, False]
    assert run_job(store, Work(store, voice="lower"), batch_rows=3) == Counts(12, 0, 0, 12)


def test_a_new_run_after_the_end_disturbs_nobody_who_is_still_looking(store, monkeypatch):
    """A worker sees that all is done after the run has finished and the next has begun: no error."""
    look, later = spine._Run._look, []

    def slow(run):
        done = look(run)
        if run.at_work and None not in done and not later:
            later.append(True)
            as_another(monkeypatch)
            run_job(FeatureStore(store.uri), Work(store), batch_rows=3)  # ends this run, as another worker of it
            run_job(FeatureStore(store.uri), Work(store, voice="lower"), batch_rows=3)
            return look(run)
        return done

    monkeypatch.setattr(spine._Run, "_look", slow)
    assert run_job(store, Work(store), batch_rows=3) == Counts(12, 12, 0, 0)
    assert later
    assert all(run.counts.add_up for run in read_runs(store))


def test_ingests_go_beside_one_another(tmp_path):
    """Two catalogues at once into one store: neither gives the other up."""
    from jobs.ingest import ingest_items
    from lore_mm.catalogue import open_catalogue

    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text(
            "".join(f'{{"item_id": "{name}{i}", "title": "t{i}"}}\n' for i in range(6))
        )
    store, met = open_store(tmp_path / "store", create=True), []
    write = store.append

    def between(table, *arguments, **options):
        if table == "items" and not met:
            met.append(True)
            ingest_items(FeatureStore(store.uri), tmp_path / "b.jsonl", batch_rows=2)
        return write(table, *arguments, **options)

    store.append = between
    assert ingest_items(store, open_catalogue(tmp_path / "a.jsonl"), batch_rows=2) == Counts(6, 6, 0, 0)
    assert store.count("items") == 12
    assert [run.counts for run in read_runs(store)] == [Counts(6, 6, 0, 0)] * 2


# ------------------------------------------------------------------------------------------------- two in a partition


@pytest.mark.parametrize("in_flight", [1, 3])
def test_a_partition_lost_in_the_middle(store, in_flight, monkeypatch):
    """Another worker joins and makes all while this one is at its second micro-batch: no row twice, counts of all."""

    def other():
        as_another(monkeypatch)
        assert run_job(FeatureStore(store.uri), Work(store), batch_rows=2, patience=0.01) == Counts(12, 12, 0, 0)

    once = threading.Lock()
    work = at_call(Work(store), 2, lambda: once.acquire(blocking=False) and other())
    counts = run_job(store, work, batch_rows=2, in_flight=in_flight)
    assert counts == Counts(12, 12, 0, 0)
    assert made(store) == everyone()


def test_other_borders_in_the_same_partition_double_nothing(store, monkeypatch):
    """Content that changes under a run lets two workers gather slices to other micro-batches. The commit of this one
    would end behind that of the other, and hold rows that stand already."""
    run_job(store, Work(store), batch_rows=2, limit=8)  # q0 … q7 stand
    texts = {f"q{i}": f"text {i}" for i in range(12)} | {"q0": "new", "q4": "new"}
    store.append("queries", queries(texts | {"q8": "text 8"}))
    mine, theirs = Work(store), Work(store)
    shas = theirs.input_shas

    def seen_otherwise(rows):  # the other worker finds q3 changed too, as of a picture that was replaced meanwhile
        ids = rows.column("query_id").to_pylist()
        return ["sha of another" if q == "q3" else sha for q, sha in zip(ids, shas(rows), strict=True)]

    theirs.input_shas = seen_otherwise
    order = []
    append = FeatureStore.append

    def dying(self, table, rows, transaction=None, after=None):
        written = append(self, table, rows, transaction, after)
        if table == "demands" and self is elsewhere:
            order.append(transaction[1])
            raise ModelError("the other one dies after its first commit")
        return written

    elsewhere = FeatureStore(store.uri)
    monkeypatch.setattr(FeatureStore, "append", dying)

    def other():
        with monkeypatch.context() as within:
            within.setattr(plan, "this_worker", lambda: "elsewhere 1 1")
            with pytest.raises(ModelError):
                run_job(elsewhere, theirs, batch_rows=2, patience=0.01)

    counts = run_job(store, at_call(mine, 1, other), batch_rows=2)
    rows = store.scan("demands").collect()
    run_id = read_runs(store)[-1].plan.run_id
    own = rows.filter(pl.col("provenance").struct.field("run_id") == run_id)["query_id"].to_list()
    assert len(own) == len(set(own))
    assert counts.add_up
    assert counts.n_in == 12
    assert counts.n_ok == len(own)
    assert order[0] < 2  # the other's first commit ended before this one's did


def test_who_joins_after_the_last_commit_ends_too(store, monkeypatch):
    """Between the last commit and the finished row; the row stands once, whoever writes it."""
    real, joined = spine.write_event, []

    def finishing(opened, of, event, counts=None):
        if event == "finished" and not joined:
            joined.append(True)
            with monkeypatch.context() as within:
                within.setattr(plan, "this_worker", lambda: "elsewhere 1 1")
                joined.append(run_job(FeatureStore(store.uri), Work(store), batch_rows=3))
        return real(opened, of, event, counts)

    monkeypatch.setattr(spine, "write_event", finishing)
    assert run_job(store, Work(store), batch_rows=3) == Counts(12, 12, 0, 0)
    assert joined[1] == Counts(12, 12, 0, 0)
    (run,) = read_runs(store)
    assert (run.counts, run.resumed) == (Counts(12, 12, 0, 0), 1)
    events = store.scan("runs").collect()["event"].to_list()
    assert events.count("finished") == 1
    assert made(store) == everyone()


# ------------------------------------------------------------------------------------------------ who is a worker yet


def test_a_worker_that_fails_says_that_it_has_stopped(store, monkeypatch):
    """So that those on other machines, who cannot look, do not wait for it."""

    as_another(monkeypatch, "elsewhere 7 7")
    with pytest.raises(ModelError):
        run_job(store, at_call(Work(store), 2, gone), batch_rows=3)
    (run,) = read_runs(store)
    assert run.workers == ()
    assert store.scan("runs").collect()["event"].to_list() == ["started", "stopped"]
    monkeypatch.undo()
    waits = []
    monkeypatch.setattr(partitions.time, "sleep", waits.append)
    assert run_job(store, Work(store), batch_rows=3) == Counts(12, 12, 0, 0)
    assert waits == []


def test_who_only_waits_is_not_waited_for(store, monkeypatch):
    """One worker of three is killed; the two that live wait for what it left, and not for each other."""
    monkeypatch.setattr(partitions, "_LEAST_SLICES", 1)
    machine, pid, began = plan.this_worker().split(" ")
    killed, other = f"{machine} {pid} {int(began) + 1}", "elsewhere 1 1"
    with monkeypatch.context() as within:
        within.setattr(plan, "this_worker", lambda: killed)
        within.setattr(spine._Run, "carry_out", spine._Run._carry_out)  # no word of its end
        with pytest.raises(ModelError):
            run_job(store, at_call(Work(store), 3, gone), batch_rows=1)  # two of twelve partitions are done
    (run,) = read_runs(store)
    assert run.workers == (killed,)
    monkeypatch.setattr(plan, "is_gone", lambda worker: False)  # as on another machine
    for event in ("resumed", "waits"):
        with monkeypatch.context() as within:
            within.setattr(plan, "this_worker", lambda: other)
            plan.write_event(store, run.plan, event)
    assert read_runs(store)[0].workers == (killed,)
    monkeypatch.setattr(plan, "is_gone", lambda worker: worker == killed)
    assert plan.others_gone(store, run.plan)
    slept = []
    monkeypatch.setattr(partitions.time, "sleep", slept.append)
    assert run_job(store, Work(store), batch_rows=1) == Counts(12, 12, 0, 0)
    assert slept == []
    with monkeypatch.context() as within:
        within.setattr(plan, "this_worker", lambda: other)
        plan.write_event(store, run.plan, "works")
    assert set(read_runs(store)[0].workers) >= {other}
    assert not plan.others_gone(store, run.plan)


def test_one_that_was_refused_does_not_say_anything(store):
    with pytest.raises(ModelError):
        run_job(store, at_call(Work(store), 2, gone), batch_rows=3)
    before = store.version("runs")
    with pytest.raises(PlanError):
        run_job(store, Work(store, voice="lower"), batch_rows=3)
    assert store.version("runs") == before


def test_a_worker_that_comes_again_is_at_work_again(store, monkeypatch):
    """Started, stopped, resumed: one process, several times; whatever order the clock gives the rows."""
    one = plan.Plan("scripted", "demands", {"batch_rows": 3}, {}, None, "run-1", 1)
    for event in ("started", "stopped", "resumed"):
        plan.write_event(store, one, event)
    (run,) = read_runs(store)
    assert run.workers == (plan.this_worker(),)
    plan.write_event(store, one, "stopped")
    assert read_runs(store)[0].workers == ()


# ------------------------------------------------------------------------------------------------------ clocks set back


class _Clock(datetime):
    """A clock that a test sets."""

    set_to = datetime(2026, 6, 1, tzinfo=UTC)

    @classmethod
    def now(cls, tz=None):
        cls.set_to += timedelta(seconds=1)
        return cls.set_to


@pytest.fixture
def clock(monkeypatch):
    for module in (plan, stamp):
        monkeypatch.setattr(module, "datetime", _Clock)
    monkeypatch.setattr(_Clock, "set_to", datetime(2026, 6, 1, tzinfo=UTC))
    return _Clock


def test_a_clock_set_back_hides_no_unfinished_run(store, clock):
    """An hour before the run that finished last, by the clock: it is the newest all the same, and is resumed."""
    run_job(store, Work(store), batch_rows=3)
    clock.set_to -= timedelta(hours=1)
    with pytest.raises(ModelError):
        run_job(store, at_call(Work(store, voice="lower"), 2, gone), batch_rows=3)
    first, second = read_runs(store)
    assert second.started_at < first.started_at
    assert (first.finished_at is None, second.finished_at is None) == (False, True)
    with pytest.raises(PlanError, match=second.plan.run_id):
        run_job(store, Work(store, voice="third"), batch_rows=3)
    clock.set_to -= timedelta(hours=1)
    assert run_job(store, Work(store, voice="lower"), batch_rows=3) == Counts(12, 12, 0, 0)
    assert store.count("demands") == 24  # gone on with, not begun anew
    newest = store.latest("demands").collect()["provenance"].struct.field("settings_sha")
    assert newest.unique().to_list() == ["voice lower"]


def test_a_clock_set_back_under_a_run_ends_it_not_before_it_began(store, clock):
    def back():
        clock.set_to -= timedelta(days=1)

    assert run_job(store, at_call(Work(store), 2, back), batch_rows=3) == Counts(12, 12, 0, 0)
    (run,) = read_runs(store)
    assert run.finished_at == run.started_at
    assert run.counts == Counts(12, 12, 0, 0)
    assert run_job(store, Work(store), batch_rows=3) == Counts(12, 0, 0, 12)


# --------------------------------------------------------------------------------------------------- rows that are gone


def test_a_store_that_was_restored_from_yesterday_is_noticed(store):
    """The table is there, and what the interrupted run had committed is not."""
    from deltalake import DeltaTable

    with pytest.raises(ModelError):
        run_job(store, at_call(Work(store), 3, gone), batch_rows=3)
    DeltaTable(f"{store.uri}/demands").restore(1)
    with pytest.raises(StoreError, match="3 rows it committed are gone from demands; make them anew with --new-run"):
        run_job(store, Work(store), batch_rows=3)
    assert run_job(store, Work(store), batch_rows=3, new_run=True).add_up
    assert made(store)[-1] == "q11"
