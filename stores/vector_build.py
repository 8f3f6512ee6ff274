"""Vector indexes built and changed: a draft is written whole, then swapped in.

Vectors come in batches and go straight to the draft's files: no step holds all of them, but for what FAISS itself keeps
of a kind (`stores.vector_kinds`) and 32 bytes a row while ids are hashed. A change shares the files that stay as they
are with the version before, adds the new rows behind, and marks the old ones dead; it builds anew where many are dead
or another kind is due. This module does not know what a vector was made from.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from lore_mm.errors import InputError, StoreError
from stores import vector_kinds as kinds
from stores import vector_recall as recall
from stores.swap import clean, new_draft, publish, settle
from stores.vector_files import (
    BLOCK_ROWS,
    block_name,
    load_faiss,
    map_array,
    map_ids,
    share_file,
    write_manifest,
)
from stores.vector_ids import as_ids, as_places, hash_mark, sorted_hashes
from stores.vector_kinds import Kind, choose_kind, code_bytes
from stores.vector_rows import Rows, Selection, Vectors, unit_rows
from stores.vectors import VectorIndex, open_index

__all__ = ["Batch", "Changed", "build_from", "build_index", "update_index"]

Batch: TypeAlias = "tuple[Iterable[str] | pa.Array[Any], ArrayLike]"  # ids and their vectors

_DEAD_SHARE = 0.25  # of rows, beyond which an index is built anew
_OUTGROWN = 2.0  # times the rows that an ivfpq was trained for


@dataclass(frozen=True)
class Changed:
    """An index after a change, and how many ids were added, replaced (by another vector) and removed."""

    index: VectorIndex
    added: int
    replaced: int
    removed: int


def build_index(
    ids: Sequence[str],
    vectors: ArrayLike,
    folder: str | Path,
    *,
    manifest: Mapping[str, Any],
    kind: Kind | None = None,
    memory_budget_bytes: int | None = None,
) -> VectorIndex:
    """As `build_from`, of float32 (n, d) vectors at hand."""
    rows = np.asarray(vectors, dtype=np.float32)
    width = rows.shape[1] if rows.ndim == 2 else int(manifest.get("width") or 0)
    names = [str(i) for i in ids]
    return build_from(
        [(names, rows)], folder, width=width, manifest=manifest, kind=kind, memory_budget_bytes=memory_budget_bytes
    )


def build_from(
    batches: Iterable[Batch],
    folder: str | Path,
    *,
    width: int,
    manifest: Mapping[str, Any],
    kind: Kind | None = None,
    memory_budget_bytes: int | None = None,
) -> VectorIndex:
    """Build an index, swap it in as the folder's current one, and open it.

    `manifest` says what the vectors are; `model`, `model_sha`, `table`, `table_id` and `table_version` are its usual
    keys. Added to it: width, n, metric, kind, search (how widely to look), recall_at_10 (`stores.vector_recall`) and
    made_at. `memory_budget_bytes` is for what of the index is to lie in memory, half of the machine's unless given.

    Raises:
        InputError: ids repeat, or a vector is NaN, infinite, zero, or of another width; names the row.
        StoreError: the folder cannot be written.
    """
    with _Drafting(Path(folder)) as drafting:
        draft = drafting.new(width, BLOCK_ROWS)
        for ids, vectors in batches:
            draft.append(as_ids(ids), vectors)
        draft.close()
        return _finish(drafting, draft, manifest, kind, memory_budget_bytes, None)


def update_index(
    index: VectorIndex,
    put: Iterable[Batch],
    among: Iterable[str] | pa.Array[Any],
    *,
    manifest: Mapping[str, Any],
    kind: Kind | None = None,
    memory_budget_bytes: int | None = None,
) -> Changed:
    """Change the current index of a folder, opened as `index`, swap the new one in, and open it.

    Ids of `put` are added, or replaced where their vector is another. Those in `among` that `put` does not give are
    removed. `manifest` overrides what was known. The open `index` stays as it is.

    Raises:
        InputError: as in `build_from`; an id comes twice in `put`.
        StoreError: the folder cannot be written.
    """
    source = index.path
    with _Drafting(source.parent) as drafting:
        draft = drafting.new(index.width, index.manifest["block_rows"])
        draft.go_on(source, index)
        wanted = as_ids(among)
        left = np.ones(len(index.rows), np.bool_)  # of those in `among`, what was not put
        added = replaced = 0
        for ids, vectors in put:
            names = as_ids(ids)
            unit = unit_rows(vectors, index.width, names)
            _check_ids(names, unit)
            places = index.places(names)
            there = places >= 0
            left[places[there]] = False
            other = ~there
            other[there] = np.any(index.rows.take(places[there]) != unit[there], axis=1)
            draft.kill(places[there & other])
            draft.append_unit(names.filter(pa.array(other)), unit[other])
            added += int(np.count_nonzero(~there))
            replaced += int(np.count_nonzero(there & other))
        gone = index.places(wanted)
        gone = np.unique(gone[gone >= 0])
        gone = gone[left[gone]]
        draft.kill(gone)
        draft.close()
        made = _finish(drafting, draft, {**index.manifest, **manifest}, kind, memory_budget_bytes, index)
    return Changed(made, added, replaced, len(gone))


class _Drafting:
    """The drafts of one build in a folder: what is not swapped in is taken away, and faults are one line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._drafts: list[_Draft] = []
        self._was_there = folder.exists()

    def __enter__(self) -> _Drafting:
        return self

    def new(self, width: int, block_rows: int) -> _Draft:
        self._drafts.append(_Draft(new_draft(self.folder), width, block_rows))
        return self._drafts[-1]

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        for draft in self._drafts:
            draft.give_up()
            shutil.rmtree(draft.path, ignore_errors=True)  # one that was swapped in has another name
        if error is not None and not self._was_there and self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()
        if isinstance(error, OSError | RuntimeError):  # FAISS says RuntimeError for a full disk
            what = " ".join(str(error).split())[:200]
            raise StoreError(f"cannot write the vector index {self.folder}: {what}") from None


