"""The spine of every job: plan → partitions → micro-batches → process → one commit each → counts.

    wanted rows ──> numbered slices ──> partitions ──> micro-batch ──> process ──> commit
    (jobs.feed)     (fixed by the plan) (jobs.partitions) (loaded beside) (bisected   (application
                                                                          on errors)   transaction)

The input at its pinned version is cut into numbered slices of `batch_rows` rows, and these into partitions. What a
slice leaves after skipping is gathered, over whole slices of one partition, into micro-batches of at most `batch_rows`
rows; a commit carries the number of the last slice it covers as the version of its application transaction. So after a
kill at any instant the same command goes on behind the last committed slice of each partition: no row lost, none
doubled, at most one micro-batch made again. Several workers of the same command share the partitions of one run.

With `in_flight` above 1 so many micro-batches are in `process` at once, in threads, so that an engine which batches
requests itself has the next ones in its queue while the last of a micro-batch end. They are committed in their order,
one after the other; a kill then costs at most as many micro-batches as were in flight.

Memory: the micro-batches in flight, the one being loaded, and about 50 bytes a row of input and output, whatever the
rows hold. This module knows nothing of pictures, models or what rows mean.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any, Unpack

import pyarrow as pa
import pyarrow.compute as pc

from jobs.budget import Budget, budget_of
from jobs.feed import Elsewhere, InWork, Reader, Slice, Wanted, in_work, micro_batches, wanted_rows
from jobs.foresee import Foreseen, foresee
from jobs.partitions import Partition, Turns, cut
from jobs.plan import Counts, Plan, given_up, make_plan, others_gone, read_runs, write_event
from jobs.run_options import RunOptions
from jobs.stamp import stamp
from jobs.standing import Standing, hashes_of, standing_in
from jobs.tidy import tidy
from jobs.watch import Watch, spent_by
from jobs.work import Recalls, Work, verdicts
from jobs.workers import this_worker
from lore_mm.console import heed_interrupts, say
from lore_mm.errors import InputError, LoreError, PlanError, StoreError
from lore_mm.tables import TABLES
from stores.changes import same_rows
from stores.features import FeatureStore

__all__ = ["run_job"]

_BATCH_ROWS = 64
_PATIENCE_S = 300.0


class _StartedElsewhere(Exception):
    """Another run has started in this place since the plan was made; nothing was written by this one."""


def run_job(
    store: FeatureStore,
    work: Work,
    *,
    in_flight: int = 1,
    note: Callable[[], str] | None = None,
    apart: bool = False,
    elsewhere: Elsewhere | None = None,
    **options: Unpack[RunOptions],
) -> Counts:
    """Run a job to its end, or the rest of it where it was interrupted. Says on stderr what came of it.

    `limit` takes the first rows of the input, `sample` a fixed random choice. A row that stands in the output, made
    from the same content with the same settings, is skipped; one that failed is made again only with `retry_failed`.
    Where nothing is to be done nothing is written. `new_run` gives an unfinished run up and starts another; who is
    still at work on the old one stops. A run `apart` goes beside others of its job, and is never resumed.
    `in_flight` micro-batches are in `process` at once, which is no part of the plan. `note` gives a few words on how it
    goes, shown beside the progress. With `elsewhere` rows are loaded and made there (`jobs.ray_engine`); all else,
    and every commit, stays here.

    The same call in several processes, on one machine or many, shares the work: each ends when all is done. What a
    worker leaves that died on another machine is taken over when nothing has moved in it for `patience` seconds.

    Raises:
        PlanError: an unfinished run had other settings, the text names what changed; or this one was given up.
        StoreError: rows that the run had committed are gone from the store.
    """
    settings, new_run = {**work.settings, **_scope(options)}, options.get("new_run", False)
    if options.get("foresee"):
        raise Foreseen(foresee(store, work, settings, new_run=new_run))
    if (run_on := options.get("run_on") or "local") != "local" and elsewhere is None:
        raise InputError(f"--run-on {run_on}: {work.job} cannot; legal: local")
    budget = budget_of(options)
    budget.check(work.job, spent_by(work))
    patience, metrics_port = options.get("patience") or _PATIENCE_S, options.get("metrics_port")
    heed_interrupts()
    while True:
        plan, resumed = make_plan(
            *(store, work.job, work.table, work.reads, settings),
            new_run=new_run,
            apart=apart,
            made_with=getattr(work, "made_with", None),
        )
        going = _Run(store, work, plan, resumed, in_flight, note, patience, budget, metrics_port, elsewhere)
        try:
            counts = going.carry_out()
        except _StartedElsewhere:  # which is seen now: this process joins it, or is refused
            new_run = False
            continue
        _report(store, work, counts)
        if going.was_last:
            tidy(store, work.table, "runs")
        moved_on = [name for name, version in plan.inputs.items() if resumed and _moved_on(store, name, version)]
        if not moved_on:
            return counts
        new_run = False
        say(
            f"{work.job}: the interrupted run is finished; {', '.join(moved_on)} changed since it began: "
            "going on with what is new"
        )


def _moved_on(store: FeatureStore, table: str, version: int) -> bool:
    """Whether rows were written to a table since a version; what was only compacted says the same."""
    now = store.version(table)
    return now is None or not same_rows(store, table, version, now)


def _scope(options: RunOptions) -> dict[str, Any]:
    """The options that are part of a plan."""
    given = options.get("batch_rows")
    batch_rows = _BATCH_ROWS if given is None else given
    if batch_rows < 1:
        raise InputError(f"--batch-rows is {batch_rows}; legal: 1 and more")
    return {
        "batch_rows": batch_rows,
        "limit": options.get("limit"),
        "sample": options.get("sample"),
        "retry_failed": options.get("retry_failed", False),
    }


def _report(store: FeatureStore, work: Work, counts: Counts) -> None:
    line = f"{work.job}: {counts.n_in} in = {counts.n_ok} ok + {counts.n_failed} failed + {counts.n_skipped} skipped"
    if counts.n_in == counts.n_skipped:
        line += "; nothing had changed, nothing was done"
    if counts.n_still_failed:
        line += f"; {counts.n_still_failed} of the skipped failed before (--retry-failed takes them again)"
    if counts.n_failed or counts.n_still_failed:
        line += f"; what failed and why: lore status --store {store.uri}"
    say(line)


@dataclass
class _Run:
    """A plan that this process carries out, alone or as one of several."""

    store: FeatureStore
    work: Work
    plan: Plan
    started: bool  # its first row stands in RUNS
    in_flight: int
    note: Callable[[], str] | None
    patience: float
    budget: Budget
    metrics_port: str | None = None
    elsewhere: Elsewhere | None = None
    at_work: bool = False  # this process is a worker of it, and has said so
    was_last: bool = False  # it was this process that ended it
    standing: Standing = field(init=False)
    wanted: Wanted = field(init=False)
    partitions: list[Partition] = field(init=False)
    reader: Reader = field(init=False)
    watch: Watch = field(init=False)
    told: dict[int, int] = field(default_factory=dict)  # partition → its rows that the progress knows of

    def carry_out(self) -> Counts:
        """Every row of the plan, whoever makes it; ends when all is done."""
        try:
            return self._carry_out()
        except BaseException:
            if self.at_work:  # so that no other worker waits for this one
                with suppress(LoreError, OSError):
                    write_event(self.store, self.plan, "stopped")
            raise

    def _carry_out(self) -> Counts:
        work, plan = self.work, self.plan
        self.standing = standing_in(self.store, work.table, work.key, work.verdict, plan.base)
        if isinstance(work, Recalls):
            work.recall(plan.base, bool(plan.settings["retry_failed"]))
        self.wanted = wanted_rows(work, plan)
        self.partitions = cut(self.wanted.slices)
        self._open_reader()
        mine = Counts()
        self.watch = Watch(
            self.store,
            work,
            plan,
            len(self.wanted),
            open_rows=self._open_rows,
            budget=self.budget,
            note=self.note,
            metrics_port=self.metrics_port,
        )
        with self.watch:
            if self.started:
                write_event(self.store, plan, "resumed", Counts(len(self.wanted)))
                self.at_work = True
                self.watch.begin()
            turns = Turns(self.partitions, self._look, self._alone, _place(), self.patience, self._waits)
            for part in turns:
                for made in self._partition(part):
                    if made is None:
                        turns.lost(part)
                        break
                    mine += made
                else:
                    turns.passed(part)
                    self.watch.passed(part.number)
        counts = mine if mine.n_in == len(self.wanted) else self._count()
        if not counts.add_up or counts.n_in != len(self.wanted):
            raise StoreError(f"{plan.run_id}: the counts do not add up: {counts} for {len(self.wanted)} rows of input")
        if self.started:
            self.was_last = write_event(self.store, plan, "finished", counts)
        return counts

    def _partition(self, part: Partition) -> Iterator[Counts | None]:
        """The counts of each micro-batch behind what is committed; None where another worker was faster."""
        work, app_id = self.work, self.plan.app_id(part.number)
        done = self.store.last_transaction(work.table, app_id)
        last = part.first - 1 if done is None else done
        with closing(self._in_work(self.reader.slices(part, last))) as going:
            for batch, make in going:
                counts = batch.skipped
                if batch.rows.num_rows:
                    self._start()
                    made = stamp(work, self.plan.run_id, make(), batch.rows, batch.input_shas, self.standing.made_at)
                    self._check_place()
                    # behind `last`, and nothing else: what another committed may end within these rows
                    if self.store.append(work.table, made, (app_id, batch.last_slice), after=last) is None:
                        self._open_reader()
                        self.watch.dropped()
                        yield None
                        return
                    counts += _count(work, made)
                    last = batch.last_slice
                self._tell(part, batch.last_slice)
                self.watch.made(counts)
                yield counts
        self.watch.check_stopped()
        if last < part.last and self.started and not self._alone():
            # what needed nothing is not looked through again by the others
            self.store.append(work.table, TABLES[work.table].empty_table(), (app_id, part.last), after=last)

    def _in_work(self, slices: Iterator[Slice]) -> InWork:
        if self.elsewhere is not None:
            return self.elsewhere(self.plan, self.watch.until_stopped(slices), self.wanted.batch_rows)
        batches = micro_batches(self.work, slices, self.wanted.batch_rows)
        return in_work(self.watch.timed(), batches, self.in_flight, self.watch.may_begin)

    def _open_reader(self) -> None:
        self.reader = Reader(self.work, self.plan, self.standing, self.wanted)

    def _start(self) -> None:
        if not self.started:
            if not write_event(self.store, self.plan, "started", Counts(len(self.wanted))):
                raise _StartedElsewhere
            self.started = self.at_work = True
            self.watch.begin()

    def _check_place(self) -> None:
        if self.started and given_up(self.store, self.plan):
            raise PlanError(
                f"{self.plan.run_id} was given up: another run of {self.work.job} has begun in its place; "
                "what this one had committed is kept"
            )

    def _look(self) -> list[int | None]:
        self._check_place()
        done = self.store.last_transactions(self.work.table, [self.plan.app_id(p.number) for p in self.partitions])
        for part, last in zip(self.partitions, done, strict=True):
            if last is not None:
                self._tell(part, last)
        return done

    def _tell(self, part: Partition, last_slice: int) -> None:
        """Let the progress know how far a partition is."""
        size = self.wanted.batch_rows
        rows = min((last_slice + 1) * size, len(self.wanted)) - part.first * size
        if (more := rows - self.told.get(part.number, 0)) > 0:
            self.told[part.number] = rows
            self.watch.advance(more)

    def _alone(self) -> bool:
        return others_gone(self.store, self.plan)

    def _open_rows(self) -> int:
        """Wanted rows of which none stands that was made with the same settings."""
        at = self.standing.find(self.wanted.keys)
        same = self.standing.settings[at[at >= 0]] == hashes_of([self.work.settings_sha])[0]
        if self.plan.settings["retry_failed"]:
            same &= self.standing.ok[at[at >= 0]]
        return len(at) - int(same.sum())

    def _waits(self, n: int) -> None:
        self._start()  # where another has started the same run in the meantime, this one joins it
        write_event(self.store, self.plan, "waits" if n else "works")
        self.at_work = n == 0
        if not n:
            return
        self.watch.waiting()
        say(
            f"{self.work.job}: others are at work on the last {n} of {len(self.partitions)} partitions; waiting for "
            f"them, and taking over where nothing moves for {self.patience:g} seconds"
        )

    def _count(self) -> Counts:
        """Find each wanted row in the output: made by this run, or as it stood before."""
        work, plan = self.work, self.plan
        runs = {run.plan.run_id for run in read_runs(self.store, plan.job) if run.plan.fingerprint == plan.fingerprint}
        mine = standing_in(self.store, work.table, work.key, work.verdict, self.store.version(work.table), runs)
        at, before = mine.find(self.wanted.keys), self.standing.find(self.wanted.keys)
        if lost := int(((at < 0) & (before < 0)).sum()):
            raise StoreError(
                f"{plan.run_id}: {lost} rows it committed are gone from {work.table}; make them anew with --new-run"
            )
        n_made, n_ok = int((at >= 0).sum()), int(mine.ok[at[at >= 0]].sum())
        skipped = before[at < 0]
        return Counts(len(at), n_ok, n_made - n_ok, len(skipped), int((~self.standing.ok[skipped]).sum()))


def _place() -> float:
    """Where this worker begins among others, in [0, 1): by lot, but always the same."""
    return int.from_bytes(hashlib.blake2b(this_worker().encode(), digest_size=4).digest()) / 2**32


def _count(work: Work, made: pa.Table) -> Counts:
    status = verdicts(work, made).column("status")
    n_ok = len(status.filter(pc.equal(status, pa.scalar("ok"))))
    return Counts(0, n_ok, len(status) - n_ok)
