"""`lore query`: questions to a store, all answered at one snapshot: by id, SQL, text or picture, with a condition.

It writes nothing. A model is only opened where text or a picture is searched for.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import typer

from lore_mm.config import default_store
from lore_mm.console import command_app, run, say
from lore_mm.errors import InputError
from lore_mm.types import ItemFeatures
from stores.differences import DIFFERENCES
from stores.features import open_store
from stores.output import FEATURES, Format, choose_format, features_rows, show_features, write_rows
from stores.show_past import SHOWN, show_differences, show_history, show_lineage
from stores.snapshot import INDEX, Snapshot

__all__ = ["main"]

_AT_ONCE = 10_000  # ids that are looked up, and written, at once
_MOST_SAID = 100  # reasons why an id is not there
_OF_MEMORY = 0.8

_Ids = Annotated[list[str] | None, typer.Argument(metavar="ID …", help="Items by id.", show_default=False)]
_IdsFile = Annotated[
    Path | None, typer.Option("--ids", metavar="FILE|-", help="Items by id: a line each, of a file or of stdin.")
]
_Vector = Annotated[
    Path | None, typer.Option(metavar="FILE.npy", help="The items nearest to each of these vectors, (d,) or (n, d).")
]
_Format = Annotated[
    str | None, typer.Option(help="table, jsonl, csv, parquet or arrow (an IPC stream).", show_default=False)
]
_Timeout = Annotated[
    float | None, typer.Option(metavar="SECONDS", help="Give --sql or --where up after so long.", show_default=False)
]
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
    context: typer.Context,
    ids: _Ids = None,
    ids_file: _IdsFile = None,
    sql: Annotated[str | None, typer.Option(help="One SELECT over the tables that --tables lists.")] = None,
    text: Annotated[str | None, typer.Option(help="The items nearest to these words.")] = None,
    image: Annotated[Path | None, typer.Option(help="The items nearest to this picture file.")] = None,
    vector: _Vector = None,
    where: Annotated[str | None, typer.Option(help="Only items that meet this; alone, or with a search.")] = None,
    as_of: _AsOf = None,
    history: _History = None,
    lineage: _Lineage = None,
    since: _Since = None,
    k: Annotated[int, typer.Option("-k", help="How many of the nearest.", min=1)] = 10,
    tables: Annotated[bool, typer.Option("--tables", help="List what can be asked, with counts.")] = False,
    limit: Annotated[int | None, typer.Option(help="At most so many rows of --sql, --where, --since.", min=1)] = None,
    timeout: _Timeout = None,
    format: _Format = None,
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

      cut -d, -f1 orders.csv | lore query --ids - --output ordered.parquet

      lore query laptop --history color

      lore query --since 2026-11-23 --limit 20

    Exit code 1 where an id is not there; the others are printed all the same.
    """
    if _shows_help(context):
        return
    searched = any(one is not None for one in (text, image, vector))
    _check_question([bool(ids), tables], [ids_file, sql, since, text, image, vector], where, searched)
    chosen, snapshot = choose_format(format, output, json_lines), _open(store or default_store(), as_of)
    if since is not None:
        _answer_since(snapshot, since, limit, chosen, output)
    elif history is not None or lineage is not None:
        _answer_past(snapshot, ids or [], history, lineage, chosen, output)
    elif ids or ids_file:
        _answer_ids(snapshot, ids or _read_ids(Path(str(ids_file))), chosen, output)
    elif tables:
        write_rows(snapshot.describe(), chosen, output)
    elif searched:
        write_rows(_nearest_rows(snapshot, text, image, vector, k, where, embedder, index), chosen, output)
    else:
        _answer_select(snapshot, sql, str(where), limit, timeout, chosen, output)


def _answer_select(
    snapshot: Snapshot,
    sql: str | None,
    where: str,
    limit: int | None,
    timeout: float | None,
    format: Format,
    output: Path | None,
) -> None:
    """The rows of a statement, or what a person knows items by, those that meet a condition."""
    with _bounded_memory():
        if sql is None:
            within = snapshot.where_sql(where)
            sql = f"SELECT item_id, title, brand, price, currency FROM items WHERE item_id IN ({within})"
        write_rows(snapshot.stream(sql, limit, timeout), format, output)


def _open(address: str, as_of: str | None) -> Snapshot:
    store = open_store(address)
    return Snapshot(store) if as_of is None else Snapshot.as_of(store, as_of)


def _shows_help(context: typer.Context) -> bool:
    """Where nothing at all is given, a person wants to know what can be."""
    nothing = all(str(context.get_parameter_source(name)).endswith("DEFAULT") for name in context.params)
    if nothing:
        typer.echo(context.get_help())
    return nothing


