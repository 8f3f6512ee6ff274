"""What the spine of a job costs: jobs that do next to nothing, against the bare work beneath them.

    python benchmarks/bench_jobs.py                                # 50,000 rows by size of micro-batch, then pictures
    python benchmarks/bench_jobs.py --only rows --rows 1000000     # one part, other sizes
    python benchmarks/bench_jobs.py --only memory                  # 100,000 and 1,000,000 rows; minutes

Every job runs in a fresh process. Rates `…_core_s` are a second of processor time, of all threads together, so that
they hold on a machine that does other things too; `…_s` are a second of the clock. Ratios are of one process, measured
one after the other.

rows: of each size of micro-batch the job (plan, read, hash, skip, check, stamp, commit), its rerun with nothing
changed, what a run broken off at its half costs before it goes on, and bare `write_deltalake` calls that append the
very same rows in the same pieces. `share` is the part of the bare rate that the job keeps.

pictures: a job over items with one JPEG of 384 × 384 pixels each, made of the demo catalogue's photos, against a bare
loop of Pillow over the same files, `Image.open(path).convert("RGB")` with as many threads. The two take turns, each
time in a fresh process with Pillow as it comes, the files having been read before; `share` is the median over the
turns of a job against the mean of the loops before and after it. The job keeps what it decoded until its micro-batch is
made, and hashes every file; the loop does neither, and `convert` copies the pixels once more. `other_us` is what
the job takes a row, in µs of the processor, where items have no pictures: planning, rows, commits.

memory: the same job over few and over many rows: the most memory a process held (`peak_mib`) and what it held before
it began (`imports_mib`). Whether a row costs the same at the end as at the beginning: `fifths_us_a_row` are medians
over the micro-batches of each fifth of a run, and `drift` is by what share of the median a micro-batch comes to cost
more from the first to the last, by the slope of Theil and Sen, with its interval of 95 %. A checkpoint of the log,
every twentieth commit of a small table, costs its micro-batch more, and each commit until the next one a little.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from statistics import median
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
from lore_mm.errors import ModelError
from lore_mm.images import PicturePolicy
from lore_mm.tables import DEMANDS, EMBEDDINGS, QUERIES
from stores.features import FeatureStore, open_store

PHOTOS = Path(__file__).parents[1] / "examples" / "demo"
WINDOW = 100_000
THREADS = min(16, os.cpu_count() or 1)


class Trivial:
    """Query rows to demand rows, column by column; a dead engine after `rows`, where they are given."""

    job, table = "trivial", "demands"
    reads: tuple[str, ...] = ("queries",)
    key: tuple[str, ...] = ("query_id",)
    verdict: Mapping[str, str] = {}
    settings: Mapping[str, Any] = {"version": 1}
    settings_sha = "trivial 1"

    def __init__(self, store: FeatureStore, rows: int | None = None) -> None:
        self.store, self.rows = store, rows
        self.done = 0
        self.ticks: list[tuple[int, float]] = []  # rows done as a micro-batch began, and the processor time then

    def read(
        self, versions: Mapping[str, int], columns: Sequence[str] | None, rows: int, start: int = 0
    ) -> Iterator[pa.RecordBatch]:
        """The newest row of each query."""
        return self.store.batches("queries", columns, versions["queries"], rows, latest=True, start=start)

    def input_shas(self, rows: pa.Table) -> list[str]:
        """The text stands for its own sha."""
        return [str(text) for text in rows.column("query").to_pylist()]

    def load(self, rows: pa.Table) -> tuple[list[str], list[Any]]:
        """Nothing is loaded."""
        return self.input_shas(rows), [None] * rows.num_rows

    def process(self, rows: pa.Table, loaded: list[Any]) -> pa.Table:
        """As many rows as came in."""
        if self.rows is not None and self.done >= self.rows:
            raise ModelError("broken off")
        self.ticks.append((self.done, time.process_time()))
        n = rows.num_rows
        self.done += n
        maker = pa.StructArray.from_arrays([pa.repeat("trivial", n)], names=["maker"])
        known = {
            "query_id": rows.column("query_id"),
            "query": rows.column("query"),
            "normalized": rows.column("query"),
            "status": pa.repeat("ok", n),
            "provenance": maker.cast(DEMANDS.field("provenance").type),
        }
        return pa.table([known.get(f.name, pa.nulls(n, f.type)) for f in DEMANDS], schema=DEMANDS)

    def failed(self, rows: pa.Table, error: str) -> pa.Table:
        """Nothing fails here."""
        raise AssertionError(error)


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


def timed(action: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of the processor and of the clock."""
    processor, clock = time.process_time(), time.perf_counter()
    action()
    return time.process_time() - processor, time.perf_counter() - clock


