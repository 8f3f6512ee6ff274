"""What the tables know about the words of a query, as short lines that a model is shown: retrieval without a model.

First what the query names (also misspelt), then the other things those words can mean, then what stands next to these
in the trees (parent brand, base model, parent kind, what a need asks for), then entries that share a word no table
knows. A query with unknown words also gets the top of the category tree, to have somewhere to hang them.

It knows the tables and the scanner, and no prompt. Every line is the tables' own words: nothing of a query gets in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

from extractors.query.needs import need_by_words
from lore_mm.entries import Entry, below, entry_of
from lore_mm.knowledge import Knowledge
from lore_mm.mentions import Mention, Reading, scanner_for
from lore_mm.spelling import common_words
from lore_mm.text import singular, tokens

__all__ = ["MOST", "retrieve", "top_of_the_tree"]

MOST = 12  # entries shown with a query
_SHARING = 3  # entries that share an unknown word
_SHORTEST = 4  # letters of an unknown word that is looked up


def retrieve(text: str, knowledge: Knowledge, most: int = MOST) -> tuple[Entry, ...]:
    """At most `most` entries for a query's text, the closest first; the same for the same text, none twice."""
    found = scanner_for(knowledge).find(text)
    mentions = need_by_words(text, found, knowledge)
    said = [Reading(m.dimension, m.canonical, m.table) for m in mentions]
    others = [reading for m in mentions for reading in m.others]
    named = [Reading(m.dimension, m.canonical, m.table) for m in found]  # what the words of a need name by themselves
    beside = [near for reading in (*said, *others) for near in _beside(reading, knowledge)]
    sharing = [reading for word in _unknown(text, found) for reading in _sharing(knowledge).get(word, ())]
    chosen = dict.fromkeys((*said, *others, *named, *beside, *sharing))
    return tuple(entry_of(reading, knowledge) for reading in list(chosen)[: max(most, 0)])


def top_of_the_tree(text: str, knowledge: Knowledge) -> tuple[str, ...]:
    """The roots of the category tree that have kinds below them, where a word of the text is in no table; else none."""
    return _roots(knowledge) if any(True for _ in _unknown(text, scanner_for(knowledge).find(text))) else ()


def _beside(reading: Reading, knowledge: Knowledge) -> Iterator[Reading]:
    """What stands next to an entry in the trees."""
    brand, category = None, None
    if reading.table == "series":
        series = knowledge.series[reading.canonical]
        brand, category = series.brand, series.category
        if series.base:
            yield Reading("model", series.base, "series")
    elif reading.table == "brand":
        brand = knowledge.brands[reading.canonical].parent
    elif reading.table == "category":
        category = knowledge.categories[reading.canonical].parent
    elif reading.table == "need":
        for d in knowledge.needs[reading.canonical].demands:
            for value in (d.value, *d.alternatives) if d.dimension == "category" else ():
                yield Reading("category", value, "category")
    if brand:
        yield Reading("brand", brand, "brand")
    if category:
        yield Reading("category", category, "category")


def _unknown(text: str, mentions: Iterable[Mention]) -> Iterator[str]:
    """The words, in the singular, that are in no mention, and are neither everyday English nor numbers."""
    taken = {i for m in mentions for i in range(m.start, m.end)}
    everyday = common_words()
    for word in tokens(text):
        if word.start not in taken and word.text not in everyday and len(word.text) >= _SHORTEST:
            if not word.text[0].isdigit():
                yield singular(word.text)


@lru_cache(maxsize=4)
def _sharing(knowledge: Knowledge) -> dict[str, tuple[Reading, ...]]:
    """Word → the few entries with the shortest names of several words, of which it is one."""
    named: list[tuple[str, Reading]] = []
    for c in knowledge.categories.values():
        named += [(term, Reading("category", c.id, "category")) for term in (c.name, *c.terms)]
    for s in knowledge.series.values():
        named += [(term, Reading("model", s.name, "series")) for term in (s.name, *s.terms)]
    for n in knowledge.needs.values():
        named += [(term, Reading("need", n.id, "need")) for term in n.terms]
    index: dict[str, list[Reading]] = {}
    for term, reading in sorted(named, key=lambda one: (len(one[0]), one[0], one[1].table, one[1].canonical)):
        for word in {singular(token.text) for token in tokens(term)}:
            if reading not in (here := index.setdefault(word, [])) and len(here) < _SHARING:
                here.append(reading)
    return {word: tuple(readings) for word, readings in index.items()}


@lru_cache(maxsize=4)
def _roots(knowledge: Knowledge) -> tuple[str, ...]:
    kinds = below(knowledge)
    return tuple(c.id for c in knowledge.categories.values() if c.parent is None and c.id in kinds)
