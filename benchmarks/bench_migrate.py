"""Items migrated per second and core: `lore migrate` beside reading the same rows and appending them unchanged.

Run: python benchmarks/bench_migrate.py --items 20000

The rows are what `given` finds in the demo's items, with a verdict beside, repeated under other ids, in a store in a
temporary folder. Three migrations take turns with the bare copy, each on a store of its own: one that renames the
attribute that most items have, with two of its values, one that means the attribute that fewest have, one that means
none. Processor time of this process is counted, over all its threads: a rate a core, whatever else the machine does.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from extractors.given import Given
from extractors.protocol import ExtractorInput
from jobs.migrate import migrate_attributes
from lore_mm.catalogue import read_items
from lore_mm.knowledge import load_knowledge
from lore_mm.migration_file import Migration
from lore_mm.migrations import Destination
from lore_mm.rows import attributes_table, item_from_row
from lore_mm.schema import load_schemas
from lore_mm.types import Provenance
from stores.features import FeatureStore, open_store

DEMO = Path(__file__).parent.parent / "examples" / "demo"
BATCH = 4_096


def demo_rows() -> pa.Table:
    """ATTRIBUTES of the demo's items by `given`, and the same as verdicts."""
    items = [item_from_row(row) for table in read_items(DEMO / "items.jsonl") for row in table.to_pylist()]
    found = Given(load_knowledge(), load_schemas()).extract([ExtractorInput(item) for item in items])
    rows: list[dict[str, Any]] = []
    for item, one in zip(items, found, strict=True):
        for extractor in ("given", "merge"):
            made = Provenance("bench", extractor, "input", "settings")
            rows.append(
                {
                    "item_id": item.item_id,
                    "extractor": extractor,
                    "category": one.category,
                    "attributes": one.attributes,
                    "status": "ok",
                    "error": None,
                    "provenance": made,
                }
            )
    return attributes_table(rows)


def fill(store: FeatureStore, rows: pa.Table, items: int) -> int:
    """Put the rows into a store again and again, each time of other items, some 8000 rows a commit; how many items."""
    copies, held, n = -(-2 * items // rows.num_rows), [], 0
    place = rows.schema.get_field_index("item_id")
    for copy in range(copies):
        ids = pa.array([f"{one}/{copy}" for one in rows.column("item_id").to_pylist()], pa.string())
        held.append(rows.set_column(place, rows.schema.field("item_id"), ids))
        n += rows.num_rows // 2
        if sum(one.num_rows for one in held) >= 2 * BATCH or copy == copies - 1:
            store.append("attributes", pa.concat_tables(held))
            held = []
    return n


def renaming(old: str, **more: Any) -> Migration:
    """A migration of one attribute to a name that the shipped schemas have, and few items say anything of."""
    return Migration.model_validate({"name": "bench", "attribute": [{"name": old, "to": "special", **more}]})


def copied(store: FeatureStore) -> None:
    """Every newest row read and appended as it is: what no migration can do without."""
    for batch in list(store.batches("attributes", rows=2 * BATCH, latest=True)):
        store.append("attributes", pa.Table.from_batches([batch]))


def cpu_s(act: Callable[[], Any]) -> float:
    """Processor seconds of a call, all threads."""
    began = time.process_time()
    act()
    return time.process_time() - began


def main() -> None:
    """Fill a store, and let the migrations and the copy take turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()
    rows, to = demo_rows(), Destination(load_schemas(), load_knowledge())
    said: Counter[str] = Counter()
    for values in rows.column("attributes").to_pylist():
        said.update({value["name"] for value in values or ()})
    del said["category"]
    (most, n_most), (least, n_least) = said.most_common()[0], said.most_common()[-1]
    steps = {
        "bare: rows read, and appended as they are": None,
        f"{most} → special, in {n_most / rows.num_rows:.0%} of the rows": renaming(most, values={"navy": "blue"}),
        f"{least} → special, in {n_least / rows.num_rows:.0%} of the rows": renaming(least),
        "an attribute that no row has": renaming("nobody"),
    }
    with tempfile.TemporaryDirectory() as folder:
        origin = open_store(Path(folder) / "store", create=True)
        n = fill(origin, rows, given.items)
        took: dict[str, list[float]] = {name: [] for name in steps}
        for turn in range(given.turns):
            for name, step in steps.items():
                place = Path(folder) / f"turn {turn}"
                shutil.copytree(Path(folder) / "store", place)
                store = open_store(place)
                act = partial(migrate_attributes, store, step, to) if step else partial(copied, store)
                took[name].append(cpu_s(act))
                shutil.rmtree(place)
    bare = statistics.median(next(iter(took.values())))
    print(f"{n:,} items, {2 * n:,} rows, {given.turns} turns, medians")
    for name, seconds in took.items():
        median = statistics.median(seconds)
        print(f"{name:60} {n / median:10,.0f} items/s a core   {median / bare:6.2f} × bare")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB")


if __name__ == "__main__":
    main()