def peak_mib() -> int:
    """The most memory that this process has held."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def make_queries(folder: Path, rows: int) -> None:
    """A store of so many queries."""
    store = open_store(folder / "store", create=True)
    for start in range(0, rows, WINDOW):
        numbers = range(start, min(start + WINDOW, rows))
        known = {
            "query_id": pa.array([f"query-{i:09}" for i in numbers]),
            "query": pa.array([f"a query of some words, number {i}" for i in numbers]),
        }
        columns = [known.get(f.name, pa.nulls(len(numbers), f.type)) for f in QUERIES]
        store.append("queries", pa.table(columns, schema=QUERIES))


def make_rows(folder: Path, rows: int, batch_rows: int) -> dict[str, Any]:
    """The job over all queries that have not been done, and what it held."""
    imports, store = peak_mib(), open_store(folder / "store")
    work = Trivial(store)
    began = time.process_time()
    processor, clock = timed(lambda: run_job(store, work, batch_rows=batch_rows))
    if store.count("demands") != rows:
        raise AssertionError(f"{store.count('demands')} rows of {rows}")
    costs = [b[1] - a[1] for a, b in pairwise(work.ticks)]  # of whole micro-batches, the last one left out
    return {
        "rows": rows,
        "batch_rows": batch_rows,
        "rows_core_s": round(work.done / processor),
        "rows_s": round(work.done / clock),
        "first_row_after_core_s": round(work.ticks[0][1] - began, 3),
        "costs_s": costs,
        "imports_mib": imports,
        "peak_mib": peak_mib(),
    }


def drift(costs: Sequence[float]) -> list[float]:
    """By what share of their median costs grow from the first to the last, and its interval of 95 %."""
    from scipy.stats import (
        theilslopes,
    )  # not above: a process whose memory is measured would hold it, or inherit its peak

    found = theilslopes(costs)
    whole = len(costs) / median(costs)
    return [round(float(slope) * whole, 3) for slope in (found.slope, found.low_slope, found.high_slope)]


def make_nothing(folder: Path, rows: int, batch_rows: int) -> dict[str, Any]:
    """The rerun with nothing changed."""
    imports, store = peak_mib(), open_store(folder / "store")
    work = Trivial(store)
    processor, clock = timed(lambda: run_job(store, work, batch_rows=batch_rows))
    if work.done:
        raise AssertionError(f"{work.done} rows were made again")
    return {
        "rows": rows,
        "rerun_rows_core_s": round(rows / processor),
        "rerun_rows_s": round(rows / clock),
        "imports_mib": imports,
        "peak_mib": peak_mib(),
    }


def break_off(folder: Path, rows: int, batch_rows: int) -> None:
    """The job, up to its half."""
    store = open_store(folder / "store")
    try:
        run_job(store, Trivial(store, rows // 2), batch_rows=batch_rows)
    except ModelError:
        return
    raise AssertionError("it went on")


def make_bare(folder: Path, rows: int, batch_rows: int) -> dict[str, Any]:
    """The same rows, appended by the library alone."""
    batches = open_store(folder / "store").batches("demands", rows=batch_rows)
    pieces = [pa.Table.from_batches([batch]) for batch in batches]

    def append() -> None:
        for piece in pieces:
            write_deltalake(str(folder / "bare"), piece, mode="append")

    processor, clock = timed(append)
    return {"bare_rows_core_s": round(rows / processor), "bare_rows_s": round(rows / clock), "commits": len(pieces)}


def make_shop(folder: Path, n: int) -> None:
    """Pictures, and the store of an item for each."""
    photos = sorted(path for path in PHOTOS.rglob("*") if path.suffix in (".jpg", ".jpeg", ".png", ".webp"))
    for i in range(n):
        if i < len(photos):
            with Image.open(photos[i]) as photo:
                photo.convert("RGB").resize((384, 384)).save(folder / f"{i:06}.jpg", quality=90)
        else:
            (folder / f"{i:06}.jpg").write_bytes((folder / f"{i % len(photos):06}.jpg").read_bytes())
    ingest_items(open_store(folder / "store", create=True), folder)


def decode_all(folder: Path, n: int) -> tuple[float, float]:
    """The bare loop."""

    def decode(i: int) -> int:
        with Image.open(folder / f"{i:06}.jpg") as picture:
            return picture.convert("RGB").width

    def bare() -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            if sum(pool.map(decode, range(n))) != 384 * n:
                raise AssertionError("not the pictures that were written")

    return timed(bare)


def glance_at_all(folder: Path, batch_rows: int, with_pictures: bool = True) -> tuple[float, float]:
    """The job, on a store of its own."""
    with tempfile.TemporaryDirectory() as place:
        shutil.copytree(folder / "store", Path(place) / "store")
        store = open_store(Path(place) / "store")
        work = Glance(store, PicturePolicy(), with_pictures)
        return timed(lambda: run_job(store, work, batch_rows=batch_rows))


def measure_pictures(n: int, batch_rows: int, turns: int) -> dict[str, Any]:
    """A job that is bound by decoding, and a bare loop, in turns."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fresh(make_shop, folder, n)
        fresh(decode_all, folder, n)  # the files are in memory from here on
        loops, jobs = [fresh(decode_all, folder, n)], []
        for _ in range(turns):
            jobs.append(fresh(glance_at_all, folder, batch_rows))
            loops.append(fresh(decode_all, folder, n))
        other = median(fresh(glance_at_all, folder, batch_rows, False)[0] for _ in range(turns))
    said: dict[str, Any] = {"pictures": n, "batch_rows": batch_rows, "threads": THREADS, "turns": turns}
    for kind, suffix in enumerate(("_core", "")):  # of the processor, of the clock
        job, bare = [one[kind] for one in jobs], [one[kind] for one in loops]
        shares = sorted((a + b) / 2 / c for (a, b), c in zip(pairwise(bare), job, strict=True))
        said[f"job_pictures{suffix}_s"] = round(n / median(job))
        said[f"bare_pictures{suffix}_s"] = round(n / median(bare))
        said[f"share{suffix}"] = round(median(shares), 3)
        said[f"share{suffix}_range"] = [round(shares[0], 3), round(shares[-1], 3)]
    return said | {"other_us": round(other / n * 1e6, 1)}


