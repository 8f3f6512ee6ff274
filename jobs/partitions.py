"""The parts that a run is cut into, and which of them a worker takes next.

Nothing is locked or leased. What is done of a partition is the last slice committed under its application id, and a
slice is committed once, whoever tries. So two workers in one partition waste work and harm nothing: the one whose
commit comes second sees it, and leaves. Workers keep out of each other's way by where they begin, and enter a partition
that another has begun only when all others are known to be gone or to wait themselves, or nothing has moved in it for
`patience` seconds by this machine's own steady clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Partition", "Turns", "cut"]

_LEAST_SLICES = 16  # of a partition
_MOST = 64  # partitions; so many workers have one each
_LOOK_EVERY_S = 2.0
_APART = 0.382  # of all partitions, from one that was lost to where to go on: jumps by this spread most evenly


@dataclass(frozen=True, slots=True)
class Partition:
    """Slices `first` to `last` of a run's input, both included."""

    number: int
    first: int
    last: int


def cut(slices: int) -> list[Partition]:
    """So many slices cut into parts of nearly equal length, in order; the same for every worker of a run."""
    n = min(_MOST, max(1, slices // _LEAST_SLICES)) if slices else 0
    ends = [slices * i // n for i in range(n + 1)] if n else [0]
    return [Partition(i, ends[i], ends[i + 1] - 1) for i in range(n)]


class Turns:
    """The partitions that are left for this worker, one after the other, until none is open.

    `look` gives the last committed slice of each partition, or None. `alone` says whether every other worker of the run
    is known to be gone, or waits. `begin` is where to begin among several workers, in [0, 1). `waiting` is told once,
    with the number of open partitions, where there is nothing to do but to wait for the others; and with 0 where the
    waiting ends with something to do.
    """

    def __init__(
        self,
        partitions: Sequence[Partition],
        look: Callable[[], Sequence[int | None]],
        alone: Callable[[], bool],
        begin: float = 0.0,
        patience: float = 300.0,
        waiting: Callable[[int], None] = lambda n: None,
    ) -> None:
        self._partitions, self._look, self._alone = partitions, look, alone
        self._begin, self._patience, self._waiting = int(begin * len(partitions)), patience, waiting
        self._passed: set[int] = set()
        self._seen: dict[int, tuple[int | None, float]] = {}  # number → last commit, and since when it stands

    def passed(self, partition: Partition) -> None:
        """Nothing is left to do in this one, though its last slices may have needed no commit."""
        self._passed.add(partition.number)

    def lost(self, partition: Partition) -> None:
        """Another worker was faster in this one: it is left to that one for now, and so is what lies behind it."""
        self._note(partition, self._seen.get(partition.number, (None, 0.0))[0], moved=True)
        self._begin += round(_APART * len(self._partitions))

    def __iter__(self) -> Iterator[Partition]:
        told = False
        while True:
            done = self._look()
            left = [
                p
                for p, last in zip(self._partitions, done, strict=True)
                if p.number not in self._passed and (last is None or last < p.last)
            ]
            if not left:
                return
            for p in left:
                self._note(p, done[p.number])
            if (turn := self._choose(left, done)) is not None:
                if told:
                    self._waiting(0)
                    told = False
                yield turn
                continue
            if not told:
                self._waiting(len(left))
                told = True
            time.sleep(min(_LOOK_EVERY_S, self._patience))

    def _choose(self, left: Sequence[Partition], done: Sequence[int | None]) -> Partition | None:
        if self._alone():
            return left[0]
        n = len(self._partitions)
        still = [p for p in left if time.monotonic() - self._seen[p.number][1] >= self._patience]
        fresh = [p for p in left if done[p.number] is None and self._seen[p.number][1] == 0.0]
        return min(fresh, key=lambda p: (p.number - self._begin) % n, default=still[0] if still else None)

    def _note(self, partition: Partition, last: int | None, moved: bool = False) -> None:
        """Remember since when nothing has moved; what was never touched has stood since the beginning of time."""
        known = self._seen.get(partition.number)
        if known is None and last is None and not moved:
            self._seen[partition.number] = (None, 0.0)
        elif moved or known is None or known[0] != last:
            self._seen[partition.number] = (last, time.monotonic())
