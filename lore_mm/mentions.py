"""Find what the knowledge tables name in a text: a token trie, walked once, longest match first, with exact spans.

It corrects spelling with care, reads negation ("without laces", "no logo", "silicone-free"), and says for each mention
which other readings its words have. Which reading holds in context is for the parsers to decide.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from lore_mm.knowledge import Knowledge
from lore_mm.spelling import Near, common_words
from lore_mm.text import Token, singular, tokens

__all__ = ["Mention", "Reading", "Scanner", "scanner_for"]

Via = Literal["exact", "inflected", "misspelt"]


@dataclass(frozen=True, slots=True)
class Reading:
    """One thing that a term can mean. `table` is category · brand · series · color · material · term · need."""

    dimension: str
    canonical: str
    table: str


@dataclass(frozen=True, slots=True)
class Mention:
    """A known term in a text: text[start:end] == mention.text. `others` are further readings of the same words."""

    dimension: str
    canonical: str
    text: str
    start: int
    end: int
    via: Via
    confidence: float  # in [0, 1]
    negated: bool
    table: str
    others: tuple[Reading, ...] = ()
    correction: str | None = None  # what a misspelt mention was read as

    def read_as(self, reading: Reading) -> Mention:
        """The same words in another of their readings."""
        rest = (Reading(self.dimension, self.canonical, self.table), *(r for r in self.others if r != reading))
        return replace(self, dimension=reading.dimension, canonical=reading.canonical, table=reading.table, others=rest)


# Readings of one term are ranked by table: what is rarer in the language is likelier to be meant.
_RANK = {"need": 0, "series": 1, "category": 2, "color": 3, "brand": 4, "material": 5, "term": 6}
_CONFIDENCE: dict[Via, float] = {"exact": 1.0, "inflected": 0.98, "misspelt": 0.75}
_LONGEST_TERM = 8  # tokens looked at after a corrected word
_LONGEST_WORD = 40  # letters; what is longer is no misspelling
_JOINED = 0.9  # "sun glasses" for sunglasses
_BREAK = re.compile(r"[,;:!?|()\[\]{}\n\"“”•·]|[.]\s")


class _Node:
    __slots__ = ("edges", "phrase", "readings")

    def __init__(self) -> None:
        self.edges: dict[str, _Node] = {}
        self.readings: tuple[Reading, ...] = ()
        self.phrase = ""


class Scanner:
    """The trie of one knowledge; build it once (`scanner_for`), use it from any thread."""

    def __init__(self, knowledge: Knowledge) -> None:
        self.knowledge = knowledge
        self._root = _Node()
        self._words: set[str] = set()
        for term, reading in _terms(knowledge):
            self._add(term, reading)
        self._common = common_words()
        self._misspelt = {w: m for b in knowledge.brands.values() for w, m in _misspellings(b.name, b.misspelt)}
        # Only words that are a term by themselves are corrected to: "world" inside a longer term draws in too much.
        single = {w: node for w, node in self._root.edges.items() if w.isascii() and w.isalpha() and node.readings}
        self._near = Near(w for w, node in single.items() if node.readings[0].table != "need")

    def knows(self, word: str) -> bool:
        """True for a word that is part of some term, or its plural, or is everyday English."""
        return (
            word in self._words
            or word in self._common
            or singular(word) in self._words
            or singular(word) in self._common
        )

    def find(self, text: str, correct: bool = True) -> list[Mention]:
        """All mentions, leftmost longest first, without overlaps; `correct=False` leaves misspellings alone."""
        found = tokens(text)
        mentions: list[Mention] = []
        i = 0
        while i < len(found):
            token = found[i].text
            first = self._root.edges
            mention = None
            if token in first or singular(token) in first or "'" in token:
                mention, used = self._longest(text, found, i)
            if mention is None:
                mention, used = self._loose(text, found, i, correct)
            if mention is None:
                i += 1
            else:
                mentions.append(mention)
                i += used
        return _negate(text, found, mentions) if mentions and _CUES.search(text) else mentions

    def negated(self, text: str) -> list[tuple[int, int]]:
        """The spans of what the text says is not so ("without a hood"); quick where it denies nothing."""
        if not _CUES.search(text):
            return []
        return [(m.start, m.end) for m in self.find(text, correct=False) if m.negated]

    def _add(self, term: str, reading: Reading) -> None:
        for words in _spellings(term):
            node = self._root
            for word in words:
                self._words.add(word)
                node = node.edges.setdefault(word, _Node())
            if reading not in node.readings:
                node.readings = tuple(sorted((*node.readings, reading), key=lambda r: _RANK[r.table]))
                node.phrase = " ".join(words)

    def _longest(self, text: str, found: list[Token], i: int) -> tuple[Mention | None, int]:
        best: tuple[int, bool, _Node] | None = None
        stack: list[tuple[_Node, int, bool]] = [(self._root, i, False)]
        while stack:
            node, at, inflected = stack.pop()
            if node.readings and (best is None or (at, not inflected) > (best[0], not best[1])):
                best = (at, inflected, node)
            if at >= len(found) or (at > i and _parted(text, found[at - 1], found[at])):
                continue
            word = found[at].text
            for n, form in enumerate(_forms(word)):
                below = node.edges.get(form)
                if below is not None:
                    stack.append((below, at + 1, inflected or n > 0))
        if best is None:
            return None, 0
        at, inflected, node = best
        via: Via = "inflected" if inflected else "exact"
        return _mention(text, found[i].start, found[at - 1].end, node.readings, via, _CONFIDENCE[via]), at - i

    def _loose(self, text: str, found: list[Token], i: int, correct: bool) -> tuple[Mention | None, int]:
        """Two words written apart that are one term, or one word misspelt."""
        token = found[i]
        word = token.text
        if i + 1 < len(found) and found[i + 1].start == token.end + 1 and len(word) > 2:
            joined = word + found[i + 1].text
            node = self._root.edges.get(joined) or self._root.edges.get(singular(joined))
            if (
                node
                and node.readings
                and len(joined) > 6
                and not text[token.end].isalnum()
                and not _parted(text, token, found[i + 1])
            ):
                return _mention(text, token.start, found[i + 1].end, node.readings, "inflected", _JOINED), 2
        if not correct or not 5 <= len(word) <= _LONGEST_WORD or not word.isascii() or not word.isalpha():
            return None, 0
        right = self._misspelt.get(word) or (None if self.knows(word) else self._near.find(word))
        if right is None:
            return None, 0
        fixed = [token._replace(text=right), *found[i + 1 : i + _LONGEST_TERM]]
        mention, used = self._longest(text, fixed, 0)
        if mention is None:
            return None, 0
        return replace(mention, via="misspelt", confidence=_CONFIDENCE["misspelt"], correction=right), used


def _mention(text: str, start: int, end: int, readings: tuple[Reading, ...], via: Via, confidence: float) -> Mention:
    first = readings[0]
    return Mention(
        first.dimension, first.canonical, text[start:end], start, end, via, confidence, False, first.table, readings[1:]
    )


def _parted(text: str, left: Token, right: Token) -> bool:
    """True where punctuation between two tokens keeps them from being one term."""
    gap = text[left.end : right.start]
    if gap in (" ", "-", ""):
        return False
    if len(gap) > 4 and gap.strip():
        return True
    return bool(_BREAK.search(gap)) and not (gap == ". " and len(left.text) <= 2)


def _forms(word: str) -> list[str]:
    """A word of a text as it may stand in the tables: itself, its singular, without a possessive."""
    forms = [word]
    one = singular(word)
    if one != word:
        forms.append(one)
    if "'" in word:
        forms.append(word.replace("'", ""))
        if word.endswith("'s"):
            forms.append(word[:-2])
            forms.append(singular(word[:-2]))
    return forms


def _spellings(term: str) -> Iterator[tuple[str, ...]]:
    """A term's tokens, with & also read as and, apostrophes dropped, hyphens also closed up."""
    words = tuple(t.text for t in tokens(term))
    if not words:
        return
    yield words
    if "&" in term:
        yield tuple(t.text for t in tokens(term.replace("&", " and ")))
    if any("'" in w for w in words):
        yield tuple(w.replace("'", "") for w in words)
    if "-" in term:
        closed = tuple(t.text for t in tokens(term.replace("-", "")))
        if closed != words:
            yield closed


