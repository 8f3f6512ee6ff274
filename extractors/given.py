"""What the seller says, parsed: fields, title and description → attribute values with the exact words as evidence.

Fields are believed before the title, the title before the description. The kind of thing comes first: the seller's own
category path, refined by what the title calls the thing. It knows the knowledge tables and the attribute schemas, no
pictures and no models; single values are read by `extractors.seller`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from extractors.lawful import lawful
from extractors.protocol import Extraction, ExtractorInput
from extractors.seller import Reader
from extractors.sources import LONGEST_TEXT, LONGEST_TITLE, Source, fields_of, fields_sha
from lore_mm.fingerprint import sha_of
from lore_mm.knowledge import Knowledge
from lore_mm.mentions import Mention, scanner_for
from lore_mm.phrase_readings import kind_meant
from lore_mm.phrases import Phrase, as_reading, read_phrase, read_title
from lore_mm.schema import Schemas
from lore_mm.types import AttributeValue, Evidence, Item
from lore_mm.values import find_quantities

__all__ = ["Given"]

_PATH = re.compile(r"\s*(?:>|/|\||»|›|::)\s*")


class Given:
    """The extractor of what is written."""

    name = "given"
    needs_pictures = False
    depends_on = ("words", "record", "category")

    def __init__(self, knowledge: Knowledge, schemas: Schemas | None = None) -> None:
        self.knowledge = knowledge
        self.schemas = schemas
        read = schemas.sha_without("ask", "prompts", "visual") if schemas else None
        self.sha = sha_of(["given 3", knowledge.sha, read, fields_sha()])
        self._scanner = scanner_for(knowledge)

    def extract(self, inputs: Sequence[ExtractorInput]) -> list[Extraction]:
        """Read items; len(result) == len(inputs). An unreadable item is a failed extraction with its reason."""
        return [self._guarded(one) for one in inputs]

    def _guarded(self, one: ExtractorInput) -> Extraction:
        try:
            return self._extract(one)
        except Exception as error:
            return Extraction(status="failed", error=f"{type(error).__name__}: {error}")

    def _extract(self, one: ExtractorInput) -> Extraction:
        item = one.item
        title = item.title[:LONGEST_TITLE]
        phrase, quantities = read_title(title, self._scanner.find(title), find_quantities(title), self.knowledge)
        sources = list(fields_of(item))
        category = self._category(item, phrase, sources)
        kind = category.value if category else one.category
        reader = Reader(item, kind, self.knowledge, self.schemas)
        values = [*filter(None, [category]), *reader.identity(phrase, sources)]
        values += reader.from_fields(sources)
        values += reader.from_title(phrase, quantities)
        values += reader.from_description(item.description[:LONGEST_TEXT], phrase)
        return Extraction(tuple(lawful(values, reader.schema)), kind)

    def _category(self, item: Item, phrase: Phrase, sources: Sequence[Source]) -> AttributeValue | None:
        """The kind: the seller's path at its deepest known place, refined by what the title calls the thing."""
        knowledge = self.knowledge
        named = phrase.category
        evidence: list[Evidence] = []
        if named is not None:
            start, end = (phrase.head.start, phrase.head.end) if phrase.head else phrase.noun or (0, 0)
            evidence.append(_said("title", item.title, start, end, named))
        elif series := next((m for m in phrase.mentions if m.table == "series" and m not in phrase.hosts), None):
            named = knowledge.series[series.canonical].category
            if named is not None:
                evidence.append(_said("title", item.title, series.start, series.end, named))
        paths = [("given.category", item.category or "")] + [(s.name, s.text) for s in sources if s.field == "category"]
        path: str | None = None
        for source, text in paths:
            path = self._placed(text, phrase)
            if path is not None:
                evidence.append(_said(source, text, 0, len(text), path))
                break
        if named is None or path is None:
            value, confidence = named or path, 0.9 if named else 0.8
        elif knowledge.is_a(named, path) or _belongs(named, path, knowledge):
            value, confidence = named, 0.97
        elif knowledge.is_a(path, named):
            value, confidence = path, 0.97
        elif filed := _under(path, phrase, knowledge):
            # of several things that a title names, that which is filed there: the others are words to be found by
            evidence.append(_said("title", item.title, filed.start, filed.end, filed.canonical))
            value, confidence = filed.canonical, 0.85
        else:
            generic = knowledge.categories[path].generic
            value, confidence = (named, 0.85) if generic else (path, 0.8)
        if value is None:
            return None
        ranked = sorted(evidence, key=lambda e: e.value != value)
        return AttributeValue(
            "category", "category", value, confidence=confidence, extractor="given", evidence=tuple(ranked)
        )

    def _placed(self, path: str, phrase: Phrase) -> str | None:
        """The kind of that id, or the deepest known part of a path such as "Sports & Outdoor > Equipment".

        A part that names an accessory no table knows ("Keyboard covers") places nothing. `phrase` is the title's.
        """
        whole = path.strip()
        named = whole.rpartition("/")[2] if whole.startswith("gid://") else whole  # as Shopify writes its ids
        if named in self.knowledge.categories:
            return named
        for part in reversed(_PATH.split(path[:1000])):
            found = self._scanner.find(part)
            kinds = [c for m in found if (c := as_reading(m, "category")) is not None]
            if kinds:
                read = read_phrase(part, found, self.knowledge, strict=True)
                if read.noun is not None:
                    return read.category
                return kind_meant(kinds[-1], phrase.mentions, self.knowledge).canonical
        return None


def _said(source: str, text: str, start: int, end: int, value: str) -> Evidence:
    return Evidence(source, text[start:end], start, end, value=value, extractor="given")


def _under(path: str, phrase: Phrase, knowledge: Knowledge) -> Mention | None:
    """The first kind at or below a place of the category tree that the title names, not behind "for"."""
    things = (m for m in phrase.mentions if m.table == "category" and not m.negated and m not in phrase.hosts)
    return next((m for m in things if knowledge.is_a(m.canonical, path)), None)


def _belongs(named: str, path: str, knowledge: Knowledge) -> bool:
    """True where the title's thing is an accessory of the path's ("Phones > Smartphones": a phone case)."""
    return any(knowledge.is_a(path, a) or knowledge.is_a(a, path) for a in knowledge.categories[named].accessory_of)
