"""Which words stay as they were typed: names are not misspellings, though a table has a word like them.

The scanner corrects only words of five and more letters without digits that are neither known nor everyday English
(`lore_mm.spelling`). Here the query's own capitals are heard as well. This module knows words, not goods.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lore_mm.knowledge import Knowledge
from lore_mm.mentions import Mention, Scanner
from lore_mm.spelling import common_words
from lore_mm.text import normalize, tokens

__all__ = ["corrected", "corrections", "with_names_as_typed", "without_everyday_makers"]

_LOWER_WORD = re.compile(r"(?<![^\W_])[a-z]")
_MASK = "\x00"


def with_names_as_typed(text: str, mentions: list[Mention], scanner: Scanner) -> list[Mention]:
    """The mentions without corrections of names: what they covered is read again as if the name were not there.

    A word is a name by its capital where other words of the query have none ("Razer mouse"), where it is all there
    is ("Razer"), or by capitals inside ("McDavid"). Letters beyond ASCII make a word foreign, not
    misspelt. A misspelling that the tables list for a brand is always read.
    """
    masked = text
    for _ in range(len(mentions) + 1):
        names = [m for m in mentions if m.correction and _is_name(text, m, scanner.knowledge)]
        if not names:
            return mentions
        for m in names:
            end = m.start + len(_first_word(m))
            masked = masked[: m.start] + _MASK * (end - m.start) + masked[end:]
        mentions = scanner.find(masked)
    return [m for m in mentions if not m.correction]


def without_everyday_makers(mentions: list[Mention], knowledge: Knowledge) -> list[Mention]:
    """The mentions without makers whose name is an everyday word, where the query names a thing they do not make.

    "replacement head for a mop" is not of the maker Head; "head ski jacket" is, for Head makes skis.
    """
    everyday = common_words()
    doubtful = [m for m in mentions if m.table == "brand" and not m.others and m.text in everyday]
    if not doubtful:
        return mentions
    things = [m.canonical for m in mentions if m.table == "category"]
    things += [s.category for m in mentions if m.table == "series" and (s := knowledge.series[m.canonical]).category]
    if not things:
        return mentions
    out = [m for m in doubtful if not _makes(m.canonical, things, knowledge)]
    return [m for m in mentions if m not in out] if out else mentions


def _makes(brand: str, things: Sequence[str], knowledge: Knowledge) -> bool:
    made = knowledge.brands[brand].makes
    return any(knowledge.is_a(t, b) or knowledge.is_a(b, t) for t in things for b in made)


def corrections(mentions: Sequence[Mention]) -> tuple[tuple[str, str], ...]:
    """(as typed, as read) of each corrected word, in the order of the query."""
    return tuple((_first_word(m), m.correction) for m in mentions if m.correction)


def corrected(normalized: str, corrections: Sequence[tuple[str, str]]) -> str:
    """The normalised query with its spelling put right: the first whole word, or words, of each (as typed, as read)."""
    for typed, read in corrections:
        wrong = normalize(typed)
        at = normalized.find(wrong) if wrong else -1
        while at >= 0 and (_in_word(normalized, at) or _in_word(normalized, at + len(wrong))):
            at = normalized.find(wrong, at + 1)
        if at >= 0:
            normalized = normalized[:at] + read + normalized[at + len(wrong) :]
    return normalized


def _in_word(text: str, place: int) -> bool:
    """True between two letters or digits."""
    return 0 < place < len(text) and text[place - 1].isalnum() and text[place].isalnum()


def _first_word(m: Mention) -> str:
    """The word that was corrected: the scanner corrects the first of a term."""
    first = tokens(m.text)[0]
    return m.text[first.start : first.end]


def _is_name(text: str, m: Mention, knowledge: Knowledge) -> bool:
    word = _first_word(m)
    if not word.isascii():
        return True  # foreign rather than misspelt
    if word.islower() or (m.table == "brand" and word.lower() in knowledge.brands[m.canonical].misspelt):
        return False
    inside = word[1:]
    if not inside.islower() and not inside.isupper():
        return True
    return bool(_LOWER_WORD.search(text)) or word == text.strip()
