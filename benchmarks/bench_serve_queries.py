"""Queries served from the online view, beside the bare engine that holds them and beside reading them anew.

    python benchmarks/bench_serve_queries.py [QUERIES]

Look-ups by text through `OnlineView.understood` against a bare LMDB get of the same bytes with the same decoding, and
against the knowledge engine reading the queries again. Each figure is the processor time of one core, the median of
five runs, the sides taking turns. The queries are made of words that the tables know.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from bench_online import say

from extractors.query.knowledge import KnowledgeEngine
from lore_mm.knowledge import load_knowledge
from lore_mm.rows import demands_table
from lore_mm.types import Provenance, Query, Understanding
from stores.features import FeatureStore, open_store
from stores.online import DATABASES, open_databases
from stores.online_codec import collector_paused, key_of
from stores.online_write import build_online
from stores.snapshot import Snapshot
from stores.understood import Understood, query_key

HEADS = "running shoes|sofa|lamp|laptop|backpack|coffee maker|dress|headphones|desk|tent".split("|")
WORDS = "red|black|cotton|leather|nike|for kids|under 50 dollars|size 42|without laces|vintage|waterproof|2 pack".split(
    "|"
)
ASKED = 5_000  # look-ups a run


def seconds(*calls: Callable[[], object], runs: int = 5) -> list[float]:
    """The median processor time of each call; they take turns."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(runs):
        for call, taken in zip(calls, times, strict=True):
            start = time.process_time()
            call()
            taken.append(time.process_time() - start)
    return [statistics.median(taken) for taken in times]


def queries(n: int) -> list[Query]:
    """Different queries of a thing and one to four words on it, and a number that makes each another one."""
    lots = random.Random(0)
    return [
        Query(f"q{i}", " ".join([*lots.sample(WORDS, lots.randint(1, 4)), lots.choice(HEADS), f"mk{i}"]))
        for i in range(n)
    ]


def bench_view(store: FeatureStore, texts: list[str]) -> None:
    """The view beside a bare get and decode of the same bytes, by keys made before."""
    view = build_online(store)
    keys = [key_of(query_key(text)) for text in texts]
    size = view.manifest.bytes / view.queries
    database = open_databases(view.environment)[DATABASES.index("queries")]
    decode = msgspec.msgpack.Decoder(Understood).decode

    def bare() -> list[Understanding]:
        with view.environment.begin() as transaction, collector_paused():
            return [decode(transaction.get(key, None, database)).understanding for key in keys]

    def bytes_only() -> list[object]:
        with view.environment.begin() as transaction:
            return [transaction.get(key, None, database) for key in keys]

    if view.understood(texts) != bare():
        raise SystemExit("the view and the bare engine give other understandings")
    ours, theirs, least = seconds(lambda: view.understood(texts), bare, bytes_only)
    each = f"{1e6 * ours / len(texts):.1f} µs each, {len(texts) / ours:,.0f}/s; {size:,.0f} bytes a query on disk"
    say("served by text / LMDB get and decode of the same bytes, look-ups per second", theirs / ours, each)
    say("served by text / LMDB get of the bytes alone", least / ours, f"{len(texts) / least:,.0f} gets/s")


def bench_reading(store: FeatureStore, texts: list[str]) -> None:
    """Served, beside read anew by the fastest engine there is; and found in the tables, without a view."""
    engine = KnowledgeEngine(load_knowledge())
    again = [Query("", text) for text in texts]
    snapshot = Snapshot(store)
    ours, theirs = seconds(lambda: snapshot.understood(texts), lambda: engine.understand(again), runs=3)
    say(
        "served by text / read anew by the tables, queries per second",
        theirs / ours,
        f"{len(texts) / theirs:,.0f}/s anew",
    )
    spaced = [f" {text.upper()}  " for text in texts]
    moved = seconds(lambda: snapshot.understood(spaced))[0]
    say("served in other case and spaces / in the very words", ours / moved, f"{1e6 * moved / len(texts):.1f} µs each")


def bench_without_view(store: FeatureStore, texts: list[str]) -> None:
    """The table alone: the first call scans the texts, the next ones look them up."""
    (store.folder or Path()).joinpath("online", "current").unlink()
    snapshot = Snapshot(store)
    first = seconds(lambda: snapshot.understood(texts[:1]), runs=1)[0]
    later = seconds(lambda: snapshot.understood(texts[:100]))[0]
    say("without a view, one look-up: the first / a hundred later", later / first, f"{first:.2f} s, then {later:.3f} s")


def main() -> None:
    """Run it all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("queries", nargs="?", type=int, default=50_000)
    n = parser.parse_args().queries
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder) / "store", create=True)
        log = queries(n)
        read = KnowledgeEngine(load_knowledge()).understand(log)
        for start in range(0, n, 8192):
            store.append("demands", demands_table(read[start : start + 8192], Provenance(maker="bench")))
        texts = [q.text for q in random.Random(1).choices(log, k=ASKED)]
        del log, read  # or the collector looks through them again and again
        gc.collect()
        bench_view(store, texts)
        bench_reading(store, texts)
        bench_without_view(store, texts)


if __name__ == "__main__":
    main()
