"""`lore quality`: is what stands in a store good? Coverage, values, conflicts, and drift since an earlier moment.

It only looks. What is counted, and how, is in `stores.quality`; this module shows it and lets a pipeline stop at it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa
import typer

from jobs.options import KnowledgeFolder, StoreAddress
from lore_mm.config import default_store
from lore_mm.console import command_app, print_json, run, say
from lore_mm.errors import InputError, nearest
from stores.features import open_store

if TYPE_CHECKING:
    from stores.output import Format
    from stores.quality import Quality
    from stores.quality_gate import Failing

__all__ = ["main"]

_MOST_FAILED = 50  # lines of failed rules that are told
_EXAMPLE_RULES = "coverage(brand)<0.8, illegal>0, psi(color)>0.25"


def main(
    store: StoreAddress = None,
    as_of: Annotated[str | None, typer.Option(help="Look at an earlier moment: a time, or TABLE@VERSION.")] = None,
    against: Annotated[str | None, typer.Option(help="Compare with this earlier moment: what drifted.")] = None,
    category: Annotated[str | None, typer.Option(help="Only this category and those beneath it.")] = None,
    attribute: Annotated[str | None, typer.Option(help="Only this attribute.")] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(help="Only lines of this kind, with --json or --output: coverage, odd, drift …; repeatable."),
    ] = None,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(metavar="RULE", help=f"Exit with code 1 where this is so: {_EXAMPLE_RULES} …; repeatable."),
    ] = None,
    min_items: Annotated[int, typer.Option(min=1, help="Flag nothing that fewer items stand for.")] = 50,
    top: Annotated[int, typer.Option(min=1, max=1000, help="How many of the commonest values to tell.")] = 5,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write every line to this file: .parquet, .csv, .jsonl.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print every line as JSON; its kind says what it is.")] = False,
    schemas: Annotated[Path | None, typer.Option(help="A folder of attribute schemas of your own.")] = None,
    knowledge: KnowledgeFolder = None,
) -> None:
    """Show how good a store is: what is missing, failed, illegal, disputed, and what drifted since an earlier moment.

      lore quality

      lore quality --category footwear --attribute size

      lore quality --against 2026-01-31 --fail-on "coverage(brand)<0.8" --fail-on "drift>0"

    A rule is METRIC(ATTRIBUTE, CATEGORY) < NUMBER, the attribute and category at will; docs/store.md lists the metrics.
    """
    from stores.output import choose_format
    from stores.quality import Limits
    from stores.quality_gate import failing, parse_rule

    _check_kinds(kind or ())
    rules = [parse_rule(text) for text in fail_on or ()]
    format = choose_format(None, output, json)
    limits = Limits(items=min_items)
    quality = _measured(
        store, as_of, against, schemas, knowledge, category=category, attribute=attribute, top=top, limits=limits
    )
    if output is None and format == "table":
        from jobs.quality_view import show

        show(quality)
    else:
        _write(quality, kind or (), format, output)
    if not _pass([one for rule in rules for one in failing(rule, quality)]):
        raise typer.Exit(1)


def _measured(
    store: str | None,
    as_of: str | None,
    against: str | None,
    schemas: Path | None,
    knowledge: Path | None,
    **asked: Any,
) -> Quality:
    from lore_mm.knowledge import load_knowledge
    from lore_mm.schema import load_schemas
    from stores.quality import Quality
    from stores.snapshot import Snapshot

    opened = open_store(store or default_store())
    return Quality(
        Snapshot(opened) if as_of is None else Snapshot.as_of(opened, as_of),
        None if against is None else Snapshot.as_of(opened, against),
        schemas=load_schemas((schemas,) if schemas else ()),
        knowledge=load_knowledge((knowledge,) if knowledge else ()),
        **asked,
    )


def _check_kinds(kinds: Sequence[str]) -> None:
    from stores.quality import KINDS

    for one in kinds:
        if one not in KINDS:
            raise InputError(f"--kind {one}: no such kind{nearest(one, KINDS) or ';'} kinds: {', '.join(KINDS)}")


def _write(quality: Quality, kinds: Sequence[str], format: Format, output: Path | None) -> None:
    from stores.output import write_rows
    from stores.quality import KINDS

    wanted = kinds or list(KINDS)
    if output is not None:
        write_rows(pa.concat_tables([quality.table(k) for k in wanted], promote_options="default"), format, output)
        return
    if not kinds:
        print_json(quality.summary())
    for one in wanted:
        for batch in quality.table(one).to_batches(max_chunksize=1000):
            for row in batch.to_pylist():
                print_json(_plain(row))


def _pass(failed: Sequence[Failing]) -> bool:
    """Say which lines failed which rule; True where none did."""
    for one in failed[:_MOST_FAILED]:
        where = one.about if one.category in (None, "(all)") else f"{one.about} in {one.category}"
        value = "nothing to measure" if one.value is None else f"{one.value:.4g}"
        say(f"fails {one.rule!r}: {where}: {value}")
    if len(failed) > _MOST_FAILED:
        say(f"… and {len(failed) - _MOST_FAILED} more lines")
    return not failed


def _plain(value: Any) -> Any:
    """As JSON has it: numbers to six significant digits, none for those that are none."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _plain(v) for name, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, Sequence) and not isinstance(value, str) else value


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.quality"))
