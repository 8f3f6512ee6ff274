"""Where an answer stands in the item: its words in the seller's text or on the pack, else the pictures.

A model that is asked for its source makes one up as easily as a value; words either stand there or they do not. So the
value's words are looked for in what the seller wrote and in what was read on the pack, whole words in any inflection,
numbers by what they measure. The source that the dimension trusts most is the evidence, and only that one: a model that
answers once is one witness, however often the words occur. This module knows no model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache

from extractors.claims import SAME_NUMBER, rank
from extractors.protocol import ExtractorInput
from extractors.sources import LONGEST_TEXT, LONGEST_TITLE, Source, fields_of
from lore_mm.attribute import AttributeSpec
from lore_mm.knowledge import Knowledge
from lore_mm.mentions import scanner_for
from lore_mm.text import Token, singular, tokens
from lore_mm.types import AttributeValue, Evidence
from lore_mm.values import Quantity, find_quantities

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
        self._written = [(source, _Words(source.text, knowledge)) for source in written]
        self._pack = [(line, _Words(line.text[:LONGEST_TITLE], knowledge)) for line in one.pack]

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
            if (span := words.span(value, spec)) is not None:
                yield Evidence(source.name, source.text[span[0] : span[1]], *span, **mine)  # type: ignore[arg-type]
        for line, words in self._pack:
            if (span := words.span(value, spec)) is not None:
                quote = line.text[span[0] : span[1]]
                yield Evidence(f"image:{line.picture}", quote, region=line.region, **mine)  # type: ignore[arg-type]


class _Words:
    """One text, read once and only as far as it is asked for."""

    def __init__(self, text: str, knowledge: Knowledge) -> None:
        self.text, self.knowledge = text, knowledge

    @cached_property
    def tokens(self) -> list[Token]:
        """Its words."""
        return tokens(self.text)

    @cached_property
    def places(self) -> dict[str, list[int]]:
        """Singular → which tokens."""
        places: dict[str, list[int]] = {}
        for i, token in enumerate(self.tokens):
            places.setdefault(singular(token.text), []).append(i)
        return places

    @cached_property
    def quantities(self) -> list[Quantity]:
        """Its measures."""
        return find_quantities(self.text)

    @cached_property
    def negated(self) -> list[tuple[int, int]]:
        """The characters of what it denies."""
        return scanner_for(self.knowledge).negated(self.text)

    def span(self, value: AttributeValue, spec: AttributeSpec) -> tuple[int, int] | None:
        """The characters that say it, where any do and no "without" stands before them."""
        if value.number is not None:
            return _measure(value.number, value.unit, self.quantities)
        for term in _terms(spec, value.value or ""):
            for i in self.places.get(term[0], ()):
                last = i + len(term) - 1
                if last >= len(self.tokens) or any(i + n not in self.places.get(w, ()) for n, w in enumerate(term)):
                    continue
                start, end = self.tokens[i].start, self.tokens[last].end
                if not any(a < end and start < b for a, b in self.negated):
                    return start, end
        return None


@lru_cache(maxsize=20_000)
def _words_of(name: str) -> tuple[str, ...]:
    return tuple(singular(token.text) for token in tokens(name.replace("_", " ")))


def _terms(spec: AttributeSpec, said: str) -> Iterator[tuple[str, ...]]:
    """The words for a value as tokens in the singular, its own name first."""
    if spec.type == "flag":
        names: tuple[str, ...] = (spec.name,) if said == "yes" else ()
    else:
        names = (said, *spec.values.get(said, ()))
    for name in names:
        if term := _words_of(name):
            yield term


def _measure(number: float, unit: str | None, quantities: Sequence[Quantity]) -> tuple[int, int] | None:
    """The quantity that is this number of this unit."""
    for q in quantities:
        said = q.number / _INCH if (q.unit, unit) == ("cm", "in") else q.number
        if (q.unit == unit or (q.unit, unit) == ("cm", "in")) and abs(said - number) <= SAME_NUMBER * abs(number):
            return q.start, q.end
    return None
