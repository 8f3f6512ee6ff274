"""Stored paths graded again per second and core: `relevance.regrade` over columns, beside `decide` path by path.

Run: python benchmarks/bench_regrade.py

The paths are those of the demo's queries against its items, repeated, in a store in a temporary folder; the rulebook is
the shipped one with a stricter colour. Processor time of this process is counted, over all its threads: a rate a core,
whatever else the machine does. "decide" is given paths that are objects already; "rows → objects → decide" is the loop
over stored rows that regrading replaces.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from extractors.given import Given
from extractors.protocol import ExtractorInput
from extractors.queries import understand
from jobs.regrade import regrade_judgments
from lore_mm.catalogue import read_items, read_queries
from lore_mm.knowledge import load_knowledge
from lore_mm.rows import item_from_row, judgment_from_row, judgments_table
from lore_mm.schema import load_schemas
from lore_mm.types import ItemFeatures, Query
from relevance.by_rules import RulesJudge
from relevance.regrade import regrade
from relevance.rules import DEFAULT_RULES, Rulebook, decide, load_rulebook
from stores.features import FeatureStore, open_store

DEMO = Path(__file__).parent.parent / "examples" / "demo"
ROWS = 200_000
BATCH = 16_384


def demo_judgments() -> pa.Table:
    """JUDGMENTS of every query of the demo against every item, by the rules."""
    knowledge = load_knowledge()
    items = [item_from_row(row) for table in read_items(DEMO / "items.jsonl") for row in table.to_pylist()]
    found = Given(knowledge, load_schemas()).extract([ExtractorInput(item) for item in items])
    features = [ItemFeatures(item, one.attributes) for item, one in zip(items, found, strict=True)]
    rows = read_queries(DEMO / "queries.jsonl").to_pylist()
    understood = understand([Query(row["query_id"], row["query"]) for row in rows], knowledge)
    judged = RulesJudge(knowledge).judge([(u, f) for u in understood for f in features])
    return judgments_table(one for one in judged if one.path)


def fill(store: FeatureStore, judgments: pa.Table) -> int:
    """Put the judgments into a store again and again, each time of other items; how many there are."""
    n = 0
    while n < ROWS:
        ids = pa.array([f"{item_id}/{n}" for item_id in judgments.column("item_id").to_pylist()], pa.string())
        store.append("judgments", judgments.set_column(1, judgments.schema.field("item_id"), ids))
        n += judgments.num_rows
    return n


def stricter(folder: Path) -> Rulebook:
    """The shipped rulebook, but a colour on less than half of the item breaks the demand."""
    text = DEFAULT_RULES.read_text(encoding="utf-8")
    start = text.index("[rules.color.share_some]")
    end = text.index("[rules.", start + 1)
    file = folder / "rules.toml"
    file.write_text(text[:start] + text[start:end].replace('"L3"', '"L2"') + text[end:], encoding="utf-8")
    return load_rulebook(file)


def rate(n: int, work: Callable[[], object]) -> float:
    """Rows a second of processor time."""
    start = time.process_time()
    work()
    return n / (time.process_time() - start)


def main() -> None:
    """Print the rates."""
    pa.set_cpu_count(1)
    some = demo_judgments()
    with tempfile.TemporaryDirectory() as folder:
        store, rulebook = open_store(Path(folder) / "store", create=True), stricter(Path(folder))
        n = fill(store, some)
        stored = [pa.Table.from_batches([batch]) for batch in store.batches("judgments", rows=BATCH)]
        rows = some.to_pylist()
        paths = [path for row in rows if (path := judgment_from_row(row).path)]
        print(f"{n} stored paths, {sum(len(path.legs) for path in paths) / len(paths):.1f} legs each")

        def by_columns() -> None:
            for batch in stored:
                regrade(batch, rulebook)

        def read() -> None:
            for batch in store.batches("judgments", rows=BATCH):
                regrade(pa.Table.from_batches([batch]), rulebook)

        def loop() -> None:
            for row in some.to_pylist():
                if path := judgment_from_row(row).path:
                    decide(path, rulebook)

        by_columns()
        columns = rate(n, by_columns)
        objects = rate(len(paths), lambda: [decide(path, rulebook) for path in paths])
        print(f"regrade                   {columns:10,.0f} paths/s/core, × {columns / objects:.1f} of decide")
        print(f"regrade, reading included {rate(n, read):10,.0f} paths/s/core")
        print(f"decide                    {objects:10,.0f} paths/s/core")
        print(f"rows → objects → decide   {rate(len(paths), loop):10,.0f} paths/s/core")
        job = rate(n, lambda: regrade_judgments(store, rulebook))
        print(f"lore regrade              {job:10,.0f} judgments/s/core: reads, compares, writes, commits")


if __name__ == "__main__":
    main()
