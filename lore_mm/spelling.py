"""Near words: careful correction of spelling, without a scan of the vocabulary. It knows letters, not meanings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from lore_mm.text import singular

__all__ = ["Near", "common_words", "misspellings"]


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
        """The one nearest word, or None where there is none, or several are as near."""
        nearest = self.nearest(word)
        return nearest[0] if len({singular(w) for w in nearest}) == 1 else None

    def nearest(self, word: str) -> tuple[str, ...]:
        """The words of the least cost, in alphabetical order.

        What fingers do most counts least: letters swapped or a double letter missed 0.7, a letter missed or too many
        0.9, another letter 1 (after the kinds of Damerau, 1964: four of five misspellings are one such slip).
        """
        found = dict(self._costs(word))
        least = min(found.values(), default=0.0)
        return tuple(sorted(w for w, cost in found.items() if cost == least))

    def _costs(self, word: str) -> Iterator[tuple[str, float]]:
        edits = _edits(word)
        near = {w for shorter in _without(word, edits) for w in self._index.get(shorter, ())}
        for w in near:
            if w[0] != word[0] or _only_ending(word, w):
                continue
            distance = _distance(word, w)
            if distance <= min(edits, _edits(w)):
                yield w, _cost(word, w) if distance == 1 else float(distance)


def _cost(word: str, other: str) -> float:
    """The cost of the one edit between two words."""
    if len(word) == len(other):
        return 0.7 if sorted(word) == sorted(other) else 1.0
    longer = max(word, other, key=len)
    at = next((i for i, (a, b) in enumerate(zip(word, other, strict=False)) if a != b), len(longer) - 1)
    return 0.7 if longer[at] in (longer[at - 1], longer[at + 1 : at + 2]) else 0.9


def _only_ending(word: str, other: str) -> bool:
    """True where the words differ in their endings alone: closed and closet, simply and simple are different words.

    Not where the end of a long word is an e, or a double letter, that was missed or is too many: wardrob, shampo.
    """
    longer, shorter = (word, other) if len(word) > len(other) else (other, word)
    if len(longer) == len(shorter) + 1 and len(shorter) >= _LONG and longer.startswith(shorter):
        return longer[-1] not in ("e", shorter[-1])
    same = next((i for i, (a, b) in enumerate(zip(word, other, strict=False)) if a != b), min(len(word), len(other)))
    return len(word) - same <= 1 and len(other) - same <= 1


_LONG = 6  # letters of a word whose ending may be put right


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


@lru_cache(maxsize=1)
def misspellings() -> Mapping[str, str]:
    """Frequent misspellings more than one slip away, or between two words: bycicle, neckless → the word meant."""
    path = Path(__file__).parent / "knowledge" / "misspellings.txt"
    return dict(line.split() for line in path.read_text(encoding="utf-8").splitlines())
