"""What of an item an extractor reads, and so which of its earlier extractions still stand.

An extraction stands where the extractor is what it was (its sha) and every part of the input that it reads is what it
was: words, record and pictures of the item, and category, settled attributes and text on the pack as the extractors
before it hand them on. An extractor that answers attribute by attribute (`in_parts`) is called all the same, and keeps
the answers that stand. This module knows no store, and no extractor by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from extractors.protocol import Earlier, Extraction, Extractor, ExtractorInput
from lore_mm.fingerprint import sha_of
from lore_mm.types import Item

__all__ = ["PARTS", "as_it_stands", "content_of", "earlier_of", "made_from", "parts_read", "standing", "with_pictures"]

PARTS = ("words", "record", "pictures", "category", "settled", "pack")
_DIGITS = 16  # of a sha: two versions of one item are compared, never two items, so 64 bits are plenty


def content_of(item: Item, pictures: Sequence[str]) -> dict[str, str]:
    """The shas of what the seller wrote (words), of what only a record tells (price, store), and of the pictures.

    `pictures` has a sha or another mark for each, and for how they are decoded.
    """
    given = [[name, list(values)] for name, values in item.attributes.items()]
    words = [item.title, item.description, item.category, item.brand, given]
    record = [repr(item.price), item.currency, item.store]
    return {"words": _sha(words), "record": _sha(record), "pictures": _sha(list(pictures))}


def parts_read(extractor: Extractor) -> tuple[str, ...]:
    """Which of PARTS an extractor reads; every one, where it does not say so in `depends_on`."""
    return tuple(getattr(extractor, "depends_on", PARTS))


def made_from(extractor: Extractor, one: ExtractorInput) -> dict[str, str]:
    """A sha for each part that the extractor reads of this input; the category is told as it is."""
    if not one.content:
        return {}
    shas: dict[str, str] = {}
    for part in parts_read(extractor):
        if part == "category":
            shas[part] = one.category or ""
        elif part == "settled":
            shas[part] = _sha(sorted(one.settled)) if one.settled else ""
        elif part == "pack":
            shas[part] = _sha([[p.text, p.picture, p.region, p.confidence] for p in one.pack]) if one.pack else ""
        else:
            shas[part] = one.content[part]
    return shas


def earlier_of(extractor: Extractor, one: ExtractorInput, parts: Iterable[str]) -> Earlier | None:
    """What stands by this extractor, where these parts of the input are what they were."""
    earlier = one.earlier.get(extractor.name)
    if earlier is None or not one.content:
        return None
    now, then = made_from(extractor, one), earlier.extraction.made_from
    return earlier if all(part in then and then[part] == now.get(part) for part in parts) else None


def standing(extractor: Extractor, one: ExtractorInput) -> Extraction | None:
    """The earlier extraction, the very object, where making it again would give the same; else None."""
    earlier = earlier_of(extractor, one, parts_read(extractor))
    if earlier is None or earlier.sha != extractor.sha:
        return None
    return None if earlier.again and earlier.extraction.status == "failed" else earlier.extraction


def as_it_stands(extractor: Extractor, one: ExtractorInput, made: Extraction) -> Extraction:
    """What was made; but the earlier extraction, the very object, where an extractor that answers in parts asked for
    nothing and says what it said: then it need not be written again.
    """
    earlier = one.earlier.get(extractor.name)
    if earlier is None or made.asked or made.usage.calls or not getattr(extractor, "in_parts", False):
        return made
    before = earlier.extraction
    return before if made == replace(before, asked=(), settled=(), usage=made.usage) else made


def with_pictures(one: ExtractorInput) -> ExtractorInput:
    """The input with its pictures read, where that was put off."""
    if one.look is None:
        return one
    pictures, errors = one.look()
    return replace(one, pictures=pictures, picture_errors=errors, look=None)


def _sha(value: object) -> str:
    return sha_of(value)[:_DIGITS]
