"""What a model that answers is to the rest of the house: requests in, as many replies out, in the same order.

Synchronous outside; batching, threads, retries and restarts are hidden inside. A request that fails is a reply with an
error and, where there is one, the raw text that came; only a dead engine raises. `generate` may be called from several
threads at once: the calls share one engine, so that the next micro-batch is in the queue while the last one ends.

One spelling of constrained JSON in every backend, that of `json.dumps(value, ensure_ascii=False)`: keys in the order of
the schema, separators ", " and ": ", nothing between. This module knows no backend.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from PIL.Image import Image

__all__ = ["NO_USAGE", "Chat", "ChatReply", "ChatRequest", "Finish", "Part", "Token", "Usage", "among"]

Part = str | Image  # text or a decoded RGB picture
Finish = Literal["stop", "length", "error"]


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One turn of a user, answered once.

    `parts` stand in the order in which the model reads them; several pictures are allowed. `json_schema` constrains
    decoding: the reply parses and obeys, whatever the model knows. `choices` asks for likelihoods instead of a reply:
    nothing is generated. With `among_choices` the reply is known to begin with one of them, none of which begins
    another: where they differ in their last token alone, one reading of the request is enough. A temperature of 0 is
    greedy. The same request with the same `seed` gets the same reply from the same engine, as far as the engine can
    promise it.
    """

    parts: tuple[Part, ...]
    system: str = ""
    json_schema: Mapping[str, Any] | None = None
    choices: tuple[str, ...] = ()  # not together with json_schema
    among_choices: bool = False
    max_tokens: int = 256  # of the reply
    temperature: float = 0.0
    seed: int | None = None
    logprobs: bool = False  # fill ChatReply.tokens

    @property
    def pictures(self) -> tuple[Image, ...]:
        """The pictures among the parts."""
        return tuple(part for part in self.parts if isinstance(part, Image))


@dataclass(frozen=True, slots=True)
class Token:
    """A token of a reply: its text, and its log-probability (natural) among the tokens that were legal there.

    The texts joined are the reply's text, so that a span of characters can be followed to its tokens. `logprob` is
    after the constraint: where only one token is legal it is 0. A server that cannot tell it so gives its own.
    """

    text: str
    logprob: float


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and calls, as the engine counts them; sums with +."""

    calls: int = 0
    prompt_tokens: int = 0  # those of pictures included
    completion_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
        )


NO_USAGE = Usage()


@dataclass(frozen=True, slots=True)
class ChatReply:
    """The answer to one request, or why there is none.

    `likelihoods[i]` is ln P(choices[i], then the end of the turn | request), the sum over its tokens: at most 0, and
    comparable among choices of different length. With `among_choices` the end of the turn is left out, and they are
    probabilities of one of the choices: their exponentials sum to 1. With an error, `text` is whatever came last from
    the model (half a JSON, an HTML page …) and must not be used as an answer.
    """

    text: str = ""
    finish: Finish = "stop"
    tokens: tuple[Token, ...] = ()
    likelihoods: tuple[float, ...] = ()
    usage: Usage = NO_USAGE
    error: str | None = None


def among(likelihoods: Sequence[float]) -> tuple[float, ...]:
    """Log-probabilities as those of one of these choices: what they lack together of certainty is taken off each."""
    highest = max(likelihoods)
    if not math.isfinite(highest):  # impossible, or no number: for whoever reads them
        return tuple(likelihoods)
    total = highest + math.log(sum(math.exp(one - highest) for one in likelihoods))
    return tuple(min(0.0, one - total) for one in likelihoods)


@runtime_checkable
class Chat(Protocol):
    """A model that answers. See the module for what every backend promises."""

    name: str  # the address it was opened by, e.g. vllm:lore-vlm-tiny
    sha: str  # identifies the weights as far as they can be known (a server's model: its name)

    def generate(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """One reply a request, in the same order.

        Raises:
            ModelError: the engine is dead and did not come back.
        """
        ...

    def close(self) -> None:
        """Free the engine (memory, processes, connections); calling it twice is harmless."""
        ...
