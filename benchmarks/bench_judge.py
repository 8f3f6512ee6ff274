"""Pairs judged per second and core in mode `rules`, on the demo catalogue: every query against every item.

Run: python benchmarks/bench_judge.py

What is timed is `RulesJudge.judge`: steps once a query, text once an item, a path and a decision for every pair.
Reading queries and items is not in it. The figure below it is `decide` alone, path by path.
"""

from __future__ import annotations

import time
from pathlib import Path

from extractors.given import Given
from extractors.protocol import ExtractorInput
from extractors.queries import understand
from lore_mm.catalogue import read_items, read_queries
from lore_mm.knowledge import load_knowledge
from lore_mm.rows import item_from_row
from lore_mm.schema import load_schemas
from lore_mm.types import ItemFeatures, Query
from relevance.by_rules import RulesJudge
from relevance.rules import decide

DEMO = Path(__file__).parent.parent / "examples" / "demo"
SECONDS = 3.0


def main() -> None:
    """Print the rates."""
    knowledge = load_knowledge()
    items = [item_from_row(row) for table in read_items(DEMO / "items.jsonl") for row in table.to_pylist()]
    found = Given(knowledge, load_schemas()).extract([ExtractorInput(item) for item in items])
    features = [ItemFeatures(item, one.attributes) for item, one in zip(items, found, strict=True)]
    rows = read_queries(DEMO / "queries.jsonl").to_pylist()
    understood = understand([Query(row["query_id"], row["query"]) for row in rows], knowledge)
    pairs = [(u, f) for u in understood for f in features]
    judge = RulesJudge(knowledge)

    start = time.perf_counter()
    judgments = judge.judge(pairs)
    first = time.perf_counter() - start
    rounds, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        judge.judge(pairs)
        rounds += 1
    again = (time.perf_counter() - start) / rounds
    paths = [j.path for j in judgments if j.path]
    start = time.perf_counter()
    for path in paths:
        decide(path, judge.rulebook)
    decided = time.perf_counter() - start
    print(f"{len(pairs)} pairs of {len(understood)} queries and {len(features)} items")
    print(f"judge, first time   {len(pairs) / first:10,.0f} pairs/s/core (fills the caches of relations)")
    print(f"judge               {len(pairs) / again:10,.0f} pairs/s/core")
    print(f"decide alone        {len(paths) / decided:10,.0f} paths/s/core")


if __name__ == "__main__":
    main()