def _terms(knowledge: Knowledge) -> Iterator[tuple[str, Reading]]:
    for c in knowledge.categories.values():
        for term in {c.name, c.id.replace("_", " "), *c.terms}:
            yield term, Reading("category", c.id, "category")
    for b in knowledge.brands.values():
        for term in {b.name, *b.terms, *(m for m in b.misspelt if " " in m or not m.isalpha())}:
            yield term, Reading("brand", b.name, "brand")
    for s in knowledge.series.values():
        for term in {s.name, *s.terms}:
            yield term, Reading("model", s.name, "series")
    for color in knowledge.colors.values():
        for term in {color.name, *color.terms}:
            yield term, Reading("color", color.name, "color")
    for m in knowledge.materials.values():
        for term in {m.name, *m.terms}:
            yield term, Reading("material", m.name, "material")
    for t in knowledge.terms.values():
        for term in {t.value, *t.terms}:
            yield term, Reading(t.dimension, t.value, "term")
    for n in knowledge.needs.values():
        for term in n.terms:
            yield term, Reading("need", n.id, "need")


def _misspellings(name: str, misspelt: Iterable[str]) -> Iterator[tuple[str, str]]:
    right = tokens(name)
    for wrong in misspelt:
        if len(right) == 1 and " " not in wrong:
            yield wrong.lower(), right[0].text


