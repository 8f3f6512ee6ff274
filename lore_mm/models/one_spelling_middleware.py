"""One spelling of constrained JSON for vLLM's OpenAI-compatible server, by its option `--middleware`.

JSON Schemas in the bodies of requests get what `lore_mm.models.constrain` adds to them, so that clients which know
nothing of it get canonical JSON from decoding itself. Everything else passes untouched. This module runs in the
server's process, in front of its routes; it knows no engine.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from lore_mm.models.constrain import one_spelling

__all__ = ["OneSpelling", "with_one_spelling"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_ROUTES = ("/chat/completions", "/completions")


class OneSpelling:
    """ASGI middleware that rewrites the JSON Schemas of requests for completions."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with its body rewritten where it is one for a completion."""
        wanted = scope["type"] == "http" and scope["method"] == "POST" and scope["path"].endswith(_ROUTES)
        await self._app(*(await _rewritten(scope, receive) if wanted else (scope, receive)), send)


async def _rewritten(scope: Scope, receive: Receive) -> tuple[Scope, Receive]:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":  # the client has gone
            break
        body += message.get("body", b"")
        if not message.get("more_body", False):
            message = {"type": "http.request", "body": with_one_spelling(bytes(body)), "more_body": False}
            break
    first = [message]
    length = str(len(message.get("body", b""))).encode()
    headers = [(name, length if name == b"content-length" else value) for name, value in scope["headers"]]

    async def again() -> Message:
        return first.pop() if first else await receive()

    return {**scope, "headers": headers}, again


def with_one_spelling(body: bytes) -> bytes:
    """The body of a request with its JSON Schemas told their spelling; what is not understood stays as it is."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        return body  # the server says what is wrong with it
    if not isinstance(request, dict):
        return body
    changed = False
    for holder, key in (
        (_inside(request, "response_format", "json_schema"), "schema"),
        (_inside(request, "structured_outputs"), "json"),
    ):
        if isinstance(holder.get(key), dict):
            holder[key] = one_spelling(holder[key])
            changed = True
    return json.dumps(request, ensure_ascii=False).encode("utf-8", "surrogatepass") if changed else body


def _inside(value: Any, *path: str) -> dict[str, Any]:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}
