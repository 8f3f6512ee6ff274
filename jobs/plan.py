"""What a run is going to do, and what came of it: the plan, its fingerprint, its counts, its rows in the RUNS table.

A plan is the settings of a job, the versions of the tables it reads, and the version of the table it writes at the time
of planning. Its fingerprint names the application transactions of its commits, so the same plan never commits the same
micro-batch twice. Versions stay pinned while a run is unfinished: a later start of the same command takes them over.
Runs of one job over one table are numbered as they start, by a transaction: of two that start at the same moment one
comes second, and sees the first. No order is taken from clocks, which differ and are set back.
This module knows nothing of rows, pictures or models; `jobs.spine` carries a plan out.
"""

from __future__ import annotations

import json
import secrets
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from jobs.workers import is_gone, this_worker
from lore_mm.errors import PlanError
from lore_mm.fingerprint import sha_of
from lore_mm.tables import RUNS
from stores.features import FeatureStore

__all__ = ["Counts", "Plan", "Run", "changes", "given_up", "make_plan", "others_gone", "read_runs", "write_event"]


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the rows of a run; in every job n_in = n_ok + n_failed + n_skipped.

    A skipped row stood in the output already, made from the same content with the same settings;
    `n_still_failed` of the skipped stand there as failed, and wait for --retry-failed.
    """

    n_in: int = 0
    n_ok: int = 0
    n_failed: int = 0
    n_skipped: int = 0
    n_still_failed: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(a + b for a, b in zip(asdict(self).values(), asdict(other).values(), strict=True)))

    @property
    def add_up(self) -> bool:
        """True where every row that came in is accounted for."""
        return self.n_in == self.n_ok + self.n_failed + self.n_skipped


@dataclass(frozen=True, slots=True)
class Plan:
    """A job with all that decides its result. `settings` is JSON-able; `base` None: the table is not there yet.

    `made_with` tells who traces a row what its maker was (`jobs.described`): maker → model, prompt, schema and so on.
    The settings know all of it too, by a sha of the whole, so that it decides nothing.
    """

    job: str
    table: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, int] = field(default_factory=dict)  # table → pinned version
    base: int | None = None  # version of `table` that decides what is skipped
    run_id: str = ""
    number: int = 0  # of the run among those of its job and table; 0: it runs beside others, and is never resumed
    made_with: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Identifies the plan by content; run id, number and what is told beside them are no part of it."""
        content = asdict(self)
        del content["run_id"], content["number"], content["made_with"]
        return sha_of(content)

    @property
    def place(self) -> str:
        """Where there can be one run at a time; also the application id that its starts are numbered under."""
        return f"{self.job}/{self.table}"

    def app_id(self, partition: int) -> str:
        """The application id of this plan's commits in a partition."""
        return f"{self.fingerprint}/{partition}"


@dataclass(frozen=True, slots=True)
class Run:
    """One run, as the RUNS table tells it."""

    plan: Plan
    started_at: datetime
    command: str = ""  # what started it, and will finish it
    resumed: int = 0  # how many times, or how many workers joined
    workers: tuple[str, ...] = ()  # those that did not say that they had stopped, or wait for others; each once
    n_in: int = 0  # rows of input that it is about
    finished_at: datetime | None = None
    counts: Counts | None = None


def read_runs(store: FeatureStore, job: str | None = None) -> list[Run]:
    """All runs of a store, or of one job, oldest first; those of one job over one table as they were numbered."""
    if store.version("runs") is None:
        return []
    events: dict[str, list[dict[str, Any]]] = {}
    for batch in store.batches("runs"):
        for row in batch.to_pylist():
            if job is None or row["job"] == job:
                events.setdefault(row["run_id"], []).append(row)
    runs = [_run_of(rows) for rows in events.values()]
    since: dict[str, datetime] = {}  # the latest start in a place, up to a run: a clock set back moves none before it
    order: dict[str, datetime] = {}
    for run in sorted(runs, key=lambda one: (one.plan.number, one.started_at)):
        place = run.plan.place
        order[run.plan.run_id] = since[place] = max(run.started_at, since.get(place, run.started_at))
    return sorted(runs, key=lambda one: (order[one.plan.run_id], one.plan.number))


def _run_of(rows: Sequence[Mapping[str, Any]]) -> Run:
    """One run out of its events, in whatever order they come."""
    rows = sorted(rows, key=lambda row: (row["event"] != "started", row["at"]))
    first = rows[0]
    known = json.loads(first["settings"] or "{}")
    plan = Plan(
        job=first["job"],
        table=first["table"] or "",
        settings=known.get("settings", {}),
        inputs=known.get("inputs", {}),
        base=known.get("base"),
        run_id=first["run_id"],
        number=known.get("number", 0),
        made_with=known.get("made_with", {}),
    )
    begun = Counter(row["worker"] or "" for row in rows if row["event"] in ("started", "resumed", "works"))
    ended = Counter(row["worker"] or "" for row in rows if row["event"] in ("stopped", "waits"))
    end = next((row for row in rows if row["event"] == "finished"), None)
    return Run(
        plan,
        started_at=first["at"],
        command=known.get("command", ""),
        resumed=sum(row["event"] == "resumed" for row in rows),
        workers=tuple(begun - ended),
        n_in=next((row["n_in"] for row in rows if row["n_in"]), 0),
        finished_at=None if end is None else max(end["at"], first["at"]),
        counts=None if end is None else Counts(*(end[n] or 0 for n in ("n_in", "n_ok", "n_failed", "n_skipped"))),
    )


