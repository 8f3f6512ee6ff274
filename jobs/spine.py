"""The spine of every job: plan → micro-batches → process → one commit each → counts.

    read ──> slices of the input ──> what stands already is skipped ──> micro-batch ──> process ──> commit
             (fixed by the plan)      by content and settings           (next one is     (bisected    (application
                                                                         loaded beside)   on errors)    transaction)

The input at its pinned version is cut into numbered slices of `batch_rows` rows. What a slice leaves after skipping is
gathered, over whole slices, into micro-batches of at most `batch_rows` rows; a commit carries the number of the last
slice it covers as the version of its application transaction. So after a kill at any instant the same command goes on
behind the last committed slice: no row lost, none doubled, at most one micro-batch made again. Slices are fixed by
position, not by what was skipped: a picture that changes under a half-done run can never shift a row out of its slice.

With `in_flight` above 1 so many micro-batches are in `process` at once, in threads, so that an engine which batches
requests itself has the next ones in its queue while the last of a micro-batch end. They are committed in their order,
one after the other; a kill then costs at most as many micro-batches as were in flight.

Memory: the micro-batches in flight, the one being loaded, and about 35 bytes a row of input and output, whatever the
rows hold. This module knows nothing of pictures, models or what rows mean.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.plan import Counts, Plan, make_plan, read_runs, write_event
from jobs.standing import Standing, hashes, hashes_of, newest, sampled, standing_in
from jobs.work import Work, input_shas, load_rows, make_rows, verdicts
from lore_mm.console import progress, say
from lore_mm.errors import InputError, StoreError
from lore_mm.tables import PROVENANCE
from stores.features import FeatureStore
from stores.streams import slices

__all__ = ["run_job"]

_KEY_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class _MicroBatch:
    rows: pa.Table
    input_shas: list[str]
    loaded: list[Any]
    last_slice: int
    skipped: Counts  # of the slices it covers: n_in of all their rows, n_skipped, n_still_failed


def run_job(
    store: FeatureStore,
    work: Work,
    *,
    batch_rows: int = 64,
    limit: int | None = None,
    sample: int | None = None,
    retry_failed: bool = False,
    new_run: bool = False,
    in_flight: int = 1,
    note: Callable[[], str] | None = None,
) -> Counts:
    """Run a job to its end, or the rest of it where it was interrupted. Says on stderr what came of it.

    `limit` takes the first rows of the input, `sample` a fixed random choice. A row that stands in the output, made
    from the same content with the same settings, is skipped; one that failed is made again only with `retry_failed`.
    Where nothing is to be done nothing is written. `new_run` gives an unfinished run up and starts another.
    `in_flight` micro-batches are in `process` at once, which is no part of the plan. `note` gives a few words on how it
    goes, shown beside the progress.

    Raises:
        PlanError: an unfinished run had other settings; the text names what changed.
        StoreError: rows that a resumed run had committed are gone from the store.
    """
    if batch_rows < 1:
        raise InputError(f"--batch-rows is {batch_rows}; legal: 1 and more")
    scope = {"batch_rows": batch_rows, "limit": limit, "sample": sample, "retry_failed": retry_failed}
    settings = {**work.settings, **scope}
    while True:
        plan, resumed = make_plan(store, work.job, work.table, work.reads, settings, new_run=new_run)
        counts = _carry_out(store, work, plan, resumed, in_flight, note)
        _report(store, work, counts)
        moved_on = [name for name, version in plan.inputs.items() if store.version(name) != version]
        if not (resumed and moved_on):
            return counts
        say(
            f"{work.job}: the interrupted run is finished; {', '.join(moved_on)} changed since it began: "
            "going on with what is new"
        )


def _report(store: FeatureStore, work: Work, counts: Counts) -> None:
    line = f"{work.job}: {counts.n_in} in = {counts.n_ok} ok + {counts.n_failed} failed + {counts.n_skipped} skipped"
    if counts.n_in == counts.n_skipped:
        line += "; nothing had changed, nothing was done"
    if counts.n_still_failed:
        line += f"; {counts.n_still_failed} of the skipped failed before (--retry-failed takes them again)"
    if counts.n_failed or counts.n_still_failed:
        line += f"; what failed and why: lore status --store {store.uri}"
    say(line)


def _carry_out(
    store: FeatureStore, work: Work, plan: Plan, resumed: bool, in_flight: int, note: Callable[[], str] | None
) -> Counts:
    standing = standing_in(store, work.table, work.key, work.verdict, plan.base)
    wanted = _wanted(work, plan)
    done = store.last_transaction(work.table, plan.app_id) if resumed else None
    counts = Counts()
    with progress(work.job, int(wanted.sum()), note) as advance:
        cut = _cut(work, plan, wanted)
        if resumed:
            write_event(store, plan, "resumed")
            counts = _count_committed(store, work, plan, standing, cut, -1 if done is None else done)
            advance(counts.n_in)
        started = resumed
        with closing(_in_work(work, _micro_batches(work, plan, standing, cut), in_flight)) as batches:
            for batch, make in batches:
                if batch.rows.num_rows:
                    if not started:
                        write_event(store, plan, "started")
                        started = True
                    made = _stamp(work, plan, make(), batch, standing.made_at)
                    store.append(work.table, made, transaction=(plan.app_id, batch.last_slice))
                    counts += _count(work, made)
                counts += batch.skipped
                advance(batch.skipped.n_in)
    if not counts.add_up or counts.n_in != int(wanted.sum()):
        raise StoreError(f"{plan.run_id}: the counts do not add up: {counts} for {int(wanted.sum())} rows of input")
    if started:
        write_event(store, plan, "finished", counts)
    return counts


def _in_work(
    work: Work, feed: Iterator[_MicroBatch], in_flight: int
) -> Generator[tuple[_MicroBatch, Callable[[], pa.Table]]]:
    """Micro-batches in order, each with a function that gives what was made of it, waiting where it must.

    `in_flight` of them are at work, less the one whose rows the caller is committing; the next one is loaded beside.
    """
    window: deque[tuple[_MicroBatch, Callable[[], pa.Table]]] = deque()
    with _threads(1, "load") as beside, _threads(in_flight, "work") as workers:
        coming: Future[_MicroBatch | None] | None = beside.submit(next, feed, None)
        while coming or window:
            while coming and len(window) < in_flight:
                batch = coming.result()
                coming = beside.submit(next, feed, None) if batch else None
                if batch:
                    make = partial(make_rows, work, batch.rows, batch.loaded)
                    begun = in_flight > 1 and batch.rows.num_rows > 0
                    window.append((batch, workers.submit(make).result if begun else make))
            if window:
                yield window.popleft()


@contextmanager
def _threads(n: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads, waited for at the end; but not where an exception ends the block, as all is in vain then."""
    pool = ThreadPoolExecutor(n, name)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def _wanted(work: Work, plan: Plan) -> NDArray[np.bool_]:
    """True at the rows of the input that this run is about: the newest of each key, within limit and sample."""
    limit, sample = plan.settings["limit"], plan.settings["sample"]
    parts = [hashes(batch, work.key) for batch in work.read(plan.inputs, work.key, _KEY_ROWS)]
    mask = newest(np.concatenate(parts)) if parts else np.zeros(0, np.bool_)
    if sample is not None:
        rows = (row for batch in work.read(plan.inputs, work.key, _KEY_ROWS) for row in batch.to_pylist())
        mask = sampled((tuple(row[name] for name in work.key) for row in rows), mask, sample)
    if limit is not None:
        mask[np.flatnonzero(mask)[limit:]] = False
    return mask


