"""`lore compact`: keep a store small: merge small files, delete those that nothing needs, shorten its history.

Each of the three may be interrupted at any moment, and goes on with the next call; jobs may run meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from rich.table import Table

from jobs.options import StoreAddress
from jobs.plan import Run
from jobs.tidy import unfinished_runs
from lore_mm.config import default_store
from lore_mm.console import command_app, for_people, print_json, print_table, run, say
from stores.compact import compact, foreseen
from stores.features import FeatureStore, open_store
from stores.retention import drop_replaced
from stores.vacuum import vacuum

__all__ = ["TableUpkeep", "keep_small", "main"]

_MB = 1_000_000
_WORTH_SAYING = 1_000_000  # bytes


@dataclass(frozen=True, slots=True)
class TableUpkeep:
    """What became of one table, or would: its version afterwards, the files of that and their bytes, before and after.

    Attributes:
        dropped: replaced rows that were left out.
        deleted: files that were deleted, and `freed` their bytes.
        earlier: bytes of files that only earlier versions need, still there.
        kept_for: unfinished runs whose versions were kept.
    """

    table: str
    version: int
    files_before: int
    files: int
    bytes_before: int
    bytes: int
    dropped: int
    deleted: int
    freed: int
    earlier: int
    kept_for: tuple[str, ...]


def keep_small(
    store: FeatureStore,
    table: str,
    unfinished: Sequence[Run] = (),
    vacuum_days: float | None = None,
    drop_days: float | None = None,
    dry_run: bool = False,
) -> TableUpkeep:
    """Drop what was replaced, merge small files, delete what no version needs: one table, in this order.

    Versions that unfinished runs read are kept, and of a table that one writes no row is dropped.

    Raises:
        InputError: a number of days is negative.
        StoreError: as `stores.compact`, `stores.retention` and `stores.vacuum` say.
    """
    pins: dict[int, list[str]] = {}
    for one in unfinished:
        for name, version in [*one.plan.inputs.items(), (one.plan.table, one.plan.base)]:
            if name == table and version is not None:
                pins.setdefault(version, []).append(one.plan.run_id)
    dropped, before = 0, foreseen(store, table)
    if drop_days is not None and all(one.plan.table != table for one in unfinished):
        dropped = drop_replaced(store, table, drop_days, dry_run=dry_run)
    after = before if dry_run else compact(store, table)
    gone = None if vacuum_days is None else vacuum(store, table, vacuum_days, pins, dry_run)
    return TableUpkeep(
        table=table,
        version=store.version(table) or 0,
        files_before=before.files_before,
        files=after.files,
        bytes_before=before.bytes_before,
        bytes=after.bytes,
        dropped=dropped,
        deleted=gone.files if gone else 0,
        freed=gone.bytes if gone else 0,
        earlier=vacuum(store, table, 0, pins, dry_run=True).bytes,
        kept_for=tuple(sorted({run_id for of_version in pins.values() for run_id in of_version})),
    )


def main(
    store: StoreAddress = None,
    vacuum_days: Annotated[
        float | None,
        typer.Option(
            "--vacuum",
            min=0,
            metavar="DAYS",
            help="Delete the files that no version of the last so many days needs; such versions cannot be read then."
            " With less than 1 only while nothing else reads the store.",
        ),
    ] = None,
    drop_days: Annotated[
        float | None,
        typer.Option(
            "--drop-replaced",
            min=0,
            metavar="DAYS",
            help="Leave out the rows that were replaced by newer ones more than so many days ago.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
) -> None:
    """Merge the many small files that jobs leave; delete old versions; shorten history. Jobs may run meanwhile.

    Nothing is deleted unless asked for. What versions an unfinished run still reads is kept.

    Example: lore compact

    Example: lore compact --vacuum 7 --drop-replaced 90 --dry-run
    """
    opened = open_store(store or default_store())
    unfinished = unfinished_runs(opened)
    done: list[TableUpkeep] = []
    for table in opened.tables():
        done.append(keep_small(opened, table, unfinished, vacuum_days, drop_days, dry_run))
        if not for_people(json):
            print_json(asdict(done[-1]))
    if for_people(json):
        _show(done, dry_run)
    for one in done:
        if one.kept_for:
            say(f"{one.table}: kept what {', '.join(one.kept_for)} reads; finish it, or give it up with --new-run")
    earlier = sum(one.earlier for one in done)
    if vacuum_days is None and earlier >= _WORTH_SAYING:
        say(f"earlier versions hold {earlier / _MB:,.0f} MB; lore compact --vacuum 7 deletes what is older than a week")


def _show(done: Sequence[TableUpkeep], dry_run: bool) -> None:
    table = Table(
        *("table", "version", "files before", "after", "MB before", "after", "rows dropped", "files deleted", "MB"),
        title="what would be done" if dry_run else None,
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for one in done:
        counts = (one.version, one.files_before, one.files, one.bytes_before / _MB, one.bytes / _MB)
        rest = (one.dropped, one.deleted, one.freed / _MB)
        table.add_row(one.table, *(f"{n:,.1f}" if isinstance(n, float) else f"{n:,}" for n in (*counts, *rest)))
    print_table(table)


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.compact"))
