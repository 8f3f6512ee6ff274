"""One attribute of a kind of thing: what it may say, how to check what is said, and how to ask for it.

It knows nothing of files, departments or items: those are `lore_mm.schema`'s affair.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from lore_mm.errors import InputError, nearest
from lore_mm.fingerprint import sha_of

__all__ = ["MAX_TEXT", "NOT_APPLICABLE", "NOT_STATED", "AttributeSpec", "check_value", "fold", "known_value"]

NOT_STATED, NOT_APPLICABLE = "not_stated", "not_applicable"  # legal answers that are not values
MAX_TEXT = 200  # characters of a free-text value
_SHOWN = 12  # legal values listed in an error before "…"
_LARGEST = 1_000_000_000  # a number decoded under constraint has bounds, or a model that rambles never ends it
# A text decoded under constraint: one line that needs no escapes. A bounded pattern instead of lengths, because
# xgrammar takes only one of the two and lets control characters through where it has lengths.
_ONE_LINE = r'^[^"\\\x00-\x20\x7f][^"\\\x00-\x1f\x7f]{0,47}$'


class AttributeSpec(BaseModel):
    """One attribute: what it may say and how to ask for it.

    `values_from` takes the legal values from a knowledge table when the schema is resolved for a category
    (`Schemas.for_category`); a `choice` is closed over them, a `text` is snapped to one where it is known and otherwise
    free. `prompts` are templates with {value} and {thing} (the category's name).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    dimension: str
    ask: str = Field(min_length=1)
    type: Literal["choice", "number", "text", "flag"] = "choice"
    values: Mapping[str, tuple[str, ...]] = {}
    values_from: Literal["categories", "brands", "series", "colors", "materials", "terms"] | None = None
    visual: bool = False  # can be seen in a picture
    multi: bool = False  # may hold several values at once
    kind: Literal["inherent", "derived"] = "inherent"
    quantity: str | None = None  # numbers: the kind of quantity, as in lore_mm.values
    unit: str | None = None  # numbers: the base unit
    minimum: float | None = None
    maximum: float | None = None
    prompts: tuple[str, ...] = ("a photo of a {value} {thing}", "a {thing}, {value}", "{value} {thing}")
    categories: tuple[str, ...] = ()  # only meaningful for these kinds and below; empty: all of the department
    without: tuple[str, ...] = ()  # not for these kinds and below; the nearest kind named in either list decides

    @cached_property
    def sha(self) -> str:
        """Identifies the content of this attribute."""
        return sha_of(self.model_dump(mode="json", exclude=None if self.without else {"without"}))

    @cached_property
    def lookup(self) -> Mapping[str, str]:
        """Every known spelling, folded, to its value; a value's own name wins over another's word."""
        words = {fold(word): value for value, others in self.values.items() for word in others}
        return words | {fold(value): value for value in self.values}

    @property
    def arrow_type(self) -> pa.DataType:
        """The type of a column that holds this attribute."""
        types: Mapping[str, pa.DataType] = {"number": pa.float64(), "flag": pa.bool_()}
        one = types.get(self.type, pa.string())
        return pa.list_(one) if self.multi else one

    @property
    def question(self) -> str:
        """The question for a model that sees the item, with its legal answers."""
        return (
            f"{self.directed} {NOT_STATED} if neither the words nor the picture tell; "
            f"{NOT_APPLICABLE} if such a thing has none."
        )

    @property
    def directed(self) -> str:
        """The question and its legal values, for a prompt that explains the silent answers once for all questions."""
        legal = {
            "choice": f"{'One or more of' if self.multi else 'One of'}: {', '.join(self.values)}.",
            "number": f"A number{f' in {self.unit}' if self.unit else ''}.",
            "flag": "yes or no.",
            "text": "In the item's own words, short.",
        }[self.type]
        return f"{self.ask} {legal}"

    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema of one answer; NOT_STATED and NOT_APPLICABLE are always legal."""
        silent = [NOT_STATED, NOT_APPLICABLE]
        one: dict[str, Any]
        if self.type in ("choice", "flag"):
            legal = ["yes", "no"] if self.type == "flag" else list(self.values)
            if not self.multi:
                return {"enum": [*legal, *silent]}
            one = {"enum": legal}
        elif self.type == "number":
            low = -_LARGEST if self.minimum is None else self.minimum
            one = {"type": "number", "minimum": low, "maximum": _LARGEST if self.maximum is None else self.maximum}
        else:
            one = {"type": "string", "pattern": _ONE_LINE}
        if self.multi:
            one = {"type": "array", "items": one, "minItems": 1, "maxItems": 8}
        return {"anyOf": [one, {"enum": silent}]}


def known_value(spec: AttributeSpec, text: str) -> str | None:
    """The legal value that a text means, by any of its words; None where it means none."""
    return spec.lookup.get(fold(" ".join(text.split())))


def check_value(spec: AttributeSpec, value: object) -> str | float | bool:
    """One value in canonical form: a legal value by any of its words, a number within bounds, a flag, a short text.

    Raises:
        InputError: the value is not legal; the text names the attribute, the legal values and the nearest of them.
    """
    if spec.type == "number":
        return _check_number(spec, value)
    if spec.type == "flag":
        return _check_flag(spec, value)
    text = " ".join(str(value).split())
    known = known_value(spec, text)
    if known is not None:
        return known
    if spec.type == "text" and 0 < len(text) <= MAX_TEXT:
        return text
    if spec.type == "text":
        raise InputError(f"{spec.name}: a text has 1 to {MAX_TEXT} characters, this has {len(text)}")
    legal = list(spec.values)
    shown = ", ".join(legal[:_SHOWN]) + (f", … ({len(legal)} in all)" if len(legal) > _SHOWN else "")
    hint = nearest(fold(text)[:80], spec.lookup)
    raise InputError(f"{spec.name}: {text[:80]!r} is not legal{hint}; legal values: {shown}")


def _check_number(spec: AttributeSpec, value: object) -> float:
    try:
        if isinstance(value, bool):
            raise ValueError
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{spec.name}: {str(value)[:80]!r} is not a number") from None
    low = -math.inf if spec.minimum is None else spec.minimum
    high = math.inf if spec.maximum is None else spec.maximum
    if not (math.isfinite(number) and low <= number <= high):
        unit = f" {spec.unit}" if spec.unit else ""
        raise InputError(f"{spec.name}: {number:g} is outside {low:g} to {high:g}{unit}")
    return number


def _check_flag(spec: AttributeSpec, value: object) -> bool:
    if isinstance(value, bool):
        return value
    flag = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}.get(fold(str(value)))
    if flag is None:
        raise InputError(f"{spec.name}: {str(value)[:80]!r} is not legal; legal values: yes, no")
    return flag


def fold(text: str) -> str:
    """Case, width, hyphens and runs of spaces do not matter when values are compared."""
    return re.sub(r"[\s\-_/]+", " ", unicodedata.normalize("NFKC", text).casefold()).strip()
