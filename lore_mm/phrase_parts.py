"""The parts of a text: where punctuation, numbers and words such as "for" and "with" begin another phrase.

It knows no goods: which part names the thing is `lore_mm.phrases`' to say.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lore_mm.mentions import Mention
from lore_mm.text import Token

__all__ = ["FOR", "Parts", "in_for", "part_of", "parts_of"]

# These begin what the thing is for, comes with, or is made of; the thing itself is named before.
_PARTING = frozenset(
    "for with without w compatible fits fit in by from under over at to that which and or plus using including "
    "featuring like made not no excluding except on as who where when if".split()
)
FOR = frozenset(("for", "compatible", "fits", "fit", "to"))
# Tight slashes part nothing: "printer/scanner" are two names of what comes.
_HARD_BREAK = re.compile(r"[,;:|()\[\]{}\n•–—+]|/\s|\s/|\s-\s|[.!?](?:\s|$)")

# Start of a word → number of its part, the word that opened the part; empty where all is one part.
Parts = dict[int, tuple[int, str]]
_WHOLE = (0, "")


def parts_of(
    text: str, words: Sequence[Token], mentions: Sequence[Mention], strict: bool, numbers: Sequence[tuple[int, int]]
) -> Parts:
    """The part of every word. Where not `strict`, only words part; `numbers` are the spans of a title's quantities."""
    if not strict and _PARTING.isdisjoint([w.text for w in words]):
        return {}
    inside = {i for m in mentions for i in range(m.start, m.end)}
    parts: Parts = {}
    measured = {start for start, _ in numbers} - inside
    number, opener, last = 0, "", 0
    for word in words:
        if strict and last and (word.start in measured or _HARD_BREAK.search(text[last : word.start])):
            number, opener = number + 1, "," if opener not in FOR else opener
        if word.text in _PARTING and word.start not in inside:
            if not (word.text in ("and", "or", "plus") and opener in FOR):
                number, opener = number + 1, word.text
        parts[word.start] = (number, opener)
        last = word.end
    return parts


def part_of(m: Mention, parts: Parts) -> int:
    """The number of the part that a mention stands in."""
    return parts.get(m.start, _WHOLE)[0]


def in_for(m: Mention | Token, parts: Parts) -> bool:
    """True for what stands behind "for", "compatible with" and the like."""
    return parts.get(m.start, _WHOLE)[1] in FOR
