"""Lessons from the knowledge tables: names of kinds, kinds below and beside them, and what goes with them.

Titles are put together from a maker, a colour or a number, and a kind's name: poor language, but the tables know for
certain how the two kinds stand. It knows no catalogue.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from jobs.student.lessons import Lesson
from lore_mm.knowledge import Category, Knowledge

__all__ = ["table_lessons"]


def table_lessons(knowledge: Knowledge, count: int, seed: int = 0) -> list[Lesson]:
    """So many lessons, always the same for the same tables and seed."""
    chance, found = random.Random(f"tables {seed}"), list[Lesson]()
    categories = list(knowledge.categories.values())
    below: dict[str, list[Category]] = {}
    with_it: dict[str, list[Category]] = {}
    for one in categories:
        if one.parent:
            below.setdefault(one.parent, []).append(one)
        for main in one.accessory_of:
            with_it.setdefault(main, []).append(one)
    while len(found) < count:
        found += _of(chance.choice(categories), knowledge, categories, below, with_it, chance)
    return found[:count]


def _of(
    asked: Category,
    knowledge: Knowledge,
    categories: list[Category],
    below: dict[str, list[Category]],
    with_it: dict[str, list[Category]],
    chance: random.Random,
) -> Iterator[Lesson]:
    query = _name(asked, chance)
    yield Lesson(query, _title(asked, knowledge, chance), "same")
    for one in _few(below.get(asked.id, []), 2, chance):
        yield Lesson(query, _title(one, knowledge, chance), "same")
    beside = [one for one in below.get(asked.parent or "", []) if one.id != asked.id and one.id not in asked.similar]
    for one in _few(beside, 1, chance):
        yield Lesson(query, _title(one, knowledge, chance), "sibling")
    for one in _few([knowledge.categories[i] for i in asked.similar if i in knowledge.categories], 1, chance):
        yield Lesson(query, _title(one, knowledge, chance), "near")
    for one in _few(with_it.get(asked.id, []), 2, chance):
        title = _title(one, knowledge, chance)
        yield Lesson(query, f"{title} for {_name(asked, chance)}" if chance.random() < 0.6 else title, "other")
    for main in _few([knowledge.categories[i] for i in asked.accessory_of if i in knowledge.categories], 1, chance):
        yield Lesson(query, _title(main, knowledge, chance), "other")
    stranger = chance.choice(categories)
    above = {asked.id, *knowledge.ancestors(asked.id)}
    if not above & {stranger.id, *knowledge.ancestors(stranger.id)}:
        yield Lesson(query, _title(stranger, knowledge, chance), "other")


def _few(some: list[Category], most: int, chance: random.Random) -> list[Category]:
    return chance.sample(some, min(most, len(some)))


def _name(category: Category, chance: random.Random) -> str:
    return chance.choice([category.name, *category.terms])


def _title(category: Category, knowledge: Knowledge, chance: random.Random) -> str:
    before = [chance.choice(sorted(knowledge.brands))] if knowledge.brands and chance.random() < 0.6 else []
    if knowledge.colors and chance.random() < 0.4:
        before.append(chance.choice(sorted(knowledge.colors)))
    number = f"{chance.randrange(1, 60)} {chance.choice(['cm', 'pcs', 'inch', 'W', 'ml'])}"
    behind = [number] if chance.random() < 0.3 else []
    return " ".join([*before, _name(category, chance), *behind])
