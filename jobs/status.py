"""`lore status`: what is in a store, what ran, how far what runs is, what did not finish, what failed and why.

It only looks. Counts are those of the newest rows; the errors of rows that were made again since are gone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Annotated, Any

import typer
from rich.control import Control
from rich.table import Table
from rich.text import Text

from jobs.options import StoreAddress
from jobs.status_parts import (
    AskedStatus,
    EngineStatus,
    ErrorClass,
    IndexStatus,
    JudgeStatus,
    TableStatus,
    asked_of,
    engines_of,
    error_classes,
    indexes_of,
    judges_of,
    tables_in,
)
from jobs.status_runs import RunStatus, WorkerStatus, runs_of
from lore_mm.config import default_store
from lore_mm.console import command_app, for_people, print_json, print_table, run
from stores.features import FeatureStore, open_store

__all__ = [
    "AskedStatus",
    "EngineStatus",
    "ErrorClass",
    "IndexStatus",
    "JudgeStatus",
    "RunStatus",
    "Status",
    "TableStatus",
    "WorkerStatus",
    "error_classes",
    "main",
    "status_of",
]

_WORKERS_SHOWN = 12  # of a run, the latest


@dataclass(frozen=True, slots=True)
class Status:
    """All of it."""

    store: str
    tables: list[TableStatus]
    indexes: list[IndexStatus]
    runs: list[RunStatus]
    errors: list[ErrorClass]
    asked: list[AskedStatus]
    engines: list[EngineStatus]
    judges: list[JudgeStatus]


def status_of(store: FeatureStore, last: int = 10) -> Status:
    """Look at a store; of its runs the `last` ones."""
    versions = store.snapshot()
    tables, errors = tables_in(store, versions)
    read_by = engines_of(store, versions["demands"]) if "demands" in versions else []
    judges = judges_of(store, versions["judgments"]) if "judgments" in versions else []
    runs, asked = runs_of(store, last), asked_of(store, versions)
    return Status(store.uri, tables, indexes_of(store, versions), runs, errors, asked, read_by, judges)


def main(
    store: StoreAddress = None,
    last: Annotated[int, typer.Option(min=1, help="How many runs to show, the latest.")] = 10,
    watch: Annotated[
        float | None,
        typer.Option(min=0.2, metavar="SECONDS", help="Show the runs again every so many seconds, until interrupted."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
) -> None:
    """Show what is in a store, what ran, how far running jobs are, what did not finish, and what failed and why.

    Example: lore status --store .lore/store

    Example: lore status --watch 5
    """
    opened, people = open_store(store or default_store()), for_people(json)
    while watch is not None:
        runs = runs_of(opened, last)
        if people:
            print_table(Control.clear())
            print_table(Control.home())
            _show_runs(runs)
        else:
            for one in runs:
                print_json({"kind": "run", **asdict(one)})
        time.sleep(watch)
    status = status_of(opened, last)
    if people:
        _show_all(status)
        return
    for kind, parts in (
        ("table", status.tables),
        ("index", status.indexes),
        ("run", status.runs),
        ("asked", status.asked),
        ("engine", status.engines),
        ("judge", status.judges),
        ("error", status.errors),
    ):
        for part in parts:
            print_json({"kind": kind, **asdict(part)})


def _show_all(status: Status) -> None:
    print_table(Text(f"store {status.store}"))
    _show(
        "tables", ("table", "version", "rows", "newest", "failed"), [tuple(asdict(t).values()) for t in status.tables]
    )
    _show(
        "vector indexes",
        ("index", "items", "model", "built from version", ""),
        [(i.index, i.n, i.model, i.table_version, "stale: lore embed" if i.stale else "") for i in status.indexes],
    )
    _show_runs(status.runs)
    _show(
        "asked of models, over all runs",
        ("extractor", "items", "calls", "fields asked", "settled without", "tokens of prompts", "of replies"),
        [tuple(asdict(a).values()) for a in status.asked],
    )
    _show(
        "queries understood, by the engine that read them",
        ("engine", "queries", "failed", "a later engine failed", "mean confidence"),
        [(e.engine, e.queries, e.failed, e.settled_for_less, _rounded(e.mean_confidence)) for e in status.engines],
    )
    _show(
        "judgments, by mode",
        ("mode", "judgments", "failed", "graded again by other rules", "the model said otherwise"),
        [tuple(asdict(j).values()) for j in status.judges],
    )
    _show(
        "failed rows, by reason",
        ("table", "rows", "reason", "for example"),
        [(e.table, e.n, e.error, f"{e.key}: {e.example}"[:200]) for e in status.errors],
    )


def _show_runs(runs: Sequence[RunStatus]) -> None:
    """Runs; of each that is not finished how far it is, who is at work, and the command that goes on."""
    columns = ("run", "state", "seconds", "in", "ok", "failed", "skipped", "left", "tokens", "cost")
    _show("runs", columns, [_run_line(one) for one in runs])
    for one in runs:
        if one.state not in ("running", "unfinished"):
            continue
        print_table(Text(_how_far(one)))
        _show(
            f"workers of {one.run_id}",
            ("on", "state", "ok", "failed", "skipped", "rows/s", "engine busy", "GPU", "tokens", "cost", "error"),
            [_worker_line(worker) for worker in one.workers[-_WORKERS_SHOWN:]],
        )
        if one.state == "unfinished":
            behind = f"{one.done_up_to} rows are behind it"
            print_table(Text(f"{one.run_id} is not finished ({behind}); finish it: {one.command}"))


def _how_far(one: RunStatus) -> str:
    line = (
        f"{one.run_id}: {one.done_up_to:,} of {one.n_in:,} rows, {one.partitions_done} of {one.partitions} partitions"
    )
    if one.n_untold:
        line += f"; what became of {one.n_untold:,} of them a killed worker did not tell"
    if one.state == "unfinished":
        return f"{line}; nobody is at work"
    if one.rate:
        line += f"; {one.rate:,.3g} rows/s, {timedelta(seconds=round(one.eta_s or 0))} to go"
    if one.busy is not None:
        line += f"; the engine is busy {one.busy:.0%} of the time"
    return line


def _rounded(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _money(value: float | None) -> str:
    return "" if value is None else f"{value:,.4g}"


def _run_line(one: RunStatus) -> tuple[Any, ...]:
    seconds = "" if one.seconds is None else f"{one.seconds:.1f}"
    tokens = one.prompt_tokens + one.completion_tokens
    counts = (one.n_in, one.n_ok, one.n_failed, one.n_skipped, one.n_left)
    return (one.run_id, one.state, seconds, *counts, f"{tokens:,}" if tokens else "", _money(one.cost))


def _worker_line(one: WorkerStatus) -> tuple[Any, ...]:
    rate = "" if one.rate is None else f"{one.rate:,.3g}"
    counts = (one.n_ok, one.n_failed, one.n_skipped, rate)
    shares = (_share(one.busy), _share(one.gpu))
    return (f"{one.host} {one.pid}", one.state, *counts, *shares, one.tokens or "", _money(one.cost), one.error)


def _show(title: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    if not rows:
        return
    table = Table(*columns, title=title, title_justify="left", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    print_table(table)


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.status"))
