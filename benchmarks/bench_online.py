"""The online view beside the bare LMDB that holds it: one id, many ids, refreshing it, reading it from processes.

    python benchmarks/bench_online.py [ITEMS] [--attributes N] [--readers N]

Every ratio is measured in this one run, both sides taking turns, as the median of five. Single look-ups are timed one
by one; bulk ones by the processor time of one core, with Python's collector on. The bare engine reads the same bytes
from the same file by keys made before, and decodes them by the same decoder.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pyarrow as pa

from lore_mm.rows import attributes_table, item_to_row, provenance_to_row
from lore_mm.tables import ITEMS
from lore_mm.types import AttributeValue, Evidence, Item, ItemFeatures, Provenance
from stores.features import FeatureStore, open_store
from stores.online import OnlineView, open_databases, open_online
from stores.online_check import check_online
from stores.online_codec import collector_paused, key_of
from stores.online_write import build_online, refresh_online
from stores.snapshot import Snapshot

__all__ = ["filled_store", "item", "say", "verdict"]

COLORS = ("red", "black", "white", "green", "blue")
_CHUNK = 25_000
READER = """
import random, sys, time
from stores.features import open_store
from stores.online import open_online
view, n, seconds = open_online(open_store(sys.argv[1])), int(sys.argv[2]), float(sys.argv[3])
ids = [f"item-{i}" for i in random.Random().choices(range(n), k=20_000)]
print("ready", flush=True)
sys.stdin.readline()
done, end = 0, time.perf_counter() + seconds
while time.perf_counter() < end:
    for item_id in ids[done % 20_000:][:100]:
        view.get([item_id])
    done += 100
print(done / seconds)
"""


def say(what: str, ratio: float, detail: str) -> None:
    """One JSON line a claim."""
    print(json.dumps({"claim": what, "ratio": round(ratio, 3), "detail": detail}, ensure_ascii=False), flush=True)


def item(i: int, words: str = "thing") -> Item:
    """An item as a shop has it: a short title, a sentence or three, a price."""
    return Item(
        f"item-{i}",
        f"{COLORS[i % 5]} {words} number {i}",
        f"A thing of the {i % 97}th kind, made with care. " * 3,
        brand=f"Brand {i % 53}",
        attributes={"material": ("leather", "rubber")},
        price=float(i % 101),
    )


def verdict(i: int, n: int) -> tuple[AttributeValue, ...]:
    """So many merged values of item i; from the third on with two pieces of evidence each."""
    seen = (
        Evidence("title", COLORS[i % 5], 0, 3, confidence=0.9, extractor="given"),
        Evidence("image:0", region=(0.0, 0.25, 0.5, 1.0), confidence=0.5, extractor="palette"),
    )
    values = (
        AttributeValue("color", "color", COLORS[i % 5], share=0.5, confidence=0.9, extractor="palette"),
        AttributeValue("height", "spec", f"{i % 40} cm", number=float(i % 40), unit="cm", extractor="given"),
        *(AttributeValue(f"more {k}", "style", COLORS[k % 5], confidence=0.8, evidence=seen) for k in range(n - 2)),
    )
    return values[:n]


def filled_store(folder: Path, n: int, n_values: int) -> FeatureStore:
    """A store of n items with a verdict on each."""
    store = open_store(folder, create=True)
    for start in range(0, n, _CHUNK):
        append(store, range(start, min(n, start + _CHUNK)), n_values)
    return store


def append(store: FeatureStore, numbers: range, n_values: int, words: str = "thing") -> None:
    """Write these items, and the verdicts on them."""
    provenance = provenance_to_row(Provenance(run_id="bench", maker="bench", input_sha="0" * 64))
    fixed = {"image_root": None, "status": "ok", "error": None, "provenance": provenance}
    store.append("items", pa.Table.from_pylist([item_to_row(item(i, words)) | fixed for i in numbers], schema=ITEMS))
    merged = {"extractor": "merge", "category": "thing", "status": "ok", "error": None, "provenance": Provenance()}
    rows = ({"item_id": f"item-{i}", "attributes": verdict(i, n_values), **merged} for i in numbers)
    store.append("attributes", attributes_table(rows))


def processor_seconds(*calls: Callable[[], object], runs: int = 5) -> list[float]:
    """The median processor time of each call; they take turns."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(runs):
        for call, taken in zip(calls, times, strict=True):
            gc.collect()
            start = time.process_time()
            kept = call()
            taken.append(time.process_time() - start)
            del kept
    return [statistics.median(taken) for taken in times]


class Bare:
    """LMDB and msgspec alone, over the file of a view."""

    def __init__(self, view: OnlineView) -> None:
        self.environment = view.environment
        self.database = open_databases(view.environment)[0]
        self.decode = msgspec.msgpack.Decoder(ItemFeatures).decode

    def one(self, key: bytes) -> ItemFeatures:
        """One get, in a transaction of its own."""
        with self.environment.begin() as transaction:
            return self.decode(transaction.get(key, None, self.database))

    def many(self, keys: list[bytes]) -> list[ItemFeatures]:
        """Many gets, in one transaction."""
        with self.environment.begin() as transaction:
            return [self.decode(transaction.get(key, None, self.database)) for key in keys]


def each_us(call: Callable[[object], object], asked: list[object]) -> list[float]:
    """How long each call took, in microseconds."""
    clock, taken = time.perf_counter_ns, []
    for one in asked:
        start = clock()
        call(one)
        taken.append((clock() - start) / 1e3)
    return taken


