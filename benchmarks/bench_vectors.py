"""Vector search through the store over the bare FAISS index beneath it: each line a ratio measured in this one run.

    python benchmarks/bench_vectors.py [N] [WIDTH] [--kind flat|hnsw|ivfpq]

The bare index is the same index at the same settings; of ivfpq, FAISS's own `IndexRefine` with the float vectors in
memory, of flat an `IndexFlatIP`. Higher is better (1.00 is the bare index). Each figure is the median of several rounds
in which the two take turns, one after the other in both orders; with one thread in seconds of the processor, so that a
machine that is busy with something else does not matter, with several in those of the clock. Vectors are clustered,
with as many groups as a large shop has kinds of goods, and queries lie near stored ones, as titles of like goods do.
One thread unless --threads says otherwise.
"""

from __future__ import annotations

import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import typer
from numpy.typing import NDArray

from stores.vector_build import build_from, update_index
from stores.vector_files import load_faiss
from stores.vector_kinds import Kind, choose_kind
from stores.vectors import VectorIndex, open_index

Vectors = NDArray[np.float32]
K, QUERIES, BATCH_ROWS = 10, 500, 65_536
clock = time.process_time


def vectors_of(start: int, n: int, width: int, spread: float = 0.7) -> Vectors:
    """Rows `start` to `start + n` of a catalogue: 2,000 groups of very different size, around their middles.

    Two of a group have a cosine similarity of some 0.67.
    """
    middles = np.random.default_rng(0).normal(size=(2_000, width)).astype(np.float32)
    middles /= np.linalg.norm(middles, axis=1, keepdims=True)
    rng = np.random.default_rng(start + 1)
    group = (2_000 * rng.random(n) ** 2).astype(int)
    rows = middles[group] + (spread / width**0.5) * rng.normal(size=(n, width)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def batches_of(n: int, width: int) -> Iterator[tuple[pa.Array[Any], Vectors]]:
    """All of it, some at a time."""
    for start in range(0, n, BATCH_ROWS):
        rows = min(BATCH_ROWS, n - start)
        yield ids_of(start, start + rows), vectors_of(start, rows, width)


def ids_of(start: int, stop: int) -> pa.Array[Any]:
    """Their ids."""
    return pa.array([f"item-{i:09}" for i in range(start, stop)], pa.string())


def seconds(*calls: Callable[[], object], rounds: int) -> list[float]:
    """The median time of each call; they take turns, in both orders."""
    times: list[list[float]] = [[] for _ in calls]
    for turn in range(rounds):
        order = range(len(calls)) if turn % 2 else range(len(calls) - 1, -1, -1)
        for i in order:
            start = clock()
            calls[i]()
            times[i].append(clock() - start)
    return [statistics.median(taken) for taken in times]


def say(claim: str, ratio: float | None, detail: str) -> None:
    """One JSON line a claim."""
    print(json.dumps({"claim": claim, "ratio": None if ratio is None else round(ratio, 3), "detail": detail}))


def bare_search(index: VectorIndex) -> Callable[[Vectors], Any]:
    """The same search by FAISS alone."""
    faiss, kind, search = load_faiss(), index.manifest["kind"], index.manifest["search"]
    if kind == "hnsw":
        options = faiss.SearchParametersHNSW(efSearch=search["ef"])
        bare = faiss.read_index(str(index.path / "index.faiss"), faiss.IO_FLAG_MMAP_IFC)
        return lambda queries: bare.search(queries, K, params=options)
    whole = faiss.IndexFlatIP(index.width)
    for _, rows in index.rows.chunks(BATCH_ROWS):
        whole.add(rows)
    if kind == "flat":
        return lambda queries: whole.search(queries, K)
    refined = faiss.IndexRefine(faiss.read_index(str(index.path / "index.faiss")), whole)
    options = faiss.IndexRefineSearchParameters(
        k_factor=float(search["rerank"]), base_index_params=faiss.SearchParametersIVF(nprobe=search["nprobe"])
    )
    return lambda queries: refined.search(queries, K, params=options)


def recall(found: Vectors, exact: Vectors) -> float:
    """The share of the ten nearest that were found: as similar as the tenth."""
    return float(np.mean(np.minimum((found >= exact[:, -1:] - 1e-6).sum(axis=1), K) / K))


def bench_search(index: VectorIndex, queries: Vectors, rounds: int) -> None:
    """One query at a time, and all at once."""
    bare = bare_search(index)
    similarity = np.array([[s for _, s in row] for row in index.search(queries, K)])
    theirs = bare(queries)
    exact = index.rows.nearest(queries, K)[0]
    mine, other = recall(similarity, exact), recall(theirs[0], exact)
    detail = (
        f"{len(index):,} x {index.width} {index.manifest['kind']} {index.manifest['search']}, recall@10 of these"
        f" queries {mine:.3f} (bare {other:.3f}), measured at the build {index.manifest['recall_at_10']}"
    )
    single = [queries[i : i + 1] for i in range(min(len(queries), 100))]
    ours_1, bare_1 = seconds(
        lambda: [index.search(q, K) for q in single], lambda: [bare(q) for q in single], rounds=rounds
    )
    ours, alone = seconds(lambda: index.search(queries, K), lambda: bare(queries), rounds=rounds)
    qps = f"{len(single) / ours_1:,.0f} queries/s"
    say("search / bare FAISS, queries per second, one at a time", bare_1 / ours_1, f"{detail}: {qps}")
    qps = f"{len(queries) / ours:,.0f} queries/s"
    say(f"search / bare FAISS, queries per second, {len(queries)} at once", alone / ours, f"{detail}: {qps}")


def bench_filtered(index: VectorIndex, queries: Vectors, rounds: int) -> None:
    """Random filters; ids come as a filter gives them, and are looked up each time."""
    n, chosen = len(index), np.random.default_rng(5)
    (free,) = seconds(lambda: index.search(queries, K), rounds=rounds)
    for selectivity in (0.5, 0.01, 0.0001):
        places = np.sort(chosen.choice(n, max(1, int(n * selectivity)), replace=False))
        allowed = index.ids_at(places)
        selection = index.only(allowed)
        start = clock()
        found = index.search(queries, K, allowed_ids=allowed)
        first = clock() - start
        names = set(allowed.to_pylist())
        if any(len(row) != min(K, len(names)) or not {i for i, _ in row} <= names for row in found):
            raise SystemExit(f"selectivity {selectivity}: a filter cost results")
        exact = index.rows.nearest(queries, min(K, len(names)), selection)[0]
        (taken,) = seconds(lambda s=selection: index.search(queries, K, allowed_ids=s), rounds=rounds)  # type: ignore[misc]
        got = np.array([[s for _, s in row] for row in found])
        share = float(np.mean((got >= exact[:, -1:] - 1e-6).sum(axis=1) / exact.shape[1]))
        detail = (
            f"selectivity {selectivity} ({len(names):,} ids): recall@10 {min(share, 1.0):.3f},"
            f" {len(queries) / taken:,.0f} queries/s in batches of {len(queries)};"
            f" {first - taken:.3f} s to look up the ids of the filter"
        )
        say("filtered / unfiltered search, queries per second", free / taken, detail)


def bench_change(index: VectorIndex, kind: Kind, built_s: float) -> None:
    """One vector in a hundred: half of them replaced, a quarter each added and removed."""
    n, width = len(index), index.width
    part = max(1, n // 400)
    put = [
        (ids_of(0, 2 * part), vectors_of(7_000_000, 2 * part, width)),
        (ids_of(n, n + part), vectors_of(9_000_000, part, width)),
    ]
    start = clock()
    done = update_index(index, put, ids_of(2 * part, 3 * part), manifest={}, kind=kind)
    taken = clock() - start
    detail = (
        f"{done.added + done.replaced + done.removed:,} of {n:,}: {taken:.2f} s, rebuild {built_s:.2f} s,"
        f" recall@10 after it {done.index.manifest['recall_at_10']}"
    )
    say("rebuild / incremental update of 1 %, seconds", built_s / taken, detail)


def main(
    n: Annotated[int, typer.Argument(help="Vectors.")] = 100_000,
    width: Annotated[int, typer.Argument(help="Numbers in each.")] = 256,
    kind: Annotated[str | None, typer.Option(help="flat, hnsw or ivfpq; by size unless given.")] = None,
    threads: Annotated[int, typer.Option(help="Of FAISS.", min=1)] = 1,
    rounds: Annotated[int, typer.Option(help="Of each measurement.", min=1)] = 9,
) -> None:
    """Build, open, search, filter and change an index in a temporary folder; one JSON line a claim."""
    global clock
    clock = time.process_time if threads == 1 else time.perf_counter
    load_faiss().omp_set_num_threads(threads)
    made: Any = kind or choose_kind(n, width)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "vectors"
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = clock()
        index = build_from(batches_of(n, width), folder, width=width, manifest={"model": "bench"}, kind=made)
        built_s = clock() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - rss
        disk = sum(file.stat().st_size for file in index.path.iterdir())
        raw = 4 * n * width
        detail = f"{n:,} x {width} {made}: {built_s:.1f} s; {peak * 1024:,} bytes over those of the vectors ({raw:,})"
        say("memory of the build (mapped pages too) / vectors", peak * 1024 / raw, detail)
        say("files / vectors, bytes", disk / raw, f"{disk:,} bytes, code of {index.manifest['code_bytes']} bytes a row")
        (opened,) = seconds(lambda: open_index(folder), rounds=rounds)
        (checked,) = seconds(lambda: open_index(folder, verify=True), rounds=1)
        say("open with every byte checked / open, seconds", checked / opened, f"{opened * 1e3:.1f} ms to open")
        queries = vectors_of(3_000_000, QUERIES, width)
        bench_search(index, queries, rounds)
        bench_filtered(index, queries[:100], max(3, rounds // 3))
        bench_change(index, made, built_s)


if __name__ == "__main__":
    typer.run(main)