_CUES = re.compile(
    r"\b(?:without|w/o|no|not|non|never|excluding|except|exclude|minus|free|isn't|doesn't|aren't|don't|none|avoid|lacks?|"
    r"separately|excluded|sans)\b",
    re.IGNORECASE,
)
_BEFORE = frozenset("without no not non excluding except exclude minus never avoid lack lacks sans".split())
_JOINING = frozenset(("or", "and", "nor", "any", "a", "an", "the", "of", "with", "made", "from", "visible"))
_SKIPPED = frozenset(
    (
        "any",
        "a",
        "an",
        "the",
        "of",
        "made",
        "from",
        "visible",
        "annoying",
        "too",
        "include",
        "including",
        "contain",
        "have",
    )
)
_AFTER = re.compile(r"\s*(?:is |are )?(?:not included|not incl|sold separately|excluded|not supplied)\b", re.IGNORECASE)
_FREE_AFTER = re.compile(
    r"(?:-|\s)free\b(?!\s(?:shipping|delivery|gift|returns?|sample|run|people|size|standing))", re.IGNORECASE
)
_NAMING = frozenset(
    ("color", "material", "style", "style_detail", "function", "audience", "season", "brand", "model", "special")
)


def _negate(text: str, found: list[Token], mentions: list[Mention]) -> list[Mention]:
    """Mark mentions in the scope of a negation.

    A cue reaches over articles to the next mention and on through "or", "and", "nor"; through neighbours of the
    same noun phrase ("without leather straps"); never over punctuation, and from a negated quality not onto the kind of
    thing ("not leather shoes" are shoes).
    """
    starts = {m.start: n for n, m in enumerate(mentions)}
    inside = {i for m in mentions for i in range(m.start + 1, m.end)}
    negated: set[int] = set()
    for i, token in enumerate(found):
        cue = token.text in _BEFORE or token.text in ("isn't", "doesn't", "aren't", "don't") or (
            token.text == "w" and text[token.end : token.end + 2].lower() == "/o"
        )  # fmt: skip
        if cue and token.start not in starts and token.start not in inside:
            negated |= set(_scope(text, found, i, starts, mentions))
    for n, mention in enumerate(mentions):
        if _AFTER.match(text, mention.end) or (mention.table != "term" and _FREE_AFTER.match(text, mention.end)):
            negated.add(n)
    return [replace(m, negated=True) if n in negated else m for n, m in enumerate(mentions)]


def _scope(text: str, found: list[Token], cue: int, starts: dict[int, int], mentions: list[Mention]) -> Iterator[int]:
    last: Mention | None = None
    linked = True  # a joining word, or nothing yet, since the last mention
    i = cue + (2 if found[cue].text == "w" else 1)
    while i < len(found):
        if i > cue + 1 and _BREAK.search(text[found[i - 1].end : found[i].start]):
            return
        n = starts.get(found[i].start)
        if n is None:
            word = found[i].text
            if last is not None and word in ("or", "nor", "and"):
                linked = True
            elif last is not None or word not in _SKIPPED:
                return
            i += 1
            continue
        mention = mentions[n]
        thing = mention.table == "category"
        if not linked and thing and last is not None and last.dimension in _NAMING and found[cue].text != "without":
            return
        if not linked and not (last is not None and last.dimension in ("color", "material")):
            return
        yield n
        last, linked = mention, False
        while i < len(found) and found[i].start < mention.end:
            i += 1


@lru_cache(maxsize=4)
def scanner_for(knowledge: Knowledge) -> Scanner:
    """The scanner of a knowledge, built once."""
    return Scanner(knowledge)
