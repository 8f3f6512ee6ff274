"""What the words of a query and of an item's text have in common, as numbers: what a small encoder counts badly.

Everything is told of one pair alone: no corpus, no word frequencies, no tables. Words are compared in the singular and
without accents. Where the query, or the place looked at, has no words, a share is 0 and a position 1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from lore_mm.text import fold, singular, tokens
from lore_mm.types import Item

__all__ = ["WORD_FEATURES", "ItemWords", "QueryWords", "read_item", "read_query", "word_features"]

# All are in [0, 1]. Counts are divided by a most, named behind them, and cut there.
WORD_FEATURES: tuple[str, ...] = (
    "query_words",  # of 12, without function words
    "query_numbers",  # of 4: words with a digit
    "query_says_for",  # 1 where it says what something is for, or goes with
    "in_title",  # share of the query's words
    "in_title_head",  # before "for", "with", a comma …: where the thing itself is named
    "in_text",  # title, seller's fields and description
    "in_category",  # the seller's
    "in_category_leaf",
    "in_brand",
    "in_fields",  # the seller's other attributes
    "in_title_loosely",  # as a part of a word, or two words as one: "earbuds", "ear buds"
    "trigrams_in_title",  # share of the query's runs of three characters
    "pairs_in_title",  # share of its neighbouring words that are neighbours there
    "phrase_in_title",  # 1 where all its words stand together, in order
    "phrase_in_title_head",
    "first_place",  # of the first of its words in the title, 0 the first word … 1 none
    "last_place",
    "title_answered",  # share of the title's words that the query has
    "title_head_answered",
    "noun_in_title",  # the word that names what is asked for, the last before "for", "with" …: 1 where it is there
    "noun_in_title_head",
    "noun_ends_title_head",  # it is the last word that is not a number there
    "noun_in_category",
    "noun_in_text",
    "noun_only_behind_for",  # it stands in the title behind "for", "compatible with", "fits" and not before
    "behind_for",  # share of the query's words in the title that stand only there
    "numbers_in_title",  # share of the query's words with a digit
    "numbers_in_text",
    "numbers_lost",  # 1 where such a word is nowhere in the text
    "brand_in_query",  # 1 where all words of the seller's brand are in the query
    "accessory_unasked",  # 1 where the title's head names an accessory or part, and the query none
    "accessory_asked",  # 1 where the query names one
    "accessory_met",  # 1 where the title's head names that very one
    "title_says_for",
    "title_words",  # of 30
    "title_head_share",  # of the title's words
    "text_words",  # of 200
    "has_category",
    "has_brand",
    "has_price",
    "has_picture",
    "field_count",  # of 20
)  # fmt: skip

# Characters that are read.
_LONGEST_QUERY, _LONGEST_TITLE, _LONGEST_NAME, _LONGEST_TEXT = 300, 400, 200, 2000
_LONGEST_FIELD, _LONGEST_FIELDS = 60, 1500
_WORD = re.compile(r"[0-9]+(?:[.,][0-9]+)+[a-z]*|[a-z0-9]+(?:'[a-z]+)*")
_DIGIT = re.compile(r"\d")
_SIGN = re.compile(r"[^\w\s\x00-\x7f]")
_EMPTY_WORDS = frozenset(
    "a an and any are as at be best buy by can cheap do find for from get good i in is it me my of on or our shop "
    "show some that the this to want with you your without no not".split()
)
_FOR = frozenset("for with fit fits compatible to".split())
# Where a title stops naming the thing and begins to say what it is for, made by or comes with. A student's weights were
# trained with these very words, so they stay as they are when reading of titles gets better elsewhere.
_TAIL = re.compile(
    r"\s(?:for|with|by|from|compatible|fits?|featuring|including|in|like|w/)\s|[,|(\[:–—/]|\s-\s", re.IGNORECASE
)
_BEHIND_FOR = re.compile(r"\b(?:for|compatible(?:\s+with)?|fits?|suits?|replacement\s+of)\s", re.IGNORECASE)
_ACCESSORIES = frozenset(
    "accessory adapter adaptor attachment bag band battery bracket cable carrier cartridge case charger cleaner clip "
    "cover cradle dock filter grip handle holder ink kit lens mount pad part pouch protector rack "
    "refill remote repair replacement screw shell skin sleeve spare spray stand strap toner tray tripod "
    "warranty".split()
)


@dataclass(frozen=True, slots=True)
class QueryWords:
    """A query, read once for many items."""

    words: tuple[str, ...]  # singular, without function words
    noun: str  # the word that names the thing; "" where there is none
    numbers: tuple[str, ...]
    trigrams: frozenset[str]
    says_for: bool
    accessories: frozenset[str]


@dataclass(frozen=True, slots=True)
class ItemWords:
    """An item's text, read once for many queries."""

    title: tuple[str, ...]
    head: tuple[str, ...]  # the title's words where it names the thing
    title_set: frozenset[str]
    head_set: frozenset[str]
    text: frozenset[str]
    category: frozenset[str]
    leaf: frozenset[str]
    brand: frozenset[str]
    fields: frozenset[str]
    before_for: frozenset[str]  # of the title
    joined: str  # the title without spaces
    trigrams: frozenset[str]
    says_for: bool
    accessories: frozenset[str]
    facts: tuple[float, ...]  # of the item alone


def read_query(text: str) -> QueryWords:
    """The words of a query."""
    text = text[:_LONGEST_QUERY]
    all_words = _words(text)
    words = tuple(word for word in all_words if word not in _EMPTY_WORDS) or tuple(all_words)
    tail = _TAIL.search(text)
    before = [w for w in _words(text[: tail.start()] if tail else text) if w not in _EMPTY_WORDS]
    named = [w for w in (before or words) if not _has_digit(w)]
    return QueryWords(
        words=words,
        noun=named[-1] if named else "",
        numbers=tuple(w for w in words if _has_digit(w)),
        trigrams=_trigrams(" ".join(words)),
        says_for=not _FOR.isdisjoint(all_words),
        accessories=_ACCESSORIES.intersection(words),
    )


