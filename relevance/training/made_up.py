"""Pairs made up from a catalogue whose attributes are known: queries for its items, good answers and spoilt ones.

A query asks for the kind of an item and for some of what it has. It is answered by the item, by others of its kind,
by neighbours that share its maker or its colour, and by the item with one attribute changed: then the dimension that
fails is known, and a pair where the rules see another one fail is thrown away. Labels are the rulebook's grade of the
rules' own path, so what is learned from them is the rulebook, and no judge learned from them alone can be better than
the rules are; what it gains is to need no tables.

Everything is drawn with a seed: the same items and seed, the same pairs. This module opens nothing: who reads queries
and who reads items come in as functions.
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from lore_mm.knowledge import Knowledge
from lore_mm.types import AttributeValue, Demand, Grade, Item, ItemFeatures, Judgment, Leg, Query, Understanding
from relevance.by_rules import RulesJudge

__all__ = ["MadeUp", "Maker", "changed_item"]

_BEFORE = ("season", "color", "material", "style", "brand", "style_detail", "function", "model")  # the kind, in order
_BEHIND = ("audience", "spec", "price")
_ASKED = (*_BEFORE, *_BEHIND)
_HOW_MANY = (0.15, 0.5, 0.35)  # of queries ask for the kind alone, for one thing more, for two
_PARENT, _NEGATED = 0.15, 0.07  # of queries ask for the kind above, and exclude something
_OF_KIND, _NEAR, _ALIKE, _ANY = 8, 4, 3, 2  # candidates a query: of the kind, of kinds beside it, of its maker, of all
_PER_QUERY = 5  # pairs that are kept of a query
_CHANGED = 2  # items changed a query
_AT_ONCE = 512  # queries

Understand = Callable[[Sequence[Query]], Sequence[Understanding]]
Extract = Callable[[Sequence[Item]], Sequence[ItemFeatures]]


@dataclass(frozen=True, slots=True)
class MadeUp:
    """A pair with the rules' judgment of it. `changed`: the dimension it was spoilt on; `category`: the asked kind."""

    understanding: Understanding
    features: ItemFeatures
    judgment: Judgment
    changed: str
    category: str


@dataclass(frozen=True, slots=True)
class _Draft:
    """A query that may be asked: its words, the item it was made for, its kind, and what else it asks for."""

    text: str
    place: int
    category: str
    asked: Mapping[str, str]  # dimension → value


