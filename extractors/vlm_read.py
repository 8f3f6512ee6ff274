"""What the answers of a model's reply say in a schema's legal words: readings, each with its confidence.

An answer that is not legal is a fault of that one attribute, and never an exception. How a reply is taken apart is for
`lore_mm.models.reply`. This module knows no engine and no evidence.
"""

from __future__ import annotations

from dataclasses import dataclass

from lore_mm.attribute import NOT_APPLICABLE, NOT_STATED, AttributeSpec, check_value, fold
from lore_mm.errors import InputError
from lore_mm.models.reply import UNMEASURED, Answer, Reply, ReplyError, parse_reply
from lore_mm.text import normalize
from lore_mm.types import Status
from lore_mm.values import find_quantities, format_number

__all__ = ["UNMEASURED", "Answer", "Reading", "Reply", "ReplyError", "parse_reply", "read_answer"]

_MOST_VALUES = 32  # of a list
_SILENT: dict[str, Status] = {fold(NOT_STATED): "not_stated", fold(NOT_APPLICABLE): "not_applicable"}
_INCH = 2.54


@dataclass(frozen=True, slots=True)
class Reading:
    """What an answer says in the schema's words. A failed one carries the reason."""

    status: Status
    value: str | None = None
    number: float | None = None
    unit: str | None = None
    confidence: float = UNMEASURED
    error: str | None = None


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
