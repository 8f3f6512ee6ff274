"""Mode `route`: a cheap judge answers where it is sure enough, a dear one elsewhere, within a deadline and a budget.

How sure is enough is fitted for each stratum of the traffic, so that both together agree with the dear judge on a
stated share of requests (`relevance.routing`, `relevance.agreement`). Where the dear judge does not answer in time, is
over its budget, failed or is dead, the cheap judge's answer stands, and where that has none, the rules'. Every judgment
says in `provenance.maker` who made it, and why no other. This module knows no store and no cache.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, TimeoutError
from dataclasses import replace
from pathlib import Path
from typing import Any

from lore_mm.errors import ConfigError, InputError, LoreError, nearest
from lore_mm.fingerprint import sha_of
from lore_mm.knowledge import Knowledge
from lore_mm.types import Judgment
from relevance.by_rules import RulesJudge
from relevance.protocol import Pair, PairJudge, Pictures
from relevance.routing import Routing, how_sure, read_routing
from relevance.rules import Rulebook

__all__ = ["RouteJudge", "open_route"]

_MODE = "route"
_OPTIONS = ("deadline_s", "pairs_per_minute", "rest_s")
_REST_S = 10.0  # a dear judge that died is left alone for so long
_Asked = tuple[list[Judgment] | None, str]  # what the dear judge says, or why it says nothing


class RouteJudge:
    """Judges pairs by two judges and a routing between them (see `relevance.protocol.PairJudge`).

    Attributes:
        served: how many judgments each way was served, by `STRATUM/WAY`: cheap, dear, late, over budget, busy, down,
            failed (the dear judge gave no grade), rules.
        learnt: called with the dear judge's judgments that came too late to be served; for a cache.

    Safe to use from several threads; the dear judge is asked by one of them at a time.
    """

    mode = _MODE

    def __init__(
        self,
        routing: Routing,
        cheap: PairJudge,
        dear: PairJudge,
        rules: PairJudge,
        name: str = _MODE,
        *,
        deadline_s: float | None = None,
        pairs_per_minute: float | None = None,
        rest_s: float = _REST_S,
    ) -> None:
        """`deadline_s`: how long a call waits for the dear judge; `pairs_per_minute`: what it may be asked at most.

        Raises:
            ConfigError: the routing was fitted with other judges than these.
        """
        for which, judge, sha in (("cheap", cheap, routing.cheap_sha), ("dear", dear, routing.dear_sha)):
            if judge.sha != sha:
                raise ConfigError(
                    f"the routing was fitted with {which} judge {sha[:12]}, and {judge.name} is {judge.sha[:12]}: its"
                    " model, prompt, rules or tables are other ones; fit it anew with `lore calibrate route`"
                )
        self.routing, self.cheap, self.dear, self.rules, self.name = routing, cheap, dear, rules, name
        self.sha = sha_of([_MODE, routing.sha])
        self.versions: Mapping[str, str] = {
            "routing": routing.sha,
            **{f"cheap {name}": sha for name, sha in cheap.versions.items()},
            **{f"dear {name}": sha for name, sha in dear.versions.items()},
        }
        self.served: Counter[str] = Counter()
        self.learnt: Callable[[list[Judgment]], None] | None = None
        self._deadline_s, self._rest_s = deadline_s, rest_s
        self._budget = _Budget(pairs_per_minute)
        self._aside = ThreadPoolExecutor(1, "dear")
        self._running: Future[list[Judgment]] | None = None
        self._down_until = 0.0
        self._lock = threading.Lock()

    def judge(self, pairs: Sequence[Pair]) -> list[Judgment]:
        """One judgment a pair, in order; nothing raises for the dear judge's sake.

        Raises:
            ModelError: the cheap judge's model is dead.
        """
        found = self.cheap.judge(pairs)
        strata = [self.routing.stratum(understanding.query.frequency) for understanding, _ in pairs]
        unsure = [
            i
            for i, (pair, one, stratum) in enumerate(zip(pairs, found, strata, strict=True))
            if pair[0].hard_type in self.routing.hard_types
            or stratum.sure is None
            or not how_sure(one) >= stratum.sure  # NaN is not
        ]
        ways = ["cheap"] * len(pairs)
        answers, why = self._ask([pairs[i] for i in unsure]) if unsure else ([], "")
        for place, i in enumerate(unsure):
            answer = answers[place] if answers is not None else None
            ways[i] = "dear" if answer is not None and answer.grade is not None else why or "failed"
            if ways[i] == "dear" and answer is not None:
                found[i] = answer
        done = [self._last(pair, one) for pair, one in zip(pairs, found, strict=True)]
        with self._lock:
            self.served.update(f"{s.name}/{way}" for s, way in zip(strata, ways, strict=True))
        return [self._signed(one, way) for one, way in zip(done, ways, strict=True)]

    def close(self) -> None:
        """Close all three judges; calling it twice is harmless."""
        self._aside.shutdown(wait=True, cancel_futures=True)
        for judge in (self.cheap, self.dear, self.rules):
            judge.close()

    def _ask(self, pairs: Sequence[Pair]) -> _Asked:
        """The dear judge's judgments within the deadline; or None, and in two words why there are none."""
        with self._lock:
            if time.monotonic() < self._down_until:
                return None, "down"
            if self._deadline_s is not None and self._running is not None and not self._running.done():
                return None, "busy"  # with what came too late before: waiting behind it would be later still
            if not self._budget.take(len(pairs)):
                return None, "over budget"
            running = self._running = self._aside.submit(self.dear.judge, list(pairs))
        try:
            return running.result(self._deadline_s), ""
        except TimeoutError:
            running.add_done_callback(self._came_late)
            return None, "late"
        except LoreError:
            self._down_until = time.monotonic() + self._rest_s
            return None, "down"

    def _came_late(self, running: Future[list[Judgment]]) -> None:
        if running.cancelled():
            return
        if running.exception() is not None:
            self._down_until = time.monotonic() + self._rest_s
        elif self.learnt is not None:
            self.learnt([one for one in running.result() if one.grade is not None])

    def _last(self, pair: Pair, one: Judgment) -> Judgment:
        if one.grade is not None:
            return one
        ruled = self.rules.judge([pair])[0]
        return one if ruled.grade is None else ruled

    def _signed(self, one: Judgment, way: str) -> Judgment:
        by = one.provenance.maker if way in ("cheap", "dear") else f"{one.provenance.maker}, {self.dear.mode} {way}"
        return replace(one, mode=_MODE, provenance=replace(one.provenance, maker=by, settings_sha=self.sha))


