"""Claim: what the first engine of a cascade is sure of it reads right far oftener than what it hands on.

    python benchmarks/bench_cascade.py [--first knowledge] [--gold examples/queries/gold.jsonl] [--split dev]

Prints for several thresholds of confidence: the share of queries that go on to the next engine, and of those that stay
and those that go on the share read without any fault (`exact`), with the right head, and demands' precision and recall.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from extractors.queries import open_engine
from extractors.query.cascade import SURE, sure
from jobs.query_scoring import QueryScore, score_demands
from lore_mm.datasets.query_sets import read_gold
from lore_mm.types import Query

THRESHOLDS = (0.0, 0.5, SURE, 0.8, 0.9, 1.0)


def told(scores: Sequence[QueryScore]) -> str:
    """The figures of some queries in a line."""
    exact = sum(one.shares["exact"].right for one in scores)
    heads = [one.shares["head"] for one in scores if "head" in one.shares]
    demands = [one.tallies["demand"] for one in scores]
    head = sum(h.right for h in heads) / max(sum(h.n for h in heads), 1)
    precision = sum(d.right for d in demands) / max(sum(d.said for d in demands), 1)
    recall = sum(d.found for d in demands) / max(sum(d.true for d in demands), 1)
    whole = exact / max(len(scores), 1)
    return f"{len(scores):4} queries: exact {whole:.3f}  head {head:.3f}  demands P {precision:.3f} R {recall:.3f}"


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", default="knowledge", help="address of the first engine")
    parser.add_argument("--gold", type=Path, default=Path("examples/queries/gold.jsonl"))
    parser.add_argument("--split", default="dev")
    options = parser.parse_args()
    gold = [one for one in read_gold(options.gold) if one.split == options.split]
    engine = open_engine(options.first)
    found = engine.understand([Query(one.query_id, one.text) for one in gold])
    engine.close()
    scored = [score_demands(one, reading) for one, reading in zip(gold, found, strict=True)]
    for threshold in THRESHOLDS:
        stays = [sure(reading, threshold) for reading in found]
        print(f"threshold {threshold:g}: {1 - sum(stays) / len(stays):.0%} go on")
        print("  stay ", told([score for score, settled in zip(scored, stays, strict=True) if settled]))
        print("  go on", told([score for score, settled in zip(scored, stays, strict=True) if not settled]))


if __name__ == "__main__":
    main()
