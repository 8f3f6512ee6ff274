"""What a service counts, for Prometheus, in a registry of its own. Knows no HTTP and no store."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, InfoMetricFamily

__all__ = ["Metrics"]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The figures of one service.

    `pending` gives the pairs in line, `facts` what is served (a name and a value each), `routed` how a routing served,
    by `STRATUM/WAY`.
    """

    def __init__(
        self,
        pending: Callable[[], float],
        facts: Callable[[], Mapping[str, str]],
        routed: Callable[[], Mapping[str, int]],
    ) -> None:
        self._registry = CollectorRegistry()
        own: Any = {"registry": self._registry}
        self._requests = Counter("lore_serve_requests", "answers, by route and HTTP status", ["route", "status"], **own)
        self._seconds = Histogram(
            "lore_serve_seconds", "from the request's headers to the answer's end", ["route"], buckets=_SECONDS, **own
        )
        self._judgments = Counter(
            "lore_serve_judgments", "judgments answered, by who made them and grade", ["served_by", "grade"], **own
        )
        self._refused = Counter("lore_serve_refused", "requests refused, by problem", ["code"], **own)
        self._reloads = Counter("lore_serve_reloads", "hot reloads, by outcome", ["outcome"], **own)
        Gauge("lore_serve_pending_pairs", "pairs in line and in work", **own).set_function(pending)
        self.in_flight = Gauge("lore_serve_requests_in_flight", "requests begun and not answered", **own)
        self.cached = Gauge("lore_serve_cache_pairs", "stored judgments that are served as they are", **own)
        self.stale = Gauge("lore_serve_cache_stale_pairs", "stored judgments of another item, query or judge", **own)
        self.loaded = Gauge("lore_serve_loaded_timestamp_seconds", "when what is served was opened", **own)
        self._registry.register(_Facts(facts, routed))

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def refused(self, code: str) -> None:
        """Count a request that was answered with a problem."""
        self._refused.labels(code).inc()

    def judged(self, judged: Iterable[tuple[str, str]]) -> None:
        """Count judgments, by who served each and its grade."""
        for (by, grade), n in Counts(judged).items():
            self._judgments.labels(by, grade).inc(n)

    def reloaded(self, outcome: str) -> None:
        """Count a reload: ok or failed."""
        self._reloads.labels(outcome).inc()

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self._registry)


class _Facts:
    """Collects when it is asked."""

    def __init__(self, facts: Callable[[], Mapping[str, str]], routed: Callable[[], Mapping[str, int]]) -> None:
        self._facts, self._routed = facts, routed

    def collect(self) -> Iterator[Any]:
        served = InfoMetricFamily("lore_serve_served", "what is served")
        served.add_metric([], dict(self._facts()))
        yield served
        routed = CounterMetricFamily(
            "lore_serve_routed_pairs", "pairs judged by a routing, by stratum and way", labels=["stratum", "way"]
        )
        for name, n in self._routed().items():
            stratum, _, way = name.rpartition("/")
            routed.add_metric([stratum, way], n)
        yield routed
