"""What an online view is to hold, told from the tables: the entry of every item, and of every query's key.

One source for who builds a view, who refreshes it and who checks it, so that they cannot disagree. It writes no view.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lore_mm.errors import StoreError
from lore_mm.tables import TABLES
from stores.features import FeatureStore
from stores.online_codec import encode_item, encode_understood, encode_verdict, key_of
from stores.sorted_runs import SortedRuns
from stores.understood import QueryIndex, query_key, understood_from_row

__all__ = ["MERGED", "OnlineSource", "most_frequent"]

MERGED = "merge"  # the extractor whose rows are the verdict over all others

_ROWS = 1024  # decoded to Python at once
_KEY_ROWS = 1 << 18
_ITEM_COLUMNS = (
    "item_id title description category brand attributes price currency images store status provenance".split()
)
_VERDICT_COLUMNS = ("item_id", "attributes", "provenance")
_TEXT_COLUMNS = ("query_id", "query", "status")
_WANTED, _ITEM, _ALONE, _VERDICT = b"0", b"1", b"2", b"3"  # what an entry is put together from
_BEGINNING = datetime.min.replace(tzinfo=UTC)


class OnlineSource:
    """The entries of an online view of a store at some versions, in the order of their keys.

    Memory: 256 MiB, a row group of each table, and of `texts` 16 bytes a query beside its id.

    Attributes:
        versions: of `items`, `attributes` and `demands`, those that there are.
        head: the ids of the only queries that count; None for all.
    """

    def __init__(
        self, store: FeatureStore, versions: Mapping[str, int], head: pa.Array[Any] | None, spill: Path
    ) -> None:
        """`spill`: a folder for what does not fit into memory."""
        self.store, self.versions, self.head = store, versions, head
        self._spill = spill
        self._texts: QueryIndex | None = None

    # --- items ---

    def features(self, only: pa.Array[Any] | None = None) -> Iterator[tuple[bytes, bytes | None]]:
        """The key and the entry of every item that did not fail.

        With `only` (ids, each once) of these alone, and None for one that is to have no entry.
        """
        with SortedRuns(self._spill) as runs:
            for item_id in () if only is None else only.to_pylist():
                runs.add(key_of(str(item_id)), _WANTED, b"")
            for batch in self._newest("attributes", _VERDICT_COLUMNS, only):
                for row in batch.to_pylist():
                    runs.add(key_of(row["item_id"]), _VERDICT, encode_verdict(row))
            for batch in self._newest("items", _ITEM_COLUMNS, only):
                for row in batch.filter(_is_ok(batch)).to_pylist():
                    key = key_of(row["item_id"])
                    for rank, part in zip((_ITEM, _ALONE), encode_item(row), strict=True):
                        runs.add(key, rank, part)
            for key, parts in groupby(runs, itemgetter(0)):
                found = {rank: value for _, rank, value in parts}
                if _ITEM in found:
                    yield key, found[_ITEM] + found.get(_VERDICT, found[_ALONE])
                elif _WANTED in found:
                    yield key, None

    def count_items(self) -> int:
        """How many items there are that did not fail."""
        batches = self._newest("items", ("item_id", "status"), rows=_KEY_ROWS)
        return sum(int(pc.sum(_is_ok(batch)).as_py() or 0) for batch in batches)

    # --- queries ---

    def understood(self, only: Collection[str] | None = None) -> Iterator[tuple[bytes, str, bytes]]:
        """Key, query id and entry of the understanding that stands for each key of a query's text.

        With `only` (keys as by `query_key`) of these alone; a key that no query has does not come.
        """
        ids = None if only is None else pa.array(self.texts().candidates(only), pa.string())
        with SortedRuns(self._spill) as runs:
            for batch in self._newest("demands", None, ids):
                for row in self._counting(batch).to_pylist():
                    text_key = query_key(row["query"])
                    if only is None or text_key in only:
                        one = understood_from_row(row)
                        runs.add(key_of(text_key), _rank(row), encode_understood(one))
            for key, parts in groupby(runs, itemgetter(0)):
                *_, (_, rank, value) = parts  # as `stores.understood.newer`: the last made, then the highest id
                yield key, rank[8:].decode(), value

    def texts(self) -> QueryIndex:
        """Which queries have which text, by one scan, the first time."""
        if self._texts is None:
            batches = self._newest("demands", _TEXT_COLUMNS, rows=_KEY_ROWS)
            self._texts = QueryIndex(map(self._counting, batches))
        return self._texts

    def keys_of(self, ids: pa.Array[Any]) -> set[str]:
        """The keys (`query_key`) of the texts of these queries, of those that are understood."""
        batches = self._newest("demands", _TEXT_COLUMNS, ids)
        texts = (text for batch in batches for text in self._counting(batch).column("query").to_pylist())
        return {query_key(str(text)) for text in texts}

    def _counting(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        good = _is_ok(batch)
        if self.head is not None:
            good = pc.and_(good, pc.is_in(batch.column("query_id"), self.head))
        return batch.filter(good)

    # --- rows ---

    def sample(self, table: str, runs: int, each: int) -> pa.Array[Any]:
        """The keys of at most `runs` times `each` newest rows of `items` or `demands`: runs of neighbours, by lot."""
        if table not in self.versions:
            return pa.array([], pa.string())
        rows = self.store.newest(table, self.versions[table])
        lots = np.random.default_rng().integers(0, max(1, len(rows) - each + 1), runs)
        places = np.unique(np.concatenate([np.arange(lot, min(lot + each, len(rows))) for lot in lots]))
        key = "item_id" if table == "items" else "query_id"
        return rows.take(places.astype(np.int64), [key]).column(key).combine_chunks()

    def _newest(
        self, table: str, columns: Collection[str] | None, only: pa.Array[Any] | None = None, rows: int = _ROWS
    ) -> Iterator[pa.RecordBatch]:
        """The newest rows of a table, of `attributes` the verdicts alone; with `only` those of these ids alone."""
        if table not in self.versions:
            return
        version = self.versions[table]
        names = list(columns or TABLES[table].names)
        if only is None:
            read = [*names, "extractor"] if table == "attributes" else names
            for batch in self.store.batches(table, read, version, rows, latest=True):
                yield _verdicts(batch) if table == "attributes" else batch
            return
        places = self._places(table, only)
        found = self.store.newest(table, version)
        for start in range(0, len(places), rows):
            yield from found.take(places[start : start + rows], names).to_batches()

    def _places(self, table: str, ids: pa.Array[Any]) -> NDArray[np.int64]:
        """Where among the newest rows those of these ids are."""
        key = "query_id" if table == "demands" else "item_id"
        read = [key, "extractor"] if table == "attributes" else [key]
        found, start = [np.empty(0, np.int64)], 0
        for batch in self.store.batches(table, read, self.versions[table], _KEY_ROWS, latest=True):
            hit = pc.is_in(batch.column(key), ids)
            if table == "attributes":
                hit = pc.and_(hit, pc.equal(batch.column("extractor"), pa.scalar(MERGED)))
            found.append(np.flatnonzero(hit.to_numpy(zero_copy_only=False)) + start)
            start += batch.num_rows
        return np.concatenate(found)


def most_frequent(store: FeatureStore, version: int | None, n: int) -> pa.Array[Any]:
    """The ids of the n most frequent queries of the log; one whose frequency is not known counts as asked never.

    Raises:
        StoreError: there is no log.
    """
    if version is None:
        raise StoreError(f"no query log in {store.uri}, so that none of its queries is more frequent than another")
    log = store.latest("queries", version).select("query_id", "frequency").collect()
    ordered = log.sort("frequency", descending=True, nulls_last=True, maintain_order=True)
    return pa.array(ordered["query_id"].head(n).to_list(), pa.string())


def _is_ok(batch: pa.RecordBatch) -> Any:
    return pc.equal(batch.column("status"), pa.scalar("ok"))


def _verdicts(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch.filter(pc.equal(batch.column("extractor"), pa.scalar(MERGED)))


def _rank(row: Mapping[str, Any]) -> bytes:
    """Sorts as `stores.understood.newer` chooses."""
    made = (row["provenance"] or {}).get("made_at")
    micros = 0 if made is None else 1 + (made.astimezone(UTC) - _BEGINNING) // timedelta(microseconds=1)
    return micros.to_bytes(8, "big") + str(row["query_id"]).encode()
