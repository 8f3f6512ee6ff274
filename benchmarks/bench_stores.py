"""What the stores cost over the bare engines beneath them: each line a ratio measured in this one run.

    python benchmarks/bench_stores.py [ITEMS]

Better is higher for speed ratios (1.00 is the bare engine). Each figure is the median of five runs, the store and its
engine taking turns, so that a machine that is busy for a moment slows both.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from lore_mm.rows import attributes_table, item_to_row, provenance_to_row
from lore_mm.tables import ITEMS
from lore_mm.types import AttributeValue, Item, Provenance
from stores.features import FeatureStore, open_store
from stores.snapshot import Snapshot

COLORS = ("red", "black", "white", "green", "blue")
QUERIES = (
    "SELECT count(*) AS n FROM {items} WHERE price < 50",
    "SELECT brand, count(*) AS n, avg(price) AS p FROM {items} GROUP BY brand ORDER BY n DESC, brand",
    "SELECT count(*) AS n FROM {items} WHERE title LIKE '%7%'",
)


def seconds(*calls: Callable[[], object], runs: int = 5) -> list[float]:
    """The median time of each call; they take turns."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(runs):
        for call, taken in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in times]


def item_table(n: int, start: int = 0) -> pa.Table:
    """Items as a shop has them: short titles, a sentence or three, a price."""
    provenance = provenance_to_row(Provenance(run_id="bench", maker="bench", input_sha="0" * 64))
    rows = [
        item_to_row(
            Item(
                f"item-{i}",
                f"{COLORS[i % 5]} thing number {i}",
                f"A thing of the {i % 97}th kind, made with care. " * 3,
                brand=f"Brand {i % 53}",
                attributes={"material": ("leather", "rubber")},
                price=float(i % 101),
            )
        )
        | {"image_root": None, "status": "ok", "error": None, "provenance": provenance}
        for i in range(start, start + n)
    ]
    return pa.Table.from_pylist(rows, schema=ITEMS)


def values(i: int) -> list[AttributeValue]:
    """The merged values of item i."""
    return [
        AttributeValue("color", "color", COLORS[i % 5], share=0.5, confidence=0.9, extractor="palette"),
        AttributeValue("height", "spec", f"{i % 40} cm", number=float(i % 40), unit="cm", extractor="given"),
    ]


def attribute_table(n: int) -> pa.Table:
    """The verdicts on n items."""
    fixed = {"extractor": "merge", "category": "thing", "status": "ok", "error": None}
    return attributes_table(
        {"item_id": f"item-{i}", "attributes": values(i), "provenance": Provenance(), **fixed} for i in range(n)
    )


def say(what: str, ratio: float, detail: str) -> None:
    """One JSON line a claim."""
    print(json.dumps({"claim": what, "ratio": round(ratio, 3), "detail": detail}, ensure_ascii=False))


def bench_append(folder: Path, n: int) -> None:
    """One large commit, beside one large file."""
    rows = item_table(n)
    store = open_store(folder / "append", create=True)
    counter = iter(range(1000))

    def bare() -> None:
        pq.write_table(rows, folder / f"bare-{next(counter)}.parquet", compression="zstd", row_group_size=32_768)

    ours, plain = seconds(lambda: store.append("items", rows, ("bench", next(counter))), bare)
    say("append / plain Parquet writing, rows per second", plain / ours, f"{n} rows: {n / ours:,.0f} rows/s")


def bench_sql(store: FeatureStore, n: int) -> None:
    """A snapshot that has been asked before: finding the newest rows is done once."""
    snapshot = Snapshot(store)
    files = store.files("items")
    bare = duckdb.connect()

    def plain(text: str) -> list[tuple[object, ...]]:
        answer: list[tuple[object, ...]] = bare.cursor().sql(text.format(items=f"read_parquet({files})")).fetchall()
        return answer

    for text in QUERIES:
        asked = text.format(items="items")
        if [tuple(row.values()) for row in snapshot.sql(asked).to_pylist()] != plain(text):
            raise SystemExit(f"the answers differ: {text}")
        ours, theirs = seconds(lambda q=asked: snapshot.sql(q), lambda q=text: plain(q))  # type: ignore[misc]
        say("SQL / DuckDB on the bare Parquet, queries per second", theirs / ours, f"{n} items, {ours:.4f} s: {asked}")


def main(n_items: int = 100_000) -> None:
    """Run all of it in a temporary folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = open_store(folder / "store", create=True)
        for start in range(0, n_items, 25_000):
            store.append("items", item_table(min(25_000, n_items - start), start))
        store.append("attributes", attribute_table(n_items))
        bench_append(folder, n_items)
        bench_sql(store, n_items)


if __name__ == "__main__":
    main(*(int(a) for a in sys.argv[1:]))
