"""What every request passes before it is looked at, and every answer on its way out (ASGI).

Host, key, rate, the body's size and the time it takes to come; any error as problem+json; what is counted. Knows no
route's meaning.
"""

from __future__ import annotations

import asyncio
import math
import time
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from jobs.service.problems import PROBLEM_JSON, ProblemError, problem_body
from jobs.service.service import Service
from lore_mm.console import say

__all__ = ["FAULT", "LONGEST_HEADERS", "OPEN", "Gate"]

LONGEST_HEADERS = 32 << 10  # bytes of a request's path and headers
OPEN = ("/healthz", "/openapi.json")  # for everybody, whatever the keys
FAULT = ProblemError(500, "fault", "the service has a fault; its log says which")
_LOCAL = {"localhost", "127.0.0.1", "[::1]"}
_DISCARDED = 32 << 20  # bytes of a body too large that are read on, so that the answer is heard
_ALWAYS = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


class _GoneError(Exception):
    """Nobody waits for the answer any more."""


class Gate:
    """Wraps an ASGI application. `hosts`: the names it may be called by; None for any."""

    def __init__(self, app: App, service: Service, hosts: set[str] | None = None) -> None:
        self._app, self._service = app, service
        self._hosts = None if hosts is None else hosts | _LOCAL

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 0

        async def passing(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_ALWAYS]
            await send(message)

        metrics = self._service.metrics
        metrics.in_flight.inc()
        try:
            body = await self._admitted(scope, receive)
            await self._app(scope, _replay(body, receive), passing)
        except _GoneError:
            status = 499
        except ProblemError as problem:
            metrics.refused(problem.code)
            await _answer(passing, problem)
        except Exception:  # a fault of ours; said once, and never shown to who asks
            say(f"{scope['method']} {scope['path']!r}: {traceback.format_exc()}")
            if not status:
                await _answer(passing, FAULT)
        finally:
            metrics.in_flight.dec()
            route = getattr(scope.get("route"), "path", "none")
            metrics.answered(route, status, time.perf_counter() - begun)

    async def _admitted(self, scope: MutableMapping[str, Any], receive: Receive) -> bytes:
        """The body of a request that may be served.

        Raises:
            ProblemError: it may not.
        """
        headers: dict[bytes, bytes] = dict(scope["headers"])
        path = len(scope.get("raw_path") or b"") + len(scope["query_string"])
        if path + sum(len(name) + len(value) for name, value in scope["headers"]) > LONGEST_HEADERS:
            raise ProblemError(
                431, "headers-too-large", f"path and headers are longer than {LONGEST_HEADERS:,} bytes", _CLOSE
            )
        if self._hosts is not None:
            host = headers.get(b"host", b"").decode("latin-1").lower()
            name = host if host.endswith("]") else host.rpartition(":")[0] or host
            if name not in self._hosts:
                raise ProblemError(421, "wrong-host", "this service is not known by the name in the header Host")
        if scope["path"] not in OPEN:
            self._check_client(scope, headers)
        if b"content-encoding" in headers:
            raise ProblemError(415, "encoded", "send the body as it is, without a content-encoding")
        length = headers.get(b"content-length", b"")
        most = self._service.limits.body_bytes
        try:
            async with asyncio.timeout(self._service.limits.receive_s):
                body = await _body(receive, most)
        except TimeoutError:
            raise ProblemError(
                408, "too-slow-body", f"the body did not come in {self._service.limits.receive_s:g} s", _CLOSE
            ) from None
        if body is None:
            told = f"{int(length):,} bytes" if length.isdigit() and len(length) < 20 else "more"
            raise ProblemError(413, "too-large", f"the body has {told}, the limit is {most:,} bytes", _CLOSE)
        return body

    def _check_client(self, scope: MutableMapping[str, Any], headers: dict[bytes, bytes]) -> None:
        client = (scope.get("client") or ("unknown",))[0]
        if self._service.keys:
            scheme, _, bearer = headers.get(b"authorization", b"").partition(b" ")
            given = bearer.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")
            name = self._service.keys.name_of(given)
            if name is None:
                raise ProblemError(
                    401,
                    "no-key",
                    "legal: the header Authorization: Bearer KEY, or X-API-Key: KEY",
                    {"www-authenticate": "Bearer"},
                )
            client = f"key {name}"
        if wait := self._service.rates.wait_of(client):
            raise ProblemError(
                429,
                "too-often",
                f"the limit is {self._service.limits.rate:g} requests a second",
                {"retry-after": str(math.ceil(wait))},
            )


_CLOSE = {"connection": "close"}


async def _body(receive: Receive, most: int) -> bytes | None:
    """A request's whole body; None where it is larger than that."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _GoneError
        part = message.get("body", b"")
        size += len(part)
        if size <= most:
            parts.append(part)
        elif size > most + _DISCARDED:
            return None
        if not message.get("more_body", False):
            return b"".join(parts) if size <= most else None


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _answer(send: Send, problem: ProblemError) -> None:
    body = problem_body(problem.status, problem.code, problem.detail)
    headers = {"content-type": PROBLEM_JSON, "content-length": str(len(body))} | problem.headers
    encoded = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
