"""The input of a run on its way to the work: rows wanted, slices, what of them is to be done, micro-batches, loaded.

    positions ──> numbered slices ──> what stands already is skipped ──> micro-batches ──> loaded, the next beside
    of the input   (fixed by the plan)   by content and settings         (over slices)      the one that is worked on

Slices are fixed by position, not by what was skipped: a picture that changes under a half-done run can never shift a
row out of its slice. This module commits nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.partitions import Partition
from jobs.plan import Counts, Plan
from jobs.standing import Hashes, Standing, hashes, hashes_of, newest, sampled
from jobs.work import Work, input_shas, load_rows, make_rows
from lore_mm.errors import InputError
from stores.streams import keep_rows, slices

__all__ = [
    "Elsewhere",
    "Gathered",
    "InWork",
    "MicroBatch",
    "Reader",
    "Slice",
    "Wanted",
    "gather",
    "in_question",
    "in_work",
    "micro_batches",
    "settle",
    "settled",
    "wanted_rows",
]

_KEY_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class Wanted:
    """The rows of the input that a run is about: the newest of each key, within limit and sample. 16 bytes a row."""

    positions: NDArray[np.int64]  # in the stream that `Work.read` gives, rising
    keys: Hashes
    batch_rows: int

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def slices(self) -> int:
        """How many slices they make."""
        return -(-len(self) // self.batch_rows)


@dataclass(frozen=True, slots=True)
class Slice:
    """Rows of the input with a number. `expected[i]` is the hash of the input sha of which row i need not be made again
    where it is still that; 0 where the row is to be made in any case. `failed[i]`: it stands there as failed.
    """

    number: int
    rows: pa.Table
    expected: Hashes
    failed: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Rows to be made, loaded, and what was skipped of the slices that they come from."""

    rows: pa.Table
    input_shas: list[str]
    loaded: list[Any]
    last_slice: int
    skipped: Counts  # of the slices it covers: n_in of all their rows, n_skipped, n_still_failed


def wanted_rows(work: Work, plan: Plan) -> Wanted:
    """Read the keys of the input, and choose."""
    limit, sample = plan.settings["limit"], plan.settings["sample"]
    parts = [hashes(batch, work.key) for batch in work.read(plan.inputs, work.key, _KEY_ROWS)]
    keys = np.concatenate([np.zeros(0, np.uint64), *parts])
    del parts
    mask = newest(keys)
    if sample is not None:
        rows = (row for batch in work.read(plan.inputs, work.key, _KEY_ROWS) for row in batch.to_pylist())
        mask = sampled((tuple(row[name] for name in work.key) for row in rows), mask, sample)
    positions = np.flatnonzero(mask)[:limit]
    keys = keys[positions] if len(positions) < len(keys) else keys
    return Wanted(positions, keys, int(plan.settings["batch_rows"]))


class Reader:
    """Reads the slices of a run, partition by partition; one that follows the last goes on in the same stream.

    A reader whose slices were not read to the end is not to be used again: a thread may still be in it.
    """

    def __init__(self, work: Work, plan: Plan, standing: Standing, wanted: Wanted) -> None:
        self._work, self._plan, self._standing, self._wanted = work, plan, standing, wanted
        self._stream: Iterator[pa.Table] = iter(())
        self._next = -1

    def slices(self, part: Partition, after: int) -> Iterator[Slice]:
        """The slices of a partition behind slice `after`.

        Raises:
            InputError: the input is not what it was when its keys were read.
        """
        size, retry = self._wanted.batch_rows, bool(self._plan.settings["retry_failed"])
        for number in range(max(part.first, after + 1), part.last + 1):
            if number != self._next:
                self._stream = self._open(number)
            rows = next(self._stream, None)
            keys = self._wanted.keys[number * size : (number + 1) * size]
            if rows is None or not np.array_equal(hashes(rows, self._work.key), keys):
                raise InputError(f"the input of {self._work.job} changed while it was read: run again")
            self._next = number + 1
            yield _expecting(self._work, self._standing, number, rows, keys, retry)

    def _open(self, number: int) -> Iterator[pa.Table]:
        size = self._wanted.batch_rows
        positions = self._wanted.positions[number * size :]
        start = int(positions[0])
        stream = self._work.read(self._plan.inputs, None, max(size, 1024), start)
        return slices(_until(keep_rows(stream, positions, start), len(positions)), size)


