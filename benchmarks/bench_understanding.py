"""Claim: the knowledge tables read thousands of queries and items a second on one core, without a model.

    python benchmarks/bench_understanding.py [--queries N] [--items N]

Prints queries/s and items/s in processor time of this run, and the share of it that the scanner takes. Queries and
items are made from the knowledge tables by a seeded generator, so that the figure needs no data.
"""

from __future__ import annotations

import argparse
import random
import time

from extractors.given import Given
from extractors.protocol import ExtractorInput
from extractors.queries import understand
from lore_mm.knowledge import Knowledge, load_knowledge
from lore_mm.mentions import scanner_for
from lore_mm.schema import load_schemas
from lore_mm.types import Item, Query


def make_queries(knowledge: Knowledge, n: int, rng: random.Random) -> list[str]:
    """Queries of two to six words: colour, brand, material, thing, sometimes a size, a bound or a negation."""
    colors, brands = list(knowledge.colors), list(knowledge.brands)
    things = [c.name for c in knowledge.categories.values()]
    materials = list(knowledge.materials)
    tails = ["", "", " size 42", " under $50", " without logo", " for men", " 13 inch", " 500 ml", " blorbo x500z"]
    made = []
    for _ in range(n):
        words = [rng.choice(colors)] if rng.random() < 0.5 else []
        words += [rng.choice(brands)] if rng.random() < 0.5 else []
        words += [rng.choice(materials)] if rng.random() < 0.3 else []
        made.append(" ".join([*words, rng.choice(things)]) + rng.choice(tails))
    return made


def make_items(knowledge: Knowledge, queries: list[str]) -> list[Item]:
    """Items with a title like a query and a description of about 300 characters."""
    text = (
        "A durable and lightweight companion for every day, made of 80% cotton and 20% linen. Measures 40 x 60 cm, "
        "weighs 1.2 kg. The adjustable strap keeps it in place; batteries not included. Comes in a gift box with a two "
        "year warranty and is easy to clean. Available in navy blue, off-white and black."
    )
    return [
        Item(str(i), q.title(), text, "Home & Garden > Furniture", "Nike", {"color": ("black",), "size": ("42",)}, 9.99)
        for i, q in enumerate(queries)
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=5000)
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    knowledge = load_knowledge()
    rng = random.Random(args.seed)
    texts = make_queries(knowledge, args.queries, rng)
    started = time.process_time()
    scanner = scanner_for(knowledge)
    compiled = time.process_time() - started
    understand([Query("0", texts[0])], knowledge)

    started = time.process_time()
    for text in texts:
        scanner.find(text)
    scan = time.process_time() - started
    started = time.process_time()
    results = understand([Query(str(i), text) for i, text in enumerate(texts)], knowledge)
    whole = time.process_time() - started
    assert all(u.status == "ok" for u in results)

    items = make_items(knowledge, texts[:60] * (args.items // 60 + 1))[: args.items]  # a shop has many of a kind
    given = Given(knowledge, load_schemas())
    given.extract([ExtractorInput(items[0])])
    started = time.process_time()
    extractions = given.extract([ExtractorInput(item) for item in items])
    parse = time.process_time() - started
    assert all(e.status == "ok" for e in extractions)

    print(f"trie compiled once in          {compiled:8.2f} s")
    print(
        f"understand                     {len(texts) / whole:8,.0f} queries/s/core ({scan / whole:.0%} of it scanning)"
    )
    print(f"given, 300-character text      {len(items) / parse:8,.0f} items/s/core")


if __name__ == "__main__":
    main()
