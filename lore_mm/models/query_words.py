"""A query as a tagger's model reads it: words with exact spans, the pieces of words, and what the tables say of them.

Training and tagging share this, so that both read alike. Words stand between white space, as in QueryNER; scripts
written without spaces are read a character at a time. It knows no model and no types of entities.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lore_mm.mentions import Scanner
from lore_mm.models.onnx_files import open_tokenizer
from lore_mm.text import UNSPACED

__all__ = ["HINTS", "MOST_PIECES", "MOST_WORDS", "Pieces", "Reader", "hints_of", "split_words", "trimmed"]

MOST_WORDS, MOST_PIECES = 64, 128  # of a text; what follows is not read
_LONGEST_WORD = 200  # characters that are handed to the tokenizer; from 101 letters on a word is [UNK] anyway
# What the tables can say of a word: a term on this dimension begins here, or goes on here.
HINTS = (
    "category", "brand", "model", "ip", "component", "bundle", "style_detail", "style", "color", "material", "spec",
    "function", "audience", "season", "year", "price", "store", "special", "need",
)  # fmt: skip
_WORD = re.compile(f"[{UNSPACED}]|[^\\s{UNSPACED}]+")
_JOINS = frozenset("\u200c\u200d\ufe0e\ufe0f")
_SURROGATE = re.compile("[\ud800-\udfff]")
# Punctuation that a person puts behind or around words; a span does not begin or end with it.
_AROUND = ',;:!?()[]{}"“”„«»|…。、，；：！？'
_BEHIND = _AROUND + "."

Span = tuple[int, int]


def split_words(text: str) -> list[Span]:
    """The spans of the first MOST_WORDS words, [start, end) in characters of the text as given."""
    found: list[Span] = []
    for match in islice(_WORD.finditer(text), 4 * MOST_WORDS):
        start, end = match.span()
        first = text[start]
        joins = first in _JOINS or (not first.isascii() and unicodedata.category(first)[0] == "M")
        if joins and found and found[-1][1] == start:  # a mark belongs to the character before it
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found[:MOST_WORDS]


def trimmed(text: str, start: int, end: int) -> Span:
    """The span without punctuation around it ("shoes," → "shoes"); as it is where it is nothing else."""
    first, last = start, end
    while first < last and text[first] in _AROUND:
        first += 1
    while last > first and text[last - 1] in _BEHIND:
        last -= 1
    if text[last : last + 1] == "." and "." in text[first:last]:  # a.m., l.o.l.
        last += 1
    return (first, last) if first < last else (start, end)


class Pieces(NamedTuple):
    """A text's word pieces, [CLS] and [SEP] among them; `words[i]` is the word that piece i is of, or -1."""

    ids: NDArray[np.int64]
    words: NDArray[np.int64]


class Reader:
    """A WordPiece tokenizer file, read once; safe for several threads."""

    def __init__(self, data: bytes, source: Path) -> None:
        self._tokenizer = open_tokenizer(data, source)
        self._tokenizer.enable_truncation(MOST_PIECES)

    def read(self, texts: Sequence[Sequence[str]]) -> list[Pieces]:
        """The pieces of each list of words."""
        clean = [[_SURROGATE.sub("\ufffd", word[:_LONGEST_WORD]) for word in words] for words in texts]
        made = self._tokenizer.encode_batch(clean, is_pretokenized=True)
        return [
            Pieces(
                np.array(one.ids, dtype=np.int64),
                np.array([-1 if word is None else word for word in one.word_ids], dtype=np.int64),
            )
            for one in made
        ]


def hints_of(text: str, words: Sequence[Span], scanner: Scanner) -> NDArray[np.float32]:
    """What the tables' terms say of each word: float32 (words, 2 · HINTS) of zeros and ones, begins and goes on.

    A word of several readings has several ones.
    """
    made = np.zeros((len(words), 2 * len(HINTS)), dtype=np.float32)
    for mention in scanner.find(text):
        names = {"need" if mention.table == "need" else mention.dimension}
        names |= {"need" if other.table == "need" else other.dimension for other in mention.others}
        places = [HINTS.index(name) for name in names if name in HINTS]
        for i, (start, end) in enumerate(words):
            if start < mention.end and end > mention.start:
                made[i, [2 * place + (start > mention.start) for place in places]] = 1
    return made
