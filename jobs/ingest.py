"""`lore ingest`: a catalogue, a query log and labels from files into a store.

Content decides: a row that stands in the store already, word for word, is skipped; new and changed ones are appended.
Nothing is ever taken out, so an ingest that was interrupted, or half of a catalogue, does no harm. This job opens no
picture: `lore extract` does, and keeps the reasons of those that cannot be read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import pyarrow as pa
import typer

from jobs.plan import Counts
from jobs.spine import run_job
from lore_mm.catalogue import Catalogue, open_catalogue, read_labels, read_queries
from lore_mm.config import default_store
from lore_mm.console import command_app, run, say
from lore_mm.errors import InputError
from lore_mm.fingerprint import sha_of
from lore_mm.tables import ITEMS
from stores.features import FeatureStore, open_store
from stores.streams import from_row

__all__ = ["ingest_items", "ingest_labels", "ingest_queries", "main"]


class _Ingest:
    """A catalogue's rows into ITEMS, as they are (see `jobs.work.Work`)."""

    job, table = "ingest", "items"
    reads: tuple[str, ...] = ()
    key: tuple[str, ...] = ("item_id",)
    verdict: Mapping[str, str] = {}

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.settings: Mapping[str, Any] = {"catalogue": str(catalogue.records.path.absolute())}
        # a catalogue that moved has the same rows, but its pictures are to be found elsewhere
        self.settings_sha = sha_of(str(catalogue.image_root))

    def read(
        self, versions: Mapping[str, int], columns: Sequence[str] | None, rows: int, start: int = 0
    ) -> Iterator[pa.RecordBatch]:
        tables = self.catalogue.batches(rows)
        chosen = (table if columns is None else table.select(list(columns)) for table in tables)
        return from_row((batch for table in chosen for batch in table.combine_chunks().to_batches()), start)

    def input_shas(self, rows: pa.Table) -> list[str]:
        return [row["provenance"]["input_sha"] for row in rows.select(["provenance"]).to_pylist()]

    def load(self, rows: pa.Table) -> tuple[list[str], list[Any]]:
        return self.input_shas(rows), [None] * rows.num_rows

    def process(self, rows: pa.Table, loaded: list[Any]) -> pa.Table:
        return rows

    def failed(self, rows: pa.Table, error: str) -> pa.Table:
        made = [{**row, "status": "failed", "error": error} for row in rows.to_pylist()]
        return pa.Table.from_pylist(made, schema=ITEMS)


def ingest_items(store: FeatureStore, catalogue: str | Path | Catalogue, batch_rows: int = 4096) -> Counts:
    """Read a catalogue (a file, a folder, or one opened already) into ITEMS; rows that cannot be used go in as failed.

    Raises:
        InputError: the file as a whole cannot be read; nothing is written.
    """
    # never resumed: what an interrupted one had committed is skipped by content, and the file may differ by now
    opened = catalogue if isinstance(catalogue, Catalogue) else open_catalogue(catalogue)
    return run_job(store, _Ingest(opened), batch_rows=batch_rows, apart=True)


def ingest_queries(store: FeatureStore, path: str | Path) -> Counts:
    """Read a query log into QUERIES, in one commit."""
    return _ingest_table(store, "queries", read_queries(path))


def ingest_labels(store: FeatureStore, path: str | Path) -> Counts:
    """Read graded pairs into LABELS, in one commit."""
    return _ingest_table(store, "labels", read_labels(path))


def _ingest_table(store: FeatureStore, table: str, rows: pa.Table) -> Counts:
    """Append the rows that do not stand word for word as the newest of their key."""
    fresh = rows
    if store.version(table) is not None:
        given = pl.DataFrame(rows)
        standing = store.latest(table).collect().select(given.columns)
        fresh = given.join(standing, on=given.columns, how="anti", nulls_equal=True, maintain_order="left").to_arrow()
        fresh = fresh.cast(rows.schema)
    if fresh.num_rows:
        store.append(table, fresh)
    counts = Counts(rows.num_rows, fresh.num_rows, 0, rows.num_rows - fresh.num_rows)
    say(f"{table}: {counts.n_in} in = {counts.n_ok} new or changed + {counts.n_skipped} skipped")
    return counts


def main(
    path: Annotated[
        Path | None, typer.Argument(help="Items: .jsonl, .json, .csv, .tsv, .parquet, or a folder of pictures.")
    ] = None,
    queries: Annotated[Path | None, typer.Option(help="A query log: query_id, query (frequency, kind, split).")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Graded pairs: query_id, item_id, grade L1 … L4 (reason).")
    ] = None,
    store: Annotated[str | None, typer.Option(help="The store to write; the default one unless given.")] = None,
) -> None:
    """Read a catalogue, a query log or labels into a store; unchanged rows are skipped.

    Items have the columns item_id and title, and may have description, category, brand, attributes, price, currency,
    images and store. A row that cannot be used is kept as failed, with the reason: see `lore status`.

    Example: lore ingest catalogue/items.jsonl --queries queries.jsonl --labels labels.csv
    """
    # everything is read before anything is written, so that a mistake in one file leaves the store as it was
    tables = [
        (name, read(file))
        for name, file, read in (("queries", queries, read_queries), ("labels", labels, read_labels))
        if file is not None
    ]
    catalogue = None if path is None else open_catalogue(path)
    if catalogue is None and not tables:
        raise InputError("nothing to read: name a catalogue, --queries or --labels")
    opened = open_store(store or default_store(), create=True)
    if catalogue is not None:
        ingest_items(opened, catalogue)
    for name, rows in tables:
        _ingest_table(opened, name, rows)


if __name__ == "__main__":
    run(command_app(main, "python -m jobs.ingest"))
