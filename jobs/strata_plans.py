"""Head, middle and tail of a query log, what of the traffic each makes, and what it costs to serve it in each way.

Pure arithmetic on a counted log; it reads nothing and judges nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from jobs.query_log import QueryLog
from lore_mm.errors import InputError

__all__ = ["Costs", "Plan", "Stratum", "cover_later", "cut_strata", "plans", "unseen"]

NAMES = ("head", "middle", "tail")


@dataclass(frozen=True, slots=True)
class Stratum:
    """A slice of the queries, the most frequent first.

    Attributes:
        queries, requests: how many.
        share: of all requests, in [0, 1].
        least: how often its rarest query is asked; None where it has none.
        examples: its first queries.
    """

    name: str
    queries: int
    requests: float
    share: float
    least: float | None
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Costs:
    """What a pair costs: `llm`, `student` its price in any currency, `llm_s`, `student_s` seconds of one worker."""

    llm: float | None = None
    student: float = 0.0
    llm_s: float | None = None
    student_s: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A way of serving: who judges each stratum, and what it comes to.

    Attributes:
        served: who judges head, middle and tail: cache, student or llm.
        ahead: pairs that the LLM judges once, before anything is served.
        llm, student, cached: pairs for 1,000 requests.
        price, ahead_price: of 1,000 requests, and of what is judged ahead; None where a price is not known.
        worker_s, ahead_s: seconds of one worker for them; None where a speed is not known.
    """

    name: str
    served: tuple[str, str, str]
    ahead: float
    llm: float
    student: float
    cached: float
    price: float | None
    ahead_price: float | None
    worker_s: float | None
    ahead_s: float | None


def cut_strata(log: QueryLog, head: float, middle: float, examples: int = 3) -> list[Stratum]:
    """Head: the fewest queries that make the share `head` of all requests; middle: the next, up to the share `middle`.

    A query belongs to the stratum in which its first request falls, so that ranks decide and not names.

    Raises:
        InputError: not 0 ≤ head ≤ middle ≤ 1.
    """
    if not 0 <= head <= middle <= 1:
        raise InputError(f"--head {head:g} and --middle {middle:g}; legal: shares, 0 ≤ head ≤ middle ≤ 1")
    requests = log.queries["requests"].to_numpy()
    total = float(requests.sum())
    before = (np.cumsum(requests) - requests) / total
    ends = [int(np.searchsorted(before, share * (1 - 1e-12))) for share in (head, middle)]
    found = []
    for name, start, end in zip(NAMES, [0, *ends], [*ends, len(requests)], strict=True):
        own = log.queries.slice(start, end - start)
        n = float(own["requests"].sum())
        least = None if own.is_empty() else float(own["requests"][-1])
        found.append(Stratum(name, own.height, n, n / total, least, tuple(own["query"].head(examples))))
    return found


def unseen(log: QueryLog) -> float | None:
    """The chance that the next request is a query that the log does not have; None where a log of counts cannot say.

    The share of requests whose query was asked once: Good (The population frequencies of species and the estimation of
    population parameters, Biometrika 40, 1953), after Turing.
    """
    requests = log.queries["requests"]
    if log.counted and not (requests == 1).any():
        return None  # rare queries were cut off before it was counted
    return int((requests == 1).to_numpy().sum()) / log.requests


def cover_later(log: QueryLog, head: float) -> float | None:
    """What share of the later requests the head of the earlier ones would have answered; None without times."""
    if log.cut is None:
        return None
    both = log.queries.with_columns(earlier=pl.col("requests") - pl.col("later")).sort("earlier", descending=True)
    earlier, later = both["earlier"].to_numpy(), both["later"].to_numpy()
    if not later.sum() or not earlier.sum():
        return None
    inside = ((earlier.cumsum() - earlier) < head * earlier.sum() * (1 - 1e-12)) & (earlier > 0)
    return float(later[inside].sum() / later.sum())


def plans(strata: Sequence[Stratum], top: int, costs: Costs) -> list[Plan]:
    """The ways to serve, dearest first; a request asks for `top` pairs, and the head's are judged ahead by the LLM."""
    ways = {
        "LLM for all": ("llm", "llm", "llm"),
        "cache, LLM for the rest": ("cache", "llm", "llm"),
        "cache, student, LLM for the tail": ("cache", "student", "llm"),
        "cache, student for the rest": ("cache", "student", "student"),
        "student for all": ("student", "student", "student"),
    }
    return [_plan(name, served, strata, top, costs) for name, served in ways.items()]


def _plan(name: str, served: tuple[str, str, str], strata: Sequence[Stratum], top: int, costs: Costs) -> Plan:
    total = sum(s.requests for s in strata)
    pairs = {
        way: 1000.0 * top * sum(s.requests for s, by in zip(strata, served, strict=True) if by == way) / total
        for way in ("llm", "student", "cache")
    }
    ahead = float(top * sum(s.queries for s, by in zip(strata, served, strict=True) if by == "cache"))
    price = None if costs.llm is None else pairs["llm"] * costs.llm + pairs["student"] * costs.student
    unknown = (pairs["llm"] and costs.llm_s is None) or (pairs["student"] and costs.student_s is None)
    worker_s = None if unknown else pairs["llm"] * (costs.llm_s or 0.0) + pairs["student"] * (costs.student_s or 0.0)
    return Plan(
        name,
        served,
        ahead,
        pairs["llm"],
        pairs["student"],
        pairs["cache"],
        price,
        None if costs.llm is None else ahead * costs.llm,
        worker_s,
        None if ahead and costs.llm_s is None else ahead * (costs.llm_s or 0.0),
    )
