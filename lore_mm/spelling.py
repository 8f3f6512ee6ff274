"""Near words: careful correction of spelling, without a scan of the vocabulary. It knows letters, not meanings."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from lore_mm.text import singular

__all__ = ["Near", "common_words"]


class Near:
    """Words by what is left when a letter is taken out (SymSpell's index): near words are found without a scan.

    One edit (insert, delete, replace, swap) for words of 5–8 letters, two from 9 on; the first letter must agree.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self._index: dict[str, list[str]] = {}
        for word in words:
            if len(word) >= 5:
                for shorter in _without(word, _edits(word)):
                    self._index.setdefault(shorter, []).append(word)

    def find(self, word: str) -> str | None:
        """The one nearest word, or None where there is none, or two are as near."""
        edits = _edits(word)
        near = {w for shorter in _without(word, edits) for w in self._index.get(shorter, ())}
        fitting = [w for w in near if w[0] == word[0] and not _only_ending(word, w)]
        ranked = sorted((d, w) for w in fitting if (d := _distance(word, w)) <= min(edits, _edits(w)))
        if not ranked or (
            len(ranked) > 1 and ranked[0][0] == ranked[1][0] and singular(ranked[1][1]) != singular(ranked[0][1])
        ):
            return None
        return ranked[0][1]


def _only_ending(word: str, other: str) -> bool:
    """True where the words differ in their endings alone: closed and closet, simply and simple are different words."""
    same = next((i for i, (a, b) in enumerate(zip(word, other, strict=False)) if a != b), min(len(word), len(other)))
    return len(word) - same <= 1 and len(other) - same <= 1


def _edits(word: str) -> int:
    return 1 if len(word) < 9 else 2


def _without(word: str, edits: int) -> set[str]:
    once = {word[:i] + word[i + 1 :] for i in range(len(word))}
    if edits < 2:
        return {word, *once}
    return {word, *once, *(w[:i] + w[i + 1 :] for w in once for i in range(len(w)))}


def _distance(a: str, b: str) -> int:
    """Edits between two words, a swap of neighbours counting one (restricted Damerau–Levenshtein)."""
    before: list[int] = []
    last = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
    return last[-1]


@lru_cache(maxsize=1)
def common_words() -> frozenset[str]:
    """Everyday English words, which are never taken for misspellings."""
    path = Path(__file__).parent / "knowledge" / "common_words.txt"
    return frozenset(path.read_text(encoding="utf-8").split())
