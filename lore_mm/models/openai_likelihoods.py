"""Likelihoods of listed choices from a server that tells the log-probabilities of a prompt's tokens, as vLLM does.

Each choice is put behind the request as the assistant's finished message; its tokens, and the one that ends the turn,
are what stands behind the tokens of the request alone. The sum of their log-probabilities is exact. Nothing is
generated but the one token that the protocol cannot do without.

There is no exact way by `logprobs` of generated tokens: they tell the best tokens of the path taken, not those of the
other choices, nor the end of their turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from lore_mm.models.chat import NO_USAGE, ChatReply, Usage, among
from lore_mm.models.openai_wire import Trouble, failed, read_object, usage_of

__all__ = ["Likelihoods"]

Ask = Callable[[dict[str, Any]], Awaitable[str]]
Message = Mapping[str, Any]

_CANNOT = "this server cannot tell likelihoods of choices: it gives no prompt_logprobs (vLLM does)"


class Likelihoods:
    """Asks one server; whether it can, and how it ends a turn, is found out once."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._ending: tuple[int, ...] | None = None  # the tokens behind a finished message; () where it cannot tell

    async def of(
        self, choices: Sequence[str], messages: Sequence[Message], model: str, ask: Ask, *, among_choices: bool = False
    ) -> ChatReply:
        """A reply with the likelihood of each choice.

        Raises:
            Trouble: as `ask` does.
        """
        async with self._lock:
            if self._ending is None:
                self._ending = await _find_ending(model, ask)
        if not self._ending:
            return failed(_CANNOT, usage=NO_USAGE)
        asked = read_object(await ask(_body(model, messages, add_generation_prompt=True)))
        start, usage, likelihoods = _ids(asked), usage_of(asked), []
        finished = [[*messages, {"role": "assistant", "content": choice}] for choice in choices]
        for text in await asyncio.gather(*(ask(_body(model, one, prompt_logprobs=0)) for one in finished)):
            body = read_object(text)
            ids, told, counted = _ids(body), body.get("prompt_logprobs"), usage_of(body)
            usage = Usage(
                1, usage.prompt_tokens + counted.prompt_tokens, usage.completion_tokens + counted.completion_tokens
            )
            end = len(ids) - len(self._ending)
            if start is ids or not start or ids[: len(start)] != start or tuple(ids[end:]) != self._ending:
                return failed(
                    "the server's chat template writes a given reply in another way than an asked one", text, usage
                )
            if not isinstance(told, list) or len(told) != len(ids):
                return failed(_CANNOT, text, usage)
            # the first token of the ending ends the turn
            places = range(len(start), end if among_choices and end > len(start) else end + 1)
            values = [_logprob(told[place], ids[place]) for place in places]
            known = [value for value in values if value is not None]
            if len(known) < len(values):
                return failed(_CANNOT, text, usage)
            likelihoods.append(min(0.0, sum(known)))
        return ChatReply(likelihoods=among(likelihoods) if among_choices else tuple(likelihoods), usage=usage)


async def _find_ending(model: str, ask: Ask) -> tuple[int, ...]:
    """The tokens that the server's template puts behind a finished message; () if it does not tell."""
    turn = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    try:
        finished = read_object(await ask(_body(model, turn, prompt_logprobs=0)))
        open_ended = read_object(await ask(_body(model, turn, continue_final_message=True)))
    except Trouble as trouble:
        if trouble.again:  # the server is ill rather than unable: the next request finds out
            raise
        return ()
    except ValueError:
        return ()
    whole, part = _ids(finished), _ids(open_ended)
    if not part or whole[: len(part)] != part or not isinstance(finished.get("prompt_logprobs"), list):
        return ()
    return tuple(whole[len(part) :])


def _body(model: str, messages: Sequence[Message], **extra: Any) -> dict[str, Any]:
    """A body that makes vLLM tell the tokens of the prompt, with its extra parameters."""
    body = {"model": model, "messages": list(messages), "temperature": 0.0, "max_tokens": 1, "return_token_ids": True}
    return body | {"add_generation_prompt": False} | extra


def _ids(body: Mapping[str, Any]) -> list[int]:
    ids = body.get("prompt_token_ids")
    return ids if isinstance(ids, list) and all(isinstance(one, int) for one in ids) else []


def _logprob(told: object, token: int) -> float | None:
    entry = told.get(str(token)) if isinstance(told, dict) else None
    value = entry.get("logprob") if isinstance(entry, dict) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
