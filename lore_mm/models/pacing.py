"""When the next request may go to a server: limits per minute, and waits between attempts. It knows no server.

Requests are spaced evenly, so that no minute holds more than its limit, whichever minute the server counts.
"""

from __future__ import annotations

import asyncio
import email.utils
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

__all__ = ["Clock", "Pace", "back_off", "retry_after"]

_FIRST, _LONGEST = 0.5, 30.0  # seconds before the second attempt, and at most between two


@dataclass(frozen=True, slots=True)
class Clock:
    """Time as the engine sees it, so that a test can bring its own."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    jitter: Callable[[], float] = random.random  # in [0, 1)


class Pace:
    """At most `per_minute` units in any minute; None: no limit. Not thread-safe: it lives in one event loop."""

    def __init__(self, per_minute: float | None, clock: Clock) -> None:
        self._each = 0.0 if per_minute is None else 60.0 / per_minute  # seconds a unit
        self._clock = clock
        self._next = -math.inf

    def reserve(self, units: float = 1.0) -> float:
        """Take the next free place; the seconds to wait until it."""
        now = self._clock.now()
        start = max(now, self._next)
        self._next = start + units * self._each
        return start - now

    def correct(self, units: float) -> None:
        """So many units more (or, below 0, fewer) were used than were reserved."""
        self._next += units * self._each

    def pause(self, seconds: float) -> None:
        """No place is free before so many seconds have passed."""
        self._next = max(self._next, self._clock.now() + seconds)


def back_off(attempt: int, asked: float | None, clock: Clock) -> float:
    """Seconds before the attempt after `attempt` (0 is the first): 0.5, 1, 2 … at most 30, of it a random half.

    Where the server asked for a wait it is that, and up to a tenth more lest all come back at once.
    """
    if asked is not None:
        return asked * (1 + 0.1 * clock.jitter())
    longest: float = min(_LONGEST, _FIRST * 2.0 ** min(attempt, 30))
    return longest * (0.5 + 0.5 * clock.jitter())


def retry_after(headers: Mapping[str, str], wall: Callable[[], float] = time.time) -> float | None:
    """Seconds that `retry-after-ms` or `Retry-After` (RFC 9110 §10.2.3: seconds or a date) asks for; None: nothing."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            asked = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        if math.isfinite(asked) and asked >= 0:
            return asked
    try:
        date = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
        return max(0.0, date.timestamp() - wall())
    except (TypeError, ValueError, OverflowError, OSError):
        return None
