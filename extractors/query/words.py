"""Where words that somebody else wrote down stand in a query: true spans of the text as it was typed.

A model copies words with other capitals, with other quotation marks, or in the singular; and a query can hold a word
twice. This module knows text, and neither models nor demands.
"""

from __future__ import annotations

import unicodedata

from lore_mm.text import fold, normalize, singular, tokens

__all__ = ["Places"]

# What `lore_mm.prompts.clean` turns brackets into, so that words copied from a prompt are found in the query.
_BRACKETS = str.maketrans("‹›[]", "<>()")


class Places:
    """Finds words in one text, each time at the next place that is not yet taken."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._words = tokens(text)
        self._singulars = [singular(word.text) for word in self._words]
        self._inner = {
            i for word in self._words for i in range(word.start + 1, word.end)
        }  # no word begins or ends here
        self._folded, self._origin = _folded(text)
        self._taken: set[int] = set()

    def take(self, words: str) -> tuple[int, int] | None:
        """The span [start, end) of the words, and it is taken; None where they do not stand in the text.

        First as they are written, then whatever the case, accents, compatibility forms and brackets, then each word
        in the singular. Whole words only. Where every place is taken already, it is the first of them.
        """
        words = words.strip()
        spans = [*self._exact(words), *self._loose(words), *self._inflected(words)]
        span = next((s for s in spans if self._taken.isdisjoint(range(*s))), next(iter(spans), None))
        if span is not None:
            self._taken.update(range(*span))
        return span

    def _whole(self, start: int, end: int) -> bool:
        return start < end and start not in self._inner and end not in self._inner

    def _exact(self, words: str) -> list[tuple[int, int]]:
        return [s for s in _everywhere(self.text, words) if self._whole(*s)]

    def _loose(self, words: str) -> list[tuple[int, int]]:
        wanted = _folded(words)[0].strip()
        found = _everywhere(self._folded, wanted)
        spans = [(self._origin[start], self._origin[end - 1] + 1) for start, end in found]
        return [s for s in spans if self._whole(*s)]

    def _inflected(self, words: str) -> list[tuple[int, int]]:
        wanted = [singular(word.text) for word in tokens(normalize(words))]
        n = len(wanted)
        return [
            (self._words[i].start, self._words[i + n - 1].end)
            for i in range(len(self._words) - n + 1)
            if n and self._singulars[i : i + n] == wanted
        ]


def _everywhere(text: str, words: str) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    at = text.find(words) if words else -1
    while at >= 0:
        found.append((at, at + len(words)))
        at = text.find(words, at + 1)
    return found


def _folded(text: str) -> tuple[str, list[int]]:
    """The text as it is compared, white space as one blank; and for each of its characters, which one it comes from."""
    kept: list[str] = []
    origin: list[int] = []
    for i, character in enumerate(text):
        blank = "" if unicodedata.combining(character) else " "
        form = fold(normalize(character)).translate(_BRACKETS) or blank
        for one in form:
            if one == " " and kept and kept[-1] == " ":
                continue
            kept.append(one)
            origin.append(i)
    return "".join(kept), origin
