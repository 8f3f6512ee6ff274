"""The shipped test double of a model that answers: `scripted:SEED` and `scripted:FILE`. Deterministic, instant.

`scripted:7` gives a pseudo-random legal answer, the same for the same request: pictures, texts and schema are hashed
with the seed. Without a schema it says "yes", "no" or "not_stated".

`scripted:FILE` obeys a TOML or JSON file of rules. The first rule whose words all stand in the prompt (system and text
together, whole words, case aside) speaks; a picture that carries a word in its `info["word"]` counts as a text with
that word. Where no rule fits, `default` speaks, and without one the first legal answer is given, or "".

    [[rules]]
    words = ["red", "dress"]              # all of them; none: the rule always fits
    pictures = 1                          # only requests with so many pictures
    times = 2                             # the rule fits so many times, then never again
    answer = { color = "red" }            # constrained: put over the first legal answer, where that is legal
    reply = "It is red."                  # the text, where no schema constrains it; a text of one's own with `lawless`
    confidence = 0.8                      # probability of the values' tokens; or { color = 0.6, default = 0.9 }
    likelihoods = { red = 0.7, blue = 0.2 }   # probabilities of choices; the others share what is left

    [[rules]]                             # what goes wrong
    words = ["broken"]
    error = "the picture was refused"     # a reply with this error; `reply` is the raw text kept with it
    # cut = 0.5                           # only this share of the text comes, and with a schema that is an error
    # lawless = true                      # `reply` as it is, although the schema forbids it: an error, raw text kept
    # dead = "out of memory"              # the engine dies: ModelError
    # delay_s = 0.1                       # seconds before this reply

    [default]                             # a rule without words
    answer = { color = "blue" }

Tokens are pieces of words; keys and punctuation of constrained JSON have log-probability 0, as the schema leaves no
choice there. Listed choices are equally likely unless a rule says otherwise. Usage counts pieces of words, and 64
tokens a picture. This module knows no attribute.
"""

from __future__ import annotations

import json
import math
import random
import re
import threading
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL.Image import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lore_mm.errors import ConfigError, ModelError
from lore_mm.fingerprint import sha_of, sha_of_bytes
from lore_mm.models.chat import ChatReply, ChatRequest, Token, Usage, among
from lore_mm.models.json_reply import fault, in_order, instance, read_json, spelled

__all__ = ["Rule", "ScriptedChat", "open_chat"]

_PIECES = re.compile(r"\s*\w+|\s*[^\w\s]|\s+")
_SCALARS = re.compile(r'"(?:[^"\\]|\\.)*"|[^"\s\[\],{}:]+|[\s\[\],{}:]+')  # of JSON, and what stands between
_WORDS = re.compile(r"\w+")
_PICTURE_TOKENS = 64
_CONFIDENCE = 0.9
_FREE = ("yes", "no", "not_stated")  # what scripted:SEED says without a schema


