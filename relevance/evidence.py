"""What an item says, gathered once per item: extracted attributes first, then what stands in its title and description.

It knows nothing of demands or rules; it answers "what is there on this dimension?" and "do these words occur?".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

from lore_mm.knowledge import Knowledge
from lore_mm.mentions import Mention, Scanner
from lore_mm.phrase_parts import parts_of
from lore_mm.phrases import Phrase, read_title
from lore_mm.text import Token, singular, tokens
from lore_mm.types import AttributeValue, Evidence, Item, ItemFeatures, Leg
from lore_mm.values import Quantity, find_quantities

__all__ = ["Found", "ItemView", "run_together"]

# How far a bare mention in the text is believed, by where it stands.
_TITLE, _TEXT = 0.9, 0.7
_LONGEST_TITLE, _LONGEST_TEXT = 5_000, 20_000  # characters that are read, as the extractors do
_MOST_FIELDS = 1_000  # values of the seller's fields
_SECOND_READING = 0.7  # a word that can also mean this ("orange" as a colour)
_NAMES = frozenset(
    ("given.category", "given.product type", "given.type", "given.model", "given.series")
)  # what it is called
_NO_NOUNS = frozenset(("color", "material", "term", "brand"))  # what may stand behind a noun without being named by it
_DESCRIBED = 0.65  # how far the first words of a description are believed about what the thing is
_FIRST_CHARACTERS = 120  # of a description, that may say so
_FIRST_WORDS = 300  # of a text, for names of several words
_LONGEST_NAME = 4  # words


@dataclass(frozen=True, slots=True)
class Found:
    """One thing the item says on a dimension; `negated` where it says that it has it not."""

    value: str
    attribute: str
    number: float | None = None
    unit: str | None = None
    share: float | None = None
    evidence: tuple[Evidence, ...] = ()
    confidence: float = 1.0
    negated: bool = False
    number_high: float | None = None
    against: tuple[Evidence, ...] = ()  # what sources that are believed less say instead, each with its `value`

    @property
    def quote(self) -> str:
        """The words it was read in, or the value where a picture showed it."""
        return next((e.quote for e in self.evidence if e.quote), self.value)

    @property
    def seen(self) -> bool:
        """True where a picture is the best evidence."""
        return bool(self.evidence) and self.evidence[0].source.startswith("image")


class ItemView:
    """An item as the follower reads it. Everything is worked out on first use and kept."""

    def __init__(self, features: ItemFeatures, knowledge: Knowledge, scanner: Scanner) -> None:
        self.item: Item = _bounded(features.item)
        self._knowledge = knowledge
        self._scanner = scanner
        self._by_dimension: dict[str, list[AttributeValue]] = {}
        self.failures: dict[str, str] = {}
        for attribute in features.attributes:
            if attribute.status in ("value", "conflict") and attribute.value is not None:
                self._by_dimension.setdefault(attribute.dimension, []).append(attribute)
            elif attribute.status == "failed":
                self.failures.setdefault(attribute.dimension, attribute.error or "the extractor failed")
        self._stated: dict[str, tuple[Found, ...]] = {}
        self._mentioned: dict[str, tuple[Found, ...]] = {}
        self.peculiar: tuple[Leg, ...] | None = None  # what follows from the item alone, whoever asks
        self.believed: dict[str, tuple[Found, ...]] = {}  # dimension → what is left where sources disagree

    def stated(self, dimension: str) -> tuple[Found, ...]:
        """What was extracted on a dimension, most confident first."""
        if dimension not in self._stated:
            values = sorted(self._by_dimension.get(dimension, ()), key=lambda a: -a.confidence)
            self._stated[dimension] = tuple(_from_attribute(a) for a in values) or self._field(dimension)
        return self._stated[dimension]

    def _field(self, dimension: str) -> tuple[Found, ...]:
        """The seller's own brand or store, for an item that nothing was extracted from."""
        text = {"brand": self.item.brand, "store": self.item.store}.get(dimension)
        if not text:
            return ()
        named = [m for m in self.scan(text) if m.dimension == dimension == "brand"]
        place = (Evidence(f"given.{dimension}", text, 0, len(text)),)
        return tuple(Found(m.canonical, dimension, evidence=place, confidence=m.confidence) for m in named) or (
            Found(text, dimension, evidence=place),
        )

    def mentioned(self, dimension: str, title_only: bool = False) -> tuple[Found, ...]:
        """What the title and description mention on a dimension, title first."""
        if dimension not in self._mentioned:
            self._mentioned[dimension] = tuple(
                _from_mention(source, reading, sure)
                for source, m in self._mentions
                for reading, sure in _readings(m)
                if reading.dimension == dimension
            )
        found = self._mentioned[dimension]
        return tuple(f for f in found if f.evidence[0].source == "title") if title_only else found

    @cached_property
    def _mentions(self) -> tuple[tuple[str, Mention], ...]:
        title = [("title", m) for m in self._scanner.find(self.item.title)]
        return (*title, *(("text", m) for m in self._scanner.find(self.item.description)))

    def scan(self, text: str) -> list[Mention]:
        """What a short text names, such as the words of a demand."""
        return self._scanner.find(text, correct=False)

    @cached_property
    def phrase(self) -> Phrase:
        """The title as a noun phrase: which kind it names, and what that is for."""
        mentions = [m for source, m in self._mentions if source == "title"]
        numbers = [q for source, q in self.quantities if source == "title"]
        return read_title(self.item.title, mentions, numbers, self._knowledge)[0]

    @cached_property
    def categories(self) -> tuple[Found, ...]:
        """What kind of thing it is: as extracted, else as the title calls it, itself or by its series, or the text."""
        if stated := self.stated("category"):
            return stated
        title, text = self.item.title, self.item.description[:_FIRST_CHARACTERS]
        read = _kind_named("title", title, self.phrase, self._knowledge)
        if read is None and text:
            mentions = [m for source, m in self._mentions if source == "text" and m.end <= len(text)]
            numbers = [q for source, q in self.quantities if source == "text" and q.end <= len(text)]
            described = read_title(text, mentions, numbers, self._knowledge)[0]
            read = _kind_named("text", text, described, self._knowledge)
        return () if read is None else (read,)

    def is_for(self, found: Found) -> bool:
        """True for what the title names behind "for", "compatible with" and the like."""
        place = found.evidence[0] if found.evidence else None
        return place is not None and place.source == "title" and any(m.start == place.start for m in self.phrase.hosts)

    @cached_property
    def _title_words(self) -> list[tuple[Token, bool]]:
        """The title's words, each with whether the item is called so: not behind "for", "with" and the like."""
        title = self.item.title
        words = tokens(title)
        numbers = [(q.start, q.end) for source, q in self.quantities if source == "title"]
        parts = parts_of(title, words, [], True, numbers)
        return [(word, parts[word.start][1] in _CALLED) for word in words]

    @cached_property
    def naming(self) -> dict[str, Evidence]:
        """The words that the item is called by, singular → where: of the title and of fields for its kind or model."""
        title = self.item.title
        found = {
            singular(w.text): Evidence("title", title[w.start : w.end], w.start, w.end)
            for w, called in reversed(self._title_words)
            if called
        }
        for source, text in self._texts:
            if source in _NAMES:
                for w in tokens(text):
                    found.setdefault(singular(w.text), Evidence(source, text[w.start : w.end], w.start, w.end))
        return found

    @cached_property
    def kinds_named(self) -> tuple[Found, ...]:
        """The kinds that the title calls the item by: nouns by themselves, that nothing further is the name of."""
        here = ((f, f.evidence[0]) for f in self.mentioned("category", title_only=True) if not f.negated)
        return tuple(found for found, place in here if self._ends_a_name(place.start or 0, place.end or 0))

    def _ends_a_name(self, start: int, end: int) -> bool:
        """True where the title calls the item by its words [start, end), and what follows is no further noun."""
        words = self._title_words
        at = next((i for i, (w, _) in enumerate(words) if w.start == start), None)
        if at is None or not words[at][1]:
            return False
        after = next((w for w, _ in words[at:] if w.start >= end), None)
        if after is None or not after.text.isalpha():
            return self.item.title[end : end + 1] != "/"
        gap = self.item.title[end : after.start]
        if gap.strip(" "):
            return gap != "/" and gap != "-"
        mention = next((m for source, m in self._mentions if source == "title" and m.start == after.start), None)
        return mention is not None and mention.table in _NO_NOUNS

    @cached_property
    def runs(self) -> dict[str, Evidence]:
        """Neighbouring words of the title written as one ("TN-2110" → tn2110) → where they stand."""
        return _runs("title", self.item.title, [w for w, _ in self._title_words])

    @cached_property
    def naming_runs(self) -> dict[str, Evidence]:
        """Those of `runs` that the item is called by."""
        return _runs("title", self.item.title, [w for w, called in self._title_words if called])

    @cached_property
    def text_runs(self) -> dict[str, Evidence]:
        """As `runs`, of the description and the seller's fields."""
        found: dict[str, Evidence] = {}
        for source, text in self._texts:
            if source != "title":
                found = _runs(source, text, tokens(text)) | found
        return found

    @cached_property
    def described_runs(self) -> dict[str, Evidence]:
        """Those of `text_runs` that the description calls it by."""
        text = self.item.description
        words = tokens(text)
        parts = parts_of(text, words, [], True, ())
        return _runs("text", text, [w for w in words if parts[w.start][1] in _CALLED])

    @cached_property
    def quantities(self) -> tuple[tuple[str, Quantity], ...]:
        """The numbers with units in title and description."""
        texts = (("title", self.item.title), ("text", self.item.description))
        return tuple((source, q) for source, text in texts for q in find_quantities(text))

    @cached_property
    def words(self) -> dict[str, Evidence]:
        """Every word of the item's text, singular → where it first stands."""
        found: dict[str, Evidence] = {}
        for source, text in self._texts:
            for token in tokens(text):
                quote = text[token.start : token.end]
                place = Evidence(source, quote, token.start, token.end)
                found.setdefault(singular(token.text), place)
        return found

    @property
    def _texts(self) -> list[tuple[str, str]]:
        item = self.item
        fields = ((name, value) for name, values in item.attributes.items() for value in values)
        given = [(f"given.{name}", value[:_LONGEST_TEXT]) for name, value in islice(fields, _MOST_FIELDS)]
        seller = [("given.brand", item.brand), ("given.category", item.category), ("given.store", item.store)]
        return [
            ("title", item.title),
            *((source, text) for source, text in seller if text),
            *given,
            ("text", item.description),
        ]


