"""`lore status`: what is in a store, what ran, what did not finish, and what failed and why.

It only looks. Counts are those of the newest rows; the errors of rows that were made again since are gone.
"""

from __future__ import annotations

import json as json_
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import polars as pl
import typer
from rich.table import Table
from rich.text import Text

from jobs.asked import asked_in
from jobs.options import StoreAddress
from jobs.partitions import cut
from jobs.plan import Run, read_runs
from jobs.regrade_changes import REGRADED
from lore_mm.config import default_store
from lore_mm.console import command_app, for_people, print_json, print_table, run
from lore_mm.tables import KEYS, TABLES
from stores.features import FeatureStore, open_store

__all__ = [
    "AskedStatus",
    "EngineStatus",
    "ErrorClass",
    "IndexStatus",
    "JudgeStatus",
    "RunStatus",
    "TableStatus",
    "error_classes",
    "main",
    "status_of",
]


@dataclass(frozen=True, slots=True)
class TableStatus:
    """A table: its version, all rows ever written, and of the newest row of each key how many failed.

    Of attributes the failed verdicts count, one an item.
    """

    table: str
    version: int
    n_rows: int
    n_newest: int
    n_failed: int


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """A vector index, and whether the table it was built from has moved on since."""

    index: str
    n: int
    model: str
    table_version: int
    stale: bool


@dataclass(frozen=True, slots=True)
class RunStatus:
    """A run. state: finished · unfinished (still at work, or interrupted) · given up (a later run took its place)."""

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
    resumed: int = 0
    done_up_to: int | None = None  # of an unfinished run: the input rows behind it
    command: str = ""  # of an unfinished run: finishes it


@dataclass(frozen=True, slots=True)
class ErrorClass:
    """Rows of a table that failed for the same reason, and one of them in full."""

    table: str
    error: str
    n: int
    key: str
    example: str


@dataclass(frozen=True, slots=True)
class AskedStatus:
    """What an extractor's model was asked over all rows ever written, as each was paid for, and what it was spared."""

    extractor: str
    items: int
    calls: int
    fields_asked: int
    fields_settled: int  # not asked for: earlier extractors had settled them
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """An engine, the queries whose newest understanding is by it, and how many of those failed.

    `settled_for_less`: where a later engine of a cascade was asked too and failed, so that this one's reading stands.
    """

    engine: str
    queries: int
    failed: int
    settled_for_less: int
    mean_confidence: float | None  # of those that are ok, in [0, 1]


@dataclass(frozen=True, slots=True)
class JudgeStatus:
    """The newest judgments of a mode, one a pair, and how many of them failed.

    `said_otherwise`: where the model named another grade than its path has by the rules.
    """

    mode: str
    judgments: int
    failed: int
    regraded: int  # whose grade another rulebook has given since
    said_otherwise: int


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
    tables, errors = [], []
    for name, version in versions.items():
        keys, newest = list(KEYS[name]), store.latest(name, version)
        n_newest = int(newest.select(pl.len()).collect().item())
        failed = pl.DataFrame()
        if "status" in TABLES[name].names:
            is_failed = pl.col("status") == "failed"
            if name == "attributes":  # the verdict repeats what its extractors said
                is_failed &= pl.col("extractor") == "merge"
            failed = newest.filter(is_failed).select(*keys, "error").collect()
            errors += error_classes(name, failed, keys)
        tables.append(TableStatus(name, version, store.count(name, version), n_newest, failed.height))
    runs = list(_runs(store))[-last:]
    read_by = _engines(store, versions["demands"]) if "demands" in versions else []
    judges = _judges(store, versions["judgments"]) if "judgments" in versions else []
    return Status(store.uri, tables, _indexes(store, versions), runs, errors, _asked(store, versions), read_by, judges)


def _engines(store: FeatureStore, version: int) -> list[EngineStatus]:
    """Who read the queries; rows of an earlier version, which did not name the engine, by their maker."""
    ok = pl.col("status") == "ok"
    counted = (
        store.latest("demands", version)
        .group_by(engine=pl.coalesce("engine", pl.col("provenance").struct.field("maker"), pl.lit("")))
        .agg(
            queries=pl.len(),
            failed=(~ok).sum(),
            settled_for_less=(ok & pl.col("error").is_not_null()).sum(),
            mean_confidence=pl.col("confidence").filter(ok).mean(),
        )
    )
    return [
        EngineStatus(**row) for row in counted.sort("queries", "engine", descending=[True, False]).collect().to_dicts()
    ]


def _judges(store: FeatureStore, version: int) -> list[JudgeStatus]:
    counted = (
        store.latest("judgments", version)
        .group_by(mode=pl.col("mode").fill_null(""))
        .agg(
            judgments=pl.len(),
            failed=(pl.col("status") == "failed").sum(),
            regraded=pl.col("provenance").struct.field("maker").str.starts_with(REGRADED).sum(),
            said_otherwise=(pl.col("said") != pl.col("grade")).sum(),
        )
    )
    return [JudgeStatus(**row) for row in counted.sort("mode").collect().to_dicts()]


def _asked(store: FeatureStore, versions: dict[str, int]) -> list[AskedStatus]:
    one = asked_in(store, versions["attributes"]) if "attributes" in versions else None
    if one is None:
        return []
    used = one.usage
    return [
        AskedStatus("vlm", one.items, used.calls, one.fields, one.settled, used.prompt_tokens, used.completion_tokens)
    ]


