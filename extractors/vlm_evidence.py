"""Where an answer stands in the item: its words in the seller's text or on the pack, else the pictures.

A model that is asked for its source makes one up as easily as a value; words either stand there or they do not. So the
value's words are looked for in what the seller wrote and in what was read on the pack, whole words in any inflection,
numbers by what they measure. The source that the dimension trusts most is the evidence, and only that one: a model that
answers once is one witness, however often the words occur. This module knows no model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from extractors.claims import SAME_NUMBER, rank
from extractors.protocol import ExtractorInput
from extractors.sources import LONGEST_TEXT, LONGEST_TITLE, Source, fields_of
from lore_mm.attribute import AttributeSpec
from lore_mm.knowledge import Knowledge
from lore_mm.mentions import scanner_for
from lore_mm.text import Token, singular, tokens
from lore_mm.types import AttributeValue, Evidence
from lore_mm.values import find_quantities

__all__ = ["Witness"]

_INCH = 2.54


class Witness:
    """One item's sources, tokenized once for all its attributes; `pictures` are the places of those the model saw."""

    def __init__(self, one: ExtractorInput, pictures: Sequence[int], knowledge: Knowledge) -> None:
        self.pictures = tuple(pictures)
        self.knowledge = knowledge
        item = one.item
        written = [Source("title", item.title[:LONGEST_TITLE]), Source("text", item.description[:LONGEST_TEXT])]
        written += [Source("given.brand", item.brand)] if item.brand else []
        written += [Source("given.category", item.category)] if item.category else []
        written += list(fields_of(item))
        self._written = [(source, tokens(source.text)) for source in written]
        self._pack = [(line, tokens(line.text[:LONGEST_TITLE])) for line in one.pack]

    def evidence(self, value: AttributeValue, spec: AttributeSpec) -> tuple[Evidence, ...]:
        """The evidence for a value: words, else the pictures, else nothing."""
        found = sorted(self._said(value, spec), key=lambda e: rank(replace(value, evidence=(e,))))
        if found:
            return (found[0],)
        return tuple(
            Evidence(f"image:{i}", value=value.value, extractor=value.extractor, confidence=value.confidence)
            for i in self.pictures
        )

    def _said(self, value: AttributeValue, spec: AttributeSpec) -> Iterator[Evidence]:
        """At most one place a source."""
        mine = {"value": value.value, "extractor": value.extractor, "confidence": value.confidence}
        for source, words in self._written:
            if (span := self._span(value, spec, source.text, words)) is not None:
                yield Evidence(source.name, source.text[span[0] : span[1]], *span, **mine)  # type: ignore[arg-type]
        for line, words in self._pack:
            if (span := self._span(value, spec, line.text, words)) is not None:
                quote = line.text[span[0] : span[1]]
                yield Evidence(f"image:{line.picture}", quote, region=line.region, **mine)  # type: ignore[arg-type]

    def _span(
        self, value: AttributeValue, spec: AttributeSpec, text: str, words: Sequence[Token]
    ) -> tuple[int, int] | None:
        """The characters of the text that say it, where any do and no "without" stands before them."""
        if not words:
            return None
        if value.number is not None:
            return _measure(value.number, value.unit, text)
        for term in _terms(value, spec):
            span = _find(term, words)
            if span is not None and not self._negated(text, span):
                return span
        return None

    def _negated(self, text: str, span: tuple[int, int]) -> bool:
        return any(
            m.negated and m.start < span[1] and span[0] < m.end
            for m in scanner_for(self.knowledge).find(text, correct=False)
        )


def _terms(value: AttributeValue, spec: AttributeSpec) -> Iterator[list[str]]:
    """The words for a value as tokens in the singular, its own name first."""
    said = value.value or ""
    if spec.type == "flag":
        names: tuple[str, ...] = (spec.name.replace("_", " "),) if said == "yes" else ()
    else:
        names = (said, *spec.values.get(said, ()))
    for name in names:
        if term := [singular(token.text) for token in tokens(name.replace("_", " "))]:
            yield term


def _find(term: Sequence[str], words: Sequence[Token]) -> tuple[int, int] | None:
    for i in range(len(words) - len(term) + 1):
        if all(singular(words[i + n].text) == one for n, one in enumerate(term)):
            return words[i].start, words[i + len(term) - 1].end
    return None


def _measure(number: float, unit: str | None, text: str) -> tuple[int, int] | None:
    """The quantity that is this number of this unit."""
    for q in find_quantities(text):
        said = q.number / _INCH if (q.unit, unit) == ("cm", "in") else q.number
        if (q.unit == unit or (q.unit, unit) == ("cm", "in")) and abs(said - number) <= SAME_NUMBER * abs(number):
            return q.start, q.end
    return None
