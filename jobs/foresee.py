"""What a job would do, and why, told before anything runs; nothing is written, and no model is asked.

Rows are read and compared as the job itself would do it, pictures by their bytes. This module knows what any `Work`
tells; one that knows more of a row (`Foresees`) tells which parts of it would be made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa

from jobs.feed import Reader, wanted_rows
from jobs.partitions import Partition
from jobs.plan import Plan, make_plan
from jobs.standing import Standing, hashes, hashes_of, standing_in
from jobs.work import Recalls, Work, input_shas
from lore_mm.errors import PlanError
from stores.features import FeatureStore

__all__ = ["Forecast", "Foreseen", "Foresees", "RowForecast", "foresee"]

UNCHANGED, FAILED, STILL_FAILED, NEW = "unchanged", "failed before", "unchanged, failed before", "new"


@dataclass(frozen=True, slots=True)
class RowForecast:
    """What would be made of one row, and why: of its parts (None: it stands), and of the questions to a model."""

    why: str
    parts: Mapping[str, str | None] = field(default_factory=dict)
    questions: Mapping[str, str] = field(default_factory=dict)
    requests: int = 0


@runtime_checkable
class Foresees(Protocol):
    """Work that can tell which parts of a row it would make."""

    def foresee(self, rows: pa.Table, same: Sequence[bool]) -> Iterator[RowForecast]:
        """A forecast a row, of rows that would be made; `same[i]`: the input of row i is what it was."""
        ...


@dataclass(slots=True)
class Forecast:
    """What a command would do. The numbers of `rows` add up to `n`; those of a part to the rows that would be made."""

    job: str
    store: str
    n: int = 0
    run: str = "a new run"
    refused: str | None = None  # why the job would refuse to run; the rest is as with --new-run
    rows: Counter[str] = field(default_factory=Counter)  # why
    parts: Counter[tuple[str, str | None]] = field(default_factory=Counter)  # part, why it would be made
    questions: Counter[tuple[str, str]] = field(default_factory=Counter)  # attribute, why it would be asked
    requests: int = 0  # to a model, where the work tells

    @property
    def made(self) -> int:
        """Rows that would be made."""
        return self.n - self.rows[UNCHANGED] - self.rows[STILL_FAILED]


class Foreseen(Exception):
    """Ends a job that was only to be foreseen (`RunOptions.dry_run`), in the place of running it."""

    def __init__(self, forecast: Forecast) -> None:
        super().__init__("foreseen")
        self.forecast = forecast


def foresee(store: FeatureStore, work: Work, settings: Mapping[str, Any], *, new_run: bool = False) -> Forecast:
    """What `jobs.spine.run_job` would do with these settings."""
    forecast = Forecast(work.job, store.uri)
    try:
        plan, resumed = make_plan(store, work.job, work.table, work.reads, settings, new_run=new_run)
    except PlanError as error:
        forecast.refused, resumed = str(error), False
        plan, _ = make_plan(store, work.job, work.table, work.reads, settings, new_run=True)
    # what an unfinished run has made already is not made again
    version = store.version(work.table) if resumed else plan.base
    if resumed:
        forecast.run = f"goes on with {plan.run_id}, on the input it began with"
    standing = standing_in(store, work.table, work.key, work.verdict, version)
    again = bool(plan.settings["retry_failed"])
    if isinstance(work, Recalls):
        work.recall(version, again)
    for rows, shas in _read(work, plan, standing):
        _count(forecast, work, rows, standing, shas, again)
    forecast.rows = +forecast.rows  # without zeros
    return forecast


def _read(work: Work, plan: Plan, standing: Standing) -> Iterator[tuple[pa.Table, list[str]]]:
    """The rows of the input with what each would be made from."""
    wanted = wanted_rows(work, plan)
    reader = Reader(work, plan, standing, wanted)
    for part in reader.slices(Partition(0, 0, wanted.slices - 1), -1):
        yield part.rows, input_shas(work, part.rows)


def _count(
    forecast: Forecast, work: Work, rows: pa.Table, standing: Standing, shas: Sequence[str], again: bool
) -> None:
    at = standing.find(hashes(rows, work.key))
    there = at >= 0
    same, as_set, ok = (np.zeros(len(at), np.bool_) for _ in range(3))
    same[there] = standing.inputs[at[there]] == hashes_of(shas)[there]
    as_set[there] = standing.settings[at[there]] == hashes_of([work.settings_sha])[0]
    ok[there] = standing.ok[at[there]]
    stands = same & as_set & (ok | (not again))
    forecast.n += len(at)
    forecast.rows[UNCHANGED] += int((stands & ok).sum())
    forecast.rows[STILL_FAILED] += int((stands & ~ok).sum())
    todo = np.flatnonzero(~stands)
    told: Iterator[RowForecast] = iter(())
    if isinstance(work, Foresees) and len(todo):
        told = work.foresee(rows.take(todo), same[todo].tolist())
    for i in todo.tolist():
        why = NEW
        if there[i]:
            why = FAILED if same[i] and as_set[i] else "its input changed" if as_set[i] else "settings changed"
        one = next(told, None) or RowForecast("")
        forecast.rows[one.why if there[i] and one.why and not (same[i] and as_set[i]) else why] += 1
        forecast.parts.update(one.parts.items())
        forecast.questions.update(one.questions.items())
        forecast.requests += one.requests
