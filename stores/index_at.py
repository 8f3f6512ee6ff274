"""A vector index as of a snapshot: what the index has otherwise is found once, and set right in every answer.

An index is of one version of EMBEDDINGS, a snapshot of the same, a later or an earlier one. Items whose vectors differ
are left out of the index and compared exactly, with their vectors of the snapshot; those that it has not are not
found. So answers are of the snapshot alone, whatever the index is of. An index that does not say of which version it is
is searched as it stands. This module writes nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike

from lore_mm.errors import StoreError
from stores.features import FeatureStore
from stores.item_vectors import all_vectors, touched_items, vectors_of
from stores.vector_ids import as_ids, as_places
from stores.vector_rows import Positions, Rows, Selection, Vectors, unit_rows
from stores.vectors import VectorIndex

__all__ = ["IndexAt", "Lag"]

_MOST = 200_000  # rows that differ, held in memory and compared one by one
_TABLE = "embeddings"


@dataclass(frozen=True)
class Lag:
    """How an index differs from a snapshot; as text one line for a person.

    Attributes:
        index: its name.
        built: the version of EMBEDDINGS that it is of, None where it does not say.
        pinned: that of the snapshot, None where it has none.
        add: items that have a vector in the snapshot only.
        replace: items that have another one.
        delete: items that have one in the index only.
    """

    index: str
    built: int | None
    pinned: int | None
    add: int = 0
    replace: int = 0
    delete: int = 0

    def __str__(self) -> str:
        if self.built is None:
            return f"the index {self.index} does not say of which version of the embeddings it is: run `lore embed`"
        of = "has none" if self.pinned is None else f"is of {self.pinned}"
        text = (
            f"the index {self.index} is of version {self.built} of the embeddings, the snapshot {of}:"
            f" {self.add:,} to add, {self.replace:,} to replace, {self.delete:,} to delete; answers are the snapshot's"
        )
        return text + ("; `lore embed` brings it up to date" if (self.pinned or -1) > self.built else "")


@dataclass(frozen=True)
class _Other:
    """What a snapshot has otherwise than an index: items and vectors, and the rows of the index that do not count."""

    ids: pa.Array[Any]
    rows: Rows
    stale: Positions
    lag: Lag


class IndexAt:
    """An open index, to be asked as of one version of EMBEDDINGS. Safe to use from several threads."""

    def __init__(self, store: FeatureStore, version: int | None, index: VectorIndex, name: str) -> None:
        """`version` is that of the snapshot, None where it has no embeddings; `name` is for messages.

        Raises:
            StoreError: the index was built from another table, which was deleted and made anew since.
        """
        self.index = index
        self._store, self._version, self._name = store, version, name
        told = index.manifest
        self._follows = told.get("table") == _TABLE and isinstance(told.get("table_version"), int)
        if self._follows and version is not None and told.get("table_id") not in (None, store.table_id(_TABLE)):
            raise StoreError(
                f"the index {name} was built from other embeddings, which were deleted and made anew since:"
                " run `lore embed`"
            )
        self._other: _Other | None = None
        self._rest: Selection | None = None
        self._once = threading.Lock()

    def lag(self) -> Lag | None:
        """How the index differs from the snapshot; None where it does not.

        Raises:
            StoreError: it differs in more rows than can be compared one by one.
        """
        if not self._follows:
            return Lag(self._name, None, self._version) if self._version is not None else None
        if self._in_step():
            return None
        lag = self._difference().lag
        return lag if lag.add or lag.replace or lag.delete else None

    def search(
        self, vectors: ArrayLike, k: int, allowed_ids: Iterable[str] | None = None
    ) -> list[list[tuple[str, float]]]:
        """As `VectorIndex.search`, of the vectors of the snapshot.

        Raises:
            InputError: as there.
            StoreError: the index differs from the snapshot in more rows than can be compared one by one.
        """
        if not self._follows or self._in_step():
            return self.index.search(vectors, k, allowed_ids)
        other = self._difference()
        allowed = None if allowed_ids is None else as_ids(allowed_ids)
        hits = self.index.search(vectors, k, self._rest_of(other, allowed))
        mine = np.arange(len(other.ids))
        if allowed is not None:
            mine = mine[pc.is_in(other.ids, value_set=allowed).to_numpy(zero_copy_only=False)]
        if len(mine):
            queries = unit_rows(np.atleast_2d(np.asarray(vectors, np.float32)), self.index.width)
            most = min(k, len(mine))
            found, places = other.rows.nearest(queries, most, Selection.of_places(mine, len(other.rows)))
            for row, similarity, at in zip(hits, found.tolist(), places, strict=True):
                row += zip(map(str, other.ids.take(as_places(at)).to_pylist()), similarity, strict=True)
                row.sort(key=lambda hit: -hit[1])
                del row[k:]
        return hits

    def _in_step(self) -> bool:
        return bool(self.index.manifest["table_version"] == self._version)

    def _rest_of(self, other: _Other, allowed: pa.Array[Any] | None) -> Selection:
        """The rows of the index that are as in the snapshot, all or those allowed."""
        rows = len(self.index.rows)
        if allowed is not None:
            places = np.unique(self.index.places(allowed))
            return Selection.of_places(np.setdiff1d(places[places >= 0], other.stale, assume_unique=True), rows)
        if self._rest is None:
            mask = self.index.live()
            mask[other.stale] = False
            self._rest = Selection.of_mask(mask)
        return self._rest

    def _difference(self) -> _Other:
        with self._once:
            if self._other is None:
                self._other = self._found()
        return self._other

    def _found(self) -> _Other:
        index, told = self.index, self.index.manifest
        built, model = int(told["table_version"]), str(told["model"])
        version = self._version
        touched = None if version is None else touched_items(self._store, built, version, model)
        gone = index.live()  # what the snapshot may lack: of what was touched, or of all
        if touched is not None:
            places = index.places(touched)
            gone[:] = False
            gone[places[places >= 0]] = True
        if version is None:
            batches: Iterable[tuple[Any, Vectors, int]] = ()
        elif touched is None:
            batches = all_vectors(self._store, version, model, index.width)
        else:
            batches = vectors_of(self._store, version, model, index.width, touched)
        ids, vectors, stale, held = [pa.array([], pa.string())], [np.empty((0, index.width), np.float32)], [], 0
        for names, given, _ in batches:
            unit = unit_rows(given, index.width, names)
            places = index.places(names)
            there = places >= 0
            gone[places[there]] = False
            other = ~there
            other[there] = np.any(index.rows.take(places[there]) != unit[there], axis=1)
            held += int(np.count_nonzero(other))
            if held > _MOST:
                raise StoreError(
                    f"the index {self._name} is of version {built} of the embeddings, the snapshot of {version}: they"
                    f" differ in more than {_MOST:,} rows; run `lore embed`, or search a snapshot nearer to the index"
                )
            ids.append(names.filter(pa.array(other)))
            vectors.append(unit[other])
            stale.append(places[there & other])
        replaced = np.concatenate([*stale, np.empty(0, np.int64)])
        dead = np.flatnonzero(gone).astype(np.int64)
        lag = Lag(self._name, built, version, held - len(replaced), len(replaced), len(dead))
        rows = np.concatenate(vectors)
        size = len(rows) // 8 * 8 + 8
        return _Other(pa.concat_arrays(ids), Rows([rows], size, index.width), np.union1d(replaced, dead), lag)