class _Budget:
    """So many pairs a minute, with a minute's worth at once; all where there is no limit."""

    def __init__(self, a_minute: float | None) -> None:
        self._rate = None if a_minute is None else a_minute / 60
        self._most = self._left = a_minute or 0.0
        self._at = time.monotonic()

    def take(self, n: int) -> bool:
        if self._rate is None:
            return True
        now = time.monotonic()
        self._left = min(self._most, self._left + (now - self._at) * self._rate)
        self._at = now
        if n > self._left:
            return False
        self._left -= n
        return True


def open_route(
    address: str,
    file: str,
    knowledge: Knowledge,
    rulebook: Rulebook,
    *,
    vision: bool = False,
    pictures: Pictures | None = None,
    **options: Any,
) -> RouteJudge:
    """The judge of a routing's file, with both of its judges. `options`: deadline_s, pairs_per_minute, rest_s.

    Raises:
        ConfigError: the file is none, or was fitted with other judges.
        InputError: an option that it does not have, or whose value is not above 0.
        ModelError, MissingExtraError: a model cannot be had.
    """
    from relevance.judge import open_judge

    for name, value in options.items():
        if name not in _OPTIONS:
            raise InputError(
                f"judge route has no option {name!r}{nearest(name, _OPTIONS)}; legal: {', '.join(_OPTIONS)}"
            )
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise InputError(f"{name}={value!r}; legal: a number above 0")
    routing = read_routing(Path(file))
    opened: list[PairJudge] = []
    try:
        opened.append(open_judge(routing.cheap, knowledge, pictures=pictures))
        opened.append(open_judge(routing.dear, knowledge, pictures=pictures, **routing.dear_options))
        cheap, dear = opened
        return RouteJudge(routing, cheap, dear, RulesJudge(knowledge, rulebook), address, **options)
    except Exception:
        for judge in opened:
            judge.close()
        raise
