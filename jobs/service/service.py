"""The service without its HTTP: the desk of the moment, the line of work, reloading, and the end.

Every question gets an answer or one honest error: nothing is guessed where nobody judged. Knows no request's bytes.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from jobs.service.bodies import Asked, JudgedPair
from jobs.service.desk import Desk, Served, open_desk, open_models, shown
from jobs.service.limits import Keys, Rates, read_keys
from jobs.service.line import FullError, Line, Task
from jobs.service.metrics import Metrics
from jobs.service.problems import ProblemError
from jobs.service.stored import Stored
from jobs.service.watch import Marks, marks_of
from lore_mm.console import say
from lore_mm.errors import InputError, LoreError
from relevance.protocol import PairJudge

__all__ = ["Limits", "Service", "as_pair", "by_of", "reply_bytes"]

_Answer = TypeVar("_Answer")
_UNSETTLED = 12  # looks at a store that never rests, after which it is loaded all the same
_WIDE = 8  # threads for a judge that waits for others, and takes several calls at once


@dataclass(frozen=True, slots=True)
class Limits:
    """What the service takes on.

    Attributes:
        timeout_s: from a request's last byte to its answer.
        receive_s: how long a request's body may take to come, and its headers.
        body_bytes: the largest body.
        waiting: pairs in line and in work at once.
        rate: requests a second of one client; None for no limit.
    """

    timeout_s: float = 10.0
    receive_s: float = 10.0
    body_bytes: int = 2 << 20
    waiting: int = 2000
    rate: float | None = None


class Service:
    """Serves one store by one judge, from `open` to `close`."""

    def __init__(self, served: Served, limits: Limits | None = None, keys_file: Path | None = None) -> None:
        self.served, self.limits = served, limits or Limits()
        self._keys_file = keys_file
        self.keys: Keys = read_keys(keys_file, os.environ)
        self.rates = Rates(self.limits.rate)
        self.draining = False
        self.reload_error: str | None = None
        self._reloading = threading.Lock()
        self._swapping = threading.Lock()
        self.metrics = Metrics(lambda: self._line.pending, self._facts, self._routed)
        self._marks = marks_of(served)
        self._models = open_models(served)
        try:
            self._desk = open_desk(served, self._models)
        except BaseException:
            self._models.release()
            raise
        self._wide, self._joins = _manner(self._models.judge)
        self._line = Line(self._wide, self.limits.waiting)
        self._opened()

    def close(self) -> None:
        """End the threads and let go of the desk."""
        self.draining = True
        self._line.close(self.limits.timeout_s)
        self._desk.release()
        self._models.release()

    # --- asking ---

    @contextmanager
    def desk(self) -> Iterator[Desk]:
        """The desk of the moment, held for as long as the block lasts."""
        with self._swapping:
            desk = self._desk
            desk.hold()
        try:
            yield desk
        finally:
            desk.release()

    async def do(self, work: Callable[[], _Answer], weight: int = 1) -> _Answer:
        """What a thread makes of some work.

        Raises:
            ProblemError: the line is full, or it was not done in time.
        """
        return await self._do(Task(work, weight))

    async def judge(self, desk: Desk, asked: Sequence[Asked], explain: bool) -> list[Stored | JudgedPair]:
        """A judgment for each pair: the stored one where there is one, else made now.

        Raises:
            ProblemError: as in `do`.
            LoreError: the judge is dead, or the store cannot be read.
        """
        found: list[Stored | JudgedPair | None] = [
            desk.stored.find(one.query, one.item_id) if one.item is None else None for one in asked
        ]
        rest = [one for one, stored in zip(asked, found, strict=True) if stored is None]
        if rest:
            many = desk.judge_all if self._joins else None
            made = await self._do(Task(lambda: desk.judge_all(rest), len(rest), many, rest))
            answers = iter([shown(j, one.query, explain) for j, one in zip(made, rest, strict=True)])
            found = [one if one is not None else next(answers) for one in found]
        whole = [one for one in found if one is not None]
        self.metrics.judged(
            ("cache", "stored") if isinstance(one, Stored) else (one.served_by or "none", one.grade or "none")
            for one in whole
        )
        return whole

    async def _do(self, task: Task[_Answer]) -> _Answer:
        try:
            return await self._line.do(task, self.limits.timeout_s)
        except FullError as full:
            raise ProblemError(
                429,
                "overloaded",
                f"{self._line.pending} pairs are waiting already, the limit is {self._line.most}",
                {"retry-after": str(full.retry_after_s)},
            ) from None
        except TimeoutError:
            raise ProblemError(
                503, "too-slow", f"not done in {self.limits.timeout_s:g} s; nothing was judged", {"retry-after": "1"}
            ) from None

    # --- reloading ---

    async def watch(self, every_s: float) -> None:
        """Look every so often for changes, and load anew once they have settled; until it is cancelled."""
        before, looks = self._marks, 0
        while True:
            await asyncio.sleep(every_s)
            try:
                now = await asyncio.to_thread(marks_of, self.served)
            except LoreError as error:
                self._failed(error)
                continue
            looks = looks + 1 if now != self._marks else 0
            if looks and (now == before or looks > _UNSETTLED):
                await asyncio.to_thread(self.reload)
                looks = 0
            before = now

    def reload(self, always: bool = False) -> bool:
        """Load what has changed since, and answer by it from now on; `always`: everything. False where nothing was.

        What cannot be loaded leaves all as it is, and `reload_error` says why.
        """
        with self._reloading:
            try:
                now = marks_of(self.served)
                if now == self._marks and not always:
                    return False
                self._load(now, always or now.models != self._marks.models)
            except LoreError as error:
                self._failed(error)
                return False
            self.reload_error = None
            self.metrics.reloaded("ok")
            say(f"loaded anew: {self._desk.sha}, {self._desk.stored.n} stored judgments")
            return True

    def _load(self, now: Marks, all_of_it: bool) -> None:
        keys = read_keys(self._keys_file, os.environ)
        if self.keys and not keys:
            raise InputError("the API keys are gone; the ones before stay")
        models = open_models(self.served) if all_of_it else self._models
        try:
            desk = open_desk(self.served, models)
        except BaseException:
            if models is not self._models:
                models.release()
            raise
        before, models_before = self._desk, self._models
        with self._swapping:
            self._desk, self._models, self._marks, self.keys = desk, models, now, keys
        self._opened()
        before.release()
        if models is not models_before:
            models_before.release()

    def _failed(self, error: LoreError) -> None:
        if self.reload_error != str(error):
            say(f"not loaded anew, what was served before is served on: {error}")
        self.reload_error = str(error)
        self.metrics.reloaded("failed")

    # --- what is told ---

    def standing(self) -> dict[str, Any]:
        """Versions of all that is served, and what is amiss."""
        with self.desk() as desk:
            online = {"stored_judgments": desk.stored.n, "stale_judgments": desk.stored.stale}
            return (
                desk.versions
                | online
                | {
                    "sha": desk.sha,
                    "search": desk.no_search or "ready",
                    "reload_error": self.reload_error,
                }
            )

    def _opened(self) -> None:
        self.metrics.cached.set(self._desk.stored.n)
        self.metrics.stale.set(self._desk.stored.stale)
        self.metrics.loaded.set(time.time())

    def _facts(self) -> Mapping[str, str]:
        desk = self._desk
        return {"sha": desk.sha, "judge": desk.judge.mode, "judge_sha": desk.judge.sha[:12]}

    def _routed(self) -> Mapping[str, int]:
        return dict(getattr(self._desk.judge, "served", {}))


def _manner(judge: PairJudge) -> tuple[int, bool]:
    """How many threads a judge is called from, and whether pairs of several requests are judged in one call.

    A routing, and a judge behind a server, mostly wait: many at once, and no pair waits for another's. A model in this
    process is called by one thread; the rules and the student take several, and gain by larger calls.
    """
    if judge.mode == "route" or "openai:" in judge.name:
        return _WIDE, False
    if judge.mode in ("rules", "student"):
        return 2, True
    return 1, True


def reply_bytes(one: Stored | JudgedPair, query: str, explain: bool) -> bytes:
    """The JSON of a judgment, as `JudgedPair` has it."""
    if not isinstance(one, Stored):
        return msgspec.json.encode(one)
    path = b',"path":' + msgspec.json.encode(one.path) if explain else b""
    return one.body[:-1] + b',"query":' + msgspec.json.encode(query) + path + b"}"


def as_pair(one: Stored | JudgedPair, query: str, explain: bool) -> JudgedPair:
    """A judgment, stored or not, as `JudgedPair`."""
    if isinstance(one, JudgedPair):
        return one
    return msgspec.json.decode(reply_bytes(one, query, explain), type=JudgedPair)


def by_of(one: Stored | JudgedPair) -> str:
    """Who serves a judgment: cache, student, llm, rules; none where there is no grade."""
    return "cache" if isinstance(one, Stored) else one.served_by or "none"
