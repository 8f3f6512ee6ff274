"""What stood in a job's table before a run, read back for rows that are to be made again: a part may be enough.

Nothing is read before the first such row. Then the keys of the newest rows are read once, 20 bytes a row in memory, and
rows are fetched by place, whole row groups at a time: a run goes through its input in the order in which the rows were
made, so that these reads follow one another through the files. This module knows nothing of what rows mean.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from jobs.standing import hashes, hashes_of
from stores.features import FeatureStore
from stores.rows_at import RowsAt

__all__ = ["Carry"]

_READ_ROWS = 65_536


class Carry:
    """The newest rows of a table at a version, by one of its key columns. `version` None: there are none.

    May be used by several threads, which take turns.
    """

    def __init__(
        self,
        store: FeatureStore,
        table: str,
        key: str,
        columns: Sequence[str],
        version: int | None,
        again: bool = False,
    ) -> None:
        self.again = again  # what failed is to be made again
        self._store, self._table, self._key, self._version = store, table, key, version
        self._columns = list(dict.fromkeys([key, *columns]))
        self._rows: RowsAt | None = None
        self._lock = threading.Lock()

    def rows(self, keys: Sequence[str]) -> list[list[dict[str, Any]]]:
        """The rows of each key, in the order in which they were committed; none of a key that has none.

        Raises:
            StoreError: a file of the table cannot be read.
        """
        if self._version is None or not keys:
            return [[] for _ in keys]
        with self._lock:
            reader = self._rows or self._open(self._version)
            wanted = hashes_of(keys)
            first, last = (np.searchsorted(self._hashes, wanted, side) for side in ("left", "right"))
            places = [self._places[a:b] for a, b in zip(first.tolist(), last.tolist(), strict=True)]
            table = reader.take(np.unique(np.concatenate(places)).astype(np.int64), self._columns)
        found: dict[str, list[dict[str, Any]]] = {}
        for row in table.to_pylist():
            found.setdefault(row[self._key], []).append(row)
        return [found.get(key, []) for key in keys]

    def _open(self, version: int) -> RowsAt:
        """Read the keys, and hold for each its hash and its place."""
        stream = self._store.batches(self._table, [self._key], version, _READ_ROWS, latest=True)
        parts = [hashes(batch, [self._key]) for batch in stream]
        held = np.concatenate(parts) if parts else np.zeros(0, np.uint64)
        order = np.argsort(held, kind="stable")
        self._hashes = held[order]
        self._places = order.astype(np.uint32 if len(order) < 1 << 32 else np.int64)
        self._rows = self._store.newest(self._table, version)
        return self._rows
