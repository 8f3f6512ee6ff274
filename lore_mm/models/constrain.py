"""Constrained decoding: JSON Schemas as sets of legal next tokens, by llguidance.

`one_spelling` is what every decoder that reads llguidance's schemas must be told; `Grammars` compiles schemas for one
tokenizer, each once; `Constraint` follows the rows of one batch, each with a schema of its own or none. Masks are
NumPy bits, as llguidance writes them: its own torch module compiles itself for seconds at first use. This module knows
no model and no torch.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lore_mm.errors import ConfigError, MissingExtraError
from lore_mm.fingerprint import sha_of_bytes

__all__ = ["Constraint", "Grammars", "one_spelling"]

_KEPT = 1024  # compiled schemas; one is some tens of kilobytes
_PRINTABLE = r"^[^\x00-\x1f\x7f]*$"  # what has one spelling in a JSON string
_STEP = 0.001  # of a number with bounds
_SETTINGS = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_OF_ONE = ("items", "additionalProperties")  # keys whose value is a schema,
_OF_LIST = ("anyOf", "oneOf", "allOf", "prefixItems")  # a list of schemas,
_OF_NAMES = ("properties", "$defs", "definitions")  # and names to schemas


def one_spelling(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with what makes llguidance write it as `json.dumps(value, ensure_ascii=False)` does.

    Separators are ", " and ": " and there is no other white space; texts without a pattern of their own get one that
    leaves out control characters, which JSON can escape in two ways. A number keeps the freedom it has in JSON (1.50),
    with three decimals at most where it has two bounds and is not negative.
    """
    return {**_printable(schema), "x-guidance": _SETTINGS}


def _printable(schema: Any) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    made = dict(schema)
    named = made.get("type")
    if (named == "string" or (isinstance(named, list) and "string" in named)) and not (
        made.keys() & {"pattern", "enum", "const", "format"}
    ):
        made["pattern"] = _PRINTABLE
    if (
        named == "number"
        and made.keys() >= {"minimum", "maximum"}
        and not made.keys() & {"multipleOf", "enum", "const"}
    ):
        return _stepped(made)
    for key in _OF_ONE:
        if key in made:
            made[key] = _printable(made[key])
    for key in _OF_LIST:
        if isinstance(made.get(key), list):
            made[key] = [_printable(one) for one in made[key]]
    for key in _OF_NAMES:
        if isinstance(made.get(key), Mapping):
            made[key] = {name: _printable(one) for name, one in made[key].items()}
    return made


def _stepped(schema: dict[str, Any]) -> dict[str, Any]:
    """A number with bounds, its decimals bounded too, or they go on until the reply is cut.

    llguidance takes no negative number for a multiple of anything: those keep their decimals.
    """
    low, high = schema["minimum"], schema["maximum"]
    if high < 0:
        return schema
    positive = {"type": "number", "minimum": max(low, 0), "maximum": high, "multipleOf": _STEP}
    if low >= 0:
        return {**schema, **positive}
    negative = {"type": "number", "minimum": low, "exclusiveMaximum": 0}
    rest = {key: value for key, value in schema.items() if key not in ("type", "minimum", "maximum")}
    return {**rest, "anyOf": [positive, negative]}


class Grammars:
    """JSON Schemas compiled for one tokenizer; several threads may ask."""

    def __init__(self, tokenizer: Any, vocabulary: int, ends: Sequence[int]) -> None:
        """Read a fast tokenizer of transformers.

        `vocabulary` is the number of logits of the model, which may be more than the tokenizer has tokens; `ends` are
        the tokens that end a turn.

        Raises:
            MissingExtraError: llguidance is not installed.
            ConfigError: the tokenizer is none that llguidance can read.
        """
        try:
            import llguidance.hf
        except ModuleNotFoundError as error:
            raise MissingExtraError(error.name or "llguidance", "hf") from None
        try:
            self._tokenizer = llguidance.hf.from_tokenizer(tokenizer, n_vocab=vocabulary, eos_token=list(ends))
        except Exception as error:  # whatever its Rust side says
            raise ConfigError(f"this tokenizer cannot be constrained: {' '.join(str(error).split())[:200]}") from None
        self.vocabulary = vocabulary
        self._compiled: OrderedDict[str, Any] = OrderedDict()
        self._lock = Lock()

    def matcher(self, schema: Mapping[str, Any]) -> Any:
        """A new llguidance matcher at the beginning of a reply.

        Raises:
            ConfigError: the schema is none, or says what llguidance cannot enforce.
        """
        from llguidance import LLMatcher

        try:
            text = json.dumps(one_spelling(schema), ensure_ascii=False, allow_nan=False)  # the order of keys matters
            sha = sha_of_bytes(text.encode("utf-8", "surrogatepass"))
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigError(f"the JSON Schema is not JSON: {error}") from None
        with self._lock:
            made = self._compiled.pop(sha, None)
            if made is None:
                try:
                    made = LLMatcher(self._tokenizer, LLMatcher.grammar_from_json_schema(text), log_level=0)
                except ValueError as error:
                    raise ConfigError(f"the JSON Schema cannot be enforced: {error}") from None
                if made.is_error():
                    said = " ".join(str(made.get_error()).split())[:300]
                    raise ConfigError(f"the JSON Schema cannot be enforced: {said}")
            self._compiled[sha] = made  # the last asked for is the last to go
            while len(self._compiled) > _KEPT:
                self._compiled.popitem(last=False)
            return made.deep_copy()


class Constraint:
    """Which tokens are legal next in each row of a batch; a row without a matcher may say anything."""

    def __init__(self, matchers: Sequence[Any | None], vocabulary: int, ends: Sequence[int]) -> None:
        self._matchers = list(matchers)
        words = (vocabulary + 31) // 32
        self._bits: NDArray[np.int32] = np.full((len(self._matchers), words), -1, dtype=np.int32)
        only_ends = np.zeros(words * 32, dtype=np.uint8)
        only_ends[list(ends)] = 1
        self._only_ends = np.packbits(only_ends, bitorder="little").view(np.int32)

    @property
    def any(self) -> bool:
        """Whether anything is constrained at all."""
        return any(matcher is not None for matcher in self._matchers)

    def follow(self, tokens: Sequence[int | None]) -> None:
        """Take the token just chosen in each row, None where it does not count."""
        for matcher, token in zip(self._matchers, tokens, strict=True):
            if matcher is not None and token is not None and not matcher.is_stopped():
                matcher.consume_token(token)

    def legal_bits(self) -> NDArray[np.int32]:
        """Bits int32 (rows, words): token t is legal where bit t % 32 of word t // 32 is set. Overwritten in turn."""
        start, width = self._bits.ctypes.data, self._bits.strides[0]
        for row, matcher in enumerate(self._matchers):
            if matcher is None:
                continue
            if matcher.is_stopped():  # nothing can follow but the end of the turn
                self._bits[row] = self._only_ends
            else:
                matcher.unsafe_compute_mask_ptr(
                    start + row * width, width
                )  # what llguidance.numpy does, less its checks
        return self._bits

    def complete(self, row: int) -> bool:
        """Whether nothing can follow what the row has said."""
        matcher = self._matchers[row]
        return matcher is not None and bool(matcher.is_stopped()) and not matcher.is_error()

    def fault(self, row: int) -> str | None:
        """What broke a row's matcher (a limit of llguidance); None in all usual cases."""
        matcher = self._matchers[row]
        return " ".join(str(matcher.get_error()).split())[:300] if matcher is not None and matcher.is_error() else None