def _kind_named(source: str, text: str, phrase: Phrase, knowledge: Knowledge) -> Found | None:
    """The kind that a text calls the thing by, itself or by its series."""
    span = (phrase.head.start, phrase.head.end) if phrase.head else phrase.noun
    kind = phrase.category
    if kind is None and phrase.noun is None:
        series = next((m for m in phrase.mentions if m.table == "series" and m not in phrase.hosts), None)
        if series is not None:
            kind, span = knowledge.series[series.canonical].category, (series.start, series.end)
    if kind is None or span is None:
        return None
    place = Evidence(source, text[slice(*span)], *span)
    return Found(kind, "category", evidence=(place,), confidence=_TITLE if source == "title" else _DESCRIBED)


_CALLED = frozenset(("", ",", "or", "and", "plus"))  # what may begin a part of a title that names the item


def run_together(name: str) -> str:
    """A name as one word without signs: "TN-2110" and "tn 2110" are tn2110."""
    return "".join(word.text for word in tokens(name))


def _runs(source: str, text: str, words: Sequence[Token]) -> dict[str, Evidence]:
    """Neighbouring words as one, up to `_LONGEST_NAME` of the first `_FIRST_WORDS`."""
    words = words[:_FIRST_WORDS]
    found: dict[str, Evidence] = {}
    for i, first in enumerate(words):
        run = ""
        for word in words[i : i + _LONGEST_NAME]:
            run += word.text
            if run not in found:
                found[run] = Evidence(source, text[first.start : word.end], first.start, word.end)
    return found


