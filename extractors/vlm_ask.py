"""Questions about an item as requests to a model that answers: which fields go together, and in what words.

The order of a request is that of what is shared: instructions (by all items), questions with their legal answers (by
the items of a category that lack the same fields), pictures, the item's own words. An engine that caches prefixes then
reads questions, which are the longest part, once a category and not once an item; its pictures are encoded once however
many requests show them. The other order, item first, pays only where an item takes many requests, and that is what the
cascade is there to prevent.

Replies are values only, `{"color": ["red"], "fit": "slim"}`: to have a model also say where it read each would double
the tokens, and the words can be found afterwards (`extractors.vlm_evidence`), where they cannot be made up.

This module knows prompts and schemas, and no engine.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL.Image import Image, Resampling

from extractors.protocol import ExtractorInput
from extractors.sources import fields_of
from lore_mm.attribute import NOT_APPLICABLE, AttributeSpec
from lore_mm.errors import ConfigError
from lore_mm.models.chat import ChatRequest, Part
from lore_mm.prompts import Prompt, clean, load_prompt
from lore_mm.schema import AttributeSchema

__all__ = ["PROMPTS", "Asker", "Questions", "item_words", "shown_pictures"]

PROMPTS = ("full", "compact")  # shipped; see prompts/
BLOCKS = ("system", "before", "after")  # the system turn; what stands before the pictures; what stands after them
_HERE = Path(__file__).parent / "prompts"
_LONGEST = {"title": 1_000, "text": 8_000, "field": 500, "pack": 200}  # characters cleaned; templates cut further
_MOST_FIELDS, _MOST_LINES = 50, 50
_MOST_MADE = 5_000  # different rows of questions kept ready
_MARKERS = re.compile(
    r"\b(title|text|description|on the pack|give as json|questions?|answer in json)\s*:", re.IGNORECASE
)
_MOST_ITEMS = 8  # of a list, as in AttributeSpec.json_schema
_NUMBER, _LINE = 24, 4 * 48 + 2  # bytes of the longest number and line that the JSON Schema lets through

_EXAMPLE = {
    "thing": "garment",
    "questions": [{"name": "fit", "text": "How does it sit? One of: slim, loose.", "derived": False}],
    "names": ["fit"],
    "pictures": 1,
    "title": "Slim black jeans",
    "text": "Stretch denim.",
    "fields": [{"name": "size", "value": "32"}],
    "pack": ["100% cotton"],
}


@dataclass(frozen=True)
class Questions:
    """What one request asks: made once for all items that are asked the same.

    The same `json_schema` object each time, so that an engine may know it again; `longest` is the number of tokens that
    the longest legal reply can take.
    """

    specs: tuple[AttributeSpec, ...]
    variables: Mapping[str, Any]
    json_schema: Mapping[str, Any]
    longest: int


@dataclass(frozen=True)
class Asker:
    """Makes requests with one prompt. `max_reply`: tokens of a reply at most; longer ones are asked in parts."""

    prompt: Prompt
    fields_per_request: int = 8
    max_reply: int = 2_000
    _made: dict[tuple[str, ...], tuple[Questions, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, prompt: str | Path, fields_per_request: int) -> Asker:
        """With a shipped prompt by name, or a template of the user's own by path.

        Raises:
            ConfigError: the template is wrong, or there is none; the text names file and variable.
        """
        path = _HERE / f"{prompt}.jinja" if prompt in PROMPTS else Path(prompt)
        if not path.is_file():
            raise ConfigError(f"prompt {str(prompt)!r}: no such file; shipped prompts: {', '.join(PROMPTS)}")
        if fields_per_request < 1:
            raise ConfigError(f"fields_per_request: at least 1, not {fields_per_request}")
        return cls(load_prompt(path, _EXAMPLE, needs=("title", "names"), blocks=BLOCKS), fields_per_request)

    @cached_property
    def lists_answers(self) -> bool:
        """True where the prompt puts questions with their legal answers, so that long lists cost tokens."""
        return "questions" in self.prompt.uses

    def parts(self, specs: Sequence[AttributeSpec], thing: str) -> tuple[Questions, ...]:
        """The attributes cut into requests, in order: as many as may go together and a reply can hold."""
        key = (thing, *(spec.sha for spec in specs))
        if key not in self._made:
            groups: list[list[AttributeSpec]] = []
            for spec in specs:
                last = groups[-1] if groups else []
                full = len(last) >= self.fields_per_request or _longest_reply([*last, spec]) > self.max_reply
                if full or not groups:
                    groups.append([])
                groups[-1].append(spec)
            if len(self._made) >= _MOST_MADE:
                self._made.clear()
            self._made[key] = tuple(self._questions(group, thing) for group in groups)
        return self._made[key]

    def request(self, words: Mapping[str, Any], pictures: Sequence[Image], questions: Questions) -> ChatRequest:
        """One request: these questions about an item of these words (`item_words`) and pictures."""
        texts = self.prompt.render({**words, **questions.variables, "pictures": len(pictures)})
        parts: tuple[Part, ...] = (texts.get("before", ""), *pictures, texts.get("after", ""))
        return ChatRequest(
            tuple(part for part in parts if part != ""),
            system=texts.get("system", ""),
            json_schema=questions.json_schema,
            max_tokens=questions.longest,
            logprobs=True,
        )

    def _questions(self, specs: Sequence[AttributeSpec], thing: str) -> Questions:
        listed: list[dict[str, Any]] = []
        if self.lists_answers:
            listed = [{"name": s.name, "text": s.directed, "derived": s.kind == "derived"} for s in specs]
        return Questions(
            tuple(specs),
            {"thing": thing, "questions": listed, "names": [s.name for s in specs]},
            AttributeSchema("reply", "1", {spec.name: spec for spec in specs}).json_schema(),
            _longest_reply(specs),
        )


def item_words(one: ExtractorInput) -> dict[str, Any]:
    """What the seller says of an item, and what was read on its pack, safe to stand in a prompt, by variable."""
    item = one.item
    fields = [("brand", item.brand or ""), ("category", item.category or "")]
    fields += [(source.name.removeprefix("given."), source.text) for source in fields_of(item)]
    return {
        "title": _clean(item.title, "title"),
        "text": _clean(item.description, "text"),
        "fields": [
            {"name": _clean(name, "field"), "value": _clean(value, "field")}
            for name, value in fields[:_MOST_FIELDS]
            if value.strip()
        ],
        "pack": [_clean(line.text, "pack") for line in one.pack[:_MOST_LINES]],
    }


def _longest_reply(specs: Sequence[AttributeSpec]) -> int:
    """Tokens that the longest legal reply can take: its bytes, since a token is a byte at least."""
    return 16 + sum(_longest_answer(spec) + len(spec.name) + 6 for spec in specs)


def _longest_answer(spec: AttributeSpec) -> int:
    longest = len(NOT_APPLICABLE) + 2
    if spec.type == "choice":
        longest = max(longest, *(len(value.encode()) + 2 for value in spec.values))
    elif spec.type != "flag":
        longest = _NUMBER if spec.type == "number" else _LINE
    return longest * _MOST_ITEMS + 2 * _MOST_ITEMS if spec.multi else longest


def shown_pictures(one: ExtractorInput, most: int, side: int) -> tuple[tuple[int, ...], tuple[Image, ...]]:
    """The first `most` readable pictures, their longer side at most `side` pixels, and their places."""
    places = tuple(i for i, picture in enumerate(one.pictures) if picture is not None)[:most]
    return places, tuple(_shrunk(picture, side) for i in places if (picture := one.pictures[i]) is not None)


def _shrunk(picture: Image, side: int) -> Image:
    if max(picture.size) <= side:
        return picture
    small = picture.copy()
    small.thumbnail((side, side), Resampling.LANCZOS)
    return small


def _clean(text: str, kind: str) -> str:
    """A value from outside, safe to stand in a line of a prompt."""
    return _MARKERS.sub(r"\1", clean(text, _LONGEST[kind]))
