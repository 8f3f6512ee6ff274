"""What appending and SQL cost over the bare engines beneath: each line a ratio measured in this one run.

    python benchmarks/bench_stores.py --items 1000000

Better is higher (1.00 is the bare engine). The store and its engine take turns, which of them begins changing, and each
figure is the median of their ratios, turn by turn, so that a machine that is busy for a moment slows both. Both get the
same rows to the same end: Parquet of the same compression and row groups, not flushed to the disk by either; an Arrow
table. No statement is asked twice in the same words, so that checking it is measured too.
"""

from __future__ import annotations

import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Annotated

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from lore_mm.rows import attributes_table, item_to_row, provenance_to_row
from lore_mm.tables import ITEMS
from lore_mm.types import AttributeValue, Evidence, Item, Provenance
from stores.features import ROW_GROUP, FeatureStore, open_store
from stores.snapshot import Snapshot

COLORS = ("red", "black", "white", "green", "blue")
WORDS = [
    f"{a}{b}{c}" for a in ("ba", "do", "ri", "tel", "mun") for b in ("ka", "so", "len") for c in ("", "r", "s", "t")
]
# name → a statement over {items} and {latest}; {n} is another number each time it is asked
QUERIES = {
    "a count": "SELECT count(*) AS n FROM {items} WHERE price < {n}",
    "groups": "SELECT brand, count(*) AS n, avg(price) AS p FROM {items} WHERE price <> {n} GROUP BY ALL ORDER BY ALL",
    "a scan of text": "SELECT count(*) AS n FROM {items} WHERE description LIKE '%{n}ka%'",
    "one item": "SELECT title, price FROM {items} WHERE item_id = 'item-{n}'",
    "values exploded": "SELECT name, value, count(*) AS n FROM {latest} WHERE number IS NULL OR number <> {n}"
    " GROUP BY ALL ORDER BY ALL",
    "values of one item": "SELECT name, value FROM {latest} WHERE item_id = 'item-{n}' ORDER BY ALL",
    "values joined with items": "SELECT brand, count(*) AS n FROM {latest} JOIN {items} USING (item_id)"
    " WHERE value = 'red' AND price <> {n} GROUP BY brand ORDER BY ALL",
    "half of the rows": "SELECT item_id, title, price FROM {items} WHERE price <> {n} AND price < 50",
}
_LATEST = "SELECT item_id, unnest(attributes) AS a FROM read_parquet({files}) WHERE extractor = 'merge'"
LATEST = f"(SELECT item_id, a.name AS name, a.value AS value, a.number AS number FROM ({_LATEST}))"


def turns(ours: Callable[[int], object], bare: Callable[[int], object], runs: int) -> tuple[float, float]:
    """The median over turns of bare / ours, and the median of ours in seconds; each turn has a number of its own."""
    taken: list[tuple[float, float]] = []
    for n in range(runs + 1):
        times: dict[str, float] = {}
        pair = [("ours", ours), ("bare", bare)]
        for name, call in pair if n % 2 else reversed(pair):
            start = time.perf_counter()
            call(n)
            times[name] = time.perf_counter() - start
        taken.append((times["ours"], times["bare"]))
    measured = taken[1:]  # the first warms both
    return statistics.median(b / o for o, b in measured), statistics.median(o for o, _ in measured)


def item_table(n: int, start: int = 0) -> pa.Table:
    """Items as a shop has them: short titles, a sentence or three, a price."""
    provenance = provenance_to_row(Provenance(run_id="bench", maker="bench", input_sha="0" * 64))

    def words(i: int, n: int) -> str:
        return " ".join(random.Random(i).choices(WORDS, k=n))

    rows = [
        item_to_row(
            Item(
                f"item-{i}",
                f"{COLORS[i % 5]} {words(i, 4)} {i}",
                f"{words(-i, 40)}.",
                brand=f"Brand {i % 53}",
                attributes={"material": ("leather", "rubber")},
                price=float(i % 101),
            )
        )
        | {"image_root": None, "status": "ok", "error": None, "provenance": provenance}
        for i in range(start, start + n)
    ]
    return pa.Table.from_pylist(rows, schema=ITEMS)


