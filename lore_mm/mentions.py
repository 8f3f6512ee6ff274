"""Find what the knowledge tables name in a text: a token trie, walked once, longest match first, with exact spans.

It corrects spelling with care, reads negation ("without laces", "no logo", "silicone-free"), and says for each mention
which other readings its words have. Which reading holds in context is for the parsers to decide.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from lore_mm.knowledge import Knowledge
from lore_mm.spelling import Near, common_words, misspellings
from lore_mm.text import Token, fold, plurals, singular, tokens

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
_VIA: tuple[Via, Via] = ("exact", "inflected")
_LONGEST_TERM = 8  # tokens looked at after a corrected word
_LONG_NAME = 7  # letters from which a word may be a misspelt maker
_LONGEST_WORD = 40  # letters; what is longer is no misspelling
_JOINED = 0.9  # "sun glasses" for sunglasses
_SHORTEST_JOINED = 6  # letters; what is joined is longer, for "a car" is no acar
_WORDS_KEPT = 1 << 16
_BREAK = re.compile(r"[,;:!?|()\[\]{}\n\"“”•·]|[.]\s")


class _Node:
    """One word of some term and what may follow it.

    `edges` are the next words as the tables have them, `forms` the same words as texts have them, so that a walk asks
    once a word: the word or its plural → the nodes it leads to, and for each whether it is inflected.
    """

    __slots__ = ("edges", "forms", "readings")

    def __init__(self) -> None:
        self.edges: dict[str, _Node] = {}
        self.forms: dict[str, Nodes] = {}
        self.readings: tuple[Reading, ...] = ()

    def fold_edges(self) -> None:
        """Fill `forms`, here and below, once all edges stand."""
        for word in [form for edge in self.edges for form in (edge, *plurals(edge))]:
            self.forms[word] = self._reached_by(word)
        for node in self.edges.values():
            node.fold_edges()

    def below(self, word: str) -> Nodes:
        """The nodes that a word of a text leads to."""
        return self._reached_by(word) if "'" in word else self.forms.get(word, ())

    def _reached_by(self, word: str) -> Nodes:
        forms = enumerate(_forms(word))
        return tuple((self.edges[form], n > 0) for n, form in forms if form in self.edges)


Nodes = tuple[tuple[_Node, bool], ...]


class Scanner:
    """The trie of one knowledge; build it once (`scanner_for`), use it from any thread."""

    def __init__(self, knowledge: Knowledge) -> None:
        self.knowledge = knowledge
        self._root = _Node()
        self._words: set[str] = set()
        for term, reading in _terms(knowledge):
            self._add(term, reading)
        self._root.fold_edges()
        self._closed = {
            word: nodes[0][0].readings for word, nodes in self._root.forms.items() if len(word) > _SHORTEST_JOINED
        }
        self._common = common_words()
        self._misspelt = dict(misspellings())
        self._misspelt |= {w: m for b in knowledge.brands.values() for w, m in _misspellings(b.name, b.misspelt)}
        # Only words that are a term by themselves are corrected to: "world" inside a longer term draws in too much.
        # Words of other languages are not: "leathr jackt" is a jacket, no Jacke.
        single = {w: node for w, node in self._root.edges.items() if w.isascii() and w.isalpha() and node.readings}
        self._near = Near(
            w for w, node in single.items() if node.readings[0].table != "need" and w not in _foreign(knowledge)
        )
        # The same words come again and again: each is spelt out once.
        self._right = lru_cache(maxsize=_WORDS_KEPT)(self._corrected)

    def knows(self, word: str) -> bool:
        """True for a word that is part of some term, or its plural, or is everyday English."""
        return any(w in self._words or w in self._common for w in (word, singular(word)))

    def find(self, text: str, correct: bool = True, words: Sequence[Token] | None = None) -> list[Mention]:
        """All mentions, leftmost longest first, without overlaps; `correct=False` leaves misspellings alone.

        `words` are the text's tokens, where they are at hand.
        """
        found = tokens(text) if words is None else words
        mentions: list[Mention] = []
        i = 0
        while i < len(found):
            read = self._longest(text, found, i) or self._loose(text, found, i, correct)
            if read is None:
                i += 1
            else:
                mentions.append(read[0])
                i += read[1]
        return _negate(text, found, mentions) if mentions and _denies(text, found) else mentions

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

    def _longest(self, text: str, found: Sequence[Token], i: int) -> tuple[Mention, int] | None:
        """The longest term that begins with token i, and how many tokens it has."""
        starts = self._root.below(found[i].text)
        if not starts:
            return None
        stack = [(node, i + 1, inflected) for node, inflected in starts]
        best: tuple[_Node, int, bool] | None = None
        while stack:
            node, at, inflected = stack.pop()
            if node.readings and (best is None or (at, not inflected) > (best[1], not best[2])):
                best = node, at, inflected
            if node.edges and at < len(found) and not _parted(text, found[at - 1], found[at]):
                stack.extend((below, at + 1, inflected or changed) for below, changed in node.below(found[at].text))
        if best is None:
            return None
        node, at, inflected = best
        return _mention(text, found[i].start, found[at - 1].end, node.readings, _VIA[inflected]), at - i

    def _loose(self, text: str, found: Sequence[Token], i: int, correct: bool) -> tuple[Mention, int] | None:
        """Two words written apart that are one term, or one word misspelt."""
        token = found[i]
        after = found[i + 1] if i + 1 < len(found) else None
        if after is not None and after.start == token.end + 1 and len(token.text) > 2:
            readings = self._closed.get(token.text + after.text)
            if readings and not text[token.end].isalnum() and not _parted(text, token, after):
                return _mention(text, token.start, after.end, readings, "inflected", _JOINED), 2
        right = self._right(token.text) if correct else None
        if right is None:
            return None
        read = self._longest(text, [token._replace(text=right), *found[i + 1 : i + _LONGEST_TERM]], 0)
        if read is None:
            return None
        mention, used = read
        return replace(mention, via="misspelt", confidence=_CONFIDENCE["misspelt"], correction=right), used

    def _corrected(self, word: str) -> str | None:
        """What a word that no term begins with was meant to be, if it is misspelt."""
        if not 5 <= len(word) <= _LONGEST_WORD or not word.isascii() or not word.isalpha():
            return None
        if word in self._misspelt or self.knows(word):
            return self._misspelt.get(word)
        one = singular(word)
        return self._meant(word) or (self._meant(one, plural=True) if one != word else None)

    def _meant(self, word: str, plural: bool = False) -> str | None:
        """The nearest term, where there is one, or where all that are as near mean the same.

        A shorter word is never read as a maker's name: it is more likely a name of its own.
        """
        nodes = [(w, self._root.edges[w]) for w in self._near.nearest(word)]
        meant = {node.readings[0] for _, node in nodes}
        if len(meant) != 1 or (next(iter(meant)).table == "brand" and len(word) < _LONG_NAME):
            return None
        right = nodes[0][0]
        return plurals(right)[0] if plural and singular(right) == right and plurals(right) else right


def _mention(
    text: str, start: int, end: int, readings: tuple[Reading, ...], via: Via, confidence: float | None = None
) -> Mention:
    first = readings[0]
    sure = _CONFIDENCE[via] if confidence is None else confidence
    return Mention(
        first.dimension, first.canonical, text[start:end], start, end, via, sure, False, first.table, readings[1:]
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
        for term in {c.name, c.id.replace("_", " "), *c.terms, *c.foreign}:
            yield term, Reading("category", c.id, "category")
    for b in knowledge.brands.values():
        for term in {b.name, *b.terms, *(m for m in b.misspelt if " " in m or not m.isalpha())}:
            yield term, Reading("brand", b.name, "brand")
    for s in knowledge.series.values():
        for term in {s.name, *s.terms}:
            yield term, Reading("model", s.name, "series")
    for color in knowledge.colors.values():
        for term in {color.name, *color.terms, *color.foreign}:
            yield term, Reading("color", color.name, "color")
    for m in knowledge.materials.values():
        for term in {m.name, *m.terms, *m.foreign}:
            yield term, Reading("material", m.name, "material")
    for t in knowledge.terms.values():
        for term in {t.value, *t.terms, *t.foreign}:
            yield term, Reading(t.dimension, t.value, "term")
    for n in knowledge.needs.values():
        for term in n.terms:
            yield term, Reading("need", n.id, "need")


@lru_cache(maxsize=4)
def _foreign(knowledge: Knowledge) -> frozenset[str]:
    """The words of other languages, folded, but for those that are English as well."""
    tables = (knowledge.categories, knowledge.colors, knowledge.materials, knowledge.terms)
    entries = [entry for table in tables for entry in table.values()]
    return frozenset(fold(w) for e in entries for w in e.foreign) - {fold(w) for e in entries for w in e.terms}


def _misspellings(name: str, misspelt: Iterable[str]) -> Iterator[tuple[str, str]]:
    right = tokens(name)
    for wrong in misspelt:
        if len(right) == 1 and " " not in wrong:
            yield wrong.lower(), right[0].text


_CUE_WORDS = frozenset(
    "without w no not non never excluding except exclude minus free none avoid lack lacks separately excluded "
    "sans".split()
)
_CUES = re.compile(rf"\b(?:w/o|(?:is|does|are|do)n['’]t|{'|'.join(sorted(_CUE_WORDS - {'w'}))})\b", re.IGNORECASE)
_BEFORE = frozenset("without no not non excluding except exclude minus never avoid lack lacks sans".split())
_JOINING = frozenset(("or", "and", "nor", "any", "a", "an", "the", "of", "with", "made", "from", "visible"))
_SKIPPED = frozenset("any a an the of made from visible annoying too include including contain have".split())
_AFTER = re.compile(r"\s*(?:is |are )?(?:not included|not incl|sold separately|excluded|not supplied)\b", re.IGNORECASE)
_FREE_AFTER = re.compile(
    r"(?:-|\s)free\b(?!\s(?:shipping|delivery|gift|returns?|sample|run|people|size|standing))", re.IGNORECASE
)
_NAMING = frozenset(
    ("color", "material", "style", "style_detail", "function", "audience", "season", "brand", "model", "special")
)


def _denies(text: str, found: Sequence[Token]) -> bool:
    """True where a text has a word of negation. Most have none, which their tokens tell sooner than the pattern."""
    plain = text.isascii() and "'" not in text
    return not (plain and _CUE_WORDS.isdisjoint([w.text for w in found])) and _CUES.search(text) is not None


def _negate(text: str, found: Sequence[Token], mentions: list[Mention]) -> list[Mention]:
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


def _scope(
    text: str, found: Sequence[Token], cue: int, starts: dict[int, int], mentions: list[Mention]
) -> Iterator[int]:
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
