"""`openai:http://host:port/v1#model`: any OpenAI-compatible server, by the official client.

Synchronous and thread-safe outside; inside one event loop in a thread of its own, whose connections all callers share.
Attempts are repeated with growing waits where that may help (408, 409, 429, 5xx, broken connections, time-outs), as
the server's Retry-After asks; other refusals are error replies at once. The key comes from OPENAI_API_KEY, goes into
the request's header and nowhere else. Redirects are not followed. No more than `concurrency` requests have their
pictures encoded at any time.

What the server must keep of the contract by itself: constrained decoding (each reply is checked, and one that breaks
the schema is an error), log-probabilities (as the server gives them: vLLM after the constraint, others perhaps before
it; none where a reply had to be re-spelled by more than blanks), and seeds. Likelihoods of choices need
`prompt_logprobs`, which vLLM has; other servers' replies to such a request are errors. This module knows no engine.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from lore_mm.errors import ConfigError, MissingExtraError, ModelError
from lore_mm.fingerprint import sha_of
from lore_mm.models.chat import ChatReply, ChatRequest
from lore_mm.models.openai_likelihoods import Likelihoods
from lore_mm.models.openai_wire import Trouble, body_of, failed, messages_of, read_object, read_reply
from lore_mm.models.pacing import Clock, Pace, back_off
from lore_mm.text import normalize

if TYPE_CHECKING:
    from lore_mm.models.openai_client import Server

__all__ = ["OpenAIChat", "open_chat"]

_KEY = "OPENAI_API_KEY"
_LONGEST_WAIT = 300.0  # seconds; a server that asks for more gets no second attempt
_PICTURE_TOKENS = 1000  # what a picture is taken for until the server has counted
_LETTERS_A_TOKEN = 4
_CLOCK = Clock()

T = TypeVar("T")


def open_chat(
    name: str,
    *,
    concurrency: int = 32,
    requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None,
    timeout_s: float = 120.0,
    retries: int = 5,
    clock: Clock = _CLOCK,
) -> OpenAIChat:
    """Open `openai:http://HOST:PORT/v1#MODEL`; without `#MODEL` the server's only model.

    `concurrency` requests are in flight at most, whoever asks; the limits per minute are kept by spacing requests
    evenly; `timeout_s` bounds one attempt as a whole; `retries` are the attempts after the first.

    Raises:
        ConfigError: an option is out of its range.
        ModelError: the address is none, holds a password, or names no model where the server has several (the text
            lists them) or does not answer.
        MissingExtraError: openai is not installed.
    """
    url, _, model = name.partition("#")
    if not _is_address(url):
        raise ModelError(f"openai:{_bare(url)}: no address of a server, such as openai:http://localhost:8000/v1#MODEL")
    if "@" in url:
        raise ModelError(f"openai:{_bare(url)}: no user or password in an address; the key is read from {_KEY}")
    for option, value in {"requests_per_minute": requests_per_minute, "tokens_per_minute": tokens_per_minute}.items():
        if value is not None and not value > 0:
            raise ConfigError(f"openai: {option} must be above 0, not {value:g}")
    if concurrency < 1 or retries < 0 or not timeout_s > 0:
        raise ConfigError(
            "openai: concurrency must be at least 1, retries at least 0 and timeout_s above 0, "
            f"not {concurrency}, {retries} and {timeout_s:g}"
        )
    try:
        from lore_mm.models.openai_client import NO_KEY, Server
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "openai", "openai") from None
    server = Server(url, os.environ.get(_KEY) or NO_KEY, timeout_s, concurrency)
    paces = (Pace(requests_per_minute, clock), Pace(tokens_per_minute, clock))
    chat = OpenAIChat(url.rstrip("/"), server, concurrency, paces, retries, clock)
    try:
        chat.choose(model)
    except BaseException:
        chat.close()
        raise
    return chat


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and not parts.query
    except ValueError:  # a port or an IPv6 address that is none
        return False


def _bare(url: str) -> str:
    """An address without what stands before an @, which may be secret."""
    scheme, slashes, rest = url.partition("//")
    return scheme + slashes + rest.rpartition("@")[2]


@dataclass(slots=True)
class _Call:
    """What the requests of one `generate` know of each other."""

    answered: bool = False  # the server said something, be it an error
    down: str | None = None  # the server could not be reached after all attempts, and nothing came since
    replies: list[ChatReply | None] = field(default_factory=list)


class OpenAIChat:
    """A model behind an OpenAI-compatible server. Open it with `open_chat`, and close it."""

    def __init__(
        self, url: str, server: Server, concurrency: int, paces: tuple[Pace, Pace], retries: int, clock: Clock
    ) -> None:
        self.name = self.sha = ""
        self._url, self._model, self._server = url, "", server
        self._concurrency, self._retries, self._clock = concurrency, retries, clock
        self._requests_pace, self._tokens_pace = paces
        self._limit_key = "max_tokens"
        self._held = asyncio.Semaphore(concurrency)  # requests whose pictures are encoded
        self._flying = asyncio.Semaphore(concurrency)  # HTTP requests
        self._likelihoods = Likelihoods()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="openai_http", daemon=True)
        self._thread.start()
        self._closing = threading.Lock()
        self._closed = False

    def choose(self, model: str) -> None:
        """Settle on a model of the server: the one named, or its only one.

        Raises:
            ModelError: none is named and the server has not exactly one, or does not answer.
        """
        if not model:
            models = self._run(self._models())
            if len(models) != 1:
                listed = ", ".join(models) or "none"
                raise ModelError(f"openai:{self._url}: which model? Put #MODEL behind the address; it serves: {listed}")
            model = models[0]
        self._model = model
        self.name = f"openai:{self._url}#{model}"
        self.sha = sha_of({"openai": model})

    def generate(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """One reply a request, in the same order; several threads may call at once.

        Raises:
            ModelError: no request reached the server, however often it was tried; or the model is closed.
        """
        return self._run(self._all(requests)) if requests else []

    def close(self) -> None:
        """Close the connections and stop the thread. Calls that still run end with a ModelError."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _shut(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._server.close()
        await self._loop.shutdown_default_executor()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        with self._closing:
            if self._closed:
                work.close()
                raise ModelError(f"{self.name}: it is closed")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except CancelledError:
            raise ModelError(f"{self.name}: it was closed while it worked") from None
        except BaseException:  # Ctrl-C: what is on its way is called back
            future.cancel()
            raise

    async def _models(self) -> list[str]:
        try:
            body = read_object(await self._post("/models", None, _Call()))
        except (Trouble, ValueError) as error:
            raise ModelError(f"openai:{self._url}: it does not tell its models: {error}") from None
        told = body.get("data")
        return (
            [str(one["id"]) for one in told if isinstance(one, dict) and "id" in one] if isinstance(told, list) else []
        )

    async def _all(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        call = _Call(replies=[None] * len(requests))
        queue = iter(enumerate(requests))
        workers = [self._work(queue, call) for _ in range(min(self._concurrency, len(requests)))]
        async with asyncio.TaskGroup() as group:
            for worker in workers:
                group.create_task(worker)
        if not call.answered and call.down is not None:
            raise ModelError(f"{self.name}: {call.down}")
        return [reply for reply in call.replies if reply is not None]

    async def _work(self, queue: Iterator[tuple[int, ChatRequest]], call: _Call) -> None:
        for place, request in queue:
            try:
                call.replies[place] = await self._reply(request, call)
            except Trouble as trouble:
                call.replies[place] = failed(str(trouble), trouble.text)
            except (ConfigError, ValueError) as error:  # a schema, or an answer, that cannot be read
                call.replies[place] = failed(str(error))

    async def _reply(self, request: ChatRequest, call: _Call) -> ChatReply:
        if request.choices and request.json_schema is not None:
            raise Trouble("choices or a schema may be asked for, not both")
        async with self._held:
            if call.down is not None:
                raise Trouble(call.down, reached=False)
            messages = await _messages(request)
            cost = _cost(request)
            if request.choices:
                return await self._likelihoods.of(
                    request.choices,
                    messages,
                    self._model,
                    lambda b: self._ask(b, call, cost),
                    among_choices=request.among_choices,
                )
            reply = read_reply(await self._ask(body_of(request, self._model, messages), call, cost), request)
            if used := reply.usage.prompt_tokens + reply.usage.completion_tokens:
                self._tokens_pace.correct(used - cost)
            return reply

    async def _ask(self, body: dict[str, Any], call: _Call, cost: float = 0.0) -> str:
        """The text of the answer to one body of a chat completion. `cost`: tokens it may take.

        Raises:
            Trouble: no answer after all attempts, or a refusal.
        """
        if self._limit_key != "max_tokens":
            body[self._limit_key] = body.pop("max_tokens")
        try:
            text = await self._post("/chat/completions", body, call, cost)
        except Trouble as trouble:
            if "max_completion_tokens" not in str(trouble) or "max_tokens" not in body:
                raise
            self._limit_key = "max_completion_tokens"  # OpenAI's newer models know no other
            return await self._ask(body, call, cost)
        return text

    async def _post(self, path: str, body: dict[str, Any] | None, call: _Call, cost: float = 0.0) -> str:
        """The text of the server's answer, after as many attempts as it takes.

        Raises:
            Trouble: no answer after all attempts, or a refusal.
        """
        async with self._flying:
            for attempt in range(self._retries + 1):
                wait = max(self._requests_pace.reserve(), self._tokens_pace.reserve(cost))
                if wait > 0:
                    await self._clock.sleep(wait)
                try:
                    text = await self._server.send(path, body)
                except Trouble as trouble:
                    self._note(trouble, call, last=attempt == self._retries)
                    if not trouble.again or attempt == self._retries or (trouble.wait or 0) > _LONGEST_WAIT:
                        raise
                    await self._clock.sleep(back_off(attempt, trouble.wait, self._clock))
                else:
                    call.answered, call.down = True, None
                    return text
        raise AssertionError("unreachable")

    def _note(self, trouble: Trouble, call: _Call, last: bool) -> None:
        if trouble.reached:
            call.answered, call.down = True, None
        elif last:
            call.down = str(trouble)
        if trouble.wait and trouble.again:
            self._requests_pace.pause(min(trouble.wait, _LONGEST_WAIT))


async def _messages(request: ChatRequest) -> list[dict[str, Any]]:
    """The messages, pictures encoded beside the loop.

    Raises:
        Trouble: a picture cannot be encoded.
    """
    if not request.pictures:
        return messages_of(request)
    try:
        return await asyncio.to_thread(messages_of, request)
    except Exception as error:  # Pillow raises nearly everything
        raise Trouble(f"a picture cannot be encoded: {normalize(str(error))[:200] or type(error).__name__}") from None


def _cost(request: ChatRequest) -> float:
    letters = len(request.system) + sum(len(part) for part in request.parts if isinstance(part, str))
    return letters / _LETTERS_A_TOKEN + _PICTURE_TOKENS * len(request.pictures) + request.max_tokens
