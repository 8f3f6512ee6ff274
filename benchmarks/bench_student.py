"""Pairs judged per second in mode `student`, and where the time goes: rules, texts and features, the bare model.

Pairs are those of the demo catalogue, every query against every item, in an order of their own, so that a batch has
several queries and items. Shares are measured in one run, by turns, on however many cores OMP_NUM_THREADS gives; pairs
a second depend on the machine. "bare session" is onnxruntime alone on the tensors that judging these pairs makes: what
is left when all else were free. Without the shipped weights, or --folder with others, there is nothing to measure.

    python benchmarks/bench_student.py
    python benchmarks/bench_student.py --folder DIR --threads 2
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from extractors.given import Given
from extractors.protocol import ExtractorInput
from extractors.queries import understand
from lore_mm.catalogue import read_items, read_queries
from lore_mm.console import command_app, run
from lore_mm.knowledge import Knowledge, load_knowledge
from lore_mm.models.cross_encoder import FOLDER
from lore_mm.rows import item_from_row
from lore_mm.schema import load_schemas
from lore_mm.types import ItemFeatures, Judgment, Query
from relevance.by_student import StudentJudge, open_student
from relevance.pair_text import item_text
from relevance.path_features import features_of_pairs
from relevance.protocol import Pair

DEMO = Path(__file__).parent.parent / "examples" / "demo"
BATCHES = (1, 100, 1000)
ROUNDS = 3


def demo_pairs(knowledge: Knowledge, most: int) -> list[Pair]:
    """Pairs of the demo catalogue, shuffled; they are repeated where there are fewer."""
    items = [item_from_row(row) for table in read_items(DEMO / "items.jsonl") for row in table.to_pylist()]
    found = Given(knowledge, load_schemas()).extract([ExtractorInput(item) for item in items])
    features = [ItemFeatures(item, one.attributes) for item, one in zip(items, found, strict=True)]
    rows = read_queries(DEMO / "queries.jsonl").to_pylist()
    understood = understand([Query(row["query_id"], row["query"]) for row in rows], knowledge)
    pairs = [(u, f) for u in understood if u.demands for f in features]
    random.Random(0).shuffle(pairs)
    return (pairs * (most // len(pairs) + 1))[:most]


def bare(judge: StudentJudge, batches: Sequence[Sequence[Pair]]) -> tuple[Callable[[], None], float]:
    """The session alone, on the tensors that judging these pairs makes; and how many pieces a pair has."""
    inputs: list[dict[str, Any]] = []
    encoder, session = judge.encoder, judge.encoder._session

    class Kept:
        def run(self, names: None, given: dict[str, Any]) -> Any:
            inputs.append(given)
            return session.run(names, given)

    encoder._session = Kept()
    for batch in batches:
        judge.judge(batch)
    encoder._session = session
    pieces = sum(given["ids"].size for given in inputs) / sum(map(len, batches))
    return lambda: [session.run(None, given) for given in inputs] and None, pieces


def timed(ways: dict[str, Callable[[], None]]) -> dict[str, float]:
    """The best of several rounds, in seconds; the ways take turns, so that a busy machine is as busy for each."""
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(ROUNDS):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def main(
    folder: Annotated[Path | None, typer.Option(help="A student's folder; the shipped one unless given.")] = None,
    pairs: Annotated[
        int, typer.Option(min=1000, help="Pairs measured at batches of 100 and 1000; a tenth at 1.")
    ] = 2000,
    threads: Annotated[int, typer.Option(min=1, help="Of the model.")] = 1,
) -> None:
    """Print pairs a second and the shares.

    python benchmarks/bench_student.py --pairs 4000
    """
    if not ((folder or FOLDER) / "model.onnx").is_file():
        raise SystemExit(f"no student in {folder or FOLDER}")
    knowledge = load_knowledge()
    judge = open_student("student", folder, knowledge, threads=threads)
    every = demo_pairs(knowledge, pairs)
    judge.judge(every)  # fills the caches of relations
    print(f"{judge.encoder.name}, {threads} thread(s); the best of {ROUNDS} rounds")
    print(f"{'batch':>6} {'pairs/s':>9} {'pieces':>7} {'bare session':>13} {'rules':>7} {'text, features':>15}")
    for size in BATCHES:
        some = every if size > 1 else every[: pairs // 10]
        batches = [some[i : i + size] for i in range(0, len(some), size)]
        session, pieces = bare(judge, batches)
        walked = [judge.rules.judge(batch) for batch in batches]

        def judged(batches: list[list[Pair]] = batches) -> None:
            for batch in batches:
                judge.judge(batch)

        def ruled(batches: list[list[Pair]] = batches) -> None:
            for batch in batches:
                judge.rules.judge(batch)

        def told(batches: list[list[Pair]] = batches, walked: list[list[Judgment]] = walked) -> None:
            for batch, judgments in zip(batches, walked, strict=True):
                for features in {id(f): f for _, f in batch}.values():
                    item_text(features)
                features_of_pairs(batch, judgments)

        best = timed({"judge": judged, "bare": session, "rules": ruled, "told": told})
        shares = [best[name] / best["judge"] for name in ("bare", "rules", "told")]
        print(
            f"{size:>6} {len(some) / best['judge']:>9,.0f} {pieces:>7.1f} "
            f"{shares[0]:>13.0%} {shares[1]:>7.0%} {shares[2]:>15.0%}"
        )


if __name__ == "__main__":
    run(command_app(main, "python benchmarks/bench_student.py"))
