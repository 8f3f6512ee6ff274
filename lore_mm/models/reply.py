"""A model's reply as answers: strict JSON, and the place and likelihood of each value in it.

A reply is a stranger's: not JSON, half a JSON, keys twice, numbers without end, brackets without bottom. All of that is
a `ReplyError` for the whole reply, and never an exception of another kind. One Markdown fence around the JSON is taken
off, since servers that do not constrain decoding are given to it.

The likelihood of a value is that of its tokens, the product and not the mean: under a constraint it is the probability
of this answer among the legal ones, which can be held against that of any other source.

This module knows no engine, no schema and what nothing in a reply means.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from lore_mm.models.chat import ChatReply, Token
from lore_mm.models.json_reply import read_json

__all__ = ["UNMEASURED", "Answer", "Reply", "ReplyError", "measured", "parse_reply"]

UNMEASURED = 0.5  # the confidence in a reply whose tokens the server did not tell
_LONGEST = 50_000  # characters of a reply
_FENCE = re.compile(r"\s*```(?:json)?\s*\n(?P<json>.*?)\n?\s*```\s*", re.DOTALL | re.IGNORECASE)
_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


class ReplyError(ValueError):
    """A reply that is no JSON object."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one question: its values (one, or the elements of a list) and the span of each in the reply."""

    values: tuple[Any, ...]
    spans: tuple[tuple[int, int], ...]


@dataclass(slots=True)
class Reply:
    """A parsed reply: answers by key, and what its tokens were."""

    answers: dict[str, Answer]
    ends: list[int] = field(default_factory=list)  # of tokens, in characters of the text; empty where not known
    tokens: Sequence[Token] = ()
    text: str = ""
    said: Mapping[str, Any] = field(default_factory=dict)  # the object as it is

    @property
    def measured(self) -> bool:
        """Whether the likelihoods of its values are known."""
        return bool(self.ends)

    def likelihood(self, start: int, end: int) -> float:
        """The product of the probabilities of the tokens that touch the characters [start, end)."""
        if not self.ends:
            return UNMEASURED
        total, begin = 0.0, 0
        for token, stop in zip(self.tokens, self.ends, strict=True):
            if begin < end and stop > start:
                total += min(token.logprob, 0.0)
            begin = stop
        return math.exp(total) if math.isfinite(total) else 0.0

    def inside(self, answer: Answer, i: int = 0) -> dict[str, Answer]:
        """The members of the i-th value of an answer, which is an object, each with its spans in the whole reply."""
        return _placed(answer.values[i], self.text, answer.spans[i][0])


def parse_reply(reply: ChatReply) -> Reply:
    """The answers of a reply, by key.

    Raises:
        ReplyError: it is no JSON object; the text says what is wrong and where.
    """
    text = reply.text
    if not text or text.isspace():
        raise ReplyError("the reply is empty")
    if len(text) > _LONGEST:
        raise ReplyError(f"the reply has {len(text)} characters, at most {_LONGEST} are read")
    fenced = _FENCE.fullmatch(text)
    start, end = fenced.span("json") if fenced else (0, len(text))
    try:
        said = read_json(text[start:end])
    except ValueError as error:
        cut = ", cut off at its longest" if reply.finish == "length" else ""
        raise ReplyError(f"the reply is no legal JSON{cut}: {str(error)[:200]}") from None
    if not isinstance(said, dict):
        raise ReplyError("the reply is no JSON object")
    answers = _placed(said, text, start)
    return Reply(answers, _ends(reply), reply.tokens, text, said)


def measured(reply: ChatReply) -> Reply:
    """A reply of any kind, without answers, for the likelihoods of its parts."""
    return Reply({}, _ends(reply), reply.tokens, reply.text)


def _ends(reply: ChatReply) -> list[int]:
    """Where each token ends, in characters; empty where the tokens are not those of the text."""
    told = len(reply.tokens) > 0 and "".join(token.text for token in reply.tokens) == reply.text
    return list(accumulate(len(token.text) for token in reply.tokens)) if told else []


def _placed(said: Mapping[str, Any], text: str, place: int) -> dict[str, Answer]:
    """The members of an object that is known to stand in the text from `place` on, each with its spans.

    The bracket that opens a list counts as part of its first element, since it decides that there is one.
    """
    answers: dict[str, Answer] = {}
    place = text.index("{", place) + 1
    for key, value in said.items():
        _, place = _DECODER.raw_decode(text, text.index('"', place))
        start = _skip(text, text.index(":", place) + 1)
        _, place = _DECODER.raw_decode(text, start)
        if not isinstance(value, list):
            answers[key] = Answer((value,), ((start, place),))
            continue
        spans: list[tuple[int, int]] = []
        at = start + 1
        for _ in value:
            first = _skip(text, at)
            _, stop = _DECODER.raw_decode(text, first)
            spans.append((first if spans else start, stop))
            at = _skip(text, stop) + 1  # over the comma
        answers[key] = Answer(tuple(value), tuple(spans))
    return answers


def _skip(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return found.end() if found else place