class Rule(BaseModel):
    """One rule of a script; the module's docstring says what each key does."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    words: tuple[str, ...] = ()
    pictures: int | None = Field(default=None, ge=0)
    times: int | None = Field(default=None, ge=1)
    answer: dict[str, Any] = {}
    reply: str | None = None
    confidence: float | dict[str, float] = _CONFIDENCE
    likelihoods: dict[str, float] = {}
    error: str | None = None
    cut: float = Field(default=1.0, ge=0, le=1)
    lawless: bool = False
    dead: str | None = None
    delay_s: float = Field(default=0.0, ge=0, le=60)

    def confidence_of(self, key: str) -> float:
        """The probability of the value of a key, in (0, 1]."""
        if isinstance(self.confidence, float):
            return self.confidence
        return self.confidence.get(key, self.confidence.get("default", _CONFIDENCE))


class _Script(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    rules: tuple[Rule, ...] = ()
    default: Rule = Rule()


def open_chat(name: str) -> ScriptedChat:
    """Open `scripted:SEED` (a whole number) or `scripted:FILE` (.toml or .json).

    Raises:
        ModelError: it is no number and no file.
        ConfigError: the file is broken, or a rule holds a key or value that is none; the text names file and place.
    """
    if re.fullmatch(r"-?\d{1,18}", name):
        return ScriptedChat(_Script(), seed=int(name), name=f"scripted:{name}")
    path = Path(name).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"scripted:{name}: neither a whole number nor a file that can be read ({reason})") from None
    try:
        said = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
        script = _Script.model_validate(said)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path}: {place}: {first['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: {error}") from None
    for i, rule in enumerate((*script.rules, script.default)):
        _check(rule, f"{path}: rules.{i}" if i < len(script.rules) else f"{path}: default")
    return ScriptedChat(script, name=f"scripted:{name}")


def _check(rule: Rule, place: str) -> None:
    said = rule.confidence if isinstance(rule.confidence, dict) else {"": rule.confidence}
    if bad := [p for p in said.values() if not 0 < p <= 1]:
        raise ConfigError(f"{place}.confidence: {bad[0]} is no probability above 0")
    if any(not 0 < p <= 1 for p in rule.likelihoods.values()) or sum(rule.likelihoods.values()) > 1 + 1e-9:
        raise ConfigError(f"{place}.likelihoods: probabilities above 0 whose sum is at most 1 are wanted")
    if rule.lawless and rule.reply is None:
        raise ConfigError(f"{place}.lawless: it needs a reply")


class ScriptedChat:
    """A chat model that says what its script says. It also counts: `requests` are all it was ever asked."""

    def __init__(self, script: _Script | Sequence[Rule] = (), seed: int | None = None, name: str = "scripted") -> None:
        self._script = script if isinstance(script, _Script) else _Script(rules=tuple(script))
        self._seed = seed
        self._lock = threading.Lock()
        self._used = [0] * len(self._script.rules)
        self.requests = 0
        self.name = name
        self.sha = sha_of({"scripted": seed, "script": self._script.model_dump(mode="json")})

    def generate(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """One reply a request, in the same order.

        Raises:
            ModelError: a rule says that the engine dies.
        """
        with self._lock:
            self.requests += len(requests)
        return [self._reply(request) for request in requests]

    def close(self) -> None:
        """Nothing is held."""

    def _reply(self, request: ChatRequest) -> ChatReply:
        rule = self._rule(request)
        if rule.delay_s:
            time.sleep(rule.delay_s)
        if rule.dead is not None:
            raise ModelError(f"{self.name}: {rule.dead}")
        usage = Usage(calls=1, prompt_tokens=_prompt_tokens(request))
        if rule.error is not None:
            return ChatReply(rule.reply or "", "error", usage=usage, error=rule.error)
        if request.choices:
            found = _likelihoods(request.choices, rule, self._draw(request))
            return ChatReply(likelihoods=among(found) if request.among_choices else found, usage=usage)
        tokens = self._tokens(request, rule)
        text = "".join(token.text for token in tokens)
        kept = tokens[: request.max_tokens]
        if rule.cut < 1:
            kept = kept[: int(len(tokens) * rule.cut)]
        usage += Usage(completion_tokens=len(kept))
        said = "".join(token.text for token in kept)
        if request.json_schema is not None and (wrong := _wrong(said, request.json_schema)):
            over = len(kept) < len(tokens)
            reason = (
                f"the reply broke off after {len(kept)} tokens" if over else f"the reply breaks the schema: {wrong}"
            )
            return ChatReply(said, "error", usage=usage, error=reason)
        return ChatReply(said, "stop" if said == text else "length", kept if request.logprobs else (), (), usage)

    def _rule(self, request: ChatRequest) -> Rule:
        there = set(_WORDS.findall(_prompt(request).casefold()))
        for i, rule in enumerate(self._script.rules):
            wanted = {word for phrase in rule.words for word in _WORDS.findall(phrase.casefold())}
            if wanted <= there and rule.pictures in (None, len(request.pictures)):
                with self._lock:
                    self._used[i] += 1
                    if rule.times is None or self._used[i] <= rule.times:
                        return rule
        return self._script.default

    def _tokens(self, request: ChatRequest, rule: Rule) -> tuple[Token, ...]:
        schema, draw = request.json_schema, self._draw(request)
        if schema is None or rule.lawless:
            said = rule.reply if rule.reply is not None else ("" if self._seed is None else _FREE[draw(len(_FREE))])
            return tuple(_value_tokens(said, rule.confidence_of("default")))
        value = in_order(instance(schema, draw), schema)
        if not isinstance(value, dict):
            return tuple(_value_tokens(spelled(value), rule.confidence_of("default")))
        for key, wanted in rule.answer.items():
            if key in schema.get("properties", {}) and fault({**value, key: wanted}, schema) is None:
                value = in_order({**value, key: wanted}, schema)
        tokens = [Token("{", 0.0)]
        for i, (key, one) in enumerate(value.items()):
            tokens.append(Token((", " if i else "") + spelled(key) + ": ", 0.0))
            for piece in _SCALARS.findall(spelled(one)):
                tokens += _value_tokens(piece, rule.confidence_of(key))
        return (*tokens, Token("}", 0.0))

    def _draw(self, request: ChatRequest) -> Callable[[int], int]:
        """Which of n: the first, or with a seed pseudo-random by the hash of the request."""
        if self._seed is None:
            return lambda n: 0
        drawn = random.Random(sha_of({"seed": self._seed, "request": _identity(request)}))
        return drawn.randrange


def _identity(request: ChatRequest) -> Mapping[str, Any]:
    parts = [
        part if isinstance(part, str) else {"size": part.size, "pixels": sha_of_bytes(part.convert("RGB").tobytes())}
        for part in request.parts
    ]
    # a greedy answer does not depend on the seed of the request
    seed = request.seed if request.temperature > 0 else None
    schema = None if request.json_schema is None else json.dumps(request.json_schema)
    return {"parts": parts, "system": request.system, "schema": schema, "choices": request.choices, "seed": seed}


def _prompt(request: ChatRequest) -> str:
    words = [str(part.info.get("word", "")) if isinstance(part, Image) else part for part in request.parts]
    return "\n".join([request.system, *words])


def _prompt_tokens(request: ChatRequest) -> int:
    texts = [request.system, *(part for part in request.parts if isinstance(part, str))]
    return sum(len(_PIECES.findall(text)) for text in texts) + _PICTURE_TOKENS * len(request.pictures)


def _value_tokens(text: str, confidence: float) -> list[Token]:
    """The text in pieces; all doubt is in the first that holds a letter or digit."""
    tokens, doubt = [], math.log(confidence)
    for piece in _PIECES.findall(text):
        told = doubt if any(character.isalnum() for character in piece) else 0.0
        doubt = 0.0 if told else doubt
        tokens.append(Token(piece, told))
    return tokens


def _wrong(text: str, schema: Mapping[str, Any]) -> str | None:
    try:
        return fault(read_json(text), schema)
    except ValueError as error:
        return str(error)


def _likelihoods(choices: Sequence[str], rule: Rule, draw: Callable[[int], int]) -> tuple[float, ...]:
    """Log of the scripted probability of each choice; those not named share what the named ones leave."""
    named = {choice: rule.likelihoods[choice] for choice in choices if choice in rule.likelihoods}
    others = [choice for choice in choices if choice not in named]
    rest = max(1.0 - sum(named.values()), 1e-6)
    weights = {choice: 1.0 + draw(100) for choice in others}
    total = sum(weights.values())
    return tuple(math.log(named.get(choice) or rest * weights[choice] / total) for choice in choices)
