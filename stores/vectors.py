"""Vector indexes: FAISS with string ids, built into a folder and swapped in whole.

Vectors are made unit rows at the door, so that what search returns is always the cosine **similarity**: higher is
closer. It does not know what a vector was made from, nor of tables: its manifest repeats what the builder says. Its
files are the affair of `stores.vector_files`, their replacement that of `stores.swap`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lore_mm.errors import InputError, StoreError
from stores.swap import clean, current_version, new_draft, publish, settle
from stores.vector_files import load_faiss, read_version, write_version

__all__ = ["VectorIndex", "build_index", "choose_kind", "open_index"]

Kind = Literal["flat", "hnsw", "ivf"]
Vectors = NDArray[np.float32]
Positions = NDArray[np.int64]

_FLAT_BELOW = 50_000  # an exact scan of so many takes milliseconds
_HNSW_UP_TO = 2_000_000  # beyond, its build takes hours
_LINKS = 32  # HNSW's M: 2 M links of 4 bytes a row on the ground level
_RECALL_GOAL, _RECALL_SAMPLE, _RECALL_K = 0.95, 200, 10
_GATHER_UP_TO = 20_000  # allowed rows that are copied out and compared one by one
_DEAD_SHARE = 0.25  # of removed rows, beyond which saving rebuilds


def choose_kind(n: int, width: int, memory_budget_bytes: int | None = None) -> Kind:
    """Flat for few vectors (exact), hnsw while vectors and links fit the budget, ivf beyond (read from disk).

    The budget is half of the machine's memory unless given.
    """
    if n < _FLAT_BELOW:
        return "flat"
    budget = memory_budget_bytes
    if budget is None:
        budget = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return "hnsw" if n <= _HNSW_UP_TO and n * (4 * width + 2 * 4 * _LINKS) <= budget else "ivf"


def build_index(
    ids: Sequence[str],
    vectors: ArrayLike,
    folder: str | Path,
    *,
    manifest: Mapping[str, Any],
    kind: Kind | None = None,
    memory_budget_bytes: int | None = None,
) -> VectorIndex:
    """Build an index of float32 (n, d) vectors, one for each id, swap it in as the folder's current one, and open it.

    `manifest` says what the vectors are; `model`, `model_sha` and `table_version` are its usual keys. Added to it:
    width, n, metric, kind, search (how widely to look), recall_at_10 and made_at. The recall is measured at the build,
    on up to 200 stored vectors each asked for its 10 nearest others, against exact search.

    Raises:
        InputError: ids repeat, or a vector is NaN, infinite, zero, or of another width; names the row.
        StoreError: the folder cannot be written.
    """
    names = [str(i) for i in ids]
    rows = np.asarray(vectors, dtype=np.float32)
    width = rows.shape[1] if rows.ndim == 2 else int(manifest.get("width") or 0)
    unit = _unit(rows, width, names)
    _check_ids(names, len(unit))
    index = VectorIndex._made(names, unit, kind or choose_kind(len(names), width, memory_budget_bytes), manifest)
    return index._save(Path(folder))


def open_index(folder: str | Path, model: str | None = None, model_sha: str | None = None) -> VectorIndex:
    """Open a folder's current index, memory-mapped.

    Raises:
        StoreError: there is none, it is damaged or foreign, or was built from another model than the one named.
        MissingExtraError: FAISS is not installed.
    """
    folder = Path(folder)
    for _ in range(3):
        version = current_version(folder)
        if version is None:
            raise StoreError(f"no vector index at {folder}: make one with `lore embed`")
        try:
            index = VectorIndex(*read_version(folder / version), folder / version)
            break
        except FileNotFoundError as error:
            if current_version(folder) == version:  # it was not swapped meanwhile: it is broken
                raise StoreError(
                    f"vector index {folder}: {Path(error.filename).name} is missing; build it again"
                ) from None
    else:
        raise StoreError(f"vector index {folder} keeps changing; try again")
    for key, wanted in (("model", model), ("model_sha", model_sha)):
        if wanted is not None and index.manifest.get(key) != wanted:
            raise StoreError(
                f"vector index {folder} was built with {key} {index.manifest.get(key)!r}, not {wanted!r};"
                " use that one, or build the index again"
            )
    return index


class VectorIndex:
    """An open index. Searching is safe from several threads; `add` and `remove` are not.

    Attributes:
        manifest: what is known of it (see `build_index`).
        width: d.
    """

    def __init__(self, index: Any, ids: list[str | None], manifest: Mapping[str, Any], path: Path | None) -> None:
        self.manifest: dict[str, Any] = dict(manifest)
        self.width = int(index.d)
        self._index = index
        self._ids = ids
        self._path = path  # where it is memory-mapped from; None once it is ours to change
        self._places: dict[str, int] | None = None
        self._on_gpu: Any = None

    def __len__(self) -> int:
        return len(self._where())

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._where()

    @property
    def ids(self) -> list[str]:
        """The ids in it, in the order in which they were added."""
        return [i for i in self._ids if i is not None]

    def vectors(self, ids: Sequence[str]) -> Vectors:
        """The unit vectors of these ids, float32 (n, d).

        Raises:
            InputError: an id is not in the index.
        """
        where = self._where()
        if missing := [i for i in ids if i not in where]:
            raise InputError(f"no vector for {missing[0]!r}")
        return self._at(np.array([where[i] for i in ids], dtype=np.int64))

    # --- search ---

    def search(
        self, vectors: ArrayLike, k: int, allowed_ids: Iterable[str] | None = None
    ) -> list[list[tuple[str, float]]]:
        """The k nearest of each query vector, (d,) or (n, d), as (id, cosine similarity), the most similar first.

        With `allowed_ids` only those are returned, and as many as k or, where fewer of them are in the index, all: a
        filter never costs results. Ids that the index does not hold are passed over.

        Raises:
            InputError: a query vector is NaN, infinite, zero or of another width; names its row. k is not positive.
        """
        if k < 1:
            raise InputError(f"k is {k}, must be at least 1")
        rows = np.atleast_2d(np.asarray(vectors, dtype=np.float32))
        queries = _unit(rows, self.width, None)
        allowed = self._allowed(allowed_ids)
        count = len(self) if allowed is None else len(allowed)
        k = min(k, count)
        if k == 0:
            return [[] for _ in range(len(queries))]
        if allowed is not None and (len(allowed) <= _GATHER_UP_TO or self.manifest["kind"] == "flat"):
            similarity, places = self._exact(queries, k, allowed)
        else:
            similarity, places = self._near(queries, k, allowed)
            short = np.flatnonzero((places < 0).any(axis=1))
            if len(short):  # a graph may lose its way among rows that are not allowed
                similarity[short], places[short] = self._exact(queries[short], k, allowed)
        order = np.lexsort((places, -similarity), axis=1)
        similarity, places = np.take_along_axis(similarity, order, 1), np.take_along_axis(places, order, 1)
        return [
            [(str(self._ids[p]), s) for p, s in zip(places_of, similarity_of, strict=True)]
            for places_of, similarity_of in zip(places.tolist(), similarity.tolist(), strict=True)
        ]

    def _allowed(self, allowed_ids: Iterable[str] | None) -> Positions | None:
        """Positions that may be returned, sorted; None where all may."""
        where = self._where()
        if allowed_ids is None:
            if len(where) == len(self._ids):
                return None
            return np.sort(np.fromiter(where.values(), dtype=np.int64, count=len(where)))
        found = [where[i] for i in set(allowed_ids) if i in where]
        return np.sort(np.array(found, dtype=np.int64))

    def _near(self, queries: Vectors, k: int, allowed: Positions | None) -> tuple[Vectors, Positions]:
        """As the index searches: exact for flat, approximate for the others; -1 where it found fewer than k."""
        selector = None if allowed is None else self._selector(allowed)
        index, options = self._index, self._options(selector, self.manifest.get("search"))
        if selector is None and (gpu := self._gpu()) is not None and k <= 1024:  # its filter and k are limited
            index = gpu
        similarity, places = index.search(queries, k, params=options)
        return similarity, places

    def _exact(self, queries: Vectors, k: int, allowed: Positions | None) -> tuple[Vectors, Positions]:
        """Every allowed row compared."""
        if allowed is not None and len(allowed) <= _GATHER_UP_TO:
            similarity = queries @ self._at(allowed).T  # (n, allowed)
            best = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
            return np.take_along_axis(similarity, best, 1), allowed[best]
        faiss = load_faiss()
        selector = None if allowed is None else self._selector(allowed)
        kind = self.manifest["kind"]
        index = faiss.downcast_index(self._index.storage) if kind == "hnsw" else self._index
        if kind == "ivf":
            options = faiss.SearchParametersIVF(sel=selector, nprobe=self._index.nlist)
        else:
            options = faiss.SearchParameters(sel=selector)
        similarity, places = index.search(queries, k, params=options)
        return similarity, places

    def _options(self, selector: Any, search: Any) -> Any:
        faiss = load_faiss()
        kind = self.manifest["kind"]
        if kind == "hnsw":
            return faiss.SearchParametersHNSW(sel=selector, efSearch=int(search))
        if kind == "ivf":
            return faiss.SearchParametersIVF(sel=selector, nprobe=int(search))
        return None if selector is None else faiss.SearchParameters(sel=selector)

    def _selector(self, allowed: Positions) -> Any:
        mask = np.zeros(len(self._ids), dtype=bool)
        mask[allowed] = True
        return load_faiss().IDSelectorBitmap(np.packbits(mask, bitorder="little"))

    def _gpu(self) -> Any:
        """The index on the first GPU, where FAISS sees one and can hold this kind there; None otherwise."""
        faiss = load_faiss()
        if self.manifest["kind"] == "hnsw" or not getattr(faiss, "get_num_gpus", int)():
            return None
        if self._on_gpu is None:
            self._on_gpu = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, self._index)
        return self._on_gpu

    def _at(self, places: Positions) -> Vectors:
        rows: Vectors = self._index.reconstruct_batch(places)
        return rows

    def _where(self) -> dict[str, int]:
        if self._places is None:
            self._places = {i: place for place, i in enumerate(self._ids) if i is not None}
        return self._places

    # --- change ---

    def add(self, ids: Sequence[str], vectors: ArrayLike) -> None:
        """Add vectors, or replace those of ids that are there. Seen by this object only, until `save`.

        Raises:
            InputError: as in `build_index`; nothing is added then.
        """
        names = [str(i) for i in ids]
        rows = _unit(np.asarray(vectors, dtype=np.float32), self.width, names)
        _check_ids(names, len(rows))
        self._own()
        self._forget([i for i in names if i in self._where()])
        self._index.add(rows)
        self._ids.extend(names)
        self._places = None

    def remove(self, ids: Iterable[str]) -> int:
        """Remove the vectors of these ids; returns how many were there. Seen by this object only, until `save`."""
        found = [i for i in set(ids) if i in self._where()]
        self._own()
        self._forget(found)
        return len(found)

    def save(self, folder: str | Path, **manifest: Any) -> VectorIndex:
        """Swap in the changed index as the folder's current one and open it; `manifest` overrides what was known.

        It is built anew where much was removed, or where its size asks for another kind.
        """
        known = self.manifest | manifest
        dead = len(self._ids) - len(self)
        kind = choose_kind(len(self), self.width)
        if dead > _DEAD_SHARE * len(self._ids) or kind != self.manifest["kind"]:
            ids = self.ids
            return VectorIndex._made(ids, self.vectors(ids), kind, known)._save(Path(folder))
        self.manifest = known
        self._measure()
        return self._save(Path(folder))

    def _own(self) -> None:
        if self._path is not None:
            self._index = load_faiss().read_index(str(self._path / "index.faiss"))
            self._path = None
        self._on_gpu = None

    def _forget(self, ids: Sequence[str]) -> None:
        where = self._where()
        for i in ids:
            self._ids[where.pop(i)] = None

    # --- making, writing, reading ---

    @classmethod
    def _made(cls, ids: Sequence[str], unit: Vectors, kind: Kind, manifest: Mapping[str, Any]) -> VectorIndex:
        faiss = load_faiss()
        n, width = unit.shape
        if kind == "flat":
            index = faiss.IndexFlatIP(width)
        elif kind == "hnsw":
            index = faiss.IndexHNSWFlat(width, _LINKS, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = 100
        else:
            lists = max(1, min(int(4 * n**0.5), n // 40))  # FAISS wants 39 training vectors a list and more
            index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, lists, faiss.METRIC_INNER_PRODUCT)
            index.train(unit[np.random.default_rng(0).permutation(n)[: 64 * lists]])
            index.make_direct_map()
        index.add(unit)
        made = cls(index, list(ids), {**manifest, "kind": kind}, None)
        made._measure()
        return made

    def _measure(self) -> None:
        """Set how widely to look so that the recall goal is met, and note the recall."""
        kind = self.manifest["kind"]
        self.manifest["search"] = None
        self.manifest["recall_at_10"] = 1.0
        if kind == "flat" or len(self) < 2:
            return
        where = np.sort(np.fromiter(self._where().values(), dtype=np.int64, count=len(self)))
        sample = np.sort(np.random.default_rng(0).choice(where, min(_RECALL_SAMPLE, len(where)), replace=False))
        queries, k = self._at(sample), min(_RECALL_K + 1, len(where))
        live = self._allowed(None)
        truth = self._exact(queries, k, live)[1]
        widths = (64, 128, 256, 512) if kind == "hnsw" else (8, 16, 32, 64, 128, 256)
        for width in widths:
            self.manifest["search"] = width if kind == "hnsw" else min(width, self._index.nlist)
            found = self._near(queries, k, live)[1]
            hits = [len((set(t) & set(f)) - {s}) / (k - 1) for t, f, s in zip(truth, found, sample, strict=True)]
            self.manifest["recall_at_10"] = round(min(float(np.mean(hits)), 1.0), 4)
            if self.manifest["recall_at_10"] >= _RECALL_GOAL:
                return

    def _save(self, folder: Path) -> VectorIndex:
        self.manifest |= {
            "width": self.width,
            "n": len(self),
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        try:
            draft = new_draft(folder)
            write_version(draft, self._index, self._ids, self.manifest)
            version = settle(draft)
            publish(folder, version)
        except (OSError, RuntimeError) as error:  # FAISS says RuntimeError for a full disk
            raise StoreError(f"cannot write the vector index {folder}: {' '.join(str(error).split())[:200]}") from None
        clean(folder, version)
        return open_index(folder)


def _check_ids(ids: Sequence[str], n: int) -> None:
    if len(ids) != n:
        raise InputError(f"{len(ids)} ids for {n} vectors")
    seen: set[str] = set()
    for row, i in enumerate(ids):
        if i in seen:
            raise InputError(f"id {i!r} comes twice, the second time in row {row}")
        seen.add(i)


def _unit(rows: Vectors, width: int, ids: Sequence[str] | None) -> Vectors:
    """Contiguous rows of length 1.

    Raises:
        InputError: naming the first row that has no direction.
    """
    if len(rows) == 0:
        return np.zeros((0, width), dtype=np.float32)
    if rows.ndim != 2 or rows.shape[1] != width or width == 0:
        raise InputError(f"vectors are of shape {rows.shape}, the index takes (n, {width})")
    length = np.linalg.norm(rows.astype(np.float64), axis=1)
    bad = np.flatnonzero(~np.isfinite(length) | (length == 0))
    if len(bad):
        row = int(bad[0])
        fault = "is all zeros" if length[row] == 0 else "holds NaN or infinity"
        name = f" (id {ids[row]!r})" if ids is not None and row < len(ids) else ""
        raise InputError(f"vector in row {row}{name} {fault}")
    return np.ascontiguousarray(rows / length[:, None], dtype=np.float32)