@dataclass
class _Draft:
    """The rows of a version that is being written."""

    path: Path
    width: int
    block_rows: int
    shas: dict[str, str] = field(default_factory=dict)
    count: int = 0
    first: int = 0  # the first row that the version before had not
    live: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))

    def __post_init__(self) -> None:
        self._ids: list[pa.Array[Any]] = []  # of the block that is being written
        self._sink: Any = None
        self._sha = hashlib.sha256()
        self._dead: list[NDArray[np.int64]] = []

    def go_on(self, source: Path, index: VectorIndex) -> None:
        """Begin with all rows of a version that stands."""
        self.first = len(index.rows)
        self.live = index.live()
        for block in range(self.first // self.block_rows):
            for kind in ("vectors", "ids"):
                name = block_name(kind, block)
                share_file(source / name, self.path / name)
                self.shas[name] = index.manifest["files"][name]["sha256"]
        self.count = self.first // self.block_rows * self.block_rows
        if self.count < self.first:
            name = block_name("vectors", self.count // self.block_rows)
            self._write(map_ids(source / block_name("ids", self.count // self.block_rows)))
            with (source / name).open("rb") as rest:
                while piece := rest.read(1 << 24):
                    self._bytes(piece)
            self.count = self.first

    def append(self, ids: pa.Array[Any], vectors: ArrayLike) -> None:
        """Add rows, brought to length 1."""
        unit = unit_rows(vectors, self.width, ids)
        _check_ids(ids, unit)
        self.append_unit(ids, unit)

    def append_unit(self, ids: pa.Array[Any], unit: Vectors) -> None:
        """Add rows that are of length 1."""
        done = 0
        while done < len(unit):
            room = self.block_rows - self.count % self.block_rows
            part = unit[done : done + room]
            self._write(ids.slice(done, len(part)))
            self._bytes(part.tobytes())
            self.count += len(part)
            done += len(part)
            if self.count % self.block_rows == 0:
                self._end_block()

    def kill(self, places: NDArray[np.int64]) -> None:
        """Mark rows of the version before dead."""
        self._dead.append(places)

    def close(self) -> None:
        """Write what is left."""
        if self.count % self.block_rows:
            self._end_block()
        live = np.ones(self.count, np.bool_)
        live[: self.first] = self.live
        for places in self._dead:
            live[places] = False
        self.live = live

    def give_up(self) -> None:
        """Let go of the file that is being written, if there is one."""
        if self._sink is not None:
            self._sink.close()

    def _write(self, ids: pa.Array[Any]) -> None:
        if ids.null_count:
            raise InputError(f"id in row {self.count} is null")
        if self._sink is None:
            self._sink = (self.path / block_name("vectors", self.count // self.block_rows)).open("wb")
            self._sha = hashlib.sha256()
        self._ids.append(ids)

    def _bytes(self, piece: bytes) -> None:
        self._sink.write(piece)
        self._sha.update(piece)

    def _end_block(self) -> None:
        block = (self.count - 1) // self.block_rows
        self._sink.close()
        self._sink = None
        self.shas[block_name("vectors", block)] = self._sha.hexdigest()
        column = pa.concat_arrays(self._ids)
        batch = pa.record_batch([column], names=["item_id"])
        with pa.OSFile(str(self.path / block_name("ids", block)), "wb") as sink:
            with pa.ipc.new_file(sink, batch.schema) as writer:
                writer.write_batch(batch)
        self._ids = []

    def blocks(self) -> range:
        return range(-(-self.count // self.block_rows))

    def rows(self) -> Rows:
        """The rows written."""
        files = [self.path / block_name("vectors", block) for block in self.blocks()]
        return Rows([map_array(file, "<f4", self.width) for file in files], self.block_rows, self.width)

    def ids(self) -> list[pa.Array[Any]]:
        """Their ids, by block."""
        return [map_ids(self.path / block_name("ids", block)) for block in self.blocks()]

    def alive(self) -> Iterator[tuple[pa.Array[Any], Vectors]]:
        """Live rows and their ids, some at a time."""
        blocks = self.ids()
        for places, part in self.rows().chunks(live=self.live):
            block = int(places[0]) // self.block_rows
            yield blocks[block].take(as_places(places - block * self.block_rows)), part


def _finish(
    drafting: _Drafting,
    draft: _Draft,
    manifest: Mapping[str, Any],
    kind: Kind | None,
    budget: int | None,
    before: VectorIndex | None,
) -> VectorIndex:
    """Look-ups, FAISS index and manifest of a draft; swap it in."""
    n = int(np.count_nonzero(draft.live))
    kind = (kind or choose_kind(n, draft.width, budget)) if n else "flat"
    code = code_bytes(n, draft.width, budget) if kind == "ivfpq" else 0
    anew = before is None or _due(before.manifest, kind, code, n, draft)
    if anew and n < draft.count:
        compact = drafting.new(draft.width, BLOCK_ROWS)
        for ids, part in draft.alive():
            compact.append_unit(ids, part)  # not brought to length 1 again, which would change the last bits
        compact.close()
        draft = compact
    hashes, places = sorted_hashes(draft.ids(), draft.block_rows, draft.live)
    hashes.tofile(draft.path / "hashes.u64")
    places.tofile(draft.path / "places.i64")
    del hashes, places
    np.packbits(draft.live, bitorder="little").tofile(draft.path / "live.bits")
    told = {
        **manifest,
        "kind": kind,
        "width": draft.width,
        "n": n,
        "rows": draft.count,
        "block_rows": draft.block_rows,
        "code_bytes": code,
        "hashed": hash_mark(),
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if anew or before is None:
        told["trained_n"] = n
        before = None
    told |= _faiss_part(draft, kind, code, before)
    write_manifest(draft.path, told, draft.shas)
    version = settle(draft.path)
    publish(drafting.folder, version)
    clean(drafting.folder, version)
    return open_index(drafting.folder)


def _due(known: Mapping[str, Any], kind: Kind, code: int, n: int, draft: _Draft) -> bool:
    """Whether an index must be built anew instead of changed."""
    dead = draft.count - n
    return (
        kind != known["kind"]
        or code != known["code_bytes"]
        or dead > _DEAD_SHARE * draft.count
        or (kind == "flat" and dead > 0)
        or (kind == "ivfpq" and n > _OUTGROWN * known["trained_n"])
    )


def _faiss_part(draft: _Draft, kind: Kind, code: int, before: VectorIndex | None) -> dict[str, Any]:
    """Write the FAISS index and the sample of a draft; returns how widely to search it, and the recall then."""
    if kind == "flat":
        return {"search": {}, "recall_at_10": 1.0}
    faiss, rows = load_faiss(), draft.rows()
    if before is None:
        index = kinds.make(kind, rows, code)
    else:
        index = faiss.read_index(str(before.path / "index.faiss"))
        kinds.change(kind, index, rows, draft.first, np.flatnonzero(before.live() & ~draft.live[: draft.first]))
    faiss.write_index(index, str(draft.path / "index.faiss"))
    sample = None
    if before is not None:
        sample = recall.renewed(recall.read_sample(before.path / "sample.npz"), rows, draft.live, draft.first)
    sample = sample or recall.draw(rows, draft.live)
    recall.write_sample(sample, draft.path / "sample.npz")
    allowed = None if kind == "ivfpq" or draft.live.all() else Selection.of_mask(draft.live)
    found: dict[str, Any] = {}
    for search in kinds.widths(kind, index):
        score = recall.measured(sample, partial(kinds.near, kind, index, rows, search=search, allowed=allowed))
        if not found or score > found["recall_at_10"]:
            found = {"search": search, "recall_at_10": score}
        if score >= recall.RECALL_GOAL:
            break
    return found


def _check_ids(ids: pa.Array[Any], rows: Vectors) -> None:
    if len(ids) != len(rows):
        raise InputError(f"{len(ids)} ids for {len(rows)} vectors")
    if ids.null_count:
        raise InputError("an id is null, or no text that a table can hold (half of a surrogate pair)")
