"""What a worker knows of its run while it goes on, and tells: the progress bar, its pulse, figures for Prometheus; and
whether the budget lets a micro-batch begin.

The spine tells it what happens; it decides nothing but that nothing more begins where a cap is reached, and it never
makes a job fail. See `jobs.budget` for caps and the estimate, `jobs.pulse` for what others read.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, cast

import pyarrow as pa

from jobs.budget import Budget, Spent, total
from jobs.feed import Slice
from jobs.plan import Counts, Plan
from jobs.pulse import Beat, Pulse, State, gpu_share, read_pulses
from jobs.work import Work
from jobs.workers import this_worker
from lore_mm.console import progress, say
from lore_mm.errors import BudgetError, StoreError
from lore_mm.models.chat import NO_USAGE, Usage
from stores.features import FeatureStore

__all__ = ["Watch", "spent_by"]

_PIECES = 8  # of the probe
_RECENT_S, _RECENT_COMMITS = 60.0, 5  # what a rate of late is of: so long, and so many commits at least
_WORTH_A_PROBE = 4  # micro-batches: a smaller run is over before an estimate helps


def spent_by(work: object) -> Spent | None:
    """What a work's models were asked so far, by name; None where it asks none."""
    spent: Callable[[], Spent] | None = getattr(work, "spent", None)
    return (spent() or None) if spent else None