def _bounded(item: Item) -> Item:
    """The item with as much of its texts as is read of any; what comes after is no longer about the item."""
    if len(item.title) <= _LONGEST_TITLE and len(item.description) <= _LONGEST_TEXT:
        return item
    return replace(item, title=item.title[:_LONGEST_TITLE], description=item.description[:_LONGEST_TEXT])


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def _from_attribute(attribute: AttributeValue) -> Found:
    """What an attribute says; in a conflict, the evidence for another value is what stands against it."""
    mine = tuple(e for e in attribute.evidence if e.value in (None, attribute.value)) or attribute.evidence
    other = attribute.evidence if attribute.status == "conflict" else ()
    return Found(
        value=attribute.value or "",
        attribute=attribute.name,
        number=_finite(attribute.number),
        unit=attribute.unit,
        share=_finite(attribute.share),
        evidence=mine,
        confidence=min(max(_finite(attribute.confidence) or 0.0, 0.0), 1.0),
        against=tuple(e for e in other if e not in mine),
    )


def _readings(mention: Mention) -> Iterator[tuple[Mention, float]]:
    """A mention in each of its readings, the likeliest first, with how far each is believed."""
    yield mention, 1.0
    for other in mention.others:
        yield mention.read_as(other), _SECOND_READING


def _from_mention(source: str, mention: Mention, sure: float) -> Found:
    place = Evidence(source, mention.text, mention.start, mention.end, confidence=mention.confidence)
    return Found(
        value=mention.canonical,
        attribute=mention.dimension,
        evidence=(place,),
        confidence=mention.confidence * sure * (_TITLE if source == "title" else _TEXT),
        negated=mention.negated,
    )
