"""Vector indexes: FAISS with string ids, memory-mapped, searched under filters that never cost results.

Vectors are made unit rows at the door, so that what search returns is always the cosine **similarity**: higher is
closer. An open index does not change; `stores.vector_build` makes another. It does not know what a vector was made
from, nor of tables: its manifest repeats what the builder says.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from lore_mm.errors import InputError, StoreError
from stores import vector_kinds as kinds
from stores.swap import current_version
from stores.vector_files import block_name, check_files, load_faiss, map_array, map_ids, read_manifest
from stores.vector_ids import Ids, as_ids, hash_mark, sorted_hashes
from stores.vector_rows import Positions, Rows, Selection, Vectors, unit_query

__all__ = ["VectorIndex", "open_index"]

_NEARLY_ALL = 20  # one in so many rows asked for, and they are all compared


def open_index(
    folder: str | Path, model: str | None = None, model_sha: str | None = None, verify: bool = False
) -> VectorIndex:
    """Open a folder's current index, memory-mapped. With `verify` every byte of it is read and checked.

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
            index = VectorIndex(folder / version, verify)
            break
        except FileNotFoundError as error:
            if current_version(folder) == version:  # it was not swapped meanwhile: it is broken
                raise StoreError(
                    f"vector index {folder}: {Path(error.filename).name} is missing; build it again with `lore embed`"
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
    """An open index. Safe to use from several threads.

    Attributes:
        path: the folder of this version.
        manifest: what is known of it (see `stores.vector_build.build_from`).
        width: d.
        rows: the vectors, those of removed ids too.
    """

    def __init__(self, path: Path, verify: bool = False) -> None:
        """Use `open_index`."""
        self.path = path
        self.manifest: Mapping[str, Any] = read_manifest(path)
        check_files(path, self.manifest, verify)
        self.width, self._n = int(self.manifest["width"]), int(self.manifest["n"])
        self._kind: kinds.Kind = self.manifest["kind"]
        try:
            self.rows, self._ids, self._faiss = self._opened()
        except (RuntimeError, ValueError, pa.ArrowException) as error:
            raise StoreError(f"vector index {path} cannot be read: {' '.join(str(error).split())[:200]}") from None
        self._live = None
        if len(self.rows) != self._n and self._kind == "hnsw":  # the others have no dead rows, or never find them
            self._live = Selection.of_mask(self.live())
        self._gpu: Any = None
        self._gpu_tried = False
        self._one_at_a_time = threading.Lock()

    def __len__(self) -> int:
        return self._n

    def __contains__(self, item_id: str) -> bool:
        return bool(self.places(as_ids([item_id]))[0] >= 0)

    @property
    def ids(self) -> list[str]:
        """The ids in it, in the order in which they were added; all at once."""
        return [str(i) for i in self._ids.take(np.flatnonzero(self.live())).to_pylist()]

    def live(self) -> NDArray[np.bool_]:
        """For each row, whether it counts."""
        bits = map_array(self.path / "live.bits", "u1")
        return np.unpackbits(bits, count=self.manifest["rows"], bitorder="little").astype(np.bool_)

    def ids_at(self, places: Positions) -> pa.Array[Any]:
        """The ids of these rows."""
        return self._ids.take(places)

    def places(self, ids: pa.Array[Any]) -> Positions:
        """The row of each id, -1 where it is not in the index."""
        return self._ids.find(ids)

    def vectors(self, ids: Sequence[str]) -> Vectors:
        """The unit vectors of these ids, float32 (n, d).

        Raises:
            InputError: an id is not in the index.
        """
        places = self.places(as_ids(ids))
        if (places < 0).any():
            raise InputError(f"no vector for {ids[int(np.argmin(places))]!r}")
        return self.rows.take(places)

    # --- search ---

    def search(
        self, vectors: ArrayLike, k: int, allowed_ids: Iterable[str] | pa.Array[Any] | Selection | None = None
    ) -> list[list[tuple[str, float]]]:
        """The k nearest of each query vector, (d,) or (n, d), as (id, cosine similarity), the most similar first.

        With `allowed_ids` only those are returned, and as many as k or, where fewer of them are in the index, all: a
        filter never costs results. Ids that the index does not hold are passed over. What is asked often is made once
        with `only` or `all_but`.

        Raises:
            InputError: a query vector is NaN, infinite, zero or of another width; names its row. k is not positive.
        """
        try:
            wanted = operator.index(k)
        except TypeError:
            wanted = 0
        if wanted < 1:
            raise InputError(f"k is {k!r}, must be at least 1")
        try:
            given = np.asarray(vectors, np.float32)
        except (ValueError, TypeError):
            raise InputError(f"a query must be {self.width} numbers") from None
        queries = unit_query(given, self.width)
        allowed = self._allowed(allowed_ids)
        k = min(wanted, self._n if allowed is None else allowed.count)
        if k == 0 or not len(queries):
            return [[] for _ in range(len(queries))]
        similarity, places = self._nearest(queries, k, allowed)
        try:
            ids = self._ids.at(places.ravel())
        except IndexError:
            raise StoreError(f"vector index {self.path} is damaged; build it again with `lore embed`") from None
        told = similarity.ravel().tolist()
        return [list(zip(ids[i : i + k], told[i : i + k], strict=True)) for i in range(0, len(ids), k)]

    def only(self, ids: Iterable[str] | pa.Array[Any]) -> Selection:
        """These ids, as far as they are in the index, to be searched among."""
        places = self.places(as_ids(ids))
        return Selection.of_places(np.unique(places[places >= 0]), len(self.rows))

    def all_but(self, ids: Iterable[str] | pa.Array[Any]) -> Selection:
        """All ids in the index but these, to be searched among."""
        places = self.places(as_ids(ids))
        mask = self.live()
        mask[places[places >= 0]] = False
        return Selection.of_mask(mask)

    def _allowed(self, given: Iterable[str] | pa.Array[Any] | Selection | None) -> Selection | None:
        if given is None or isinstance(given, Selection):
            return given
        return self.only(given)

    def _nearest(self, queries: Vectors, k: int, allowed: Selection | None) -> tuple[Vectors, Positions]:
        count = self._n if allowed is None else allowed.count
        if allowed is None:
            allowed = self._live
        few = allowed is not None and allowed.places is not None
        if self._kind == "flat" or few or k * _NEARLY_ALL > count:
            return self._exact(queries, k, allowed)
        similarity, places = self._near(queries, k, allowed)
        if places.min() < 0:  # a graph may lose its way among rows that are not allowed
            short = np.flatnonzero(places[:, -1] < 0)
            similarity[short], places[short] = self._exact(queries[short], k, allowed)
        return similarity, places

    def _near(self, queries: Vectors, k: int, allowed: Selection | None) -> tuple[Vectors, Positions]:
        search = self.manifest["search"]
        if allowed is None and self._kind == "ivfpq" and not self._gpu_tried:
            with self._one_at_a_time:
                self._gpu, self._gpu_tried = kinds.on_gpu(self._kind, self._faiss), True
        if allowed is None and self._gpu is not None and kinds.gpu_takes(k, search):  # nor is it for several threads
            with self._one_at_a_time:
                return kinds.near(self._kind, self._gpu, self.rows, queries, k, search)
        return kinds.near(self._kind, self._faiss, self.rows, queries, k, search, allowed)

    def _exact(self, queries: Vectors, k: int, allowed: Selection | None) -> tuple[Vectors, Positions]:
        if allowed is None and len(self.rows) != self._n:
            allowed = Selection.of_mask(self.live())
        return self.rows.nearest(queries, k, allowed)

    # --- reading ---

    def _opened(self) -> tuple[Rows, Ids, Any]:
        told, size = self.manifest, int(self.manifest["block_rows"])
        blocks = range(-(-int(told["rows"]) // size))
        vectors = [map_array(self.path / block_name("vectors", b), "<f4", self.width) for b in blocks]
        names = [map_ids(self.path / block_name("ids", b)) for b in blocks]
        hashes, places = map_array(self.path / "hashes.u64", "<u8"), map_array(self.path / "places.i64", "<i8")
        facts = (sum(map(len, vectors)), sum(map(len, names)), len(hashes), len(places))
        if told["hashed"] != hash_mark():
            hashes, places = sorted_hashes(names, size, self.live())
        index = None
        whole = facts == (told["rows"], told["rows"], self._n, self._n)
        if self._kind != "flat":
            faiss = load_faiss()
            index = faiss.read_index(str(self.path / "index.faiss"), faiss.IO_FLAG_MMAP_IFC)
            there = told["rows"] if self._kind == "hnsw" else self._n
            whole &= (index.d, index.ntotal, index.metric_type) == (self.width, there, faiss.METRIC_INNER_PRODUCT)
        if not whole:
            raise ValueError("its files do not belong together; build it again with `lore embed`")
        return Rows(vectors, size, self.width), Ids(names, size, hashes, places), index
