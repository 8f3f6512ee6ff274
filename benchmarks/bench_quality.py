"""What counting a store's quality costs over one plain GROUP BY of the same values by DuckDB, in this one run.

    python benchmarks/bench_quality.py --items 200000

Lower is better: 1.00 is the plain GROUP BY of category, attribute and value over the same Parquet files, which knows
nothing of coverage (which of an item's values come together), sources or drift. Processor time of both, taking turns,
the median of the ratios; beside it the items a second of one processor, and the most memory this process had.
"""

from __future__ import annotations

import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import duckdb
import typer

from lore_mm.rows import attributes_table
from lore_mm.types import AttributeValue, Evidence, Provenance
from stores.features import FeatureStore, open_store
from stores.quality import Quality
from stores.snapshot import Snapshot

_COMMIT = 25_000
_CATEGORIES = ("sofa", "chair", "running_shoe", "monitor", "laptop", "tent", "desk", "tripod")
_COLORS = ("red", "black", "white", "green", "blue")
_PLAIN = """
    SELECT category, a.name, a.status, a.value, a.number, a.unit, count(*), sum(a.confidence) FROM (
        SELECT category, unnest(attributes) AS a FROM read_parquet({files}) WHERE extractor = 'merge') GROUP BY ALL"""


def said(i: int, extractor: str) -> list[AttributeValue]:
    """Eight attributes of an item, as extractors give them; two of them silent for every third item."""
    evidence = (Evidence("title", "some words", 0, 10, extractor=extractor),)
    shift = len(extractor) if i % 7 == 0 else 0  # sources disagree now and then
    price = round(5 + (i * 7919) % 90_000 / 100, 2)
    words = {
        "brand": f"brand {(i * 31) % 5000}",
        "color": _COLORS[(i + shift) % 5],
        "material": "wood" if i % 3 else None,
        "model": f"m{i * 13 % 100_000}" if i % 3 else None,
        "style": ("modern", "retro")[i % 2],
        "audience": "women",
    }
    values = [
        AttributeValue(n, "spec", w, "value" if w else "not_stated", confidence=0.9, evidence=evidence)
        for n, w in words.items()
    ]
    for name, number, unit in (("price", price, "USD"), ("weight", float(i % 4000), "g")):
        values.append(AttributeValue(name, "spec", f"{number:g} {unit}", number=number, unit=unit, evidence=evidence))
    return values


def fill(store: FeatureStore, items: int) -> None:
    """Append rows of two extractors and of the merge."""
    for start in range(0, items, _COMMIT):
        for extractor in ("given", "zero_shot", "merge"):
            rows = [
                {
                    "item_id": f"item-{i}",
                    "extractor": extractor,
                    "category": _CATEGORIES[i % len(_CATEGORIES)],
                    "attributes": said(i, extractor),
                    "status": "ok",
                    "error": None,
                    "provenance": Provenance(input_sha="0" * 64),
                }
                for i in range(start, min(start + _COMMIT, items))
            ]
            store.append("attributes", attributes_table(rows))


def processor_s(call: Callable[[], object]) -> float:
    """Processor time of a call, all threads together, in seconds."""
    start = time.process_time()
    call()
    return time.process_time() - start


def main(
    items: Annotated[int, typer.Option(min=1000, help="Items in the store.")] = 200_000,
    runs: Annotated[int, typer.Option(min=1, help="Turns; one more warms both.")] = 5,
) -> None:
    """Build a store, then count it and group it in turns; prints JSON lines."""
    with tempfile.TemporaryDirectory(prefix="lore-bench-") as folder:
        store = open_store(Path(folder) / "store", create=True)
        fill(store, items)
        snapshot, files = Snapshot(store), store.files("attributes")
        asked: dict[str, Callable[[], object]] = {
            "coverage": lambda: Quality(snapshot).table("coverage"),
            "everything": lambda: Quality(snapshot).table("finding"),
            "drift from itself": lambda: Quality(snapshot, snapshot).table("drift"),
        }
        plain = _PLAIN.format(files=files)
        for name, call in asked.items():
            bare = lambda: duckdb.sql(f"CREATE OR REPLACE TEMP TABLE plain AS {plain}")  # noqa: E731
            taken = [(processor_s(call), processor_s(bare)) for _ in range(runs + 1)][1:]  # the first warms both
            ours = statistics.median(o for o, _ in taken)
            ratio = statistics.median(o / b for o, b in taken)
            line = {
                "measured": name,
                "items": items,
                "times_a_plain_group_by": ratio,
                "items_per_processor_s": items / ours,
            }
            line |= {"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
            print(json.dumps({k: round(v, 2) if isinstance(v, float) else v for k, v in line.items()}), flush=True)


if __name__ == "__main__":
    typer.run(main)
