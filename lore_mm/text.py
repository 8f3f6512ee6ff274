"""Text to tokens with exact spans; plural to singular; clean-up. It knows English inflection, and nothing of goods."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

__all__ = ["UNSPACED", "Token", "fold", "normalize", "one_of", "plurals", "singular", "tokens"]


class Token(NamedTuple):
    """A word or number: `text` folded for look-ups, [start, end) in characters of the original."""

    text: str
    start: int
    end: int


# A word keeps inner apostrophes (men's), a number inner points and commas (2.5, 1,000). All else parts words.
_ASCII = re.compile(r"[0-9]+(?:[.,][0-9]+)+[A-Za-z]*|[A-Za-z0-9]+(?:'[A-Za-z]+)*")
_ACCENTS = re.compile("[\u0300-\u036f\u200c\u200d\ufe0e\ufe0f]")  # and marks that only shape what is beside them
_CONTROL = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\uffff\ud800-\udfff]+"
)
_SPACES = re.compile(r"\s+")
# Scripts that are written without spaces are read a character at a time: kana, Han, and their extensions.
UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"


@lru_cache(maxsize=1)
def _unicode_pattern() -> re.Pattern[str]:
    """The word pattern for text beyond ASCII: as the plain one, with combining marks and unspaced scripts."""
    marks = [c for c in range(0x300, 0x1E000) if unicodedata.category(chr(c)) in ("Mn", "Mc")]
    ranges: list[list[int]] = []
    for c in marks:
        if ranges and ranges[-1][1] == c - 1:
            ranges[-1][1] = c
        else:
            ranges.append([c, c])
    mark = "".join(f"{chr(a)}-{chr(b)}" for a, b in ranges)
    letter = f"(?:[^\\W_{UNSPACED}][{mark}\u200c\u200d]*)"
    return re.compile(f"[0-9]+(?:[.,][0-9]+)+[A-Za-z]*|[{UNSPACED}]|{letter}+(?:['’]{letter}+)*")


def fold(text: str) -> str:
    """The form words are compared in: compatibility forms unified; case, Latin accents and joiners removed."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text.replace("’", "'")).casefold()
    return unicodedata.normalize("NFC", _ACCENTS.sub("", decomposed))


def tokens(text: str) -> list[Token]:
    """The words and numbers of a text, in order.

    "T-shirt 2.5m" gives t, shirt, 2.5m as folded texts; spans always index the text as given.
    """
    if text.isascii():
        return _ascii_tokens(text.lower())
    return [Token(fold(m.group()), m.start(), m.end()) for m in _unicode_pattern().finditer(text)]


def _ascii_tokens(text: str) -> list[Token]:
    found: list[Token] = []
    end = 0
    for word in _ASCII.findall(text):  # quicker than a match object a word; each is the next such string
        start = text.index(word, end)
        end = start + len(word)
        found.append(Token(word, start, end))
    return found


def normalize(text: str) -> str:
    """NFKC, control and invisible characters to spaces, runs of white space to one space, ends trimmed."""
    if text.isascii() and text.isprintable():
        return " ".join(text.split())
    text = _CONTROL.sub(" ", text)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return _SPACES.sub(" ", text).strip()


def one_of(*strings: str) -> re.Pattern[str]:
    """A pattern that finds any of these strings: a quick look whether a slower pattern is worth trying."""
    return re.compile("|".join(map(re.escape, strings)))


_IRREGULAR = {
    "men": "man", "women": "woman", "children": "child", "feet": "foot", "teeth": "tooth", "mice": "mouse",
    "geese": "goose", "people": "person", "oxen": "ox", "dice": "die", "knives": "knife", "shelves": "shelf",
    "bookshelves": "bookshelf", "leaves": "leaf", "scarves": "scarf", "loaves": "loaf", "halves": "half",
    "wolves": "wolf", "wives": "wife", "lives": "life", "calves": "calf", "elves": "elf", "hooves": "hoof",
    "thieves": "thief", "taxis": "taxi", "cacti": "cactus", "shoes": "shoe",
    "toes": "toe", "canoes": "canoe", "hoes": "hoe", "axes": "axe", "aloes": "aloe", "lenses": "lens",
    "buses": "bus", "gases": "gas", "quizzes": "quiz", "batteries": "battery", "cookies": "cookie",
    "movies": "movie", "brownies": "brownie", "ties": "tie", "pies": "pie", "hoodies": "hoodie", "beanies": "beanie",
    "selfies": "selfie", "smoothies": "smoothie", "onesies": "onesie", "zombies": "zombie", "genies": "genie",
    "bowties": "bowtie", "neckties": "necktie", "birdies": "birdie", "newbies": "newbie",
    "foodies": "foodie", "lies": "lie", "dies": "die", "rookies": "rookie", "collies": "collie", "barbies": "barbie",
    "talkies": "talkie", "walkies": "walkie", "caddies": "caddie", "indies": "indie", "aunties": "auntie",
    "heroes": "hero", "tomatoes": "tomato", "potatoes": "potato", "mangoes": "mango", "echoes": "echo",
    "caches": "cache", "headaches": "headache", "moustaches": "moustache", "mustaches": "mustache",
    "quiches": "quiche", "niches": "niche", "avalanches": "avalanche", "suitcases": "suitcase", "yoyos": "yoyo",
}  # fmt: skip
# The same in both numbers, or not a plural at all.
_SAME = frozenset(
    "abs access adidas airpods always as asics asparagus asus atlas axis basis bass binoculars bonus boss brass "
    "briefs bus cactus campus canvas charles chess christmas citrus class clothes converse cordless crocs cross "
    "dallas does dress dungarees dvds ethernet eucalyptus ficus floss focus gas glass glasses gloss goggles gps "
    "grass has hass hermes hers hibiscus his hummus iris is its james jeans jesus kansas knickers lays lbs "
    "leggings lens less levis lexus loss lotus mars mass mens minus molasses moss news octopus ours pajamas pants "
    "paris philips pliers plus press prius pros pyjamas ross samsung scissors series shorts siemens sls sous "
    "species stainless status sunglasses sweats swiss texas this thomas thus tights toss trousers tweezers "
    "underpants us venus versus virus walrus was wireless womens yours".split()
)


@lru_cache(maxsize=65536)
def singular(word: str) -> str:
    """The singular of a lower-case English noun by rule and a short list of exceptions; other words unchanged.

    It errs on the side of leaving a word alone: words in -ss, -us, -is and the pluralia tantum (jeans, scissors) stay.
    """
    known = _IRREGULAR.get(word)
    if known is not None:
        return known
    n = len(word)
    if n < 4 or word[-1] != "s" or word in _SAME or not word.isalpha():
        return word
    if word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y" if n > 4 else word[:-1]
    if word.endswith(("sses", "shes", "ches", "xes", "zzes")):
        return word[:-2]
    return word[:-1]


def plurals(word: str) -> list[str]:
    """Every other form that `singular` reads as this word: knife → knives, knifes. For tables built once."""
    irregular = [plural for plural, one in _IRREGULAR.items() if one == word]
    forms = dict.fromkeys((*irregular, word + "s", word + "es", word[:-1] + "ies"))
    return [form for form in forms if form != word and singular(form) == word]