def attribute_table(n: int, start: int = 0) -> pa.Table:
    """The verdicts on n items, with where each value was read."""
    fixed = {"extractor": "merge", "category": "thing", "status": "ok", "error": None, "provenance": Provenance()}
    quote = (Evidence("title", "red", 0, 3),)

    def values(i: int) -> list[AttributeValue]:
        height = {"number": float(i % 40), "unit": "cm", "extractor": "given"}
        return [
            AttributeValue("color", "color", COLORS[i % 5], share=0.5, extractor="palette", evidence=quote),
            AttributeValue("height", "spec", f"{i % 40} cm", **height),  # type: ignore[arg-type]
        ]

    return attributes_table({"item_id": f"item-{i}", "attributes": values(i), **fixed} for i in range(start, start + n))


def say(what: str, ratio: float, detail: str) -> None:
    """One JSON line a claim."""
    print(json.dumps({"claim": what, "ratio": round(ratio, 3), "detail": detail}, ensure_ascii=False), flush=True)


def bench_append(folder: Path, n: int, runs: int) -> None:
    """One commit, beside one file."""
    rows = item_table(n)
    store = open_store(folder / "append", create=True)
    transactions = count()

    def bare(i: int) -> None:
        pq.write_table(rows, folder / f"bare-{i}.parquet", compression="zstd", row_group_size=ROW_GROUP)

    ratio, ours = turns(lambda _: store.append("items", rows, ("bench", next(transactions))), bare, runs)
    say("append / plain Parquet writing, rows per second", ratio, f"commits of {n} rows: {n / ours:,.0f} rows/s")


def bench_sql(store: FeatureStore, standing: FeatureStore, what: str, runs: int) -> None:
    """A store's views, beside DuckDB over bare files of the rows that stand in it."""
    snapshot, bare = Snapshot(store), duckdb.connect()
    items = f"read_parquet({standing.files('items')})"
    latest = LATEST.format(files=standing.files("attributes"))

    def ours(text: str) -> pa.Table:
        return snapshot.sql(text.replace("{items}", "items").replace("{latest}", "latest"))

    def plain(text: str) -> pa.Table:
        rows: pa.Table = bare.sql(text.replace("{items}", items).replace("{latest}", latest)).to_arrow_table()
        return rows

    for name, text in QUERIES.items():
        if sorted(map(repr, ours(text.replace("{n}", "7")).to_pylist())) != sorted(
            map(repr, plain(text.replace("{n}", "7")).to_pylist())
        ):
            raise SystemExit(f"the answers differ: {text}")
        asked = [text.replace("{n}", str(n)) for n in range(10, 11 + runs)]
        ratio, taken = turns(lambda n, a=asked: ours(a[n]), lambda n, a=asked: plain(a[n]), runs)  # type: ignore[misc]
        say(f"SQL, {what} / DuckDB on the bare Parquet, queries per second", ratio, f"{name}: {taken * 1e3:.1f} ms")


def main(
    items: Annotated[int, typer.Option(help="Items of the store that SQL asks.")] = 200_000,
    append: Annotated[int, typer.Option(help="Rows of a commit.")] = 100_000,
    runs: Annotated[int, typer.Option(help="Turns.", min=1)] = 15,
) -> None:
    """Print each claim as a JSON line; all of it is in a temporary folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bench_append(folder, append, runs)
        whole, replaced = (open_store(folder / one, create=True) for one in ("whole", "replaced"))
        for start in range(0, items, 50_000):
            n = min(50_000, items - start)
            for store in (replaced, whole):
                if store is replaced and start == 0:  # one row in twenty-five of the first file stands replaced
                    store.append("items", item_table(n // 25))
                    store.append("attributes", attribute_table(n // 25))
                store.append("items", item_table(n, start))
                store.append("attributes", attribute_table(n, start))
        bench_sql(whole, whole, f"{items} items", runs)
        for start in range(0, items, items // 4):  # spread over all files
            replaced.append("items", item_table(items // 200, start))
            replaced.append("attributes", attribute_table(items // 200, start))
        bench_sql(replaced, whole, f"{items} items, {items // 50} of their rows replaced", runs)


if __name__ == "__main__":
    typer.run(main)
