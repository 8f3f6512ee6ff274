"""Lessons from search queries whose words are tagged: each query is taken for a title of what it asks for.

"eminem iphone 6 case" is tagged as a case, with a work and a product's name: under the query "case" it is the thing,
under "iphone 6" it is not. It knows no catalogue.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jobs.student.kinds import words_of
from jobs.student.lessons import Lesson, Standing
from lore_mm.datasets.queryner import TaggedQuery
from lore_mm.errors import InputError

__all__ = ["query_lessons"]

_KIND = "core_product_type"
_OF_THE_THING = ("creator", "color", "material", "department", "shape", "modifier")  # may stand before a kind
_NAMES = ("product_name", "content", "modifier")  # are no kinds by themselves


@dataclass(frozen=True, slots=True)
class _Title:
    """A query with one kind: its text, the kind's words as typed, and its other spans (type, words)."""

    text: str
    kind: str
    others: tuple[tuple[str, str], ...]


def query_lessons(queries: Sequence[TaggedQuery], count: int, seed: int = 0) -> list[Lesson]:
    """So many lessons, always the same for the same queries and seed.

    Raises:
        InputError: no query is tagged as one thing with something more.
    """
    titles = [one for query in queries if (one := _title(query))]
    if not titles:
        raise InputError("no query is tagged as one thing with something more")
    by_kind: dict[tuple[str, ...], list[_Title]] = defaultdict(list)
    by_word: dict[str, list[_Title]] = defaultdict(list)
    for title in titles:
        by_kind[words_of(title.kind)].append(title)
        for word in dict.fromkeys(words_of(title.text)):
            by_word[word].append(title)
    chance, found = random.Random(f"queries {seed}"), list[Lesson]()
    while len(found) < count:
        title = chance.choice(titles)
        way = chance.random()
        if way < 0.5:
            found += _by_kind(title, by_kind, by_word, titles, chance)
        elif way < 0.8:
            found += _with_more(title, by_kind, by_word, chance)
        else:
            found += _by_name(title, by_word, chance)
    return found[:count]


def _title(query: TaggedQuery) -> _Title | None:
    text, kinds, others = query.text, [], []
    for span in query.spans:
        words = text[span.start : span.end]
        if span.type == _KIND:
            kinds.append(words)
        else:
            others.append((span.type, words))
    good = len(kinds) == 1 and others and words_of(kinds[0])
    return _Title(text, kinds[0], tuple(others)) if good else None


def _by_kind(
    title: _Title,
    by_kind: dict[tuple[str, ...], list[_Title]],
    by_word: dict[str, list[_Title]],
    titles: Sequence[_Title],
    chance: random.Random,
) -> Iterator[Lesson]:
    words = words_of(title.kind)
    query, head = title.kind, words[-1]
    if len(words) > 1 and len(head) > 3 and chance.random() < 0.3:
        query, words = title.kind.split()[-1], words[-1:]
    yield Lesson(query, title.text, "same")
    alike = by_kind[words_of(title.kind)]
    for one in chance.sample(alike, min(2, len(alike))):
        yield Lesson(query, one.text, "same")
    for word in words:
        rest = [one for one in by_word[word] if words_of(one.kind)[-len(words) :] != words]
        for one in chance.sample(rest, min(2, len(rest))):
            sibling = words_of(one.kind)[-1] == head
            yield Lesson(query, one.text, "sibling" if sibling else "other")
    for one in chance.sample(list(titles), 2):
        if words_of(one.kind)[-1] != head:
            yield Lesson(query, one.text, "other")


def _with_more(
    title: _Title, by_kind: dict[tuple[str, ...], list[_Title]], by_word: dict[str, list[_Title]], chance: random.Random
) -> Iterator[Lesson]:
    """A kind with one more thing that the title says."""
    more = [(kind, words) for kind, words in title.others if kind in _OF_THE_THING]
    if not more:
        return
    kind, words = chance.choice(more)
    query, wanted, of_kind = f"{words} {title.kind}", set(words_of(words)), words_of(title.kind)
    yield Lesson(query, title.text, "same")
    alike = by_kind[of_kind]
    for one in chance.sample(alike, min(3, len(alike))):
        has = wanted <= set(words_of(one.text))
        instead = any(other == kind for other, _ in one.others)
        silent: Standing = "part" if instead else "near"
        yield Lesson(query, one.text, "same" if has else silent)
    for word in sorted(wanted):
        rest = [one for one in by_word[word] if words_of(one.kind)[-1] != of_kind[-1]]
        for one in chance.sample(rest, min(2, len(rest))):
            yield Lesson(query, one.text, "other")


def _by_name(title: _Title, by_word: dict[str, list[_Title]], chance: random.Random) -> Iterator[Lesson]:
    """The name of a product, a work or a use: a title that has it beside a kind of its own is for it, not it."""
    names = [words for kind, words in title.others if kind in _NAMES and len(words) > 3]
    if not names:
        return
    query = chance.choice(names)
    yield Lesson(query, title.text, "other")
    for word in words_of(query)[:1]:
        rest = by_word[word]
        for one in chance.sample(rest, min(2, len(rest))):
            if set(words_of(query)) <= set(words_of(one.kind)):
                yield Lesson(query, one.text, "same")
