"""A run's figures for Prometheus, over HTTP while it goes on, on this machine alone unless a host is named.

Needs the extra `metrics`. What is served is the pulse of this worker (`jobs.pulse`), taken at the moment of asking;
several workers of a run are several ports. This module does not know where figures come from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from jobs.pulse import Pulse
from lore_mm.console import say
from lore_mm.errors import InputError, MissingExtraError

__all__ = ["serve"]

_PLACE = re.compile(r"(?:(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):)?(?P<port>\d{1,5})")
# name, what it is, and the field of a pulse
_GAUGES = (
    ("run_rows", "rows that the run is about", "rows"),
    ("run_rows_done", "rows of the run that are known to be done, by whomever", "done"),
    ("rows_at_work", "rows begun by this worker and not committed yet", "at_work"),
    ("rows_per_second", "of this worker, of late", "rate"),
    ("eta_seconds", "to the end of the run, at this rate", "eta_s"),
    ("engine_busy_ratio", "share of the time in which the engine had work", "busy"),
    ("gpu_ratio", "share of late in which the GPUs of this machine were at work", "gpu"),
)


@contextmanager
def serve(place: str, job: str, told: Callable[[], Pulse]) -> Iterator[None]:
    """Serve at `PORT` or `HOST:PORT`, /metrics, until the block ends; port 0 is a free one, which is said.

    Raises:
        InputError: no such place, or another has the port.
        MissingExtraError: prometheus_client is not installed.
    """
    found = _PLACE.fullmatch(place)
    if not found or int(found["port"]) > 65535:
        raise InputError(f"--metrics-port {place}: legal: PORT or HOST:PORT, a port up to 65535")
    try:
        from prometheus_client import CollectorRegistry, start_http_server
    except ImportError:
        raise MissingExtraError("prometheus_client", "metrics") from None
    registry = CollectorRegistry()
    registry.register(_Figures(job, told))
    host = (found["host"] or "127.0.0.1").strip("[]")
    try:
        server, thread = start_http_server(int(found["port"]), host, registry)
    except OSError as error:
        raise InputError(f"--metrics-port {place}: {error.strerror}; name another") from None
    say(f"{job}: figures for Prometheus at http://{found['host'] or host}:{server.server_port}/metrics")
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Figures:
    """Collects when it is asked."""

    def __init__(self, job: str, told: Callable[[], Pulse]) -> None:
        self._job, self._told = job, told

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        pulse = self._told()
        labels, values = ["job", "run"], [self._job, pulse.run_id]
        for name, what, field in _GAUGES:
            if (value := getattr(pulse, field)) is not None:
                gauge = GaugeMetricFamily(f"lore_{name}", what, labels=labels)
                gauge.add_metric(values, value)
                yield gauge
        rows = CounterMetricFamily("lore_rows", "rows that this worker has passed, by outcome", labels=[*labels, "to"])
        for outcome in ("ok", "failed", "skipped"):
            rows.add_metric([*values, outcome], getattr(pulse, f"n_{outcome}"))
        yield rows
        tokens = CounterMetricFamily("lore_tokens", "tokens spent by this worker", labels=[*labels, "model", "of"])
        calls = CounterMetricFamily("lore_calls", "calls of models by this worker", labels=[*labels, "model"])
        for model, used in pulse.spent.items():
            tokens.add_metric([*values, model, "prompt"], used.prompt_tokens)
            tokens.add_metric([*values, model, "completion"], used.completion_tokens)
            calls.add_metric([*values, model], used.calls)
        yield from (tokens, calls)
        if pulse.cost is not None:
            cost = CounterMetricFamily("lore_cost", "what that cost, by the prices given", labels=labels)
            cost.add_metric(values, pulse.cost)
            yield cost