def _cut(work: Work, plan: Plan, wanted: NDArray[np.bool_]) -> Iterator[tuple[int, pa.Table]]:
    """The numbered slices of the wanted rows."""
    rows = int(plan.settings["batch_rows"])

    def chosen() -> Iterator[pa.RecordBatch]:
        at = 0
        for batch in work.read(plan.inputs, None, max(rows, 1024)):
            if at + batch.num_rows <= len(wanted):
                yield batch.filter(pa.array(wanted[at : at + batch.num_rows]))
            at += batch.num_rows
        if at != len(wanted):
            raise InputError(
                f"the input of {work.job} changed while it was read ({len(wanted)} rows, then {at}): run again"
            )

    return enumerate(slices(chosen(), rows))


def _count_committed(
    store: FeatureStore, work: Work, plan: Plan, standing: Standing, cut: Iterator[tuple[int, pa.Table]], done: int
) -> Counts:
    """Pass over the slices up to `done`, and find each of their rows in the output: made by this run, or skipped."""
    counts = Counts()
    if done < 0:
        return counts
    # starts at the very same moment make the same plan under several names
    runs = {run.plan.run_id for run in read_runs(store, plan.job) if run.plan.fingerprint == plan.fingerprint}
    mine = standing_in(store, work.table, work.key, work.verdict, store.version(work.table), runs)
    for number, rows in cut:
        keys = hashes(rows, work.key)
        at, before = mine.find(keys), standing.find(keys)
        n_ok = int(mine.ok[at[at >= 0]].sum())
        skipped = before[(at < 0) & (before >= 0)]
        if lost := int(((at < 0) & (before < 0)).sum()):
            raise StoreError(
                f"{plan.run_id}: {lost} rows it committed are gone from {work.table}; make them anew with --new-run"
            )
        counts += Counts(len(keys), n_ok, int((at >= 0).sum()) - n_ok, len(skipped), int((~standing.ok[skipped]).sum()))
        if number == done:
            break
    return counts


