"""Waiting for an engine that does not hear a keyboard: work is done aside, so that Ctrl-C and a time limit end it.

It does not know what the work is, only what interrupts it. Work that does not hear that either is left to itself, and
does not keep the process from ending.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from lore_mm.errors import InputError

__all__ = ["Waiting", "until"]

_T = TypeVar("_T")
_LOOK_S = 0.1  # how often a wait looks up: so late is an interrupt heard at the most
_PATIENCE = 100  # how often an interrupt is sent, five for each look
_Work = tuple[Callable[[], Any], Future[Any]]


def until(timeout_s: float | None) -> float | None:
    """The moment, by the monotonic clock, at which a time limit that begins now is over.

    Raises:
        InputError: it is not above 0.
    """
    if timeout_s is None:
        return None
    if not timeout_s > 0:
        raise InputError(f"a time limit is above 0 seconds, not {timeout_s:g}")
    return time.monotonic() + timeout_s


class Waiting:
    """Does work in threads that are kept. Safe to use from several threads."""

    def __init__(self) -> None:
        self._idle: deque[SimpleQueue[_Work | None]] = deque()

    def __del__(self) -> None:
        for queue in self._idle:
            queue.put(None)

    def _submit(self, work: Callable[[], _T]) -> Future[_T]:
        done: Future[_T] = Future()
        try:
            queue = self._idle.pop()
        except IndexError:
            queue = SimpleQueue()
            # a daemon, because Python waits for all others before it ends
            threading.Thread(target=_work, args=(queue,), name="query", daemon=True).start()
        done.add_done_callback(lambda _: self._idle.append(queue))
        queue.put((work, done))
        return done

    def do(self, work: Callable[[], _T], interrupt: Callable[[], None], end: float | None = None) -> _T:
        """What `work` gives; where an interrupt or SIGTERM comes, or `end` (see `until`), it is interrupted.

        Raises:
            InputError: `end` came first.
        """
        if end is None and threading.current_thread() is not threading.main_thread():
            return work()  # no interrupt comes here
        done = self._submit(work)
        try:
            while True:
                left = _LOOK_S if end is None else min(_LOOK_S, end - time.monotonic())
                if left <= 0:
                    break
                try:
                    return done.result(left)
                except TimeoutError:
                    if done.done():  # it was the work's own, or the work ended just now
                        return done.result()
        except BaseException:
            if not done.done():
                _stop(done, interrupt)
            raise
        _stop(done, interrupt)
        raise InputError("the time limit is over before the answer was there: ask for less, or allow more time")


def _work(queue: SimpleQueue[_Work | None]) -> None:
    while (given := queue.get()) is not None:
        work, done = given
        del given
        try:
            found = work()
        except BaseException as error:  # it is the asker's
            done.set_exception(error)
        else:
            done.set_result(found)
            del found
        del work, done


def _stop(done: Future[_T], interrupt: Callable[[], None]) -> None:
    """Interrupt until it is heard: what comes before the engine has begun is lost."""
    for _ in range(_PATIENCE):
        if done.done():
            return
        interrupt()
        time.sleep(_LOOK_S / 5)