class Watch:
    """Over one run, in one worker. Use as a context: the bar and all others end with it.

    `open_rows`: rows that no earlier run has made; the estimate is for them.
    """

    def __init__(
        self,
        store: FeatureStore,
        work: Work,
        plan: Plan,
        rows: int,
        *,
        open_rows: Callable[[], int],
        budget: Budget,
        note: Callable[[], str] | None = None,
        metrics_port: str | None = None,
    ) -> None:
        self._store, self._work, self._plan, self._budget = store, work, plan, budget
        self._note, self._metrics_port = note, metrics_port
        self._rows, self._done, self._counts, self._at_work = rows, 0, Counts(), 0
        self._state: State = "running"
        self._error: str | None = None
        self._began, self._began_at = time.monotonic(), datetime.now(UTC)
        self._commits = deque([(self._began, 0)], maxlen=256)
        self._passed: list[int] = []
        self._gpu: deque[float] = deque(maxlen=15)
        self._guard, self._busy = threading.Lock(), _Busy()
        self._spends = spent_by(work) is not None
        self._before: Spent = spent_by(work) or {}  # by this process, in an earlier run
        self._others: list[Pulse] = []
        self._looked = -1e9
        self._open_rows = open_rows() if self._spends else rows
        size = int(plan.settings.get("batch_rows", 1))
        self._probes = self._spends and (bool(budget.caps) or self._open_rows > _WORTH_A_PROBE * size)
        # in pieces, with nothing beside it, only where a cap needs to know what a row takes: it starves an engine
        self._in_pieces = self._probes and bool(budget.caps)
        self._pieces: list[tuple[int, Spent]] = []
        self._processed = 0
        self._start = secrets.token_hex(6)
        self._beat = Beat(store, plan.run_id, self._start, self._told)
        self._beats = self._stops = self._elsewhere = False
        self._ends = ExitStack()

    # --- from its beginning to its end ---

    def __enter__(self) -> Self:
        if self._metrics_port is not None:
            from jobs.metrics_server import serve

            self._ends.enter_context(serve(self._metrics_port, self._work.job, self._told))
        bar = progress(self._work.job, self._rows, self._note, self._figures)
        self._advance = self._ends.enter_context(bar)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._state = "finished"
        elif isinstance(error, BudgetError):
            self._state = "stopped"
        else:
            self._state = "failed"
            self._error = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        if self._beats:
            self._beat.end()
        self._ends.close()

    def begin(self) -> None:
        """The run stands in RUNS: this worker has a pulse from now on."""
        if not self._beats:
            self._beats = True
            self._look()
            if made := sum(one.n_ok + one.n_failed for one in self._others):
                self._budget.learn(self._of_the_run(), made, 0)
            self._beat.start()

    # --- what happens ---

    def advance(self, rows: int) -> None:
        """So many more rows of the run are known to be done, by whomever."""
        with self._guard:
            self._done += rows
            self._state = "running"
        self._advance(rows)

    def made(self, counts: Counts) -> None:
        """A micro-batch is committed."""
        with self._guard:
            self._counts += counts
            self._at_work = max(0, self._at_work - counts.n_ok - counts.n_failed)
            self._commits.append((time.monotonic(), self._counts.n_in))
            self._state = "running"
        if self._spends:
            self._learn()

    def passed(self, partition: int) -> None:
        """Nothing is left to do in a partition."""
        self._passed.append(partition)

    def dropped(self) -> None:
        """What was at work is dropped: another worker had been faster."""
        with self._guard:
            self._at_work = 0

    def waiting(self) -> None:
        """Nothing is to be done but to wait for other workers."""
        self._state = "waiting"

    def timed(self) -> Work:
        """The work, its engine's time measured, and its first micro-batch made in pieces where a cap needs a probe."""
        return cast(Work, _Timed(self._work, self._process))

    # --- the budget ---

    def may_begin(self, rows: int) -> bool | None:
        """Whether a micro-batch of so many rows may begin; None: ask again when one at work has ended."""
        if not self._spends or not rows:
            return True
        if self._stops:
            return False
        with self._guard:
            at_work = self._at_work
        if self._in_pieces and not self._pieces and at_work and not self._elsewhere:
            return None
        if self._budget.caps:
            self._look()
            go = self._budget.may_begin(self._of_the_run(), rows, at_work)
        else:
            go = True
        if go is False:
            self._stops = True
            self._why = self._budget.reached(self._of_the_run(), rows)
        elif go:
            with self._guard:
                self._at_work += rows
        return go

    def until_stopped(self, slices: Iterator[Slice]) -> Iterator[Slice]:
        """Slices up to where the budget stops: for an engine elsewhere, which is handed rows long before they begin."""
        self._elsewhere = True
        for part in slices:
            rows = int((part.expected == 0).sum())  # the others will hardly be made
            go = self.may_begin(rows)
            if go is None:
                if self._budget.per_row:  # those that are handed over already take what is left
                    self._stops, self._why = True, self._budget.reached(self._of_the_run(), rows + self._at_work)
                    return
                with self._guard:
                    self._at_work += rows
            elif not go:
                return
            yield part

    def check_stopped(self) -> None:
        """See whether the budget has let everything begin.

        Raises:
            BudgetError: it has not; what was begun is committed.
        """
        if not self._stops:
            return
        spent = self._of_the_run()
        used, cost = total(spent), self._budget.cost(spent)
        line = f"{used.prompt_tokens:,} tokens of prompts and {used.completion_tokens:,} of replies"
        if cost is not None:
            line += f", which cost {cost:,.4g}"
        raise BudgetError(
            f"{self._work.job}: {self._why}. The run has spent {line}; {self._done:,} of {self._rows:,} rows are done "
            "and kept. The same command with a larger cap goes on"
        )

    def _of_the_run(self) -> Spent:
        """By this start, earlier ones, and other workers."""
        return _sum(self._mine(), *(one.spent for one in self._others))

    def _mine(self) -> Spent:
        """By this process in this run."""
        now = spent_by(self._work) or {}
        return {model: _less(used, self._before.get(model, NO_USAGE)) for model, used in now.items()}

    def _look(self) -> None:
        """See what other starts and workers have spent, now and then."""
        if time.monotonic() - self._looked < self._beat.every_s or not (self._spends and self._beats):
            return
        self._looked = time.monotonic()
        try:
            pulses = read_pulses(self._store, self._plan.run_id)
        except StoreError:
            return
        self._others = [one for one in pulses if one.start != self._start]

    def _learn(self) -> None:
        made = self._counts.n_ok + self._counts.n_failed
        if not made:
            return
        everyone = made + sum(one.n_ok + one.n_failed for one in self._others)
        self._budget.learn(self._of_the_run(), everyone, self._at_work)
        if self._elsewhere and not self._pieces and made >= _PIECES * max(self._at_work, 1):
            self._pieces = [(made, self._mine())]  # of all engines together, those at work little beside it
        elif not (self._elsewhere or self._in_pieces or self._pieces):
            self._pieces = [(self._processed, self._mine())]
        if self._probes and self._pieces:
            self._probes = False
            if (left := self._open_rows - everyone) > 0:
                line = self._budget.forecast(self._pieces, self._of_the_run(), left)
                say(f"{self._work.job}: {line}")

    def _process(self, rows: pa.Table, loaded: list[Any]) -> pa.Table:
        with self._busy:
            if not self._in_pieces or self._pieces or rows.num_rows < 2:
                done = self._work.process(rows, loaded)
                with self._guard:
                    self._processed += rows.num_rows
                return done
            size = -(-rows.num_rows // _PIECES)
            found, made, before = [], [], self._mine()
            for at in range(0, rows.num_rows, size):
                made.append(self._work.process(rows.slice(at, size), loaded[at : at + size]))
                now = self._mine()
                found.append((rows.slice(at, size).num_rows, _difference(now, before)))
                before = now
            self._pieces = found
            return pa.concat_tables(made)

    # --- what is told ---

    def _told(self) -> Pulse:
        """The pulse of the moment."""
        share = gpu_share() if self._spends or self._busy.share() else None
        if share is not None:
            self._gpu.append(share)
        with self._guard:
            counts, done, at_work = self._counts, self._done, self._at_work
            rate, mean_rate = self._rates()
        mine = self._mine()
        return Pulse(
            run_id=self._plan.run_id,
            start=self._start,
            worker=this_worker(),
            state=self._state,
            error=self._error,
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=self._began_at.isoformat(timespec="seconds"),
            updated_at=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - self._began, 1),
            rows=self._rows,
            done=done,
            n_in=counts.n_in,
            n_ok=counts.n_ok,
            n_failed=counts.n_failed,
            n_skipped=counts.n_skipped,
            at_work=at_work,
            passed=tuple(self._passed),
            rate=rate,
            mean_rate=mean_rate,
            eta_s=round((self._rows - done) / rate, 1) if rate else None,
            busy=self._busy.share(),
            gpu=sum(self._gpu) / len(self._gpu) if self._gpu else None,
            cost=round(cost, 9) if mine and (cost := self._budget.cost(mine)) is not None else None,
            spent=mine,
        )

    def _rates(self) -> tuple[float | None, float | None]:
        """Rows a second of late and since the start."""
        now, n = time.monotonic(), self._counts.n_in
        while len(self._commits) > _RECENT_COMMITS + 1 and now - self._commits[0][0] > _RECENT_S:
            self._commits.popleft()
        since, before = self._commits[0]
        recent, mean = (n - before) / max(now - since, 1e-3), n / max(now - self._began, 1e-3)
        return (round(recent, 3), round(mean, 3)) if n else (None, None)

    def _figures(self) -> dict[str, Any]:
        """What a line of JSON in a pipe says beside how far it is."""
        counts, mine = self._counts, self._mine()
        said: dict[str, Any] = {"ok": counts.n_ok, "failed": counts.n_failed, "skipped": counts.n_skipped}
        if self._spends:
            said["tokens"] = total(mine).prompt_tokens + total(mine).completion_tokens
        if (cost := self._budget.cost(mine)) is not None:
            said["cost"] = round(cost, 6)
        return said