def read_item(item: Item) -> ItemWords:
    """The words of an item's title, seller's fields and description."""
    text = item.title[:_LONGEST_TITLE]
    tail = _TAIL.search(text, 1) if text else None
    behind = _BEHIND_FOR.search(text)
    title = tuple(_words(text))
    head = tuple(_words(text[: tail.start()])) if tail else title
    path = (item.category or "")[-_LONGEST_NAME:]
    category, leaf = frozenset(_words(path)), frozenset(_words(path.rsplit(">", 1)[-1]))
    values = " ".join([v[:_LONGEST_FIELD] for values in item.attributes.values() for v in values])
    fields = frozenset(_words(values[:_LONGEST_FIELDS]))
    brand = frozenset(_words((item.brand or "")[:_LONGEST_NAME]))
    described = _words(item.description[:_LONGEST_TEXT])
    title_set, head_set = frozenset(title), frozenset(head)
    facts = (
        _of(len(title), 30),
        len(head) / len(title) if title else 0.0,
        _of(len(described), 200),
        float(bool(category)),
        float(bool(brand)),
        float(item.price is not None),
        float(bool(item.images)),
        _of(len(item.attributes), 20),
    )
    return ItemWords(
        title=title,
        head=head,
        title_set=title_set,
        head_set=head_set,
        text=title_set.union(category, brand, fields, described),
        category=category,
        leaf=leaf,
        brand=brand,
        fields=fields,
        before_for=frozenset(_words(text[: behind.start()])) if behind else title_set,
        joined="".join(title),
        trigrams=_trigrams(" ".join(title)),
        says_for=behind is not None,
        accessories=_ACCESSORIES.intersection(head_set),
        facts=facts,
    )


def word_features(query: QueryWords, item: ItemWords) -> list[float]:
    """The numbers of one pair, in the order of `WORD_FEATURES`."""
    words, noun = query.words, query.noun
    there = [word in item.title_set for word in words]
    places = [i for i, word in enumerate(item.title) if word in words]
    last = max(len(item.title) - 1, 1)
    behind = [w for w, found in zip(words, there, strict=True) if found and w not in item.before_for]
    asked = frozenset(words)
    return [
        _of(len(words), 12),
        _of(len(query.numbers), 4),
        float(query.says_for),
        _share(words, item.title_set),
        _share(words, item.head_set),
        _share(words, item.text),
        _share(words, item.category),
        _share(words, item.leaf),
        _share(words, item.brand),
        _share(words, item.fields),
        _loosely(words, there, item.joined),
        len(query.trigrams & item.trigrams) / len(query.trigrams) if query.trigrams else 0.0,
        _pairs(words, item.title),
        float(_phrase(words, item.title)),
        float(_phrase(words, item.head)),
        places[0] / (last + 1) if places else 1.0,
        places[-1] / (last + 1) if places else 1.0,
        _share(item.title, asked),
        _share(item.head, asked),
        float(noun in item.title_set),
        float(noun in item.head_set),
        float(noun == _ending(item.head)) if noun else 0.0,
        float(noun in item.category),
        float(noun in item.text),
        float(noun in item.title_set and noun not in item.before_for),
        len(behind) / sum(there) if behind else 0.0,
        _share(query.numbers, item.title_set),
        _share(query.numbers, item.text),
        float(any(n not in item.text for n in query.numbers)),
        float(bool(item.brand) and item.brand <= asked),
        float(bool(item.accessories) and not query.accessories),
        float(bool(query.accessories)),
        float(bool(query.accessories & item.accessories)),
        float(item.says_for),
        *item.facts,
    ]


def _words(text: str) -> list[str]:
    """Folded, in the singular."""
    folded = fold(text)
    plain = folded if folded.isascii() else _SIGN.sub(" ", folded)  # most texts are plain but for a sign or two
    found = _WORD.findall(plain) if plain.isascii() else [token.text for token in tokens(folded)]
    return list(map(singular, found))


def _has_digit(word: str) -> bool:
    return not word.isalpha() and _DIGIT.search(word) is not None


def _trigrams(text: str) -> frozenset[str]:
    return frozenset([text[i : i + 3] for i in range(len(text) - 2)])


def _of(count: int, most: int) -> float:
    return min(count, most) / most


def _share(words: Sequence[str], place: frozenset[str]) -> float:
    return sum(map(place.__contains__, words)) / len(words) if words else 0.0


def _loosely(words: Sequence[str], there: Sequence[bool], joined: str) -> float:
    """Short words only as they are: "tv" is in many words."""
    found = sum(known or (len(word) > 3 and word in joined) for word, known in zip(words, there, strict=True))
    return found / len(words) if words else 0.0


def _pairs(words: Sequence[str], title: Sequence[str]) -> float:
    if len(words) < 2:
        return 0.0
    neighbours = set(pairwise(title))
    return sum(map(neighbours.__contains__, pairwise(words))) / (len(words) - 1)


def _phrase(words: Sequence[str], place: Sequence[str]) -> bool:
    n = len(words)
    if not n or n > len(place):
        return False
    first, wanted = words[0], tuple(words)
    if first not in place:
        return False
    return any(word == first and tuple(place[i : i + n]) == wanted for i, word in enumerate(place))


def _ending(words: Sequence[str]) -> str:
    return next((word for word in reversed(words) if not _has_digit(word)), "")
