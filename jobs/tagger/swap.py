"""Queries made up of labelled ones: spans changed for others of their type ("red nike shoes" → "navy blue nike lamp").

After Dai and Adel, An Analysis of Simple Data Augmentation for Named Entity Recognition, COLING 2020 (mention
replacement). It knows no model.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from jobs.tagger.data import Example
from lore_mm.models.bio import Labels, spans
from lore_mm.models.query_words import MOST_WORDS

__all__ = ["Swapper"]


class Swapper:
    """Makes queries up of the spans of labelled examples."""

    def __init__(self, examples: Sequence[Example], names: Sequence[str]) -> None:
        self.examples, self._labels = examples, Labels(names)
        self._begin = {kind: self._labels.names.index(f"B-{kind}") for kind in self._labels.types}
        self._inside = {kind: self._labels.names.index(f"I-{kind}") for kind in self._labels.types}
        self._known: dict[str, list[list[str]]] = {kind: [] for kind in self._labels.types}
        for example in examples:
            words = [example.text[a:b] for a, b in example.words]
            for kind, first, behind in spans(example.labels, self._labels):
                self._known[kind].append(words[first:behind])

    def swapped(self, share: float, chance: random.Random) -> list[Example]:
        """Every example once, a share of its spans changed for others of their type, as often as these occur."""
        return [self._one(example, share, chance) for example in self.examples]

    def _one(self, example: Example, share: float, chance: random.Random) -> Example:
        words = [example.text[a:b] for a, b in example.words]
        made: list[str] = []
        labels: list[int] = []
        place = 0
        for kind, first, behind in spans(example.labels, self._labels):
            made += words[place:first]
            labels += example.labels[place:first]
            span = chance.choice(self._known[kind]) if chance.random() < share else words[first:behind]
            made += span
            labels += [self._begin[kind], *[self._inside[kind]] * (len(span) - 1)]
            place = behind
        made, labels = [*made, *words[place:]][:MOST_WORDS], [*labels, *example.labels[place:]][:MOST_WORDS]
        ends: list[tuple[int, int]] = []
        for word in made:
            start = ends[-1][1] + 1 if ends else 0
            ends.append((start, start + len(word)))
        return Example(" ".join(made), tuple(ends), tuple(labels))
