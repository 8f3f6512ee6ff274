"""One attempt at an OpenAI-compatible server by the official client: a body goes out, a text or a Trouble comes back.

The only module that touches `openai` and its HTTP library. It follows no redirect, takes no compressed answer and none
that is too long, and hides the key from every text it passes on. It knows nothing of retries, limits and replies.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import openai

from lore_mm.models.openai_wire import Trouble, said
from lore_mm.models.pacing import retry_after
from lore_mm.text import normalize

__all__ = ["NO_KEY", "Server"]

NO_KEY = "none"  # what servers without keys are told
_AGAIN = frozenset({408, 409, 429})  # and 5xx
_MOST_BYTES = 32 * 1024 * 1024  # of one answer
_HEAD = 16_000  # bytes of a broken answer that are kept


class Server:
    """An address, the key it is asked with, and the connections to it."""

    def __init__(self, url: str, key: str, timeout_s: float, connections: int) -> None:
        self._key, self._timeout_s = key, timeout_s
        limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._client = openai.AsyncOpenAI(
            api_key=key,
            base_url=url,
            max_retries=0,
            timeout=timeout_s,
            default_headers={"Accept-Encoding": "identity"},
            http_client=openai.DefaultAsyncHttpxClient(
                limits=limits, follow_redirects=False, timeout=timeout_s, event_hooks={"response": [_guard]}
            ),
        )

    async def send(self, path: str, body: dict[str, Any] | None = None) -> str:
        """The text of the answer to a POST of the body, or to a GET without one.

        Raises:
            Trouble: there is no answer, or it is a refusal.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                if body is None:
                    return self._scrubbed(await self._client.get(path, cast_to=str))
                return self._scrubbed(await self._client.post(path, cast_to=str, body=body))
        except (TimeoutError, openai.APITimeoutError) as error:
            reached = not isinstance(error.__cause__, httpx2.ConnectTimeout)
            raise Trouble(f"no answer within {self._timeout_s:g} s", again=True, reached=reached) from None
        except openai.APIStatusError as error:
            raise self._refused(error) from None
        except (openai.OpenAIError, httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            raise self._broken(error.__cause__ or error) from None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _refused(self, error: openai.APIStatusError) -> Trouble:
        status, text = error.response.status_code, self._scrubbed(error.response.text)
        if 300 <= status < 400:
            where = self._scrubbed(normalize(error.response.headers.get("location", ""))[:200])
            return Trouble(f"the server answered {status} and redirects to {where!r}: give that address", text)
        # a budget that is used up is a 429 too, but waiting does not fill it
        again = (status in _AGAIN or status >= 500) and error.code != "insufficient_quota"
        wait = retry_after(error.response.headers) if again else None
        line = said(text)
        patience = f" (and asks to wait {wait:,.0f} s)" if wait else ""
        reason = f"the server answered {status}{patience}" + (f": {line}" if line else "")
        return Trouble(reason, text, again=again, wait=wait)

    def _broken(self, cause: BaseException) -> Trouble:
        line = self._scrubbed(normalize(str(cause))[:200]) or type(cause).__name__
        if isinstance(cause, _CutOff):
            return Trouble(line, self._scrubbed(cause.head.decode("utf-8", "replace")), again=cause.again)
        if isinstance(cause, httpx2.ConnectError):
            return Trouble(f"the server cannot be reached: {line}", again=True, reached=False)
        if isinstance(cause, httpx2.TransportError):
            return Trouble(f"the connection broke: {line}", again=True)
        return Trouble(f"the request could not be sent: {line}")

    def _scrubbed(self, text: str) -> str:
        """A text of the server without the key, which some repeat."""
        return text if self._key == NO_KEY else text.replace(self._key, "***")


class _CutOff(httpx2.ReadError):
    """An answer that could not be read to its end; what came of it."""

    def __init__(self, message: str, head: bytes, again: bool) -> None:
        super().__init__(message)
        self.head, self.again = head, again


class _Bounded(httpx2.AsyncByteStream):
    """The body of an answer, up to a length; it remembers how it began."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        head, length = b"", 0
        try:
            async for piece in self._stream:
                length += len(piece)
                head += piece[: _HEAD - len(head)]
                if length > _MOST_BYTES:
                    raise _CutOff(f"the server's answer is longer than {_MOST_BYTES:,} bytes", head, again=False)
                yield piece
        except httpx2.NetworkError as error:
            if isinstance(error, _CutOff):
                raise
            raise _CutOff(f"the connection broke after {length:,} bytes of the answer", head, again=True) from None
        except httpx2.ProtocolError:
            raise _CutOff(f"the server's answer broke off after {length:,} bytes", head, again=True) from None

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _guard(response: httpx2.Response) -> None:
    """Let an answer be read only within bounds: compressed ones could be of any length."""
    coding = response.headers.get("content-encoding", "identity")
    if coding != "identity":
        raise _CutOff(f"the server's answer is compressed ({normalize(coding)[:40]}), unasked", b"", again=False)
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    response.stream = _Bounded(response.stream)
