"""The connections of the service: uvicorn's HTTP/1.1 with a limit on how long headers may take to come.

uvicorn waits for the headers of a request for ever, and answers what is no HTTP in plain text. Here who trickles is cut
off, and both are told so as problem+json. Knows no route.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from jobs.service.gate import LONGEST_HEADERS
from jobs.service.problems import PROBLEM_JSON, problem_body

__all__ = ["connections"]


def connections(receive_s: float) -> type[asyncio.Protocol]:
    """The class of a connection whose headers have to come within so many seconds."""

    class Connection(_Guarded):
        patience_s = receive_s

    return Connection


class _Guarded(H11Protocol):
    patience_s: float
    _until: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._until = self.loop.call_later(self.patience_s, self._cut_off)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_work() or not self.conn.trailing_data[0]:
            self._rest()
        elif self._until is None:  # the beginning of another request's headers
            self._until = self.loop.call_later(self.patience_s, self._cut_off)

    def connection_lost(self, exc: Exception | None) -> None:
        self._rest()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Say that this is no HTTP, or too much of it, and close."""
        if len(self.conn.trailing_data[0]) > LONGEST_HEADERS:
            self._say(431, "headers-too-large", f"the headers are longer than {LONGEST_HEADERS:,} bytes")
        else:
            self._say(400, "not-http", "this is no HTTP/1.1 request")

    def _in_work(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _rest(self) -> None:
        if self._until is not None:
            self._until.cancel()
            self._until = None

    def _cut_off(self) -> None:
        self._until = None
        if self._in_work() or self.transport.is_closing():
            return
        if self.conn.trailing_data[0]:
            self._say(408, "too-slow-headers", f"the headers did not come in {self.patience_s:g} s")
        else:
            self.transport.close()

    def _say(self, status: int, code: str, detail: str) -> None:
        body = problem_body(status, code, detail)
        headers = [
            (b"content-type", PROBLEM_JSON.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        try:
            said = (h11.Response(status_code=status, headers=headers), h11.Data(data=body), h11.EndOfMessage())
            self.transport.write(b"".join(self.conn.send(part) or b"" for part in said))
        except h11.LocalProtocolError:
            pass  # an answer is on its way already
        self.transport.close()