class Maker:
    """Makes up pairs over the items of a catalogue.

    `understand` reads queries, `extract` the attributes of items that were changed.

    Raises:
        ValueError: no item has a kind.
    """

    def __init__(
        self,
        features: Sequence[ItemFeatures],
        knowledge: Knowledge,
        judge: RulesJudge,
        understand: Understand,
        extract: Extract,
    ) -> None:
        self.features, self.knowledge, self.judge = features, knowledge, judge
        self.understand, self.extract = understand, extract
        self.counts: Counter[str] = Counter()  # what became of queries and pairs
        self._kind = [_kind(one) for one in features]
        self._of_kind: dict[str, list[int]] = defaultdict(list)
        self._of_parent: dict[str, list[int]] = defaultdict(list)
        self._having: dict[tuple[str, str], list[int]] = defaultdict(list)  # (dimension, value) → items
        self._values: dict[str, Counter[str]] = defaultdict(Counter)
        for i, one in enumerate(features):
            if kind := self._kind[i]:
                self._of_kind[kind].append(i)
                self._of_parent[knowledge.categories[kind].parent or ""].append(i)
            for value in one.attributes:
                if value.value is not None and value.dimension in _ASKED:
                    self._having[value.dimension, value.value].append(i)
                    self._values[value.dimension][value.value] += 1
        self._usable = [i for i, kind in enumerate(self._kind) if kind]
        if not self._usable:
            raise ValueError("no item's kind is known: there is nothing to ask for")

    def made(self, pairs: int, seed: int = 0) -> Iterator[MadeUp]:
        """So many pairs, their labels as even as the catalogue allows; fewer where queries are used up."""
        chance, left, seen = random.Random(f"made up {seed}"), pairs, set[str]()
        said: Counter[int] = Counter()
        dry = 0
        while left > 0 and dry < 3:
            drafts = [d for d in (self._draft(chance) for _ in range(_AT_ONCE)) if d.text not in seen]
            drafts = list({d.text: d for d in drafts}.values())
            seen.update(d.text for d in drafts)
            before = left
            for some in self._answered(drafts, chance):
                kept = _even(some, said)[: max(0, left)]
                said.update(int(one.judgment.grade or 0) for one in kept)
                left -= len(kept)
                yield from kept
            dry = dry + 1 if left == before else 0

    # -- queries -------------------------------------------------------------------------------------------------------

    def _draft(self, chance: random.Random) -> _Draft:
        kinds = list(self._of_kind)
        kind = chance.choices(kinds, [len(self._of_kind[one]) ** 0.5 for one in kinds])[0]
        place = chance.choice(self._of_kind[kind])
        entry = self.knowledge.categories[kind]
        if entry.parent and chance.random() < _PARENT:
            entry = self.knowledge.categories[entry.parent]
        head = chance.choice([entry.name, entry.name, *entry.terms]).lower()
        has: dict[str, list[AttributeValue]] = defaultdict(list)
        for value in self.features[place].attributes:
            if value.value and value.dimension in _ASKED and len(value.value) <= 24:
                has[value.dimension].append(value)
        wanted = chance.sample(sorted(has), min(len(has), chance.choices((0, 1, 2), _HOW_MANY)[0]))
        asked = {dimension: chance.choice(has[dimension]).value or "" for dimension in wanted}
        if asked and chance.random() < _NEGATED:
            return self._negated(head, place, entry.id, chance)
        return _Draft(_words(head, asked, chance), place, entry.id, asked)

    def _negated(self, head: str, place: int, kind: str, chance: random.Random) -> _Draft:
        dimension = chance.choice(("color", "material", "brand"))
        values = list(self._values[dimension]) or ["black"]
        value = chance.choice(values).lower()
        return _Draft(f"{head} {chance.choice(('not', 'without', 'no'))} {value}", place, kind, {dimension: value})

    # -- answers -------------------------------------------------------------------------------------------------------

    def _answered(self, drafts: Sequence[_Draft], chance: random.Random) -> Iterator[list[MadeUp]]:
        """The answers of each draft that is read as it was meant."""
        read = self.understand([Query(f"made-{d.text}", d.text) for d in drafts])
        good = [(d, u) for d, u in zip(drafts, read, strict=True) if self._is_meant(d, u)]
        self.counts.update(queries=len(drafts), misread=len(drafts) - len(good))
        there = [(d, u, [(self.features[i], "") for i in self._candidates(d, chance)]) for d, u in good]
        changed = self._changed(good, chance)
        for (draft, understanding, some), spoilt in zip(there, changed, strict=True):
            pairs = [*spoilt, *some]
            judged = self.judge.judge([(understanding, features) for features, _ in pairs])
            own = {leg.demand: leg for leg in self._legs(understanding, draft.place)}
            yield [
                MadeUp(understanding, features, judgment, dimension, draft.category)
                for (features, dimension), judgment in zip(pairs, judged, strict=True)
                if judgment.grade is not None and self._holds(judgment, dimension, own)
            ]

    def _is_meant(self, draft: _Draft, read: Understanding) -> bool:
        """Whether the query is read as asking for its kind and for whatever else it was made of, and no more."""
        head = read.head
        if read.status != "ok" or head is None or head.canonical != draft.category:
            return False
        rest = [d.dimension for d in read.demands if d is not head and not d.latent]
        return sorted(rest) == sorted(draft.asked)

    def _candidates(self, draft: _Draft, chance: random.Random) -> list[int]:
        kind = self._kind[draft.place]
        parent = self.knowledge.categories[kind].parent or ""
        found = [draft.place, *_some(self._of_kind[kind], _OF_KIND, chance)]
        found += _some(self._of_parent[parent], _NEAR, chance)
        for dimension, value in draft.asked.items():
            found += _some(self._having[dimension, value], _ALIKE, chance)
        return list(dict.fromkeys([*found, *_some(self._usable, _ANY, chance)]))

    def _changed(
        self, good: Sequence[tuple[_Draft, Understanding]], chance: random.Random
    ) -> list[list[tuple[ItemFeatures, str]]]:
        """For each draft its item with one asked attribute changed, read anew."""
        items: list[Item] = []
        of: list[list[tuple[int, str]]] = []
        for draft, _ in good:
            mine: list[tuple[int, str]] = []
            for dimension in chance.sample(sorted(draft.asked), min(_CHANGED, len(draft.asked))):
                others = [v for v in self._values[dimension] if v.lower() != draft.asked[dimension].lower()]
                if others:
                    weights = [self._values[dimension][one] ** 0.5 for one in others]
                    value = chance.choices(others, weights)[0]
                    if item := changed_item(self.features[draft.place], dimension, value):
                        mine.append((len(items), dimension))
                        items.append(item)
            of.append(mine)
        read = self.extract(items) if items else []
        return [[(read[i], dimension) for i, dimension in mine] for mine in of]

    def _legs(self, understanding: Understanding, place: int) -> Sequence[Leg]:
        path = self.judge.judge([(understanding, self.features[place])])[0].path
        return path.legs if path else ()

    def _holds(self, judgment: Judgment, dimension: str, own: Mapping[Demand, Leg]) -> bool:
        """Whether a changed item fails just where it was changed: every other leg is as it was."""
        if not dimension or judgment.path is None:
            return True
        for leg in judgment.path.legs:
            before = own.get(leg.demand)
            if leg.demand.dimension == dimension:
                if leg.level == Grade.L4:
                    self.counts["unharmed"] += 1
                    return False
            elif before is None or before.relation != leg.relation:
                self.counts["harmed elsewhere"] += 1
                return False
        self.counts["changed"] += 1
        return True


