"""Claim: the knowledge tables read thousands of queries and items a second on one core, without a model.

    OMP_NUM_THREADS=1 python benchmarks/bench_understanding.py [--file FILE …] [--queries N] [--items N]

Prints queries/s and items/s in processor time, the best of several rounds over distinct queries, and what the stages of
the knowledge engine cost of it. Queries and items are made from the knowledge tables by a seeded generator, so that the
figure needs no data; `--file` reads real ones: a query a line, or JSON lines with `tokens` (as QueryNER's) or `query`.
Queries of at most six words are short, the others long.

Machines differ and are shared, so each figure has a physical reference of the same run beside it: lower case, a split
at blanks and a look-up in a dict for each word of the same queries. `x reference` is how many times that it takes.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from extractors.given import Given
from extractors.protocol import ExtractorInput
from extractors.query.knowledge import KnowledgeEngine
from lore_mm.knowledge import Knowledge, load_knowledge
from lore_mm.mentions import scanner_for
from lore_mm.schema import load_schemas
from lore_mm.types import Item, Query

SHORT = 6  # words of a short query, at most
BATCH = 1024  # queries read at once; the results of a batch are dropped with it
EVERY = 0.001  # seconds of processor time between two looks at what is running


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


def read_queries(path: Path) -> list[str]:
    """The queries of a file, one a line: plain text, or JSON with `tokens` or `query`."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("{"):
            row = json.loads(line)
            line = " ".join(row["tokens"]) if "tokens" in row else row["query"]
        if line.strip():
            found.append(line)
    return found


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


def seconds(work: Callable[[], object], rounds: int = 1) -> float:
    """Processor time of the quickest round."""
    taken = []
    for _ in range(rounds):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return min(taken)


def read_all(engine: KnowledgeEngine, queries: Sequence[Query]) -> None:
    """Understand all queries, batch by batch; each must be read."""
    for n in range(0, len(queries), BATCH):
        assert all(u.status == "ok" for u in engine.understand(queries[n : n + BATCH]))


def look_up(texts: Sequence[str], known: dict[str, int]) -> None:
    """The physical reference: every word of every query, looked up."""
    for text in texts:
        [known.get(word) for word in text.lower().split()]


def stages(engine: KnowledgeEngine, queries: Sequence[Query]) -> Counter[str]:
    """How often each function that the engine calls for a query was found running; sampled, for timers would weigh."""
    found: Counter[str] = Counter()

    def look(_: int, frame: FrameType | None) -> None:
        names = []
        while frame is not None and frame.f_code.co_name != "_understand":
            names.append(frame.f_code.co_name)
            frame = frame.f_back
        named = [name for name in names if not name.startswith("<")]
        found["around it" if frame is None else named[-1] if named else "itself"] += 1

    before = signal.signal(signal.SIGPROF, look)
    signal.setitimer(signal.ITIMER_PROF, EVERY, EVERY)
    try:
        read_all(engine, queries)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    return found


def report_queries(name: str, texts: Sequence[str], engine: KnowledgeEngine, rounds: int) -> None:
    """Measure distinct queries and print."""
    queries = [Query(str(i), text) for i, text in enumerate(texts)]
    known = {word: i for i, word in enumerate(sorted({w for text in texts for w in text.lower().split()}))}
    first = seconds(lambda: read_all(engine, queries))
    best = seconds(lambda: read_all(engine, queries), rounds)
    reference = seconds(lambda: look_up(texts, known), rounds)
    n, words = len(texts), sum(len(text.split()) for text in texts)
    print(f"{name}: {n:,} distinct queries of {words / n:.1f} words")
    print(f"  understand   {n / best:8,.0f} queries/s/core; {n / first:,.0f} on words not seen before")
    print(f"  reference    {n / reference:8,.0f} queries/s/core; understand takes {best / reference:.0f} x reference")
    found = stages(engine, queries)
    total = max(sum(found.values()), 1)
    print("  stages       " + ", ".join(f"{stage} {count / total:.0%}" for stage, count in found.most_common(12)))


def report_items(knowledge: Knowledge, texts: list[str], n: int) -> None:
    """Measure the extractor `given`, which reads with the same scanner, and print."""
    items = make_items(knowledge, texts[:60] * (n // 60 + 1))[:n]  # a shop has many of a kind
    given = Given(knowledge, load_schemas())
    given.extract([ExtractorInput(items[0])])
    inputs = [ExtractorInput(item) for item in items]
    taken = seconds(lambda: given.extract(inputs), 2)
    assert all(e.status == "ok" for e in given.extract(inputs))
    print(f"given, 300-character text: {n / taken:,.0f} items/s/core")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, action="append", default=[])
    parser.add_argument("--queries", type=int, default=5000)
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    knowledge = load_knowledge()
    print(f"trie compiled once in {seconds(lambda: scanner_for(knowledge)):.2f} s")
    engine = KnowledgeEngine(knowledge)
    made = make_queries(knowledge, args.queries, random.Random(args.seed))
    read_all(engine, [Query("0", "red shoes size 42 under $50 without laces")])  # tables are read at the first query
    texts = dict.fromkeys([q for path in args.file for q in read_queries(path)] or made)
    for name, some in (
        ("short", [t for t in texts if len(t.split()) <= SHORT]),
        ("long", [t for t in texts if len(t.split()) > SHORT]),
    ):
        if some:
            report_queries(name, some, engine, args.rounds)
    report_items(knowledge, made, args.items)


if __name__ == "__main__":
    main()
