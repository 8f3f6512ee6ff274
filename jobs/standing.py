"""What stands in a table already, held as 64-bit hashes, so that memory is a few bytes a row whatever the rows hold.

Keys, content and settings are compared by hash: 8 bytes each, in numpy arrays. With n keys the chance that any two
collide is about n² / 2⁶⁵: 3e-8 for a million, 3e-4 for a hundred million. Hashes live within one process only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stores.features import FeatureStore

__all__ = ["Standing", "hashes", "newest", "sampled", "standing_in"]

Hashes = NDArray[np.uint64]
_READ_ROWS = 65_536
_KINDS = (np.uint64, np.uint64, np.bool_)  # of inputs, settings, ok


def hashes(table: pa.Table | pa.RecordBatch, columns: Sequence[str]) -> Hashes:
    """A 64-bit hash a row over text columns, the same for equal values within this process."""
    frame = pl.DataFrame({name: pl.Series(_array(table, name), dtype=pl.String) for name in columns})
    return frame.hash_rows(seed=0).to_numpy()


def hashes_of(values: Sequence[str | None]) -> Hashes:
    """The hash of each text alone; equals `hashes` over one column."""
    return hashes(pa.table({"value": pa.array(values, pa.string())}), ["value"])


def _array(table: pa.Table | pa.RecordBatch, name: str) -> Any:
    head, *rest = name.split(".")
    column = table.column(head)
    return pc.struct_field(column, rest) if rest else column


@dataclass(frozen=True, slots=True)
class Standing:
    """The newest row of each key: what it was made from, and whether it is ok. 25 bytes a row.

    `keys` is sorted; the other arrays go with it. `made_at` is the latest time of making among all of them.
    """

    keys: Hashes  # (n,)
    inputs: Hashes  # (n,) of provenance.input_sha
    settings: Hashes  # (n,) of provenance.settings_sha
    ok: NDArray[np.bool_]  # (n,)
    made_at: datetime | None = None

    def find(self, keys: Hashes) -> NDArray[np.int64]:
        """The position of each key, or -1."""
        if not len(self.keys):
            return np.full(len(keys), -1, np.int64)
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[at] == keys, at, -1).astype(np.int64)


def standing_in(
    store: FeatureStore,
    table: str,
    key: Sequence[str],
    verdict: Mapping[str, str],
    version: int | None,
    run_ids: Collection[str] | None = None,
) -> Standing:
    """What stands in a table at a version, of the rows that `verdict` names (column → value).

    The newest row of each key; with `run_ids`, the rows that these runs have made, which are one a key.
    """
    parts: list[list[NDArray[Any]]] = [[], [], [], []]  # keys, inputs, settings, ok
    made_at: list[datetime] = []
    columns = list(dict.fromkeys([*key, *verdict, "status", "provenance"]))
    batches: Iterator[pa.RecordBatch] = iter(())
    if version is not None:
        batches = store.batches(table, columns, version, _READ_ROWS, latest=run_ids is None)
    for batch in batches:
        for column, value in verdict.items():
            batch = batch.filter(pc.equal(batch.column(column), pa.scalar(value)))
        if run_ids is not None:
            batch = batch.filter(pc.is_in(_array(batch, "provenance.run_id"), pa.array(sorted(run_ids), pa.string())))
        if batch.num_rows:
            ok = pc.equal(batch.column("status"), pa.scalar("ok")).to_numpy(zero_copy_only=False)
            made_from = [hashes(batch, [f"provenance.{sha}"]) for sha in ("input_sha", "settings_sha")]
            for held, found in zip(parts, (hashes(batch, key), *made_from, ok), strict=True):
                held.append(found)
            if (at := pc.max(_array(batch, "provenance.made_at")).as_py()) is not None:
                made_at.append(at)
    keys = _let_go(parts[0], np.uint64)
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    inputs, settings, ok = (_let_go(held, kind)[order] for held, kind in zip(parts[1:], _KINDS, strict=True))
    return Standing(keys, inputs, settings, ok, max(made_at, default=None))


def _let_go(held: list[NDArray[Any]], kind: type) -> NDArray[Any]:
    """One array of many, which are no longer held after: a table's worth of them at a time is enough."""
    whole: NDArray[Any] = np.concatenate([np.empty(0, kind), *held])
    held.clear()
    return whole


def newest(keys: Hashes) -> NDArray[np.bool_]:
    """True at the last row of each key."""
    ordered = np.sort(keys)
    if not (ordered[1:] == ordered[:-1]).any():  # nearly always: a store's own reading gives one row a key
        return np.ones(len(keys), np.bool_)
    mask = np.zeros(len(keys), np.bool_)
    _, first_from_end = np.unique(keys[::-1], return_index=True)
    mask[len(keys) - 1 - first_from_end] = True
    return mask


def sampled(keys: Iterable[tuple[str, ...]], mask: NDArray[np.bool_], n: int) -> NDArray[np.bool_]:
    """`mask` with all but `n` of its rows taken out: a fixed sample, the same in every process, whatever the order."""
    ranks = np.fromiter(
        (
            int.from_bytes(hashlib.blake2b("\0".join(key).encode("utf-8", "surrogatepass"), digest_size=8).digest())
            for key in keys
        ),
        np.uint64,
        len(mask),
    )
    candidates = np.flatnonzero(mask)
    chosen = np.zeros(len(mask), np.bool_)
    chosen[candidates[np.argsort(ranks[candidates], kind="stable")[:n]]] = True
    return chosen
