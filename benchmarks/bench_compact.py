"""What very many small commits cost whoever opens, appends to, reads or looks at a store, and what compaction changes.

Run: python benchmarks/bench_compact.py --commits 20000

A store with so many commits of 64 rows of ATTRIBUTES is made in a temporary folder, as a job leaves it, and copied. The
copy is compacted and vacuumed; then both take turns, each time opened anew. Compaction itself takes turns with two
others on copies: the Delta library's own, which does not keep the order of rows, and the bare engine, pyarrow, reading
the same files one after the other and writing one. Times are medians; one JSON line a figure.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from jobs.status import status_of
from lore_mm.rows import attributes_table
from lore_mm.tables import RUNS
from lore_mm.types import AttributeValue, Provenance
from stores.compact import compact
from stores.features import FeatureStore, open_store
from stores.snapshot import Snapshot
from stores.vacuum import vacuum

COLORS = ("red", "black", "white", "green", "blue")


def rows(n: int, start: int = 0) -> pa.Table:
    """Verdicts on n items."""
    return attributes_table(
        {
            "item_id": f"item-{i}",
            "extractor": "merge",
            "category": "thing",
            "attributes": (
                AttributeValue("color", "color", COLORS[i % 5], confidence=0.9),
                AttributeValue("size", "spec", f"{i % 31}", confidence=0.8),
            ),
            "status": "ok",
            "error": None,
            "provenance": Provenance("bench", "merge", f"{i:064x}", "settings"),
        }
        for i in range(start, start + n)
    )


def filled(folder: Path, commits: int, n: int) -> FeatureStore:
    """A store as a job leaves it, of so many micro-batches."""
    store = open_store(folder, create=True)
    store.append("runs", RUNS.empty_table())
    for i in range(commits):
        store.append("attributes", rows(n, i * n), ("bench", i))
    return store


def seconds(runs: int, **calls: Callable[[], object]) -> dict[str, float]:
    """The median time of each call; they take turns."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(runs):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in taken.items()}


def say(what: str, **figures: float | int | str) -> None:
    """One JSON line."""
    told = {name: float(f"{x:.4g}") if isinstance(x, float) else x for name, x in figures.items()}
    print(json.dumps({"figure": what, **told}), flush=True)


def log_bytes(store: FeatureStore) -> int:
    """Bytes of the log of ATTRIBUTES."""
    return sum(path.stat().st_size for path in Path(store.uri, "attributes", "_delta_log").iterdir())


def bench_merging(store: FeatureStore, folder: Path, runs: int) -> Path:
    """Compaction beside the library's own and the bare engine; a compacted copy of the store."""
    copies = iter(range(1_000_000))
    taken: dict[str, list[float]] = {"ours": [], "delta": [], "bare": []}
    last = folder
    for _ in range(runs):
        for name in taken:
            shutil.rmtree(last, ignore_errors=True) if last != folder else None
            copy = folder / f"copy-{next(copies)}"
            shutil.copytree(store.uri, copy)
            opened = open_store(copy)
            start = time.perf_counter()
            if name == "ours":
                compact(opened, "attributes")
            elif name == "delta":
                DeltaTable(str(copy / "attributes")).optimize.compact()
            else:
                tables = [pq.read_table(file) for file in opened.files("attributes")]
                pq.write_table(pa.concat_tables(tables), copy / "one.parquet", compression="zstd")
            taken[name].append(time.perf_counter() - start)
            last = copy
    shutil.rmtree(last)
    ours, delta, bare = (statistics.median(taken[name]) for name in taken)
    n = store.count("attributes")
    say(
        "lore compact",
        seconds=ours,
        rows_per_s=n / ours,
        bare_over_ours=bare / ours,
        delta_optimize_over_ours=delta / ours,
    )
    compacted = folder / "compacted"
    shutil.copytree(store.uri, compacted)
    return compacted


def main() -> None:
    """Make the store, compact a copy, and time both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commits", type=int, default=2_000)
    parser.add_argument("--rows", type=int, default=64, help="rows of a commit")
    parser.add_argument("--runs", type=int, default=5, help="of which the median is told")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = time.perf_counter()
        store = filled(folder / "store", options.commits, options.rows)
        say("made", commits=options.commits, rows=store.count("attributes"), seconds=time.perf_counter() - start)
        small = open_store(bench_merging(store, folder, options.runs))
        say("log", bytes=log_bytes(small), bytes_a_commit=log_bytes(small) / options.commits)
        n_bytes = sum(Path(file).stat().st_size for file in small.files("attributes"))
        if not small.scan("attributes").collect().equals(store.scan("attributes").collect()):
            raise SystemExit("copies differ")
        done = compact(small, "attributes")
        if not small.scan("attributes").collect().equals(store.scan("attributes").collect()):
            raise SystemExit("compaction has changed the rows or their order")
        say("files", before=done.files_before, after=done.files, bytes_before=n_bytes, bytes_after=done.bytes)
        vacuum(small, "attributes", 0)
        looks: dict[str, Callable[[FeatureStore], object]] = {
            "open: the version of a table": lambda one: one.version("attributes"),
            "append 64 rows to a store just opened": lambda one: one.append("attributes", rows(64)),
            "tables()": lambda one: one.tables(),
            "lore status": status_of,
            "read one column of every row": lambda one: list(one.batches("attributes", ["item_id"], rows=65_536)),
            "SQL: count the values": lambda one: Snapshot(one).sql("SELECT count(*) AS n FROM latest"),
        }
        for what, look in looks.items():
            times = seconds(
                options.runs,
                as_left=lambda look=look: look(open_store(store.uri)),  # type: ignore[misc]
                compacted=lambda look=look: look(open_store(small.uri)),  # type: ignore[misc]
            )
            say(what, **times, ratio=times["as_left"] / times["compacted"])


if __name__ == "__main__":
    main()
