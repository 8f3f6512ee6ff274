"""The stored judgments that a desk may serve as they are, ready to be sent, in an LMDB file of its own.

One counts only if it was made by this judge as it is now (of a routing also by its dear judge alone), of the query and
the item as they are now: the sha of what it was made from is compared, once, when the file is filled. The file lies in
the temporary folder and goes with the desk. Knows no HTTP; judges nothing.
"""

from __future__ import annotations

import shutil
import struct
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmdb
import msgspec
import pyarrow as pa

from jobs.judge_pairs import item_sha, pair_sha, query_sha
from jobs.served_queries import QueryDesk
from jobs.service.bodies import Judged, ServedBy
from lore_mm.errors import StoreError
from lore_mm.rows import judgment_from_row
from lore_mm.types import Judgment, Query
from relevance.paths import render
from relevance.protocol import PairJudge
from stores.online_codec import key_of
from stores.snapshot import Snapshot
from stores.understood import query_key

__all__ = ["Stored", "StoredJudgments", "judged_of", "judges_of"]

_ROWS = 4096
_LARGEST = 1 << 38  # bytes of address space; the file is as large as what is in it
_NUMBER = struct.Struct("<d")


@dataclass(frozen=True, slots=True)
class Stored:
    """A judgment as JSON but for its query, and its path as a reader sees it. `rank`: lower goes before higher."""

    rank: int
    body: bytes
    path: str


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Stored).decode


class StoredJudgments:
    """Finds stored judgments by a query's text and an item's id, and how often a query is asked.

    Safe to use from several threads once it is filled.

    Attributes:
        n: how many judgments it holds.
        stale: how many it left out: of another item, query or judge than now.
    """

    def __init__(self) -> None:
        self.n = self.stale = 0
        self._folder = Path(tempfile.mkdtemp(prefix="lore-serve-"))
        try:
            self._file = lmdb.open(
                str(self._folder / "data.mdb"), subdir=False, lock=False, sync=False, max_dbs=2, map_size=_LARGEST
            )
            self._judged, self._asked = (self._file.open_db(name) for name in (b"judged", b"asked"))
        except lmdb.Error as error:
            raise StoreError(f"cannot write to the temporary folder {self._folder}: {error}") from None

    def find(self, query: str, item_id: str) -> Stored | None:
        """The judgment of a pair; None where there is none that counts."""
        if not self.n:
            return None
        with self._file.begin() as transaction:
            data = transaction.get(_key(query_key(query), item_id), None, self._judged)
        return None if data is None else _decode(data)

    def asked(self, query: str) -> float | None:
        """How often a query is asked, by the log; None where it is not in it."""
        with self._file.begin() as transaction:
            data = transaction.get(key_of(query_key(query)), None, self._asked)
        return None if data is None else float(_NUMBER.unpack(data)[0])

    def fill(self, snapshot: Snapshot, judge: PairJudge, queries: QueryDesk) -> None:
        """Take over what counts of a snapshot's judgments.

        Raises:
            StoreError: a table cannot be read, or the temporary folder is full.
        """
        version = snapshot.versions.get("judgments")
        if version is None:
            return
        ranks = {key: rank for rank, key in enumerate(judges_of(judge))}
        for batch in snapshot.store.batches("judgments", None, version, _ROWS, latest=True):
            rows = [row for row in _ok(batch) if row["mode"] in {mode for mode, _ in ranks}]
            fresh = [
                (ranks[row["mode"], row["provenance"]["settings_sha"]], row)
                for row, same in zip(rows, _same(rows, snapshot, queries), strict=True)
                if same and (row["mode"], row["provenance"]["settings_sha"]) in ranks
            ]
            self.stale += len(rows) - len(fresh)
            self._put(fresh)

    def count_log(self, snapshot: Snapshot) -> None:
        """Take over how often the queries of a snapshot's log are asked.

        Raises:
            StoreError: as in `fill`.
        """
        version = snapshot.versions.get("queries")
        if version is None:
            return
        for batch in snapshot.store.batches("queries", ("query", "frequency"), version, _ROWS, latest=True):
            with self._writing() as transaction:
                for row in batch.to_pylist():
                    key, times = key_of(query_key(row["query"] or "")), row["frequency"]
                    before = transaction.get(key, None, self._asked)
                    total = (1.0 if times is None else times) + (_NUMBER.unpack(before)[0] if before else 0.0)
                    transaction.put(key, _NUMBER.pack(total), db=self._asked)

    def close(self) -> None:
        """Remove the file; calling it twice is harmless."""
        self._file.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _put(self, fresh: Sequence[tuple[int, Mapping[str, Any]]]) -> None:
        with self._writing() as transaction:
            for rank, row in fresh:
                judgment = judgment_from_row(row)
                key = _key(query_key(judgment.query), judgment.item_id)
                before = transaction.get(key, None, self._judged)
                if before is not None and _decode(before).rank < rank:
                    continue
                self.n += before is None
                body = msgspec.json.encode(judged_of(judgment, "cache"))
                transaction.put(key, _encode(Stored(rank, body, render(judgment))), db=self._judged)

    @contextmanager
    def _writing(self) -> Iterator[Any]:
        try:
            with self._file.begin(write=True) as transaction:
                yield transaction
        except lmdb.Error as error:
            raise StoreError(f"the temporary folder {self._folder} cannot hold the judgments: {error}") from None


def judges_of(judge: PairJudge) -> list[tuple[str, str]]:
    """Mode and sha of the judges whose stored judgments may be served for this one's, the best first.

    A routing's dear judge is what the routing stands in for; what its cheap judge said alone does not count.
    """
    dear = getattr(judge, "dear", None)
    return [*([(dear.mode, dear.sha)] if isinstance(dear, PairJudge) else []), (judge.mode, judge.sha)]


def judged_of(judgment: Judgment, served_by: ServedBy | None) -> Judged:
    """What is answered of a judgment, but for its query and path."""
    return Judged(
        item_id=judgment.item_id,
        grade=None if judgment.grade is None else str(judgment.grade),  # type: ignore[arg-type]
        score=judgment.score,
        probabilities=judgment.probabilities,
        failed_dimensions=list(judgment.failed_dimensions),
        status="failed" if judgment.grade is None else "ok",
        error=judgment.error if judgment.grade is None else None,
        served_by=served_by,
        maker=judgment.provenance.maker,
    )


def _key(query: str, item_id: str) -> bytes:
    return key_of(f"{query}\0{item_id}")  # no key of a query holds a control character


def _ok(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    return (row for row in batch.to_pylist() if row["status"] == "ok" and row["grade"] and row["query"])


def _same(rows: Sequence[Mapping[str, Any]], snapshot: Snapshot, queries: QueryDesk) -> list[bool]:
    """Of each row whether it was made from the query and the item as they are now."""
    texts = {(row["query_id"], row["query"]): None for row in rows}
    read = queries.read([Query(query_id, text) for query_id, text in texts])
    query_shas = {key: query_sha(one.understanding) for key, one in zip(texts, read, strict=True)}
    ids = list(dict.fromkeys(row["item_id"] for row in rows))
    items = dict(zip(ids, snapshot.get(ids), strict=True))
    item_shas: dict[tuple[str, bool], str | None] = {}
    found = []
    for row in rows:
        item, looks = row["item_id"], row["mode"].endswith("-vision")
        if (item, looks) not in item_shas:
            item_shas[item, looks] = item_sha(items[item], looks)
        made_from = pair_sha(query_shas[row["query_id"], row["query"]], item_shas[item, looks])
        found.append(items[item] is not None and row["provenance"]["input_sha"] == made_from)
    return found