def fresh(action: Callable[..., Any], *arguments: Any) -> Any:
    """What a function gives that is called in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(action, *arguments).result()


def measure_rows(rows: int, batch_rows: int) -> dict[str, Any]:
    """One size of micro-batch."""
    with tempfile.TemporaryDirectory() as name:
        whole, broken = Path(name) / "whole", Path(name) / "broken"
        for folder in (whole, broken):
            fresh(make_queries, folder, rows)
        made = fresh(make_rows, whole, rows, batch_rows)
        rerun = fresh(make_nothing, whole, rows, batch_rows)
        bare = fresh(make_bare, whole, rows, batch_rows)
        fresh(break_off, broken, rows, batch_rows)
        resumed = fresh(make_rows, broken, rows, batch_rows)
    kept = {name: made[name] for name in ("rows", "batch_rows", "rows_core_s", "rows_s")}
    kept |= {name: rerun[name] for name in ("rerun_rows_core_s", "rerun_rows_s")}
    kept |= {"resumed_after_core_s": resumed["first_row_after_core_s"], **bare}
    return kept | {"share_core": round(made["rows_core_s"] / bare["bare_rows_core_s"], 3)}


def measure_memory(sizes: Sequence[int], batch_rows: int) -> Iterator[dict[str, Any]]:
    """The job and its rerun over each number of rows, then how the last stands to the first."""
    found = []
    for rows in sizes:
        with tempfile.TemporaryDirectory() as name:
            fresh(make_queries, Path(name), rows)
            made = fresh(make_rows, Path(name), rows, batch_rows)
            costs = made.pop("costs_s")
            fifths = [round(median(part) / batch_rows * 1e6, 2) for part in np.array_split(costs, 5)]
            drifts = fresh(drift, costs)
            yield made | {"fifths_us_a_row": fifths, "drift": drifts}
            again = fresh(make_nothing, Path(name), rows, batch_rows)
            yield again
        found.append((made | {"drift": drifts}, again))
    (few, few_again), (many, many_again) = found[0], found[-1]
    yield {
        "peak_many_to_few": round(many["peak_mib"] / few["peak_mib"], 3),
        "rerun_peak_many_to_few": round(many_again["peak_mib"] / few_again["peak_mib"], 3),
        "cost_many_to_few": round(few["rows_core_s"] / many["rows_core_s"], 3),
        "drift": many["drift"],
    }


def main(
    only: Annotated[list[str] | None, typer.Option(help="rows, pictures or memory; repeatable.")] = None,
    rows: Annotated[list[int] | None, typer.Option(min=1, help="Rows of input; memory takes several.")] = None,
    batch_rows: Annotated[list[int] | None, typer.Option(help="Sizes of a micro-batch; repeatable.")] = None,
    pictures: Annotated[int, typer.Option(min=1, help="Pictures of the job that is bound by decoding.")] = 4096,
    turns: Annotated[int, typer.Option(min=1, help="How often that job is run, between bare loops.")] = 5,
) -> None:
    """Measure what the spine of a job costs, against the bare work beneath it."""
    parts = only or ["rows", "pictures"]
    if "rows" in parts:
        for size in batch_rows or [256, 1024, 8192]:
            n = (rows or [50_000])[0]
            print_json(measure_rows(n if size > 256 else min(n, 25_600), size))
    if "pictures" in parts:
        print_json(measure_pictures(pictures, (batch_rows or [256])[0], turns))
    if "memory" in parts:
        for found in measure_memory(rows or [100_000, 1_000_000], (batch_rows or [8192])[0]):
            print_json(found)


if __name__ == "__main__":
    run(command_app(main, "python benchmarks/bench_jobs.py"))
