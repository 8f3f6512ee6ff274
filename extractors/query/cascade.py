"""Several engines in a row: each is asked only for the queries of which those before it are not sure.

Sure is what the tables account for: every word that says something stands in a known entry, nothing in the query wants
reasoning, and the engine trusts its reading. All that is unsure goes to the next engine in one call. The last engine
asked decides; one that fails on a query leaves it to the best reading before it, and the row says so.

This module knows the engines' protocol and no engine.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from extractors.query.engine import QueryEngine, failed, readable
from extractors.query.unknown import EMPTY
from lore_mm.errors import ConfigError
from lore_mm.fingerprint import sha_of
from lore_mm.text import tokens
from lore_mm.types import Demand, Query, Understanding

__all__ = ["SURE", "Cascade", "doubts", "sure"]

_VERSION = "1"
SURE = 0.7  # confidence below which a reading is doubted, unless another bound is given
_REASONED = frozenset(("solution_seeking", "entity_relation", "question"))
_NO_TABLE = frozenset(("price", "store", "ip"))  # dimensions whose values are not looked up in tables


def doubts(understanding: Understanding, threshold: float = SURE) -> tuple[str, ...]:
    """Why a reading should be checked by the next engine; none where it is settled. `threshold` in [0, 1]."""
    u = understanding
    if u.status != "ok":
        return (u.error or u.status,)
    found: list[str] = []
    if u.hard_type in _REASONED:
        found.append(f"{u.hard_type} wants reasoning")
    if u.head is None:
        found.append("nothing names the thing")
    found += [f"{d.value!r} is in no table" for d in u.demands if _unknown(d)]  # jargon and part numbers too
    found += [f"{word!r} is in no demand" for word in _left_out(u)]
    if u.confidence < threshold:
        found.append(f"confidence {u.confidence:.2f} is below {threshold:g}")
    return tuple(found)


def sure(understanding: Understanding, threshold: float = SURE) -> bool:
    """True for a reading that no further engine needs to check."""
    return not doubts(understanding, threshold)


def _unknown(d: Demand) -> bool:
    return not d.latent and d.canonical is None and d.number is None and d.dimension not in _NO_TABLE


def _left_out(u: Understanding) -> list[str]:
    """Words that no demand took, but for those that ask for nothing."""
    taken = {i for d in u.demands if d.start is not None and d.end is not None for i in range(d.start, d.end)}
    return [w.text for w in tokens(u.query.text) if w.start not in taken and w.text not in EMPTY]


class Cascade:
    """Engines in the order they are asked. `asked` counts the queries that each was given, by its name.

    Raises:
        ConfigError: no engine, one twice, or a threshold outside of [0, 1].
    """

    def __init__(self, engines: Sequence[QueryEngine], threshold: float = SURE) -> None:
        names = [engine.name for engine in engines]
        if not engines or len(set(names)) < len(names):
            raise ConfigError(f"a cascade needs different engines, not {', '.join(names) or 'none'}")
        if not 0 <= threshold <= 1:
            raise ConfigError(f"threshold: a confidence from 0 to 1, not {threshold:g}")
        self.engines, self.threshold = tuple(engines), threshold
        self.name = ",".join(names)
        self.sha = sha_of(["cascade", _VERSION, threshold, [[engine.name, engine.sha] for engine in engines]])
        self.asked: Counter[str] = Counter(dict.fromkeys(names, 0))
        self._counting = threading.Lock()  # several threads may ask at once

    def understand(self, queries: Sequence[Query]) -> list[Understanding]:
        """One understanding a query, in the same order; `engine` says which engine read it.

        Where a later engine failed on a query, the reading before stands: status ok, with the failure in `error`.

        Raises:
            ModelError: the model behind an engine is dead and did not come back.
        """
        found: list[Understanding | None] = [None] * len(queries)
        left = list(range(len(queries)))
        for engine in self.engines:
            if not left:
                break
            with self._counting:
                self.asked[engine.name] += len(left)
            for i, reading in zip(left, _asked(engine, [queries[i] for i in left]), strict=True):
                found[i] = _better(found[i], reading, engine.name)
            left = [i for i in left if self._goes_on(found[i])]
        return [u if u is not None else failed(q, "no engine", self.name) for u, q in zip(found, queries, strict=True)]

    def close(self) -> None:
        """Free what the engines hold; calling it twice is harmless."""
        for engine in self.engines:
            engine.close()

    def _goes_on(self, u: Understanding | None) -> bool:
        return u is not None and readable(u.query)[1] is None and bool(u.error or not sure(u, self.threshold))


def _asked(engine: QueryEngine, queries: Sequence[Query]) -> list[Understanding]:
    """As many readings as queries, whatever the engine gave."""
    found = engine.understand(queries)
    if len(found) != len(queries):
        fault = f"{engine.name} gave {len(found)} readings for {len(queries)} queries"
        return [failed(query, fault, engine.name) for query in queries]
    return found


def _better(before: Understanding | None, after: Understanding, name: str) -> Understanding:
    """The reading of the later engine, unless it failed where an earlier one did not."""
    if before is None or before.status != "ok" or after.status == "ok":
        return after
    fault = "; ".join(dict.fromkeys(x for x in (before.error, f"{name}: {after.error}") if x))
    return replace(before, error=fault)