def _runs(store: FeatureStore) -> Iterator[RunStatus]:
    runs = read_runs(store)
    newest = {(r.plan.job, r.plan.table): r.plan.run_id for r in runs}
    for one in runs:
        plan, counts = one.plan, one.counts
        state = "finished"
        if one.finished_at is None:
            state = "unfinished" if newest[plan.job, plan.table] == plan.run_id else "given up"
        yield RunStatus(
            run_id=plan.run_id,
            job=plan.job,
            table=plan.table,
            state=state,
            started_at=one.started_at.isoformat(),
            seconds=None if one.finished_at is None else (one.finished_at - one.started_at).total_seconds(),
            n_in=counts.n_in if counts else None,
            n_ok=counts.n_ok if counts else None,
            n_failed=counts.n_failed if counts else None,
            n_skipped=counts.n_skipped if counts else None,
            resumed=one.resumed,
            done_up_to=_done_up_to(store, one) if state == "unfinished" else None,
            command=one.command if state == "unfinished" else "",
        )


def _done_up_to(store: FeatureStore, one: Run) -> int:
    """Rows of input that lie behind the commits of an unfinished run."""
    size = int(one.plan.settings.get("batch_rows", 1))
    parts = cut(-(-one.n_in // size))
    last = store.last_transactions(one.plan.table, [one.plan.app_id(part.number) for part in parts])
    done = ((end, part.first) for end, part in zip(last, parts, strict=True) if end is not None)
    return sum(min((end + 1) * size, one.n_in) - first * size for end, first in done)


def _indexes(store: FeatureStore, versions: dict[str, int]) -> list[IndexStatus]:
    """The manifests beside the tables, read without FAISS."""
    if store.folder is None:
        return []
    found = []
    for current in sorted((store.folder / "vectors").glob("*/current")):
        try:
            manifest = json_.loads((current.parent / current.read_text().strip() / "manifest.json").read_text())
            version = int(manifest["table_version"])
            found.append(
                IndexStatus(
                    index=current.parent.name,
                    n=int(manifest["n"]),
                    model=str(manifest.get("model", "")),
                    table_version=version,
                    stale=versions.get(str(manifest.get("table", "embeddings"))) != version,
                )
            )
        except (OSError, ValueError, KeyError, TypeError):
            found.append(IndexStatus(current.parent.name, 0, "unreadable", -1, True))
    return found


_VARYING = (
    (re.compile(r"image:\d+: .*?: "), "image: "),
    (re.compile(r"(?<!\w)'[^']*'(?!\w)|\"[^\"]*\""), "'…'"),  # the apostrophe of "a shop's folder" quotes nothing
    (re.compile(r"(?<![A-Za-z])(/[^\s/:]+)+"), "…"),
    (re.compile(r"\d[\d,.]*"), "#"),
)


def error_classes(table: str, failed: pl.DataFrame, keys: list[str]) -> list[ErrorClass]:
    """Failed rows (keys and error) by reason: errors that differ only in names, paths and numbers are one class."""
    classes: dict[str, tuple[int, str, str]] = {}
    for *key, error in failed.select(*keys, "error").iter_rows():
        text = error or "no reason was kept"
        short = text
        for pattern, instead in _VARYING:
            short = pattern.sub(instead, short)
        n, first_key, example = classes.get(short[:120], (0, " · ".join(map(str, key)), text))
        classes[short[:120]] = (n + 1, first_key, example)
    return [
        ErrorClass(table, name, n, key, example)
        for name, (n, key, example) in sorted(classes.items(), key=lambda c: -c[1][0])
    ]


def main(
    store: StoreAddress = None,
    last: Annotated[int, typer.Option(min=1, help="How many runs to show, the latest.")] = 10,
    json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
) -> None:
    """Show what is in a store, what ran, what did not finish, and what failed and why.

    Example: lore status --store .lore/store
    """
    status = status_of(open_store(store or default_store()), last)
    if not for_people(json):
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
        return
    print_table(Text(f"store {status.store}"))
    _show(
        "tables", ("table", "version", "rows", "newest", "failed"), [tuple(asdict(t).values()) for t in status.tables]
    )
    _show(
        "vector indexes",
        ("index", "items", "model", "built from version", ""),
        [(i.index, i.n, i.model, i.table_version, "stale: lore embed" if i.stale else "") for i in status.indexes],
    )
    _show("runs", ("run", "state", "seconds", "in", "ok", "failed", "skipped"), [_run_line(r) for r in status.runs])
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
    for unfinished in status.runs:
        if unfinished.state == "unfinished":
            behind = f"{unfinished.done_up_to} rows are behind it"
            print_table(Text(f"{unfinished.run_id} is not finished ({behind}); finish it: {unfinished.command}"))
    _show(
        "failed rows, by reason",
        ("table", "rows", "reason", "for example"),
        [(e.table, e.n, e.error, f"{e.key}: {e.example}"[:200]) for e in status.errors],
    )


def _rounded(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _run_line(one: RunStatus) -> tuple[Any, ...]:
    seconds = "" if one.seconds is None else f"{one.seconds:.1f}"
    return (one.run_id, one.state, seconds, one.n_in, one.n_ok, one.n_failed, one.n_skipped)


def _show(title: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    if not rows:
        return
    table = Table(*columns, title=title, title_justify="left", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    print_table(table)


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.status"))
