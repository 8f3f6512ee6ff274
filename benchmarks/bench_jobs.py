"""What the spine of a job costs: jobs that do next to nothing, against the bare work beneath them.

    python benchmarks/bench_jobs.py                  # 50,000 rows
    python benchmarks/bench_jobs.py --rows 1000000   # memory over size; minutes

For each size of micro-batch: rows a second of the job (plan, read, hash, skip, check, stamp, commit), of its rerun with
nothing changed, and of bare `write_deltalake` calls that append the very same rows in the same pieces. `share` is the
part of the bare rate that the job keeps; the two are measured in one process, one after the other. `peak_mib` is the
process's high-water mark so far.

The last line is of a job over items with one JPEG of 384 × 384 pixels each, against a bare loop that reads and decodes
the same files with as many threads.
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import typer
from deltalake import write_deltalake
from PIL import Image

from jobs.ingest import ingest_items
from jobs.item_input import ItemInput, LoadedItem
from jobs.spine import run_job
from lore_mm.console import command_app, print_json, run
from lore_mm.images import PicturePolicy, load_picture
from lore_mm.tables import DEMANDS, EMBEDDINGS, QUERIES
from stores.features import FeatureStore, open_store


class Trivial:
    """Query rows to demand rows, column by column."""

    job, table = "trivial", "demands"
    reads: tuple[str, ...] = ("queries",)
    key: tuple[str, ...] = ("query_id",)
    verdict: Mapping[str, str] = {}
    settings: Mapping[str, Any] = {"version": 1}
    settings_sha = "trivial 1"

    def __init__(self, store: FeatureStore) -> None:
        self.store = store

    def read(
        self, versions: Mapping[str, int], columns: Sequence[str] | None, rows: int, start: int = 0
    ) -> Iterator[pa.RecordBatch]:
        """The newest row of each query."""
        return self.store.batches("queries", columns, versions["queries"], rows, latest=True, start=start)

    def input_shas(self, rows: pa.Table) -> list[str]:
        """The text stands for its own sha."""
        return rows.column("query").to_pylist()

    def load(self, rows: pa.Table) -> tuple[list[str], list[Any]]:
        """Nothing is loaded."""
        return self.input_shas(rows), [None] * rows.num_rows

    def process(self, rows: pa.Table, loaded: list[Any]) -> pa.Table:
        """As many rows as came in."""
        n = rows.num_rows
        known = {
            "query_id": rows.column("query_id"),
            "query": rows.column("query"),
            "normalized": rows.column("query"),
            "status": pa.array(["ok"] * n),
            "provenance": pa.array([{"maker": "trivial"}] * n, DEMANDS.field("provenance").type),
        }
        return pa.table([known.get(f.name, pa.nulls(n, f.type)) for f in DEMANDS], schema=DEMANDS)

    def failed(self, rows: pa.Table, error: str) -> pa.Table:
        """Nothing fails here."""
        raise AssertionError(error)


def bare(pieces: Sequence[pa.Table], folder: Path) -> float:
    """Seconds to append the pieces, a commit each."""
    began = time.perf_counter()
    for piece in pieces:
        write_deltalake(str(folder), piece, mode="append")
    return time.perf_counter() - began


class Glance(ItemInput):
    """Decodes pictures, and looks no further."""

    job, table = "glance", "embeddings"
    verdict: Mapping[str, str] = {}
    settings: Mapping[str, Any] = {"version": 1}
    settings_sha = "glance 1"

    def process(self, rows: pa.Table, loaded: list[LoadedItem]) -> pa.Table:
        """Rows without vectors."""
        if any(one.picture_fault for one in loaded):
            raise AssertionError("a picture could not be read")
        made = [
            {"item_id": one.item.item_id, "model": "none", "status": "ok", "provenance": {"maker": "glance"}}
            for one in loaded
        ]
        return pa.Table.from_pylist(made, schema=EMBEDDINGS)

    def failed(self, rows: pa.Table, error: str) -> pa.Table:
        """Nothing fails here."""
        raise AssertionError(error)


def measure_pictures(n: int, batch_rows: int, folder: Path) -> dict[str, Any]:
    """A job that is bound by decoding."""
    noise = np.random.default_rng(0).integers(0, 255, (48, 48, 3), np.uint8)
    for i in range(n):
        Image.fromarray(np.roll(noise, i, axis=1)).resize((384, 384)).save(folder / f"{i:05}.jpg", quality=85)
    store = open_store(folder / "store", create=True)
    ingest_items(store, folder)
    policy, threads = PicturePolicy(), min(16, os.cpu_count() or 1)
    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        done = sum(1 for _ in pool.map(lambda i: load_picture(f"{i:05}.jpg", folder, policy).sha, range(n)))
    plain = time.perf_counter() - began
    began = time.perf_counter()
    counts = run_job(store, Glance(store, policy), batch_rows=batch_rows)
    job = time.perf_counter() - began
    if (done, counts.n_ok) != (n, n):
        raise AssertionError(f"{counts} for {n} pictures")
    return {
        "pictures": n,
        "batch_rows": batch_rows,
        "threads": threads,
        "job_pictures_s": round(n / job),
        "bare_pictures_s": round(n / plain),
        "share": round(plain / job, 3),
    }


def measure(rows: int, batch_rows: int, folder: Path) -> dict[str, Any]:
    """One size of micro-batch."""
    store = open_store(folder / "store", create=True)
    ids = [f"query-{i:09}" for i in range(rows)]
    texts = pa.array([f"a query of some words, number {i}" for i in range(rows)])
    nulls = [pa.nulls(rows, QUERIES.field(name).type) for name in ("frequency", "kind", "split")]
    store.append("queries", pa.table([pa.array(ids), texts, *nulls], schema=QUERIES))
    began = time.perf_counter()
    counts = run_job(store, Trivial(store), batch_rows=batch_rows)
    job = time.perf_counter() - began
    if counts.n_ok != rows:
        raise AssertionError(f"{counts} for {rows} rows")
    began = time.perf_counter()
    counts = run_job(store, Trivial(store), batch_rows=batch_rows)
    rerun = time.perf_counter() - began
    if counts.n_skipped != rows:
        raise AssertionError(f"{counts} for {rows} rows")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    pieces = [pa.Table.from_batches([batch]) for batch in store.batches("demands", rows=batch_rows)]
    plain = bare(pieces, folder / "bare")
    return {
        "rows": rows,
        "batch_rows": batch_rows,
        "commits": len(pieces),
        "job_rows_s": round(rows / job),
        "rerun_rows_s": round(rows / rerun),
        "bare_rows_s": round(rows / plain),
        "share": round(plain / job, 3),
        "peak_mib": round(peak),
    }


def main(
    rows: Annotated[int, typer.Option(min=1, help="Rows of input.")] = 50_000,
    batch_rows: Annotated[list[int] | None, typer.Option(help="Sizes of a micro-batch; repeatable.")] = None,
    pictures: Annotated[int, typer.Option(min=1, help="Pictures of the job that is bound by decoding.")] = 2000,
) -> None:
    """Measure what the spine of a job costs, against the bare work beneath it."""
    for size in batch_rows or [64, 1024, 8192]:
        with tempfile.TemporaryDirectory() as folder:
            print_json(measure(rows if size > 64 else min(rows, 6400), size, Path(folder)))
    with tempfile.TemporaryDirectory() as folder:
        print_json(measure_pictures(pictures, 64, Path(folder)))


if __name__ == "__main__":
    run(command_app(main, "python benchmarks/bench_jobs.py"))
