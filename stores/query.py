"""`lore query`: questions to a store, all answered at one snapshot: by id, SQL, text or picture, with a condition.

It writes nothing. A model is only opened where text or a picture is searched for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import typer

from lore_mm.config import default_store
from lore_mm.console import command_app, run, say
from lore_mm.errors import InputError
from stores.differences import DIFFERENCES
from stores.features import open_store
from stores.output import Format, choose_format, features_rows, show_features, write_rows
from stores.show_past import SHOWN, show_differences, show_history, show_lineage
from stores.snapshot import INDEX, Snapshot

__all__ = ["main"]

_AsOf = Annotated[
    str | None,
    typer.Option(
        metavar="MOMENT", help="The store as it was then: a time (ISO 8601, UTC), or after a commit: attributes@12."
    ),
]
_History = Annotated[
    str | None,
    typer.Option(
        metavar="ATTRIBUTE", help="What an attribute or field of one ID ever was, and why; all: each of them."
    ),
]
_Lineage = Annotated[
    str | None,
    typer.Option(metavar="ATTRIBUTE", help="Where a value of one ID comes from: evidence, run, model, prompt, input."),
]
_Since = Annotated[
    str | None, typer.Option(metavar="MOMENT", help="What changed since then, up to --as-of where that is given.")
]
_Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write to this file; its ending names the format.")
]


def main(
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID …", help="Items by id.", show_default=False)] = None,
    sql: Annotated[str | None, typer.Option(help="One SELECT over the tables that --tables lists.")] = None,
    text: Annotated[str | None, typer.Option(help="The items nearest to these words.")] = None,
    image: Annotated[Path | None, typer.Option(help="The items nearest to this picture file.")] = None,
    where: Annotated[str | None, typer.Option(help="Only items that meet this, alone or with --text, --image.")] = None,
    as_of: _AsOf = None,
    history: _History = None,
    lineage: _Lineage = None,
    since: _Since = None,
    k: Annotated[int, typer.Option("-k", help="How many of the nearest.", min=1)] = 10,
    tables: Annotated[bool, typer.Option("--tables", help="List what can be asked, with counts.")] = False,
    limit: Annotated[int | None, typer.Option(help="At most so many rows of --sql, --where, --since.", min=1)] = None,
    format: Annotated[str | None, typer.Option(help="table, jsonl, csv or parquet.", show_default=False)] = None,
    output: _Output = None,
    json_lines: Annotated[bool, typer.Option("--json", help="JSON lines, on a terminal too.")] = False,
    embedder: Annotated[str | None, typer.Option(help="The model of --text and --image, by address.")] = None,
    index: Annotated[str, typer.Option(help="The vector index to search.")] = INDEX,
    store: Annotated[str | None, typer.Option(help="The store; see `lore --help` for the default.")] = None,
) -> None:
    """Fetch features by id, by SQL, or the items nearest to a text or a picture, all at one snapshot.

    An attribute can be used in a condition by its name: `color = 'black'` asks whether any of an item's colours is
    black, `color <> 'black'` whether none is; numbers are in the base unit (cm, g, ml, W …).

      lore query laptop

      lore query --sql "SELECT name, value, count(*) AS n FROM latest GROUP BY ALL ORDER BY n DESC" --limit 20

      lore query --text "red shoes" --where "price < 100 AND color = 'red'" -k 5

      lore query --where "material = 'leather'" --output leather.csv

      lore query laptop --history color

      lore query --since 2026-11-23 --limit 20

    Exit code 1 where an id is not there; the others are printed all the same.
    """
    _check_question([bool(ids), sql is not None, text is not None, image is not None, tables, since is not None], where)
    chosen = choose_format(format, output, json_lines)
    opened = open_store(store or default_store())
    snapshot = Snapshot(opened) if as_of is None else Snapshot.as_of(opened, as_of)
    if since is not None:
        _answer_since(snapshot, since, limit, chosen, output)
    elif history is not None or lineage is not None:
        _answer_past(snapshot, ids or [], history, lineage, chosen, output)
    elif ids:
        _answer_ids(snapshot, ids, chosen, output)
    elif tables:
        write_rows(snapshot.describe(), chosen, output)
    elif sql is not None:
        write_rows(snapshot.sql(sql, limit), chosen, output)
    elif text is None and image is None:
        found = [(item_id, None) for item_id in snapshot.where(str(where))[:limit]]
        write_rows(_item_rows(snapshot, found), chosen, output)
    else:
        write_rows(_nearest_rows(snapshot, text, image, k, where, embedder, index), chosen, output)


def _check_question(asked: Sequence[bool], where: str | None) -> None:
    _, _, by_text, by_image, _, _ = asked
    if sum(asked) + (where is not None and not (by_text or by_image)) != 1:
        raise InputError(
            "ask one thing: ids, --sql, --text, --image, --where, --tables or --since"
            " (--where goes with --text and --image too)"
        )


def _answer_past(
    snapshot: Snapshot,
    ids: Sequence[str],
    history: str | None,
    lineage: str | None,
    format: Format,
    output: Path | None,
) -> None:
    if len(ids) != 1 or (history is not None and lineage is not None):
        raise InputError("--history and --lineage are asked of one ID, and one at a time")
    if history is not None:
        rows, show = snapshot.history(ids[0], None if history == "all" else history), show_history
    else:
        rows, show = snapshot.lineage(ids[0], str(lineage)), show_lineage
    if format == "table":
        show(rows)
    else:
        write_rows(rows, format, output)


def _answer_since(snapshot: Snapshot, since: str, limit: int | None, format: Format, output: Path | None) -> None:
    batches = snapshot.since(since)
    if format == "table":
        show_differences(batches, limit or SHOWN)
        return
    rows = (pa.Table.from_batches([batch]) for batch in _first(batches, limit))
    if format == "jsonl" and output is None:  # as they are found
        for some in rows:
            write_rows(some, format)
        return
    write_rows(pa.concat_tables([DIFFERENCES.empty_table(), *rows]), format, output)


def _first(batches: Iterator[pa.RecordBatch], limit: int | None) -> Iterator[pa.RecordBatch]:
    """The first rows of a stream, which is not read any further."""
    left = limit
    for batch in batches:
        yield batch if left is None else batch.slice(0, left)
        if left is not None and (left := left - batch.num_rows) <= 0:
            return


def _answer_ids(snapshot: Snapshot, ids: Sequence[str], format: Format, output: Path | None) -> None:
    found = snapshot.get(ids)
    there = [one for one in found if one is not None]
    if format == "table":
        show_features(there)
    else:
        write_rows(features_rows(there), format, output)
    missing = snapshot.missing(i for i, one in zip(ids, found, strict=True) if one is None)
    for reason in missing.values():
        say(f"error: {reason}")
    if missing:
        raise typer.Exit(1)


def _nearest_rows(
    snapshot: Snapshot, text: str | None, image: Path | None, k: int, where: str | None, address: str | None, index: str
) -> pa.Table:
    from lore_mm.models import DEFAULT_EMBEDDER, open_embedder

    behind = snapshot.lag(index)  # and where there is no index, this says so before a model is opened
    embedder = open_embedder(address or DEFAULT_EMBEDDER)
    if behind:
        say(str(behind))
    [hits] = snapshot.search(text=text, image=image, k=k, where=where, embedder=embedder, index=index)
    return _item_rows(snapshot, list(hits))


def _item_rows(snapshot: Snapshot, hits: Sequence[tuple[str, float | None]]) -> pa.Table:
    """Ids with what a person knows them by, in the given order; without the similarity where there is none."""
    items = snapshot.get([i for i, _ in hits])
    rows = pa.table(
        {
            "item_id": pa.array([i for i, _ in hits], pa.string()),
            "similarity": pa.array([None if s is None else round(s, 4) for _, s in hits], pa.float64()),
            "title": pa.array([one.item.title if one else None for one in items], pa.string()),
            "brand": pa.array([one.item.brand if one else None for one in items], pa.string()),
            "price": pa.array([one.item.price if one else None for one in items], pa.float64()),
            "currency": pa.array([one.item.currency if one else None for one in items], pa.string()),
        }
    )
    return rows if any(s is not None for _, s in hits) else rows.drop_columns(["similarity"])


if __name__ == "__main__":
    run(command_app(main, "python -m stores.query"))
