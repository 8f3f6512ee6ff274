"""A model's reply as answers: strict JSON, the place and likelihood of each value, and what it says in legal words.

A reply is a stranger's: not JSON, half a JSON, keys twice, numbers without end, brackets without bottom. All of that is
a `ReplyError` for the whole reply or a fault of one attribute, and never an exception of another kind. One Markdown
fence around the JSON is taken off, since servers that do not constrain decoding are given to it.

The likelihood of a value is that of its tokens, the product and not the mean: under a constraint it is the probability
of this answer among the legal ones, which can be held against that of any other extractor.

This module knows no engine and no evidence.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from lore_mm.attribute import NOT_APPLICABLE, NOT_STATED, AttributeSpec, check_value, fold
from lore_mm.errors import InputError
from lore_mm.models.chat import ChatReply, Token
from lore_mm.models.json_reply import read_json
from lore_mm.text import normalize
from lore_mm.types import Status
from lore_mm.values import find_quantities, format_number

__all__ = ["UNMEASURED", "Answer", "Reading", "ReplyError", "parse_reply", "read_answer"]

UNMEASURED = 0.5  # the confidence in a reply whose tokens the server did not tell
_LONGEST = 50_000  # characters of a reply
_MOST_VALUES = 32  # of a list
_FENCE = re.compile(r"\s*```(?:json)?\s*\n(?P<json>.*?)\n?\s*```\s*", re.DOTALL | re.IGNORECASE)
_SPACE = re.compile(r"[ \t\n\r]*")
_SILENT: dict[str, Status] = {fold(NOT_STATED): "not_stated", fold(NOT_APPLICABLE): "not_applicable"}
_DECODER = json.JSONDecoder()
_INCH = 2.54


class ReplyError(ValueError):
    """A reply that is no JSON object."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one question: its values (one, or the elements of a list) and the span of each in the reply."""

    values: tuple[Any, ...]
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """What an answer says in the schema's words. A failed one carries the reason."""

    status: Status
    value: str | None = None
    number: float | None = None
    unit: str | None = None
    confidence: float = UNMEASURED
    error: str | None = None


@dataclass(slots=True)
class Reply:
    """A parsed reply: answers by key, and what its tokens were."""

    answers: dict[str, Answer]
    ends: list[int] = field(default_factory=list)  # of tokens, in characters of the text; empty where not known
    tokens: Sequence[Token] = ()

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
    told = len(reply.tokens) > 0 and "".join(token.text for token in reply.tokens) == text
    ends = list(accumulate(len(token.text) for token in reply.tokens)) if told else []
    return Reply(answers, ends, reply.tokens)


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


def read_answer(spec: AttributeSpec, reply: Reply) -> list[Reading]:
    """What the reply says of one attribute: a reading a value, never none. What is not legal is a failed reading."""
    answer = reply.answers.get(spec.name)
    if answer is None:
        return [_fault(spec, "not answered")]
    if not answer.values:
        return [_fault(spec, "an empty list")]
    if len(answer.values) > (_MOST_VALUES if spec.multi else 1):
        return [_fault(spec, f"{len(answer.values)} values where {_MOST_VALUES if spec.multi else 1} may stand")]
    readings: list[Reading] = []
    for value, (start, end) in zip(answer.values, answer.spans, strict=True):
        reading = _read(spec, value, reply.likelihood(start, end))
        if not any((r.status, r.value, r.number) == (reading.status, reading.value, reading.number) for r in readings):
            readings.append(reading)
    stated = [r for r in readings if r.status == "value"]
    return stated + [r for r in readings if r.status == "failed"][:1] if stated else readings[:1]


def _read(spec: AttributeSpec, value: object, likelihood: float) -> Reading:
    if isinstance(value, str):
        value = normalize(value)  # no control characters, no halves of characters, whatever the JSON spelt out
    silent = _SILENT.get(fold(value)) if isinstance(value, str) and len(value) < 40 else None
    if silent is not None:
        return Reading(silent, confidence=likelihood)
    if value is None or isinstance(value, dict | list):
        return _fault(spec, f"{type(value).__name__ if value is not None else 'null'} is no answer")
    try:
        if spec.type == "number":
            number = float(check_value(spec, _measured(spec, value)))
            words = f"{format_number(number)} {spec.unit or ''}".strip()
            return Reading("value", words, number, spec.unit, likelihood)
        legal = check_value(spec, value)
    except InputError as error:
        return Reading("failed", confidence=0.0, error=str(error))
    said = ("yes" if legal else "no") if isinstance(legal, bool) else str(legal)
    return Reading("value", said, confidence=likelihood)


def _measured(spec: AttributeSpec, value: object) -> object:
    """A number given as words ("12 in"), in the attribute's unit where the words have one."""
    if not isinstance(value, str):
        return value
    for quantity in find_quantities(value[:100]):
        if quantity.unit == spec.unit:
            return quantity.number
        if (quantity.unit, spec.unit) == ("cm", "in"):
            return quantity.number / _INCH
    return value.strip()


def _fault(spec: AttributeSpec, reason: str) -> Reading:
    return Reading("failed", confidence=0.0, error=f"{spec.name}: {reason}")
