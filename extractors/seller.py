"""One item's written word, read under its category: brand, model, qualities, numbers, with confidence and evidence.

A brand or a model is never taken from where the text speaks of something else ("compatible with Nikon"); a description
is believed less than a title, and a title less than a field of that name (the order of sources of each dimension is in
lore_mm/schemas/dimensions.toml). It does not choose the category.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from extractors.prose import kin, measured_here, said_of_item
from extractors.sources import LONGEST_TITLE, Source
from lore_mm.knowledge import Knowledge
from lore_mm.liquids import is_liquid, read_fluid
from lore_mm.mentions import Mention, scanner_for
from lore_mm.phrases import Phrase, as_reading, without_overlap
from lore_mm.schema import AttributeSchema, Schemas, load_dimensions
from lore_mm.types import AttributeValue, Evidence, Item
from lore_mm.values import Quantity, find_quantities, format_number, letter_size

__all__ = ["Reader"]

# How far a source is believed at best, before the dimension's own order of sources.
_TRUST = {"given": 0.97, "title": 0.9, "text": 0.65}
_PLACE = 0.04  # trust lost for each place a source stands lower in the dimension's order
_ELSEWHERE = 0.6  # share of trust left where the words belong to another thing ("with black legs")
_PLUGS = frozenset(("male", "female"))  # of connectors
_AGED = re.compile(r"\b(?:old|age[sd]?)\b", re.IGNORECASE)
_MEMORY = re.compile(r"^[\s-]*(?:of\s)?(?:ram|memory|ddr\d?|unified memory)\b", re.IGNORECASE)
_SIDES = {
    "width": re.compile(r"^\W{0,2}(?:wide|width|w\b)|(?:width|wide)\W{0,3}$", re.IGNORECASE),
    "height": re.compile(r"^\W{0,2}(?:high|tall|height|h\b)|(?:height|tall|high)\W{0,3}$", re.IGNORECASE),
    "heel_height": re.compile(r"^\W{0,2}heels?\b|heel(?:\sheight)?\W{0,3}$", re.IGNORECASE),
}
_CODE = re.compile(r"\b(?=[A-Za-z0-9-]*\d)(?=[A-Za-z0-9-]*[A-Z])[A-Z0-9][A-Za-z0-9]*(?:-[A-Za-z0-9]+)*\b")
_PACKS = frozenset(("pack", "piece", "set", "pair"))
_BY_KIND = {
    "storage": "storage", "screen": "screen_size", "power": "power", "voltage": "voltage", "frequency": "frequency",
    "resolution": "resolution", "pixels": "resolution", "mass": "weight", "volume": "volume", "age": "age",
    "year": "year", "size": "size", "shoe_size": "size",
}  # fmt: skip
_DIMENSIONS = (
    "color",
    "material",
    "style_detail",
    "style",
    "function",
    "audience",
    "season",
    "special",
    "ip",
    "bundle",
)
# The dimension of a field of the seller's, where it is not its own name.
_FIELD_DIMENSION = {"age": "audience", "pattern": "style_detail", "condition": "special", "origin": "special"}


class Reader:
    """One item being read under its category."""

    def __init__(self, item: Item, category: str | None, knowledge: Knowledge, schemas: Schemas | None) -> None:
        self.knowledge = knowledge
        self.scanner = scanner_for(knowledge)
        self.item = item
        self.category = category
        self.department = self.knowledge.department(category) if category else None
        self.liquid = is_liquid(category, knowledge)
        self.schema: AttributeSchema | None = schemas.for_category(category, self.knowledge) if schemas else None

    # -- what it is and whose ------------------------------------------------------------------------------------------

    def identity(self, phrase: Phrase, sources: Sequence[Source]) -> Iterator[AttributeValue]:
        """Brand, model, accessory or not, price and store."""
        item = self.item
        yield from self._brand(phrase, sources)
        own = [m for m in phrase.mentions if m not in phrase.hosts and not m.negated]
        for m in own:
            if m.table == "series":
                yield self._value("model", "model", m.canonical, Source("title", item.title), m.start, m.end)
        if not any(m.table == "series" for m in own):
            for code in _CODE.finditer(item.title[:LONGEST_TITLE]):
                if len(code[0]) > 3 and not find_quantities(code[0]) and not _covered(code, phrase.mentions):
                    value = self._value(
                        "model", "model", code[0], Source("title", item.title), code.start(), code.end()
                    )
                    yield replace(value, confidence=0.7)
        if self.category and self.knowledge.categories[self.category].accessory_of:
            head = phrase.head
            start, end = (head.start, head.end) if head else phrase.noun or (0, 0)
            yield self._value("component", "component", "accessory", Source("title", item.title), start, end)
        if item.price is not None and math.isfinite(item.price) and item.price >= 0:
            words = f"{item.price:g}"
            yield AttributeValue(
                "price", "price", f"{words} {item.currency or ''}".strip(), number=item.price, unit=item.currency,
                extractor="given", evidence=(Evidence("given.price", words, extractor="given"),),
            )  # fmt: skip
        if item.store:
            yield self._value("store", "store", item.store, Source("given.store", item.store), 0, len(item.store))

    def _brand(self, phrase: Phrase, sources: Sequence[Source]) -> Iterator[AttributeValue]:
        fields = [Source("given.brand", self.item.brand)] if self.item.brand else []
        fields += [s for s in sources if s.field == "brand"]
        found = False
        for source in fields:
            words = source.text.strip()
            brands = [b for m in self.scanner.find(words) if (b := as_reading(m, "brand"))]
            whole = next((b for b in brands if len(b.text) >= len(words) - 1), None)
            yield self._value("brand", "brand", whole.canonical if whole else words, source, 0, len(source.text))
            found = True
        named = [
            m for m in phrase.mentions if m.table == "brand" and m not in phrase.hosts and self._is_maker(m, found)
        ]
        title = Source("title", self.item.title)
        first = [m for m in named if not title.text[: m.start].strip()]
        for m in first or named:
            yield self._value("brand", "brand", m.canonical, title, m.start, m.end)
        series = [m for m in phrase.mentions if m.table == "series" and m not in phrase.hosts]
        if not found and not named:
            for m in series:
                if (brand := self.knowledge.series[m.canonical].brand) and self._is_series(m):
                    yield replace(self._value("brand", "brand", brand, title, m.start, m.end), confidence=0.8)

    def _is_maker(self, m: Mention, given: bool) -> bool:
        """True where a brand named in the title is the maker's, and not a unit, a code or what it is compatible with.

        It stands first, or after "by", or makes such things; a word that is only nearly a brand is none.
        """
        title = self.item.title
        if m.negated or m.via == "misspelt" or re.match(r"[-/]\w*\d", title[m.end :]) or title[: m.start].endswith("/"):
            return False
        if not title[: m.start].strip(" \"'([") or title[: m.start].rstrip().lower().endswith((" by", "from")):
            return True
        made = self.knowledge.brands[m.canonical].makes
        if self.category is None or not made:
            return given
        return any(kin(self.category, b, self.knowledge) for b in made)

    def _is_series(self, m: Mention) -> bool:
        """True for a series that is unmistakable: of several words or with a number, or at the beginning."""
        return not self.item.title[: m.start].strip() or bool(re.search(r"[\d\s]", m.canonical))

    # -- qualities -----------------------------------------------------------------------------------------------------

    def from_fields(self, sources: Sequence[Source]) -> Iterator[AttributeValue]:
        """The seller's other fields: by their name where it is known, else by what their words mean."""
        for source in sources:
            if source.field in ("category", "brand"):
                continue
            if source.field is None:
                yield from self._mentions(source, self.scanner.find(source.text), source.text)
                yield from self._quantities(source, find_quantities(source.text))
            else:
                yield from self._field(source)

    def _field(self, source: Source) -> Iterator[AttributeValue]:
        field, text = source.field or "", source.text.strip()
        if field == "size" and self._is_memory(text):
            field = "memory"
        numbers = [read_fluid(q) for q in find_quantities(text)] if self.liquid else find_quantities(text)
        if field in ("size", "year", "age", "seats", "bundle", "origin", "model", "store", "resolution"):
            yield self._plain(field, text, source, numbers)
            return
        measured = [q for q in numbers if q.kind not in ("share", "year")]
        if measured and field not in ("color", "material", "audience", "season", "style", "pattern", "condition"):
            for q in measured:
                name = field if _fits(field, q) else self._name_of(q, source.text)
                if name:
                    yield self._number(name, q, source)
            return
        dimension = _FIELD_DIMENSION.get(field, field)
        mentions = self.scanner.find(text)
        found = False
        for m in mentions:
            reading = as_reading(m, field) or (m if m.dimension == dimension else None)
            reading = reading or next((m.read_as(o) for o in m.others if o.dimension == dimension), None)
            if reading is not None and not reading.negated:
                yield self._mention(reading, source, numbers)
                found = True
        if not found and text:
            yield from self._mentions(source, mentions, text)
            yield self._value(field, dimension, text, source, 0, len(source.text))

    def _is_memory(self, text: str) -> bool:
        """True for "8GB" as the size of a memory module."""
        return self.category == "ram" and any(q.kind == "storage" for q in find_quantities(text))

    def _plain(self, field: str, text: str, source: Source, numbers: Sequence[Quantity]) -> AttributeValue:
        """A field kept in its own words, with its number where it has one."""
        dimension = {"size": "spec", "seats": "spec", "resolution": "spec", **_FIELD_DIMENSION}.get(field, field)
        bare = re.fullmatch(r"\s*(\d+(?:[.,]\d+)?)\s*\+?\s*", text)
        number, unit = None, None
        if numbers:
            number, unit = numbers[0].number, numbers[0].unit or None
        elif bare:
            number = float(bare[1].replace(",", "."))
        elif field == "size" and letter_size(text) is not None:
            number, unit = float(letter_size(text) or 0), "letter"
        unit = {"age": "years", "bundle": "pieces"}.get(field, unit)
        words = re.sub(r"^size\s+", "", text, flags=re.IGNORECASE) if field == "size" else text
        value = self._value(field, dimension, words, source, 0, len(source.text))
        return replace(value, number=number, unit=unit)

    def from_title(self, phrase: Phrase, quantities: Sequence[Quantity]) -> Iterator[AttributeValue]:
        """Qualities and numbers of the title."""
        source = Source("title", self.item.title)
        yield from self._mentions(source, phrase.mentions, self.item.title, phrase)
        yield from self._quantities(source, quantities)

    def from_description(self, text: str, phrase: Phrase) -> Iterator[AttributeValue]:
        """Qualities and numbers of the description; never the kind of thing, nor a brand."""
        source = Source("text", text)
        quantities = find_quantities(text)
        spans = [(q.start, q.end) for q in quantities if q.kind not in ("share", "year")]
        mentions = without_overlap(self.scanner.find(text, correct=False), spans)
        named = frozenset(m.canonical for m in phrase.mentions if m.table == "category")
        kept = list(said_of_item(text, mentions, self.category, self.knowledge, named))
        yield from self._mentions(source, kept, text, numbers=quantities)
        aged = [q for q in quantities if q.kind != "age" or _AGED.search(q.text)]
        yield from self._quantities(source, list(measured_here(text, aged)))
        brand = next(iter(self._known_brands()), None)
        for m in mentions:
            series = self.knowledge.series.get(m.canonical) if m.table == "series" else None
            if series and series.brand and series.brand == brand and not m.negated and self._may_be(series.category):
                yield replace(self._value("model", "model", m.canonical, source, m.start, m.end), confidence=0.6)

    def _known_brands(self) -> Iterator[str]:
        for m in self.scanner.find(f"{self.item.brand or ''}"):
            if (b := as_reading(m, "brand")) is not None:
                yield b.canonical

    def _may_be(self, kind: str | None) -> bool:
        if kind is None or self.category is None:
            return True
        know = self.knowledge
        siblings = kind in know.categories[self.category].similar or self.category in know.categories[kind].similar
        return know.is_a(kind, self.category) or know.is_a(self.category, kind) or siblings

    def _mentions(
        self,
        source: Source,
        mentions: Sequence[Mention],
        text: str,
        phrase: Phrase | None = None,
        numbers: Sequence[Quantity] | None = None,
    ) -> Iterator[AttributeValue]:
        if numbers is None:
            numbers = find_quantities(text) if "%" in text or "cent" in text else ()
        shares = [q for q in numbers if q.kind == "share"]
        hosts = set(phrase.hosts) if phrase else set()
        for m in mentions:
            if m.negated or (m.text.lower() in _PLUGS and self.department in ("electronics", "tools")):
                continue
            if m.dimension not in _DIMENSIONS or (m.table == "category" and m.others):
                reading = next((o for o in m.others if o.dimension in ("color", "material")), None)
                if reading is None or phrase is not None or m.table in ("series", "need"):
                    continue
                if m.table == "category" and source.kind == "text":
                    continue
                m = m.read_as(reading)
            if m.dimension == "color" and phrase is None:
                m = self._hue_or_stuff(m)
            value = self._mention(m, source, shares)
            if m in hosts and m.dimension in ("color", "material", "style_detail"):
                value = replace(value, confidence=value.confidence * _ELSEWHERE)
            yield value

    def _hue_or_stuff(self, m: Mention) -> Mention:
        if self.department in ("jewellery", "furniture", "home", "tools") and (stuff := as_reading(m, "material")):
            return stuff
        return as_reading(m, "color") or m

    def _mention(self, m: Mention, source: Source, shares: Sequence[Quantity]) -> AttributeValue:
        value = self._value(m.dimension, m.dimension, m.canonical, source, m.start, m.end)
        if m.confidence < 1:
            value = replace(value, confidence=value.confidence * m.confidence)
        if m.dimension in ("material", "color"):
            share = next((q for q in shares if q.kind == "share" and q.end <= m.start <= q.end + 4), None)
            share = share or next((q for q in shares if q.kind == "share" and m.end <= q.start <= m.end + 3), None)
            pure = m.dimension == "material" and m.text.lower().startswith(("pure ", "100%", "100 ", "all "))
            if share is not None and 0 < share.number <= 100:
                value = replace(value, share=share.number / 100)
            elif pure:
                value = replace(value, share=1.0)
        return value

    # -- numbers -------------------------------------------------------------------------------------------------------

    def _quantities(self, source: Source, quantities: Sequence[Quantity]) -> Iterator[AttributeValue]:
        for q in map(read_fluid, quantities) if self.liquid else quantities:
            name = self._name_of(q, source.text)
            if name and not (q.kind == "year" and source.kind == "text"):
                yield self._number(name, q, source)

    def _name_of(self, q: Quantity, text: str) -> str | None:
        """The attribute that a number belongs to, by its kind and by what stands beside it."""
        if q.kind == "count":
            return "bundle" if q.unit in _PACKS else "seats" if q.unit == "seat" else None
        if q.kind == "storage":
            beside = _MEMORY.match(text[q.end : q.end + 16]) or self.category == "ram"
            return "memory" if beside else "storage"
        if q.kind == "length":
            before, after = text[max(0, q.start - 16) : q.start], text[q.end : q.end + 10]
            for name, pattern in _SIDES.items():
                if pattern.search(after if pattern.match(after) else before):
                    return name
            inch = q.text.lower().rstrip().endswith(("in", "inch", "inches", '"', "”", "″", "''"))
            screen = inch and self.department == "electronics" and self.schema and "screen_size" in self.schema.specs
            return "screen_size" if screen and self.category not in ("cable",) else "length"
        return _BY_KIND.get(q.kind)

    def _number(self, name: str, q: Quantity, source: Source) -> AttributeValue:
        number, unit = q.number, q.unit or None
        if name == "screen_size" and q.unit == "cm":
            number, unit = round(q.number / 2.54, 4), "in"
        if name == "age":
            unit = "years"
        if name == "bundle":
            number, unit = (2.0 if q.unit == "pair" and q.number == 1 else q.number), "pieces"
        dimension = {"age": "audience", "bundle": "bundle", "year": "year"}.get(name, "spec")
        words = re.sub(r"^size\s+", "", q.text, flags=re.IGNORECASE) if name == "size" else q.text
        if name == "year":
            words = format_number(number)
        value = self._value(name, dimension, words, source, q.start, q.end)
        return replace(value, number=number, unit=unit)

    # -- evidence ----------------------------------------------------------------------------------------------

    def _value(self, name: str, dimension: str, value: str, source: Source, start: int, end: int) -> AttributeValue:
        sure = _trust(dimension, source)
        place = Evidence(
            source.name, source.text[start:end], start, end, value=value, extractor="given", confidence=sure
        )
        return AttributeValue(name, dimension, value, confidence=sure, extractor="given", evidence=(place,))


def _trust(dimension: str, source: Source) -> float:
    order = load_dimensions()[dimension].evidence if dimension in load_dimensions() else ()
    texts = [s for s in order if s != "image"]
    key = source.name if source.name in texts else source.kind
    place = texts.index(key) if key in texts else len(texts)
    return round(_TRUST[source.kind] - _PLACE * place, 3)


def _covered(code: re.Match[str], mentions: Sequence[Mention]) -> bool:
    return any(m.start < code.end() and code.start() < m.end for m in mentions)


def _fits(field: str, q: Quantity) -> bool:
    kinds = {
        "memory": ("storage",),
        "storage": ("storage",),
        "screen_size": ("screen", "length"),
        "weight": ("mass",),
        "volume": ("volume",),
        "power": ("power",),
        "voltage": ("voltage",),
        "frequency": ("frequency",),
    }
    return q.kind in kinds.get(field, ("length",))