def changed_item(features: ItemFeatures, dimension: str, value: str) -> Item | None:
    """The item with all it says of a dimension replaced by another value; None where it says nothing in words."""
    item, touched = features.item, False
    for one in features.of(dimension):
        for evidence in one.evidence:
            quote = evidence.quote
            if not quote:
                continue
            pattern = re.compile(rf"(?<!\w){re.escape(quote)}(?!\w)")
            put = value if quote.islower() else value[:1].upper() + value[1:]
            changed = _replaced(item, pattern, put)
            touched, item = touched or changed != item, changed
    return replace(item, item_id=f"{item.item_id}/{dimension}={value}") if touched else None


def _replaced(item: Item, pattern: re.Pattern[str], value: str) -> Item:
    def put(text: str) -> str:
        return pattern.sub(lambda _: value, text)

    return replace(
        item,
        title=put(item.title),
        description=put(item.description),
        brand=put(item.brand) if item.brand else item.brand,
        attributes={name: tuple(map(put, values)) for name, values in item.attributes.items()},
    )


def _kind(features: ItemFeatures) -> str:
    found = features.of("category")
    return found[0].value or "" if found else ""


def _words(head: str, asked: Mapping[str, str], chance: random.Random) -> str:
    before = [asked[dimension].lower() for dimension in _BEFORE if dimension in asked]
    behind = []
    for dimension in (one for one in _BEHIND if one in asked):
        value = asked[dimension].lower()
        told = {"audience": f"for {value}", "price": f"{chance.choice(('under', 'up to', 'max'))} {value}"}
        behind.append(told.get(dimension, value))
    return " ".join([*before, head, *behind])


def _some(places: Sequence[int], most: int, chance: random.Random) -> list[int]:
    return chance.sample(places, min(most, len(places)))


def _even(some: Sequence[MadeUp], said: Mapping[int, int]) -> list[MadeUp]:
    """The pairs of a query that are kept: the levels that are scarcest so far first, changed items before others."""
    left, counts, kept = list(some), Counter(said), list[MadeUp]()
    while left and len(kept) < _PER_QUERY:
        best = min(left, key=lambda one: (counts[int(one.judgment.grade or 0)], not one.changed))
        if kept and counts[int(best.judgment.grade or 0)] > min(counts[n] for n in range(1, 5)) + 50:
            break
        left.remove(best)
        counts[int(best.judgment.grade or 0)] += 1
        kept.append(best)
    return kept
