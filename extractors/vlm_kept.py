"""Which answers of a model stand already: those to the very same question about the same item.

A question is known by a sha of all that makes it up: model, decoding, prompt, the attribute's own words and legal
values, and the kind of thing it is asked of. Which other attributes stood in the same request is no part of it. This
module asks nobody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from extractors.protocol import Extractor, ExtractorInput
from extractors.reuse import earlier_of
from lore_mm.attribute import AttributeSpec
from lore_mm.fingerprint import sha_of
from lore_mm.types import AttributeValue

__all__ = ["Kept", "Signer", "carried", "what_differs"]

_CATEGORY = "category"
_SEEN = ("words", "pictures", "pack")  # of the item, by the model
# what other extractors make of an attribute, or what a category decides before it is asked
_NOT_ASKED = {"prompts", "visual", "categories", "without", "values_from"}
_DIGITS = 10  # of each part of a sha: two versions of one question are compared, never two questions


@dataclass
class Signer:
    """Signs questions; `asking` identifies model, decoding and prompt.

    A sha is that of the asking, that of the kind of thing, and that of the question, one behind the other, so that of
    two it can be told what differs.
    """

    asking: str
    _made: dict[tuple[str, ...], str] = field(default_factory=dict)

    def sign(self, specs: Sequence[AttributeSpec], thing: str, category: str | None) -> str:
        """The sha of a question, or of those that lead to one answer, about a thing of a category."""
        key = (thing, category or "", *(spec.sha for spec in specs))
        if key not in self._made:
            self._made[key] = sha_of(self.asking)[:_DIGITS] + _signed(specs, thing, category)
        return self._made[key]


def _signed(specs: Sequence[AttributeSpec], thing: str, category: str | None) -> str:
    asked = [spec.model_dump(mode="json", exclude=_NOT_ASKED) for spec in specs]
    return "".join(sha_of(part)[:_DIGITS] for part in ([thing, category], asked))


def carried(
    sha: str, then: tuple[AttributeSpec, str, str | None], now: tuple[AttributeSpec, str, str | None]
) -> str | None:
    """The sha of question `now` by whoever asked question `then`, where `sha` is that of `then`; None where it is not.

    A question: its attribute, what the thing is called, its category. For answers that stand under another name.
    """
    if sha[_DIGITS:] != _signed((then[0],), *then[1:]):
        return None
    return sha[:_DIGITS] + _signed((now[0],), *now[1:])


def what_differs(then: str, now: str) -> str:
    """In a few words, why a question is not the one that was asked under another sha."""
    if then[:_DIGITS] != now[:_DIGITS]:
        return "model, prompt or decoding changed"
    return "category changed" if then[_DIGITS : 2 * _DIGITS] != now[_DIGITS : 2 * _DIGITS] else "question changed"


@dataclass(frozen=True, slots=True)
class Kept:
    """What an item's earlier extraction said, as far as it may stand; empty where the item is another now."""

    answers: Mapping[str, tuple[AttributeValue, ...]] = field(default_factory=dict)
    asked_with: Mapping[str, str | None] = field(default_factory=dict)
    error: str | None = None
    reply: str | None = None

    @classmethod
    def of(cls, extractor: Extractor, one: ExtractorInput) -> Kept:
        """What stands of this input, less what failed where that is to be made again."""
        earlier = earlier_of(extractor, one, _SEEN)
        if earlier is None:
            return cls()
        before = earlier.extraction
        answers: dict[str, tuple[AttributeValue, ...]] = {}
        for value in before.attributes:
            answers[value.name] = (*answers.get(value.name, ()), value)
        failed = {name: v for name, values in answers.items() for v in values if v.status == "failed"}
        if before.error and before.error != "; ".join(dict.fromkeys(v.error or "" for v in failed.values())):
            answers.pop(_CATEGORY, None)  # the narrower of its two questions has failed, which no answer shows
        if earlier.again:
            answers = {name: values for name, values in answers.items() if name not in failed}
        return cls(answers, before.asked_with, before.error, before.reply)

    @property
    def category(self) -> tuple[AttributeValue, ...] | None:
        """The answers on its kind."""
        return self.answers.get(_CATEGORY)

    def values(self, name: str, sha: str) -> tuple[AttributeValue, ...] | None:
        """The answers to the question of that sha."""
        return self.answers.get(name) if self.asked_with.get(name) == sha else None

    def was_settled(self, name: str) -> bool:
        """True where it was known without asking before, and is counted there."""
        return name in self.asked_with and self.asked_with[name] is None
