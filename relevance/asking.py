"""Requests put to a model, each several times if wanted, and its replies read; what cannot be read is asked once more.

The second attempt is a little warmer and has another seed: a greedy model that ran away would run the same way again.
A reply that is an error without a word of the model's is not asked for again: one that was refused will be. This
module knows no prompt and what no reply means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from lore_mm.models import Chat, ChatReply, ChatRequest
from lore_mm.models.chat import NO_USAGE, Usage
from lore_mm.models.reply import ReplyError
from lore_mm.prompts import clean

__all__ = ["Answers", "ask"]

_WARMER, _HOTTER = 0.7, 0.2  # temperature of the second attempt: at least, and above the first
_SHOWN = 80  # characters of a failed reply that are told

Read = TypeVar("Read")


@dataclass(slots=True)
class Answers(Generic[Read]):
    """What was read of the replies to each request, in their order; `errors` say why, where that is nothing."""

    read: list[list[Read]]
    errors: list[str]
    usage: Usage = NO_USAGE
    replies: int = 0
    retried: int = 0  # could not be read and were asked for again
    unreadable: int = 0  # could not be read at the second attempt either


def ask(
    chat: Chat, requests: Sequence[ChatRequest], read: Callable[[int, ChatReply], Read], samples: int = 1, seed: int = 0
) -> Answers[Read]:
    """All samples of all requests in one call of the model, with the seeds from `seed` on; then those that failed.

    `read` is given the place of a request and a reply to it, and raises for what it cannot read.

    Raises:
        ModelError: the model is dead and did not come back.
    """
    answers = Answers[Read]([[] for _ in requests], ["the model said nothing"] * len(requests))
    first = [(i, replace(request, seed=seed + n)) for i, request in enumerate(requests) for n in range(samples)]
    again = _round(chat, first, read, answers)
    lost = _round(chat, [(i, _warmer(request, samples)) for i, request in again], read, answers)
    answers.retried, answers.unreadable = len(again), len(lost)
    return answers


def _warmer(request: ChatRequest, samples: int) -> ChatRequest:
    temperature = max(_WARMER, request.temperature + _HOTTER)
    return replace(request, temperature=temperature, seed=(request.seed or 0) + samples)


def _round(
    chat: Chat,
    todo: Sequence[tuple[int, ChatRequest]],
    read: Callable[[int, ChatReply], Read],
    answers: Answers[Read],
) -> list[tuple[int, ChatRequest]]:
    """One call of the model for all these; those worth asking again."""
    if not todo:
        return []
    replies = chat.generate([request for _, request in todo])
    if len(replies) != len(todo):
        fault = f"{chat.name} gave {len(replies)} replies for {len(todo)} requests"
        replies = [ChatReply(finish="error", error=fault) for _ in todo]
    answers.usage = sum((reply.usage for reply in replies), answers.usage)
    answers.replies += len(replies)
    again = []
    for (i, request), reply in zip(todo, replies, strict=True):
        try:
            answers.read[i].append(read(i, reply))
            continue
        except ReplyError as error:
            reason = str(error)
        except Exception as error:  # whatever a reply brings about, it is one reply's fault
            reason = f"{type(error).__name__}: {error}"
        began = clean(reply.text[: 4 * _SHOWN], _SHOWN)
        answers.errors[i] = f"{reason}; the reply began {began!r}" if began else reason
        if reply.text:
            again.append((i, request))
    return again