def _micro_batches(
    work: Work, plan: Plan, standing: Standing, cut: Iterator[tuple[int, pa.Table]]
) -> Iterator[_MicroBatch]:
    """Gather what slices leave to do into micro-batches, loaded. Runs in the thread beside the work."""
    size, retry = int(plan.settings["batch_rows"]), bool(plan.settings["retry_failed"])
    held: list[pa.Table] = []
    skipped, last, n = Counts(), -1, 0

    def loaded() -> _MicroBatch:
        if not n:
            return _MicroBatch(pa.table({}), [], [], last, skipped)
        rows = pa.concat_tables(held)
        shas, payload = load_rows(work, rows)
        return _MicroBatch(rows, shas, payload, last, skipped)

    for number, rows in cut:
        skip, still_failed = _skippable(work, standing, rows, retry)
        todo = rows.filter(pa.array(~skip))
        if n and n + todo.num_rows > size:
            yield loaded()
            held, skipped, n = [], Counts(), 0
        n += todo.num_rows
        if todo.num_rows:
            held.append(todo)
        skipped += Counts(rows.num_rows, 0, 0, int(skip.sum()), still_failed)
        last = number
        if n == size:
            yield loaded()
            held, skipped, n = [], Counts(), 0
    if skipped.n_in:
        yield loaded()


def _skippable(work: Work, standing: Standing, rows: pa.Table, retry_failed: bool) -> tuple[NDArray[np.bool_], int]:
    """Which rows stand already, made from the same content with the same settings; and how many of them as failed."""
    at = standing.find(hashes(rows, work.key))
    settings = hashes_of([work.settings_sha])[0]
    skip = at >= 0
    skip[skip] = standing.settings[at[skip]] == settings
    if retry_failed:
        skip[skip] = standing.ok[at[skip]]
    if skip.any():
        likely = rows.filter(pa.array(skip))
        skip[skip] = hashes_of(input_shas(work, likely)) == standing.inputs[at[skip]]
    return skip, int((~standing.ok[at[skip]]).sum())


def _count(work: Work, made: pa.Table) -> Counts:
    status = verdicts(work, made).column("status")
    n_ok = status.to_pylist().count("ok")
    return Counts(0, n_ok, len(status) - n_ok)


def _stamp(work: Work, plan: Plan, made: pa.Table, batch: _MicroBatch, not_before: datetime | None) -> pa.Table:
    """Fill in the provenance: run, input, time; and the settings where the work left them open.

    The time is later than that of any row it may replace, even where the clock was set back: newest wins by time.
    """
    keys = [tuple(key) for key in zip(*(batch.rows.column(n).to_pylist() for n in work.key), strict=True)]
    sha_of_key = dict(zip(keys, batch.input_shas, strict=True))
    of_row = [sha_of_key[key] for key in zip(*(made.column(n).to_pylist() for n in work.key), strict=True)]
    given = made.column("provenance").combine_chunks()
    own = pc.struct_field(given, "settings_sha").to_pylist()
    n, now = made.num_rows, datetime.now(UTC)
    if not_before is not None:
        now = max(now, not_before + timedelta(microseconds=1))
    stamped = {
        "run_id": pa.array([plan.run_id] * n, pa.string()),
        "maker": pc.struct_field(given, "maker"),
        "input_sha": pa.array(of_row, pa.string()),
        "settings_sha": pa.array([sha or work.settings_sha for sha in own], pa.string()),
        "made_at": pa.array([now] * n, pa.timestamp("us", tz="UTC")),
    }
    arrays = [_flat(stamped[f.name]) for f in PROVENANCE]
    column = pa.StructArray.from_arrays(arrays, fields=list(PROVENANCE))
    return made.set_column(made.schema.get_field_index("provenance"), made.schema.field("provenance"), column)


def _flat(array: Any) -> Any:
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