class _Timed:
    """A work whose `process` is another; all else is its own."""

    def __init__(self, work: Work, process: Callable[[pa.Table, list[Any]], pa.Table]) -> None:
        self._work, self.process = work, process

    def __getattr__(self, name: str) -> Any:
        return getattr(self._work, name)


class _Busy:
    """The share of time in which at least one thread is inside. Reentrant over threads."""

    def __init__(self) -> None:
        self._lock, self._inside, self._since, self._sum = threading.Lock(), 0, 0.0, 0.0
        self._began = time.monotonic()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._since = time.monotonic()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._sum += time.monotonic() - self._since

    def share(self) -> float | None:
        """In [0, 1]; None before it was ever entered."""
        with self._lock:
            now = time.monotonic()
            busy = self._sum + (now - self._since if self._inside else 0.0)
            return round(busy / max(now - self._began, 1e-6), 4) if busy else None


def _less(a: Usage, b: Usage) -> Usage:
    return Usage(a.calls - b.calls, a.prompt_tokens - b.prompt_tokens, a.completion_tokens - b.completion_tokens)


def _difference(now: Spent, before: Spent) -> Spent:
    return {model: _less(used, before.get(model, NO_USAGE)) for model, used in now.items()}


def _sum(*parts: Spent) -> Spent:
    models = {model for part in parts for model in part}
    return {model: sum((part.get(model, NO_USAGE) for part in parts), NO_USAGE) for model in sorted(models)}
