"""The kinds of index: which one by size and memory, how each is trained, filled, changed and searched.

    kind    answers      memory for n rows of width d                      after a change
    flat    exact        none of its own: the vectors are scanned,         written anew
                         4 d bytes a row of the page cache
    hnsw    near         4 d + 264 bytes a row: vectors and links          rows are added; dead ones stay, unseen
    ivfpq   near         code + 8 bytes a row, code ≤ d / 2: PQ codes      rows are added and taken out
                         in lists; the vectors stay on disk, where the
                         best by their codes are compared exactly

All is memory-mapped, so that this is what a search touches over time, shared by processes, and not what it takes to
open one. To build a kind takes as much in the process itself; ivfpq also a sample to train on, 4 d bytes a row of 64 a
list. This module knows no ids and no files.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

import numpy as np

from stores.vector_files import load_faiss
from stores.vector_rows import Positions, Rows, Selection, Vectors

__all__ = [
    "Kind",
    "change",
    "choose_kind",
    "code_bytes",
    "gpu_takes",
    "make",
    "near",
    "on_gpu",
    "widths",
]

Kind = Literal["flat", "hnsw", "ivfpq"]
Search = Mapping[str, int]  # ef of hnsw; nprobe and rerank of ivfpq

_FLAT_BELOW = 50_000  # an exact scan of so many takes milliseconds
_HNSW_UP_TO = 2_000_000  # beyond, its build takes hours
_LINKS = 32  # HNSW's M: 2 M links of 4 bytes a row on the ground level
_LINK_BYTES = 2 * 4 * _LINKS + 8
_TRAIN_A_LIST = 64  # FAISS wants 39 and more
_PQ_TRAIN = (
    64  # rows for each of the 256 centroids of a code's byte; more gains little under re-ranking, and takes long
)
_PQ_ROUNDS = 10
_ADD_ROWS = 65_536
_GPU_LIMIT = 2_048  # of k and nprobe, on a GPU


def choose_kind(n: int, width: int, memory_budget_bytes: int | None = None) -> Kind:
    """Flat for few vectors (exact), hnsw while vectors and links fit the budget, ivfpq beyond.

    The budget is half of the machine's memory unless given.
    """
    if n < _FLAT_BELOW:
        return "flat"
    budget = _budget(memory_budget_bytes)
    return "hnsw" if n <= _HNSW_UP_TO and n * (4 * width + _LINK_BYTES) <= budget else "ivfpq"


def code_bytes(n: int, width: int, memory_budget_bytes: int | None = None) -> int:
    """The bytes of a PQ code: the most, up to a quarter of the width, that divide the width and fit the budget.

    One for every two numbers where the width is small. Where nothing fits, the least that can still tell rows apart.
    """
    most = max(width // 4, min(width, 8))
    fit = [m for m in range(1, most + 1) if width % m == 0 and (width // m) <= 64]
    if not fit or fit[-1] < most // 2:
        fit.append(width)  # a prime width, say: a byte for each number
    budget = _budget(memory_budget_bytes)
    return next((m for m in reversed(fit) if n * (m + 8) <= budget), fit[0])


def _budget(given: int | None) -> int:
    return given if given is not None else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def make(kind: Kind, rows: Rows, code: int = 0) -> Any:
    """A FAISS index of all rows, each by its place; None for flat. `code` is the bytes of a code of ivfpq.

    On the GPU for ivfpq, where FAISS sees one that takes it.
    """
    if kind == "flat":
        return None
    faiss = load_faiss()
    width, n = rows.width, len(rows)
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(width, _LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = 100
        for _, part in rows.chunks(_ADD_ROWS):
            index.add(part)
        return index
    lists = max(1, min(int(4 * n**0.5), n // 40))
    index = faiss.IndexIVFPQ(faiss.IndexFlatIP(width), width, lists, code, 8, faiss.METRIC_INNER_PRODUCT)
    index.do_polysemous_training = False  # minutes, for a kind of search that is not used here
    index.cp.max_points_per_centroid = index.pq.cp.max_points_per_centroid = _PQ_TRAIN
    index.pq.cp.niter = _PQ_ROUNDS
    index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1  # said in talk on stdout otherwise
    sample = np.random.default_rng(0).permutation(n)[: max(_TRAIN_A_LIST * lists, _PQ_TRAIN * 256)]
    sample = np.resize(sample, max(n, 256)) if n < 256 else sample  # there are 256 centroids, whatever n
    gpu = on_gpu("ivfpq", index)
    filled = index if gpu is None else gpu
    filled.train(rows.take(np.sort(sample)))
    for places, part in rows.chunks(_ADD_ROWS):
        filled.add_with_ids(part, places)
    return index if gpu is None else faiss.index_gpu_to_cpu(gpu)


def change(kind: Kind, index: Any, rows: Rows, first: int, dead: Positions) -> None:
    """Add the rows from `first` on to an index that was read into memory, and take dead ones out where it can."""
    for places, part in rows.chunks(_ADD_ROWS):
        new = places >= first
        if kind == "hnsw":
            index.add(part[new])
        else:
            index.add_with_ids(part[new], places[new])
    if kind == "ivfpq" and len(dead):
        index.remove_ids(load_faiss().IDSelectorBatch(dead))


def widths(kind: Kind, index: Any) -> list[dict[str, int]]:
    """How widely a kind can be searched, narrow and fast ones first."""
    if kind == "hnsw":
        return [{"ef": ef} for ef in (32, 64, 128, 256, 512, 1024)]
    probes = sorted({min(probe, int(index.nlist)) for probe in (4, 8, 16, 32, 64, 128, 256, 512)})
    return [{"nprobe": probe, "rerank": rerank} for probe in probes for rerank in (4, 10, 25)]


def near(
    kind: Kind, index: Any, rows: Rows, queries: Vectors, k: int, search: Search, allowed: Selection | None = None
) -> tuple[Vectors, Positions]:
    """The k nearest rows of each query as an approximate kind finds them; -1 where it found fewer than k.

    Under a selection the search is wider by as much as rows are left out, so that it sees as many allowed ones.
    """
    if kind == "hnsw" and allowed is None:
        free: tuple[Vectors, Positions] = index.search(queries, k, params=_free_options(kind, max(search["ef"], k)))
        return free
    selector = None if allowed is None else allowed.selector(len(rows))
    wider = 1.0 if allowed is None else len(rows) / max(allowed.count, 1)
    if kind == "hnsw":
        ef = min(int(max(search["ef"], k) * wider), len(rows))
        found: tuple[Vectors, Positions] = index.search(queries, k, params=_options(kind, ef, selector))
        return found
    nprobe, candidates = min(int(search["nprobe"] * wider), int(index.nlist)), min(k * search["rerank"], len(rows))
    _, places = index.search(queries, candidates, params=_options(kind, nprobe, selector))
    similarity = rows.similarities(queries, places)
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(similarity, order, 1), np.take_along_axis(places, order, 1)


def _options(kind: Kind, wide: int, selector: Any) -> Any:
    """How FAISS is to search; without a filter made once, as that takes as long as a part of a search."""
    return _free_options(kind, wide) if selector is None else _make_options(kind, wide, selector)


@cache
def _free_options(kind: Kind, wide: int) -> Any:
    return _make_options(kind, wide, None)


def _make_options(kind: Kind, wide: int, selector: Any) -> Any:
    faiss = load_faiss()
    if kind == "hnsw":
        return faiss.SearchParametersHNSW(sel=selector, efSearch=wide)
    return faiss.SearchParametersIVF(sel=selector, nprobe=wide)


def on_gpu(kind: Kind, index: Any) -> Any:
    """A copy of an index on the first GPU; None where FAISS sees no GPU or cannot have it there."""
    faiss = load_faiss()
    if kind != "ivfpq" or not getattr(faiss, "get_num_gpus", int)():
        return None
    try:
        return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
    except RuntimeError:  # a length of code it has not, or more than its memory
        return None


def gpu_takes(k: int, search: Search) -> bool:
    """Whether a search is within the limits of FAISS on a GPU."""
    return max(k * search["rerank"], search["nprobe"]) <= _GPU_LIMIT
