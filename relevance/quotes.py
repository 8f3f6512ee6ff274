"""Where words stand in an item: a quote, held against the seller's text and fields and what was extracted.

Words are compared as everywhere in the house: case, accents, punctuation and compatibility forms aside, in order and
without a gap. A quote that joins two places with an ellipsis must stand in both. This module knows no demand and no
model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from lore_mm.text import Token, tokens
from lore_mm.types import AttributeValue, Evidence, ItemFeatures

__all__ = ["ItemWords"]

_ELLIPSIS = re.compile(r"…|\.{3,}")
_ORDER = ("title", "given", "text", "image")
Places = tuple[Evidence, ...]


class ItemWords:
    """The words of one item, each text read when it is first needed."""

    def __init__(self, features: ItemFeatures) -> None:
        self.features = features
        self._read: dict[str, list[Token]] = {}

    def locate(self, quote: str, source: str, dimension: str) -> tuple[Places, tuple[AttributeValue, ...]]:
        """Where a quote stands, looking in the named source first, and the extracted values that it names.

        `source` is title, text, given or image (what extractors saw); of extracted values those of the dimension go
        first. Empty where it stands nowhere, or has no words.
        """
        places: list[Evidence] = []
        named: list[AttributeValue] = []
        for part in _ELLIPSIS.split(quote):
            wanted = [token.text for token in tokens(part)]
            if not wanted:
                continue
            place = self._place(wanted, source, dimension)
            if not place:
                return (), ()
            places += place
            named += self._named(wanted, dimension)
        return tuple(places), tuple(named)

    def _place(self, wanted: Sequence[str], source: str, dimension: str) -> Places:
        values = self._holding(wanted, dimension)
        for one in (source, *(other for other in _ORDER if other != source)):
            if one == "image":
                if seen := _evidence_of(values, seen=True):
                    return seen
                continue
            for name, text, label in self._texts(one):
                if span := _span(wanted, self._tokens(f"{name}\n{text}", text), self._tokens(label, label)):
                    start, end = span
                    return (Evidence(name, text[start:end], start, end),)
        return _evidence_of(values, seen=False)

    def _texts(self, source: str) -> Iterator[tuple[str, str, str]]:
        """The texts of a source: what evidence calls each, the text, and the label that it is shown with."""
        item = self.features.item
        if source == "title":
            yield "title", item.title, "title"
        elif source == "text":
            yield "text", item.description, "text"
        elif source == "given":
            price = None if item.price is None else f"{item.price:.10g} {item.currency or ''}".strip()
            fields = (("brand", item.brand), ("category", item.category), ("store", item.store), ("price", price))
            yield from ((f"given.{name}", text, name) for name, text in fields if text)
            for name, values in item.attributes.items():
                yield from ((f"given.{name}", value, name) for value in values)
                if len(values) > 1:
                    yield f"given.{name}", ", ".join(values), name

    def _tokens(self, key: str, text: str) -> list[Token]:
        if key not in self._read:
            self._read[key] = tokens(text)
        return self._read[key]

    def _holding(self, wanted: Sequence[str], dimension: str) -> list[AttributeValue]:
        """The extracted values that have the words in them, those of a dimension first."""
        found = []
        for a in self._values():
            text = a.value or ""
            shown = text if a.share is None else f"{text} {a.share:.0%}"
            if _span(wanted, self._tokens(shown, shown), self._tokens(a.name, a.name)):
                found.append(a)
        return sorted(found, key=lambda a: a.dimension != dimension)

    def _named(self, wanted: Sequence[str], dimension: str) -> list[AttributeValue]:
        """The extracted values of a dimension that the words have in them, or that have them."""
        said = [Token(word, 0, 0) for word in wanted]
        values = [a for a in self._values() if a.dimension == dimension]
        inside = [a for a in values if _span([t.text for t in self._tokens(a.value or "", a.value or "")], said, ())]
        return inside or [a for a in self._holding(wanted, dimension) if a.dimension == dimension]

    def _values(self) -> Iterator[AttributeValue]:
        yield from (a for a in self.features.attributes if a.status in ("value", "conflict") and a.value)


def _span(wanted: Sequence[str], words: Sequence[Token], label: Sequence[Token]) -> tuple[int, int] | None:
    """The characters on which the wanted words stand, in order; a label before them is no part of them."""
    head = [token.text for token in label]
    if len(wanted) > len(head) and list(wanted[: len(head)]) == head:
        if span := _span(wanted[len(head) :], words, ()) if head else None:
            return span
    n = len(wanted)
    for i in range(len(words) - n + 1):
        if words[i].text == wanted[0] and all(words[i + j].text == wanted[j] for j in range(1, n)):
            return words[i].start, words[i + n - 1].end
    return None


def _evidence_of(values: Sequence[AttributeValue], seen: bool) -> Places:
    """The best evidence of the first value that has some; only of one that was seen in a picture where `seen`."""
    for a in values:
        agreeing = [e for e in a.evidence if e.value in (None, a.value)] or list(a.evidence)
        if not a.evidence:  # features of the user's own
            agreeing = [Evidence(f"given.{a.name}", a.value, extractor=a.extractor)]
        if seen:
            agreeing = [e for e in agreeing if e.source.startswith("image")]
        if agreeing:
            best = agreeing[0]
            return (best if best.quote or best.value else replace(best, value=a.value),)
    return ()
