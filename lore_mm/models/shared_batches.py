"""One engine, several callers: what waits is cut into batches of like with like, whoever asked for it.

There is no thread of its own: the caller whose turn it is drives the engine for everybody until its own answers are
there. This module knows no model.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

__all__ = ["SharedBatches"]

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


@dataclass(eq=False, slots=True)
class _Job(Generic[Asked, Answer]):
    asked: Asked
    answer: Answer | None = None
    fault: BaseException | None = None
    done: bool = False


class SharedBatches(Generic[Asked, Answer]):
    """Answers by `run`, which takes up to `size` things of one group and similar length, never two batches at once.

    `run` returns as many answers in the same order; what it raises is raised for every caller that had a part in the
    batch.
    """

    def __init__(
        self,
        run: Callable[[list[Asked]], list[Answer]],
        size: int,
        group: Callable[[Asked], Hashable],
        length: Callable[[Asked], int],
    ) -> None:
        self._run, self._size, self._group, self._length = run, size, group, length
        self._waiting: list[_Job[Asked, Answer]] = []  # the oldest first
        self._guard, self._turn = Lock(), Lock()

    def __call__(self, asked: Sequence[Asked]) -> list[Answer]:
        """One answer each, in the same order."""
        jobs: list[_Job[Asked, Answer]] = [_Job(one) for one in asked]
        with self._guard:
            self._waiting.extend(jobs)
        while not all(job.done for job in jobs):
            with self._turn:
                if not all(job.done for job in jobs):  # else another caller has answered them meanwhile
                    self._answer(self._take())
        for job in jobs:
            if job.fault is not None:
                raise job.fault
        return [job.answer for job in jobs]  # type: ignore[misc]

    def _take(self) -> list[_Job[Asked, Answer]]:
        """The oldest that waits and those most like it in length: little padding, and nobody waits for ever."""
        with self._guard:
            oldest = self._waiting[0]
            group = self._group(oldest.asked)
            alike = [job for job in self._waiting if self._group(job.asked) == group]
            alike.sort(key=lambda job: self._length(job.asked))
            at = alike.index(oldest)
            start = max(0, min(at - self._size // 2, len(alike) - self._size))
            batch = alike[start : start + self._size]
            taken = set(map(id, batch))
            self._waiting = [job for job in self._waiting if id(job) not in taken]
        return batch

    def _answer(self, batch: list[_Job[Asked, Answer]]) -> None:
        try:
            for job, answer in zip(batch, self._run([job.asked for job in batch]), strict=True):
                job.answer = answer
        except BaseException as fault:
            for job in batch:
                job.fault = fault
            if not isinstance(fault, Exception):  # an interrupt is this caller's, now
                raise
        finally:
            for job in batch:
                job.done = True
