"""Needs found by their meaning-bearing words: "how do I keep my coffee nice and warm" is the need "keep coffee hot".

A need's patterns name groups of words (`words` in needs.toml); one of each group must stand in the query, inflected as
it may be, in any order. This module knows the needs and words; what a need demands is for `extractors.query.demands`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache

from lore_mm.knowledge import Knowledge
from lore_mm.mentions import Mention
from lore_mm.text import Token, singular, tokens

__all__ = ["need_by_words", "stem"]

_CONFIDENCE = 0.8
_STEM = 3  # letters that a stem has at least
_OUTRIGHT = frozenset(("series", "need", "brand"))

Groups = tuple[frozenset[str], ...]


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """A word without its English inflection, crude but the same for all its forms: sleeping, sleeps → sleep."""
    one = singular(word)
    for ending in ("ing", "ed", "ly"):
        if one.endswith(ending) and len(one) - len(ending) >= _STEM:
            one = one[: -len(ending)]
            if len(one) > _STEM and one[-1] == one[-2] and one[-1] not in "ls":
                one = one[:-1]
            break
    return one[:-1] if one.endswith("e") and len(one) > _STEM else one


@lru_cache(maxsize=65536)
def _bare_stem(word: str) -> str:
    return stem(word.strip("?!.,"))


@lru_cache(maxsize=4)
def _patterns(knowledge: Knowledge) -> dict[str, list[tuple[str, Groups]]]:
    """The patterns by each word of their first group, so that a query looks at few: stem → [(need, groups)]."""
    found: dict[str, list[tuple[str, Groups]]] = {}
    for need in knowledge.needs.values():
        for pattern in need.words:
            groups = tuple(frozenset(stem(w) for w in group.split("|")) for group in pattern.lower().split())
            for first in groups[0] if groups else ():
                found.setdefault(first, []).append((need.id, groups))
    return found


def need_by_words(
    text: str, mentions: Sequence[Mention], knowledge: Knowledge, found: Sequence[Token] | None = None
) -> list[Mention]:
    """The mentions with a need in place of the words that say it, or as they are. `found` are the text's tokens.

    A query that names a thing, a model or a need outright is left alone, unless the thing is among the need's words.
    """
    if any([m.table in _OUTRIGHT for m in mentions]):
        return list(mentions)
    patterns = _patterns(knowledge)
    if patterns.keys().isdisjoint(map(_bare_stem, text.lower().split())):
        return list(mentions)
    words = [(w, stem(w.text)) for w in (tokens(text) if found is None else found)]
    stems = dict.fromkeys([s for _, s in words])
    if not any([_may_hold(groups, stems) for first in stems for _, groups in patterns.get(first, ())]):
        return list(mentions)
    things = [m for m in mentions if m.table == "category"]
    best: tuple[int, str, list[Token]] | None = None
    for first in stems:
        for need, groups in patterns.get(first, ()):
            if (best and len(groups) <= best[0]) or not _each_by_another(groups, set(stems)):
                continue
            taken = [w for w, s in words if any(s in group for group in groups)]
            others = [w for w, _ in words if w not in taken]
            if not any(m.start <= w.start < m.end for m in things for w in others):
                best = len(groups), need, taken
    if best is None:
        return list(mentions)
    _, need, taken = best
    start, end = min(t.start for t in taken), max(t.end for t in taken)
    said = Mention("need", need, text[start:end], start, end, "inflected", _CONFIDENCE, False, "need")
    return sorted([*(m for m in mentions if m.end <= start or m.start >= end), said], key=lambda m: m.start)


def _may_hold(groups: Groups, stems: Collection[str]) -> bool:
    """True where every group has a word among the query's, which few queries come to."""
    return not any([group.isdisjoint(stems) for group in groups])


def _each_by_another(groups: Groups, stems: set[str], used: frozenset[str] = frozenset()) -> bool:
    """True where every group has a word of its own among the query's."""
    if not groups:
        return True
    return any(_each_by_another(groups[1:], stems, used | {s}) for s in groups[0] & stems - used)