def unfinished(store: FeatureStore, job: str, table: str) -> Run | None:
    """The newest run of a job over a table, where it has not finished; it supersedes earlier unfinished ones."""
    runs = [run for run in read_runs(store, job) if run.plan.table == table]
    return runs[-1] if runs and runs[-1].finished_at is None else None


def make_plan(
    store: FeatureStore,
    job: str,
    table: str,
    reads: tuple[str, ...],
    settings: Mapping[str, Any],
    *,
    new_run: bool = False,
    apart: bool = False,
    made_with: Mapping[str, Any] | None = None,
) -> tuple[Plan, bool]:
    """A plan, and whether it is the rest of an unfinished run, whose pinned versions it then takes over.

    `new_run` gives an unfinished one up; a run `apart` goes beside any other, and has no number.

    Raises:
        PlanError: an unfinished run had other settings, and `new_run` was not asked for; the text names what changed.
    """
    settings = json.loads(json.dumps(dict(settings), allow_nan=False))  # as it will be read back
    inputs = {name: version for name in reads if (version := store.version(name)) is not None}
    # before the runs are read: what a run had committed by now, it had announced before, and is seen below
    base = store.version(table)
    run_id = f"{job}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
    plan = Plan(job, table, settings, inputs, base, run_id, made_with=made_with or {})
    if apart:
        return plan, False
    plan = replace(plan, number=(store.last_transaction("runs", plan.place) or 0) + 1)
    before = None if new_run else unfinished(store, job, table)
    if before is None:
        return plan, False
    if differences := changes(before.plan.settings, settings):
        raise PlanError(
            f"an unfinished run of {job} ({before.plan.run_id}, started {before.started_at:%Y-%m-%d %H:%M:%S} UTC) "
            f"had other settings: {'; '.join(differences)}. Finish it with those, or start another with --new-run"
        )
    return before.plan, True


def changes(old: object, new: object, path: str = "") -> list[str]:
    """What differs between two JSON-able values, one phrase each: `batch_rows 64 → 128`. Shas are shortened."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        found = []
        for key in [*old, *(k for k in new if k not in old)]:
            place = f"{path}.{key}" if path else str(key)
            if key not in new:
                found.append(f"{place} {_short(old[key])} → not there")
            elif key not in old:
                found.append(f"{place} not there → {_short(new[key])}")
            else:
                found += changes(old[key], new[key], place)
        return found
    return [] if old == new else [f"{path} {_short(old)} → {_short(new)}"]


def _short(value: object) -> str:
    if isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef"):
        return value[:12]
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"


def others_gone(store: FeatureStore, plan: Plan) -> bool:
    """True where every other worker of this plan is known to have ended, or does nothing but wait for the others.

    Starts at the very same moment make the same plan under several names, so they are known by its fingerprint.
    """
    mine, fingerprint = this_worker(), plan.fingerprint
    same = [run for run in read_runs(store, plan.job) if run.plan.fingerprint == fingerprint]
    return all(is_gone(worker) for run in same for worker in run.workers if worker != mine)


def given_up(store: FeatureStore, plan: Plan) -> bool:
    """True where a later run has begun in the place of this one before it had finished."""
    if plan.number == 0 or (store.last_transaction("runs", plan.place) or 0) <= plan.number:
        return False
    return any(run.plan.run_id == plan.run_id and run.finished_at is None for run in read_runs(store, plan.job))


def write_event(store: FeatureStore, plan: Plan, event: str, counts: Counts | None = None) -> bool:
    """Add a row to RUNS: started, resumed (or joined), waits, works (again), stopped, finished. True where it stands
    there through this call.

    Started and finished stand once. A start of a numbered plan is False where another run has started in its place
    since the plan was made. Whoever writes is a worker of the run from its first row on, until it waits, has stopped
    or is known to be gone.
    """
    known = {
        "settings": plan.settings,
        "inputs": plan.inputs,
        "base": plan.base,
        "number": plan.number,
        "made_with": plan.made_with,
        "command": _command(),
    }
    row: Mapping[str, Any] = {
        "run_id": plan.run_id,
        "job": plan.job,
        "event": event,
        "fingerprint": plan.fingerprint,
        "settings": json.dumps(known),
        "table": plan.table,
        "worker": this_worker(),
        "n_in": counts and counts.n_in,
        "n_ok": counts and counts.n_ok,
        "n_failed": counts and counts.n_failed,
        "n_skipped": counts and counts.n_skipped,
        "at": datetime.now(UTC),
    }
    once = (f"{plan.run_id}/{event}", 0) if event in ("started", "finished") else None
    if event == "started" and plan.number:
        once = plan.place, plan.number
    return store.append("runs", pa.Table.from_pylist([row], schema=RUNS), transaction=once) is not None


def _command() -> str:
    """This process's command as a person would type it."""
    words = sys.orig_argv[1:]
    if words and Path(words[0]).name == "lore":
        return shlex.join(["lore", *words[1:]])
    return shlex.join(["python", *words])