def bench_single(snapshot: Snapshot, bare: Bare, ids: list[str], n: int) -> None:
    """One id at a time, by lot: through `Snapshot.get`, and from LMDB."""
    keys = [key_of(item_id) for item_id in ids]
    if [snapshot.get([item_id])[0] for item_id in ids[:500]] != [bare.one(key) for key in keys[:500]]:
        raise SystemExit("the view and bare LMDB differ")
    ours: list[list[float]] = []
    theirs: list[list[float]] = []
    for _ in range(5):
        for kept, call, asked in ((ours, lambda i: snapshot.get([i]), ids), (theirs, bare.one, keys)):
            taken = each_us(call, asked)  # type: ignore[arg-type]
            kept.append([statistics.median(taken), statistics.quantiles(taken, n=100)[98]])
    (p50, p99), (bare50, bare99) = ([statistics.median(c) for c in zip(*kept, strict=True)] for kept in (ours, theirs))
    detail = f"{n} items: p50 {p50:.1f} µs, p99 {p99:.1f} µs; bare p50 {bare50:.1f} µs, p99 {bare99:.1f} µs"
    say("one id: p50 through Snapshot.get / LMDB get and decode of the same bytes", p50 / bare50, detail)


def bench_bulk(snapshot: Snapshot, bare: Bare, ids: list[str], n: int) -> None:
    """Many ids in one call, and a thousand a call; full dataclasses on both sides."""
    keys = [key_of(item_id) for item_id in ids]

    def paused() -> object:
        with collector_paused():
            return bare.many(keys)

    def in_thousands() -> None:
        for start in range(0, len(ids), 1_000):
            snapshot.get(ids[start : start + 1_000])

    all_at_once, thousands, quiet, plain = processor_seconds(
        lambda: snapshot.get(ids), in_thousands, paused, lambda: bare.many(keys)
    )
    rate = len(ids)
    detail = (
        f"{n} items, {rate} ids a call: {rate / all_at_once:,.0f} ids/s; a thousand a call: {rate / thousands:,.0f}"
    )
    say("bulk: Snapshot.get / LMDB get and decode, its collector off too, ids per second", quiet / all_at_once, detail)
    detail = f"{rate / plain:,.0f} ids/s bare with Python's collector on"
    say("bulk: Snapshot.get / LMDB get and decode, collector on, ids per second", plain / all_at_once, detail)


def bench_refresh(store: FeatureStore, n: int, n_values: int) -> None:
    """One per cent of the items written again, the view refreshed; beside all of it built anew."""
    refreshed: list[float] = []
    for turn in range(3):
        append(store, range(turn * n // 3, turn * n // 3 + max(1, n // 100)), n_values, f"thing of turn {turn}")
        start = time.perf_counter()
        made = refresh_online(store)
        refreshed.append(time.perf_counter() - start)
        if made.anew is not None:
            raise SystemExit(f"built anew: {made.anew}")
    start = time.perf_counter()
    checked = check_online(store)
    compared = time.perf_counter() - start
    if checked.different:
        raise SystemExit("\n".join(checked.first))
    start = time.perf_counter()
    build_online(store)
    built = time.perf_counter() - start
    once = statistics.median(refreshed)
    detail = f"{n} items: {once:.2f} s, anew {built:.1f} s; compared with the tables, all of it: {compared:.1f} s"
    say("refresh of 1 % of the items / building anew, times as fast", built / once, detail)


def bench_readers(store: FeatureStore, n: int, readers: int, seconds: float = 3.0) -> None:
    """Processes that read one id at a time, one of them and several."""

    def rate(of: int) -> float:
        command = [sys.executable, "-c", READER, store.uri, str(n), str(seconds)]
        root = Path(__file__).parents[1]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": root}
        started = [subprocess.Popen(command, **pipes) for _ in range(of)]  # type: ignore[call-overload]
        for one in started:
            one.stdout.readline()
        for one in started:
            one.stdin.write("go\n")
            one.stdin.flush()
        return sum(float(one.communicate()[0]) for one in started)

    alone, together = rate(1), rate(readers)
    say(f"{readers} reading processes / one, ids per second", together / alone, f"{together:,.0f} ids/s, {alone:,.0f}")


def views(n: int, n_values: int) -> Iterator[FeatureStore]:
    """A store with its view, gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        store = filled_store(Path(folder) / "store", n, n_values)
        build_online(store)
        yield store


def main() -> None:
    """Run it all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("items", nargs="?", type=int, default=100_000)
    parser.add_argument("--attributes", type=int, default=2, help="merged values an item (2)")
    parser.add_argument("--readers", type=int, default=2, help="reading processes (2)")
    asked = parser.parse_args()
    n = asked.items
    for store in views(n, asked.attributes):
        lots = random.Random(0)
        snapshot, bare = Snapshot(store), Bare(open_online(store))
        size = len(bare.environment.begin().get(key_of("item-0"), None, bare.database))
        print(json.dumps({"items": n, "values an item": asked.attributes, "bytes an entry": size}), flush=True)
        bench_single(snapshot, bare, [f"item-{i}" for i in lots.choices(range(n), k=5_000)], n)
        bench_bulk(snapshot, bare, [f"item-{i}" for i in lots.choices(range(n), k=min(n, 100_000))], n)
        del snapshot, bare
        bench_refresh(store, n, asked.attributes)
        bench_readers(store, n, asked.readers)


if __name__ == "__main__":
    main()