def _check_question(flags: Sequence[bool], given: Sequence[object], where: str | None, searched: bool) -> None:
    n_asked = sum(flags) + sum(one is not None for one in given)
    if n_asked + (where is not None and not searched) != 1:
        raise InputError(
            "ask one thing: ids, --ids, --sql, --text, --image, --vector, --where, --tables or --since"
            " (--where goes with --text, --image and --vector too)"
        )


@contextmanager
def _bounded_memory() -> Iterator[None]:
    """Bound what this process may take: DuckDB's own limit does not count what one expression makes."""
    try:
        import resource
    except ImportError:  # Windows
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = int(_OF_MEMORY * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    if soft == resource.RLIM_INFINITY or soft > most:
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


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
    write_rows(pa.RecordBatchReader.from_batches(DIFFERENCES, _first(batches, limit)), format, output)


def _first(batches: Iterator[pa.RecordBatch], limit: int | None) -> Iterator[pa.RecordBatch]:
    """The first rows of a stream, which is not read any further."""
    left = limit
    for batch in batches:
        yield batch if left is None else batch.slice(0, left)
        if left is not None and (left := left - batch.num_rows) <= 0:
            return


def _read_ids(file: Path) -> Iterator[str]:
    """The lines of a file, or of stdin for `-`; empty ones are left out."""
    try:
        with sys.stdin.buffer if str(file) == "-" else file.open("rb") as lines:
            for line in lines:
                if item_id := line.decode(errors="surrogateescape").strip("\r\n"):
                    yield item_id
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from None


def _answer_ids(snapshot: Snapshot, ids: Iterable[str], format: Format, output: Path | None) -> None:
    """Some thousands at a time; reasons of what is not there come last."""
    waiting, missing = iter(ids), list[str]()
    n_missing = 0

    def found() -> Iterator[list[ItemFeatures]]:
        nonlocal n_missing
        while some := list(islice(waiting, _AT_ONCE)):
            there = snapshot.get(some)
            absent = [i for i, one in zip(some, there, strict=True) if one is None]
            n_missing += len(absent)
            missing.extend(snapshot.missing(absent[: _MOST_SAID - len(missing)]).values())
            yield [one for one in there if one is not None]

    if format == "table":
        for some in found():
            show_features(some)
    else:
        batches = chain.from_iterable(features_rows(some).to_batches() for some in found())
        write_rows(pa.RecordBatchReader.from_batches(FEATURES, batches), format, output)
    for reason in missing:
        say(f"error: {reason}")
    if n_missing > len(missing):
        say(f"error: {n_missing:,} ids are not there, these among them")
    if n_missing:
        raise typer.Exit(1)


def _nearest_rows(
    snapshot: Snapshot,
    text: str | None,
    image: Path | None,
    vector: Path | None,
    k: int,
    where: str | None,
    address: str | None,
    index: str,
) -> pa.Table:
    """The hits of a search; of several vectors with the number of each, from 0, as the column `vector`."""
    behind = snapshot.lag(index)  # and where there is no index, this says so before a model is opened
    if behind:
        say(str(behind))
    if vector is not None:
        found = snapshot.search(vector=_read_vectors(vector), k=k, where=where, index=index)
    else:
        from lore_mm.models import DEFAULT_EMBEDDER, open_embedder

        embedder = open_embedder(address or DEFAULT_EMBEDDER)
        found = snapshot.search(text=text, image=image, k=k, where=where, embedder=embedder, index=index)
    rows = _item_rows(snapshot, list(chain.from_iterable(found)))
    if len(found) == 1:
        return rows
    return rows.add_column(0, "vector", pa.array([i for i, hits in enumerate(found) for _ in hits], pa.int64()))


def _read_vectors(file: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    try:
        return np.asarray(np.load(file, allow_pickle=False), np.float32)
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from None
    except (ValueError, TypeError, EOFError) as error:
        raise InputError(f"{file} holds no array of numbers as numpy.save writes it: {error}") from None


def _item_rows(snapshot: Snapshot, hits: Sequence[tuple[str, float]]) -> pa.Table:
    """Ids with what a person knows them by, in the given order."""
    items = snapshot.get([i for i, _ in hits])
    return pa.table(
        {
            "item_id": pa.array([i for i, _ in hits], pa.string()),
            "similarity": pa.array([round(s, 4) for _, s in hits], pa.float64()),
            "title": pa.array([one.item.title if one else None for one in items], pa.string()),
            "brand": pa.array([one.item.brand if one else None for one in items], pa.string()),
            "price": pa.array([one.item.price if one else None for one in items], pa.float64()),
            "currency": pa.array([one.item.currency if one else None for one in items], pa.string()),
        }
    )


if __name__ == "__main__":
    run(command_app(main, "python -m stores.query"))