def _until(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """The first `rows` rows; nothing behind them is read."""
    for batch in batches:
        rows -= batch.num_rows
        yield batch
        if rows <= 0:
            return


def _expecting(work: Work, standing: Standing, number: int, rows: pa.Table, keys: Hashes, retry_failed: bool) -> Slice:
    at = standing.find(keys)
    stands = at >= 0
    stands[stands] = standing.settings[at[stands]] == hashes_of([work.settings_sha])[0]
    if retry_failed:
        stands[stands] = standing.ok[at[stands]]
    expected, failed = np.zeros(len(keys), np.uint64), np.zeros(len(keys), np.bool_)
    expected[stands] = standing.inputs[at[stands]]
    failed[stands] = ~standing.ok[at[stands]]
    return Slice(number, rows, expected, failed)


def settle(work: Work, part: Slice) -> tuple[pa.Table, Counts]:
    """The rows of a slice that are to be made, and the count of all its rows with those that are skipped."""
    return settled(part, input_shas(work, in_question(part)) if part.expected.any() else [])


def in_question(part: Slice) -> pa.Table:
    """The rows of a slice that need not be made where they are what they were."""
    return part.rows.filter(pa.array(part.expected != 0))


def settled(part: Slice, shas: Sequence[str]) -> tuple[pa.Table, Counts]:
    """As `settle`, by the input shas of the rows `in_question`."""
    skip = part.expected != 0
    if skip.any():
        skip[skip] = hashes_of(shas) == part.expected[skip]
    todo = part.rows.filter(pa.array(~skip)) if skip.any() else part.rows
    return todo, Counts(part.rows.num_rows, 0, 0, int(skip.sum()), int((part.failed & skip).sum()))


# Micro-batches in order, each with a function that gives what was made of it.
InWork = Generator[tuple[MicroBatch, Callable[[], pa.Table]]]
# The same by other processes: of a plan's slices, with at most so many rows each.
Elsewhere = Callable[[Plan, Iterator[Slice], int], InWork]


@dataclass(frozen=True, slots=True)
class Gathered:
    """What slices left to do, up to slice `last_slice`: the rows of a micro-batch, still to be loaded; none may be."""

    rows: pa.Table | None
    last_slice: int
    skipped: Counts  # as of a MicroBatch


def gather(left: Iterable[tuple[int, pa.Table, Counts]], size: int) -> Iterator[Gathered]:
    """What slices leave to do, each with its number and counts (see `settle`), at most `size` rows at once."""
    held: list[pa.Table] = []
    skipped, last, n = Counts(), -1, 0

    def gathered() -> Gathered:
        return Gathered(pa.concat_tables(held) if held else None, last, skipped)

    for number, todo, counts in left:
        if n and n + todo.num_rows > size:
            yield gathered()
            held, skipped, n = [], Counts(), 0
        n += todo.num_rows
        if todo.num_rows:
            held.append(todo)
        skipped += counts
        last = number
        if n == size:
            yield gathered()
            held, skipped, n = [], Counts(), 0
    if skipped.n_in:
        yield gathered()


def micro_batches(work: Work, feed: Iterator[Slice], size: int) -> Iterator[MicroBatch]:
    """Gather what slices leave to do into micro-batches of at most `size` rows, over whole slices, loaded."""
    for one in gather(((part.number, *settle(work, part)) for part in feed), size):
        shas, payload = load_rows(work, one.rows) if one.rows else ([], [])
        yield MicroBatch(one.rows or pa.table({}), shas, payload, one.last_slice, one.skipped)


def in_work(
    work: Work, feed: Iterator[MicroBatch], in_flight: int, may_begin: Callable[[int], bool | None] = lambda rows: True
) -> InWork:
    """Micro-batches in order, each with a function that gives what was made of it, waiting where it must.

    `in_flight` of them are at work, less the one whose rows the caller is committing; the next one is loaded beside.
    `may_begin` is asked before each, with its rows: where it says False nothing more is begun, and where it says None
    it is asked again when the one before is committed.
    """
    window: deque[tuple[MicroBatch, Callable[[], pa.Table]]] = deque()
    with _threads(1, "load") as beside, _threads(in_flight, "work") as workers:
        coming: Future[MicroBatch | None] | None = beside.submit(next, feed, None)
        while coming or window:
            while coming and len(window) < in_flight:
                batch = coming.result()
                go = batch is None or may_begin(batch.rows.num_rows)
                if go is None and window:
                    break
                coming = beside.submit(next, feed, None) if batch and go else None
                if batch and go:
                    make = partial(_make_once, work, batch)
                    begun = in_flight > 1 and batch.rows.num_rows > 0
                    window.append((batch, workers.submit(make).result if begun else make))
            if window:
                yield window.popleft()


def _make_once(work: Work, batch: MicroBatch) -> pa.Table:
    """What is made of a micro-batch; what was loaded of it is let go then, and not when it is committed."""
    try:
        return make_rows(work, batch.rows, batch.loaded)
    finally:
        batch.loaded.clear()


@contextmanager
def _threads(n: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads, waited for at the end; but not where an exception ends the block, as all is in vain then."""
    pool = ThreadPoolExecutor(n, name)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
