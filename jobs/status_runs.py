"""How runs of a store stand: what is done of each, how fast, at what cost, and by whom.

What is done is what commits say; who made how many rows, how fast and for how many tokens is what workers told
(`jobs.pulse`), up to two seconds before they were killed where they were. It only looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from jobs.budget import total
from jobs.partitions import Partition, cut
from jobs.plan import Run, read_runs
from jobs.pulse import Pulse, read_pulses
from jobs.workers import is_gone
from lore_mm.errors import StoreError
from stores.features import FeatureStore

__all__ = ["RunStatus", "WorkerStatus", "runs_of"]

_SILENT_S = 60.0  # without a pulse: a worker on another machine is not counted as at work


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One start of one worker of a run.

    state: running · waiting (for others) · finished · stopped (at a cap) · failed · killed (its process ended without a
    word) · silent (on another machine, and no word for a minute).
    """

    host: str
    pid: int
    state: str
    started_at: str
    seconds: float
    n_ok: int
    n_failed: int
    n_skipped: int
    rate: float | None
    busy: float | None
    gpu: float | None
    tokens: int
    cost: float | None
    error: str | None


@dataclass(frozen=True, slots=True)
class RunStatus:
    """A run. n_in = n_ok + n_failed + n_skipped + n_untold + n_left.

    state: finished · running (somebody is at work) · unfinished (nobody is, as far as is known) · given up (a later run
    took its place). `n_untold` are done, by workers that were killed before they told what became of them; a finished
    run has none. Rates are of the workers at work; of a finished run, over its whole time.
    """

    run_id: str
    job: str
    table: str
    state: str
    started_at: str
    seconds: float | None = None
    n_in: int | None = None
    n_ok: int | None = None
    n_failed: int | None = None
    n_skipped: int | None = None
    n_untold: int | None = None
    n_left: int | None = None
    resumed: int = 0
    done_up_to: int | None = None  # of an unfinished run: the input rows behind it
    partitions: int | None = None
    partitions_done: int | None = None
    rate: float | None = None  # rows a second
    eta_s: float | None = None
    busy: float | None = None  # share of time in which engines had work
    gpu: float | None = None
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None  # where prices were given
    workers: tuple[WorkerStatus, ...] = ()
    command: str = ""  # of an unfinished run: goes on with it
    models: tuple[str, ...] = field(default=())


def runs_of(store: FeatureStore, last: int = 10) -> list[RunStatus]:
    """The `last` runs of a store, oldest first."""
    runs = read_runs(store)
    newest = {run.plan.place: run.plan.run_id for run in runs}
    return [_status(store, one, newest[one.plan.place] == one.plan.run_id) for one in runs[-last:]]


def _status(store: FeatureStore, one: Run, newest: bool) -> RunStatus:
    plan = one.plan
    try:
        pulses = read_pulses(store, plan.run_id)
    except StoreError:
        pulses = []
    at_work = [p for p in pulses if _state(p, one) in ("running", "waiting")]
    quiet = {p.worker for p in pulses} - {p.worker for p in at_work}
    alive = bool(at_work) or any(not is_gone(worker) and worker not in quiet for worker in one.workers)
    parts = cut(-(-one.n_in // int(plan.settings.get("batch_rows", 1)))) if one.finished_at is None else []
    counted = _finished(one) if one.finished_at is not None else _unfinished(store, one, parts, pulses, at_work)
    state = "finished"
    if one.finished_at is None:
        state = "given up" if not newest else "running" if alive else "unfinished"
    used = [total(p.spent) for p in pulses]
    costs = [p.cost for p in pulses if p.cost is not None]
    busy = [(p.busy, p.seconds) for p in at_work or pulses if p.busy is not None]
    gpu = [p.gpu for p in at_work or pulses if p.gpu is not None]
    return RunStatus(
        run_id=plan.run_id,
        job=plan.job,
        table=plan.table,
        state=state,
        started_at=one.started_at.isoformat(),
        seconds=None if one.finished_at is None else (one.finished_at - one.started_at).total_seconds(),
        resumed=one.resumed,
        busy=sum(share * s for share, s in busy) / max(sum(s for _, s in busy), 1e-9) if busy else None,
        gpu=sum(gpu) / len(gpu) if gpu else None,
        calls=sum(u.calls for u in used),
        prompt_tokens=sum(u.prompt_tokens for u in used),
        completion_tokens=sum(u.completion_tokens for u in used),
        cost=round(sum(costs), 9) if costs else None,
        workers=tuple(_worker(p, one) for p in pulses),
        command=one.command if state in ("unfinished", "running") else "",
        models=tuple(sorted({model for p in pulses for model in p.spent})),
        **counted,  # type: ignore[arg-type]
    )


def _finished(one: Run) -> dict[str, int | float | None]:
    counts = one.counts
    if counts is None or one.finished_at is None:
        return {}
    seconds = (one.finished_at - one.started_at).total_seconds()
    said = {"n_in": counts.n_in, "n_ok": counts.n_ok, "n_failed": counts.n_failed, "n_skipped": counts.n_skipped}
    return {**said, "n_untold": 0, "n_left": 0, "rate": counts.n_in / seconds if seconds > 0 else None}


def _unfinished(
    store: FeatureStore, one: Run, parts: Sequence[Partition], pulses: Sequence[Pulse], at_work: Sequence[Pulse]
) -> dict[str, int | float | None]:
    """What is done so far, by commits; and what became of it, as far as workers told."""
    size = int(one.plan.settings.get("batch_rows", 1))
    last = store.last_transactions(one.plan.table, [one.plan.app_id(part.number) for part in parts])
    behind = ((end, part.first) for end, part in zip(last, parts, strict=True) if end is not None)
    committed = sum(min((end + 1) * size, one.n_in) - first * size for end, first in behind)
    told = {name: sum(getattr(p, name) for p in pulses) for name in ("n_ok", "n_failed", "n_skipped")}
    done = min(one.n_in, max([committed, sum(told.values()), *(p.done for p in pulses)]))
    passed = {number for p in pulses for number in p.passed}
    rate = sum(p.rate or 0.0 for p in at_work) or None
    return {
        "n_in": one.n_in,
        **told,
        "n_untold": max(0, done - sum(told.values())),
        "n_left": one.n_in - done,
        "done_up_to": done,
        "partitions": len(parts),
        "partitions_done": sum(
            part.number in passed or (end is not None and end >= part.last)
            for part, end in zip(parts, last, strict=True)
        ),
        "rate": rate,
        "eta_s": round((one.n_in - done) / rate, 1) if rate else None,
    }


def _state(pulse: Pulse, one: Run) -> str:
    if pulse.state not in ("running", "waiting"):
        return pulse.state
    if pulse.gone:
        return "killed"
    if one.finished_at is not None or pulse.silent_s > _SILENT_S:
        return "silent"
    return pulse.state


def _worker(pulse: Pulse, one: Run) -> WorkerStatus:
    used, state = total(pulse.spent), _state(pulse, one)
    return WorkerStatus(
        host=pulse.host,
        pid=pulse.pid,
        state=state,
        started_at=pulse.started_at,
        seconds=pulse.seconds,
        n_ok=pulse.n_ok,
        n_failed=pulse.n_failed,
        n_skipped=pulse.n_skipped,
        rate=pulse.rate if state in ("running", "waiting") else pulse.mean_rate,
        busy=pulse.busy,
        gpu=pulse.gpu,
        tokens=used.prompt_tokens + used.completion_tokens,
        cost=pulse.cost,
        error=pulse.error,
    )
