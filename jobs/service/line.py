"""The line in which work waits for threads: bounded, so that what cannot be done in time is refused at once.

Judgments that are waited for one by one are made together where the judge gains by it. Knows no HTTP and no store.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

__all__ = ["FullError", "Line", "Task"]

_Answer = TypeVar("_Answer")
_TOGETHER = 256  # pairs of several requests in one call
_LONGEST_WAIT_S = 60


class FullError(Exception):
    """The line is full; `retry_after_s` is when to come again."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("the line is full")
        self.retry_after_s = retry_after_s


class Task(Generic[_Answer]):
    """Work to be done by a thread.

    `weight` is how much it is, in pairs. `many`, where given, does this and other tasks with an equal `many` at once:
    it is called with the `parts` of all of them, and gives an answer for each part.
    """

    def __init__(
        self,
        work: Callable[[], _Answer],
        weight: int = 1,
        many: Callable[[Sequence[Any]], Sequence[Any]] | None = None,
        parts: Sequence[Any] = (),
    ) -> None:
        self.work, self.weight, self.many, self.parts = work, weight, many, parts
        self.future: Future[_Answer] = Future()


class Line:
    """Threads, and what waits for them; at most `most` pairs' worth, waiting and in work together."""

    def __init__(self, threads: int, most: int) -> None:
        self.most = most
        self.pending = 0  # pairs, waiting and in work
        self._waiting: deque[Task[Any]] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._cost_s = 0.01  # of a pair, of late
        self._threads = [threading.Thread(target=self._go, name=f"serve-{i}", daemon=True) for i in range(threads)]
        for thread in self._threads:
            thread.start()

    async def do(self, task: Task[_Answer], timeout_s: float) -> _Answer:
        """The answer to a task.

        Raises:
            FullError: there is no room for it.
            TimeoutError: it was not done in time. What had not begun is not done at all.
        """
        with self._changed:
            if self._ended or (self.pending and self.pending + task.weight > self.most):
                wait = math.ceil(self.pending * self._cost_s / len(self._threads))
                raise FullError(min(max(wait, 1), _LONGEST_WAIT_S))
            self.pending += task.weight
            self._waiting.append(task)
            self._changed.notify()
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.wrap_future(task.future)
        finally:
            if task.future.cancelled():
                self._give_up(task)

    def close(self, timeout_s: float) -> None:
        """End the threads when nothing waits any more, or after `timeout_s`."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        until = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _give_up(self, task: Task[Any]) -> None:
        with self._changed:
            if task in self._waiting:
                self._waiting.remove(task)
                self.pending -= task.weight

    def _go(self) -> None:
        while tasks := self._take():
            begun, weight = time.monotonic(), sum(task.weight for task in tasks)
            try:
                _serve([task for task in tasks if task.future.set_running_or_notify_cancel()])
            finally:
                with self._changed:
                    self.pending -= weight
                    self._cost_s += 0.1 * ((time.monotonic() - begun) / max(weight, 1) - self._cost_s)

    def _take(self) -> list[Task[Any]]:
        """The next task, and those behind it that are done with it; none at the end."""
        with self._changed:
            while not self._waiting:
                if self._ended:
                    return []
                self._changed.wait()
            tasks = [self._waiting.popleft()]
            n = tasks[0].weight
            while (
                tasks[0].many is not None
                and self._waiting
                and self._waiting[0].many == tasks[0].many
                and n + self._waiting[0].weight <= _TOGETHER
            ):
                tasks.append(self._waiting.popleft())
                n += tasks[-1].weight
            return tasks


def _serve(tasks: Sequence[Task[Any]]) -> None:
    if len(tasks) > 1 and (many := tasks[0].many) is not None:
        try:
            answers = list(many([part for task in tasks for part in task.parts]))
        except Exception:  # whose fault it was comes out one by one
            answers = []
        if answers:
            start = 0
            for task in tasks:
                task.future.set_result(answers[start : start + len(task.parts)])
                start += len(task.parts)
            return
    for task in tasks:
        try:
            task.future.set_result(task.work())
        except BaseException as error:
            task.future.set_exception(error)
