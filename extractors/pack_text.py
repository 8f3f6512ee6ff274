"""What the words on a pack, label or tag state of the item: brand, measures, age, materials, seals; only what is sure.

The lines are read as a description is (`extractors.seller`), and of that is kept what a label states rather than
praises: no colours, styles or seasons ("Green Tea", "Summer Edition"), no numbers out of a table of nutrients, and no
number of which the pack shows several. It knows lines, the knowledge tables and the schemas; no pictures and no engine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from extractors.lawful import lawful
from extractors.prose import kin
from extractors.protocol import PackLine
from extractors.seller import Reader
from lore_mm.fingerprint import sha_of
from lore_mm.knowledge import Knowledge
from lore_mm.mentions import Mention, scanner_for
from lore_mm.phrases import Phrase, as_reading
from lore_mm.schema import Schemas
from lore_mm.types import AttributeValue, Evidence, Item
from lore_mm.values import find_quantities

__all__ = ["PACK_READER_SHA", "read_pack"]

_SURE = 0.8  # lines read with less become no attributes, though they are handed on
_TRUST = 0.85  # how far print on the pack is believed, read without doubt
_STATED = frozenset(("material", "spec", "audience", "bundle", "special", "function", "model"))
# "NET WT 250 g", "e 500 ml": words that may stand beside a pack's own measure; more make it part of something else.
_NET = re.compile(r"\b(?:net|weight|wt|contents?|vol(?:ume)?|size|e|℮|approx|ca|pack|of|about|per pack)\b|\W", re.I)
_LOOSE_LETTERS = 14
_NUTRIENTS = re.compile(
    r"\b(?:per|serving|portion|k?cal(?:ories)?|kj|energy|fat|saturate[sd]|carbohydrates?|sugars?|protein|fib(?:re|er)|"
    r"salt|sodium|daily|vitamin|nutrition\w*)\b",
    re.IGNORECASE,
)
PACK_READER_SHA = sha_of(["pack 1", _SURE, _TRUST, sorted(_STATED), _NET.pattern, _NUTRIENTS.pattern])


def read_pack(
    item: Item, category: str | None, lines: Sequence[PackLine], knowledge: Knowledge, schemas: Schemas
) -> list[AttributeValue]:
    """Attributes that the lines state, each with its line as evidence: image:<i>, quote and region.

    The confidence is that of print on a pack times that of the reading.
    """
    sure = [line for line in lines if line.confidence >= _SURE]
    if not sure:
        return []
    words = "\n".join(line.text for line in sure)
    reader = Reader(replace(item, title="", description=words), category, knowledge, schemas)
    said = reader.from_description(words, Phrase(()))
    found = [*_brands(sure, category, knowledge), *_placed(_stated(said, words), sure)]
    return _agreeing(lawful(found, reader.schema))


def _stated(said: Iterable[AttributeValue], words: str) -> Iterator[AttributeValue]:
    """Of what prose would say, what a label states."""
    for value in said:
        if value.dimension not in _STATED or (value.name == "audience" and value.number is None):
            continue
        if value.number is not None and value.dimension in ("spec", "bundle"):
            (place,) = value.evidence
            line = words[words.rfind("\n", 0, place.start) + 1 :].split("\n", 1)[0]
            if not _is_own_measure(line):
                continue
        yield value


def _is_own_measure(line: str) -> bool:
    """True for a line that is little more than measures: "1 L", "NET WT 250 g", not "of which sugars 12 g"."""
    if _NUTRIENTS.search(line):
        return False
    rest = line
    for q in reversed(find_quantities(line)):
        rest = rest[: q.start] + " " + rest[q.end :]
    return len(_NET.sub("", rest)) <= _LOOSE_LETTERS


def _placed(said: Iterable[AttributeValue], lines: Sequence[PackLine]) -> Iterator[AttributeValue]:
    """The same values with their line as evidence; those read across two lines are left out."""
    starts: list[int] = []
    position = 0
    for line in lines:
        starts.append(position)
        position += len(line.text) + 1
    for value in said:
        (place,) = value.evidence
        n = max(i for i, start in enumerate(starts) if start <= (place.start or 0))
        if (place.end or 0) <= starts[n] + len(lines[n].text):
            # what the reader believes a description less for, relative to its best, counts here too
            yield _from_line(value, lines[n], place.quote or "", value.confidence / (place.confidence or 1.0))


def _from_line(value: AttributeValue, line: PackLine, quote: str, share: float = 1.0) -> AttributeValue:
    confidence = round(_TRUST * line.confidence * min(1.0, share), 3)
    place = Evidence(
        f"image:{line.picture}",
        quote,
        region=line.region,
        value=value.value,
        extractor="ocr",
        confidence=round(line.confidence, 3),
    )
    return replace(value, confidence=confidence, extractor="ocr", evidence=(place,))


def _brands(lines: Sequence[PackLine], category: str | None, knowledge: Knowledge) -> Iterator[AttributeValue]:
    """A known maker's name that has a line to itself, of a maker of such things; the one in the largest letters."""
    scanner = scanner_for(knowledge)
    named: list[tuple[PackLine, Mention]] = []
    for line in lines:
        for m in scanner.find(line.text, correct=False):
            brand = as_reading(m, "brand")
            alone = brand is not None and len(brand.text) >= len(line.text.strip(" .®™©*-")) - 1
            if brand and alone and not brand.negated and _makes(brand.canonical, category, knowledge):
                named.append((line, brand))
    for line, brand in sorted(named, key=lambda one: one[0].region[1] - one[0].region[3])[:1]:
        yield _from_line(AttributeValue("brand", "brand", brand.canonical), line, brand.text)


def _makes(brand: str, category: str | None, knowledge: Knowledge) -> bool:
    made = knowledge.brands[brand].makes
    return category is None or not made or any(kin(category, one, knowledge) for one in made if one)


def _agreeing(values: Sequence[AttributeValue]) -> list[AttributeValue]:
    """The values, less the numbers of which the pack shows several for one attribute: none of them is sure."""
    several = {
        v.name
        for v in values
        for o in values
        if v is not o and v.name == o.name and v.number is not None is not o.number
    }
    return [v for v in values if v.name not in several]
