"""The two texts of a pair as a student reads them: the query, and one line about the item.

Training and judging share this, so that both read alike. Texts are cleaned of control and invisible characters; what
they say is data. It knows no tokenizer: how much of a line a model reads is the model's business.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice

from lore_mm.text import fold, normalize
from lore_mm.types import ItemFeatures, Understanding

__all__ = ["LONGEST_LINE", "item_text", "query_text"]

LONGEST_LINE = 240  # characters of an item's line
_LONGEST_TITLE, _LONGEST_PART = 160, 50
_MOST_FIELDS = 8
# Extracted values that tell things apart, in this order; what the thing is, whose and which stand in the title.
_DIMENSIONS = ("model", "color", "material", "spec", "audience", "function", "style", "season", "ip", "bundle")
_A_DIMENSION = 2  # values taken of each
# Of the seller's own fields first those whose name says that they tell what the thing is, or what it is for.
_TELLING = re.compile(
    r"^(?:product |device |item )?(?:type|kind|category)$|purpose|\buses?\b|intended|compatib|suitab|designed|occasion",
    re.IGNORECASE,
)
_LETTER = re.compile(r"[^\W\d_]")
_PLAIN_ANSWERS = frozenset("yes no y n true false none n/a".split())


def query_text(understanding: Understanding) -> str:
    """The query as it is read: with its spelling put right, where that was done."""
    return normalize(understanding.normalized or understanding.query.text)


def item_text(features: ItemFeatures) -> str:
    """One line: title; brand; category; what was extracted; the seller's own fields. At most LONGEST_LINE characters.

    A part that the title says already is left out. Ids, shop, price and pictures' names are no part of it.
    """
    title = normalize(features.item.title[: 4 * _LONGEST_TITLE])[:_LONGEST_TITLE]
    line, known = title, fold(title)
    for part in dict.fromkeys(_parts(features)):
        value = normalize(part[: 4 * _LONGEST_PART])[:_LONGEST_PART]
        if not value or fold(value) in known:
            continue
        line = f"{line}; {value}" if line else value
        known += f"; {fold(value)}"
        if len(line) >= LONGEST_LINE:
            break
    return line[:LONGEST_LINE].rstrip()


def _parts(features: ItemFeatures) -> Iterator[str]:
    item = features.item
    yield item.brand or ""
    path = (item.category or "").split(">")
    yield " ".join(name.strip() for name in reversed(path[-2:]))  # the kind itself first
    for dimension in _DIMENSIONS:
        for value in features.of(dimension)[:_A_DIMENSION]:
            yield value.value or ""
    named = sorted(item.attributes, key=_tells_little)  # stable: else as the seller has them
    told = (name for name in named if (values := item.attributes[name]) and _says_something(values[0]))
    for name in islice(told, _MOST_FIELDS):
        yield f"{name} {', '.join(item.attributes[name][:2])}"


@lru_cache(maxsize=4096)
def _tells_little(name: str) -> bool:
    return _TELLING.search(name[:_LONGEST_PART]) is None


def _says_something(value: str) -> bool:
    """A number without a word, and yes or no, say little beside their field's name."""
    return _LETTER.search(value) is not None and value.strip().lower() not in _PLAIN_ANSWERS
