"""Lessons from a catalogue: queries for its kinds, makers, lines and models, and titles.

The hard ones are titles that have a query's words and are something else: a case for the phone, a cable of the printer.
Whether the words stand free in a title or before another noun, behind "for", or apart, tells which.
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

from jobs.student.kinds import Product, head_words, supplies, words_of
from jobs.student.lessons import Lesson, Standing
from lore_mm.errors import InputError
from lore_mm.knowledge import Knowledge
from lore_mm.text import singular

__all__ = ["CatalogueLessons"]

_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9\-.+/]*|[,;()|:]|\S")
_PLAIN = re.compile(r"[A-Za-z][A-Za-z-]{2,}")
_MODEL = re.compile(r"\b[A-Za-z]+-?\d+[A-Za-z0-9-]*\b")
_LINE = re.compile(r"[A-Z][A-Za-z]{2,}|i[A-Z]\w+")
_FOR = frozenset("for with fit to compatible by".split())
_JOINTS = frozenset("for with and the".split())
_LOOKED_AT = 3000  # titles of a common word
_SEARCHED = 40  # titles that have all the words, looked at for a lesson

Choice = Callable[[random.Random], Iterator[Lesson]]


class CatalogueLessons:
    """Makes lessons of a catalogue's products.

    Raises:
        InputError: no kind is told of any three products.
    """

    def __init__(self, products: Sequence[Product], knowledge: Knowledge) -> None:
        self.products = products
        self._names = _names_of(knowledge)
        self._words = [words_of(one.title) for one in products]
        self._makers = [one.brand.lower() for one in products]
        self._having: dict[str, list[int]] = defaultdict(list)  # word → products whose title has it
        self._of_kind: dict[str, list[int]] = defaultdict(list)
        self._of_maker: dict[str, list[int]] = defaultdict(list)
        for i, one in enumerate(products):
            for word in dict.fromkeys(self._words[i]):
                self._having[word].append(i)
            if one.kind:
                self._of_kind[one.kind].append(i)
            if one.brand:
                self._of_maker[self._makers[i]].append(i)
        if not self._kinds[0]:
            raise InputError("the catalogue's titles tell no kinds of things (jobs/student/kinds.toml says how)")
        self._heads = head_words(list(self._of_kind))
        self._nouns = self._heads | {word for kind in self._of_kind for word in words_of(kind)[1:]}

    def made(self, count: int, seed: int = 0) -> list[Lesson]:
        """So many lessons, always the same for the same products and seed."""
        chance, found = random.Random(f"catalogue {seed}"), list[Lesson]()
        ways: list[Choice] = [self._of_a_maker, self._of_a_line, self._of_words, self._of_a_kind, self._of_more]
        while len(found) < count:
            found += chance.choices(ways, (0.06, 0.07, 0.07, 0.48, 0.32))[0](chance)
        return found[:count]

    def _of_a_maker(self, chance: random.Random) -> Iterator[Lesson]:
        if not self._makers_asked:
            return
        maker = chance.choice(self._makers_asked)
        yield from self._some(maker, self._of_maker[maker], "same", 5, chance)
        others = [i for i in self._with_all(words_of(maker)) if self._makers[i] != maker]
        yield from self._some(maker, others, "other", 3, chance)
        strangers = [i for i in self._drawn(2, chance) if self._makers[i] != maker]
        yield from self._some(maker, strangers, "other", 2, chance)

    def _of_a_line(self, chance: random.Random) -> Iterator[Lesson]:
        if not self._lines:
            return
        maker, line = chance.choice(self._lines)
        query = chance.choice([line, f"{maker} {line}"])
        having = self._having[singular(line)]
        own = [i for i in having if self._makers[i] == maker and not self._is_supply(i)]
        meant = [i for i in own if self._place((singular(line),), i) == "free" and line in self._opening(i)]
        yield from self._some(query, meant, "same", 4, chance)
        foreign = [i for i in having if self._makers[i] != maker or self._is_supply(i)]
        yield from self._some(query, foreign, "other", 5, chance)
        with_line = set(having)
        rest = [i for i in self._of_maker[maker] if i not in with_line]
        yield from self._some(query, rest, "part", 2, chance)

    def _of_words(self, chance: random.Random) -> Iterator[Lesson]:
        """A word or two of a title as a query: where they stand free they are perhaps the thing, else not."""
        plain = [t for t in self._tokens(chance.randrange(len(self.products))) if _PLAIN.fullmatch(t)]
        if len(plain) < 3:
            return
        start = chance.randrange(len(plain) - 1)
        words = [word.lower() for word in plain[start : start + chance.choice([1, 2])]]
        if _JOINTS & {words[0], words[-1]}:
            return
        wanted = tuple(singular(word) for word in words)
        having = self._with_all(wanted)
        if len(having) > _LOOKED_AT:
            return
        for i in chance.sample(having, min(6, len(having))):
            place = self._place(wanted, i)
            if place:
                yield Lesson(" ".join(words), self.products[i].title, "named" if place == "free" else "other")

    def _of_a_kind(self, chance: random.Random) -> Iterator[Lesson]:
        kind = self._a_kind(chance)
        query, words, good = chance.choice(self._called(kind)), words_of(kind), self._kinds_below(words_of(kind))
        if len(words) > 1 and len(words[-1]) > 3 and chance.random() < 0.25:  # by the last word alone
            words = words[-1:]
            query, good = chance.choice([words[0], f"{words[0]}s"]), self._kinds_below(words)
        yield from self._some(query, good, "same", 5, chance)
        yield from self._traps(query, words, set(good), chance)

    def _traps(self, query: str, words: tuple[str, ...], good: set[int], chance: random.Random) -> Iterator[Lesson]:
        found = [i for i in self._with_all(words) if i not in good]
        chance.shuffle(found)
        left = 5
        for i in found[:_SEARCHED]:
            place = self._place(words, i)
            if place == "free" and chance.random() < 0.3:
                yield Lesson(query, self.products[i].title, "named")
            elif place != "free" and left:
                left -= 1
                yield Lesson(query, self.products[i].title, "other")
        ends = [(words[0], False)] + ([(words[-1], True)] if len(words) > 1 else [])
        for word, last in ends:
            some = [i for i in self._having[word][:_LOOKED_AT] if i not in good and self._place(words, i) != "free"]
            for i in chance.sample(some, min(2, len(some))):
                kind = words_of(self.products[i].kind or "")
                alike = last and bool(kind) and kind[-1] == words[-1]
                yield Lesson(query, self.products[i].title, "sibling" if alike else "other")
        for i in self._drawn(1, chance):
            if i not in good and self.products[i].kind:
                yield Lesson(query, self.products[i].title, "other")

    def _of_more(self, chance: random.Random) -> Iterator[Lesson]:
        """A kind with its maker, a model, or another word of a title."""
        kind = self._a_kind(chance)
        items, query = self._of_kind[kind], chance.choice(self._called(kind))
        good, i, which = set(self._kinds_below(words_of(kind))), chance.choice(self._of_kind[kind]), chance.random()
        maker = self._makers[i]
        if which < 0.38 and maker:
            asked = chance.choice([f"{maker} {query}", f"{query} {maker}"])
            yield Lesson(asked, self.products[i].title, "same")
            for j in chance.sample(items, min(3, len(items))):
                yield Lesson(asked, self.products[j].title, "same" if self._makers[j] == maker else "part")
            rest = [j for j in self._of_maker[maker] if j not in good and self.products[j].kind]
            yield from self._some(asked, rest, "other", 3, chance)
        elif which < 0.68 and maker:
            yield from self._of_a_model(chance, i, query, items, good)
        else:
            own = {*kind.split(), maker}
            extra = [w for w in _PLAIN.findall(self.products[i].title) if w.lower() not in own]
            if not extra:
                return
            word = chance.choice(extra).lower()
            asked, stem = f"{word} {query}", singular(word)
            yield Lesson(asked, self.products[i].title, "same")
            for j in chance.sample(items, min(3, len(items))):
                silent: Standing = "near" if chance.random() < 0.5 else "part"
                yield Lesson(asked, self.products[j].title, "same" if stem in self._words[j] else silent)
            rest = [j for j in self._having[stem] if j not in good and self.products[j].kind]
            yield from self._some(asked, rest, "other", 3, chance)

    def _of_a_model(
        self, chance: random.Random, i: int, query: str, items: Sequence[int], good: set[int]
    ) -> Iterator[Lesson]:
        models = [m for m in _MODEL.findall(self.products[i].title) if 4 <= len(m) <= 12]
        if not models:
            return
        model, maker = chance.choice(models).lower(), self._makers[i]
        asked = chance.choice([f"{maker} {model}", model, f"{maker} {model} {query}"])
        yield Lesson(asked, self.products[i].title, "same")
        for j in chance.sample(list(items), min(4, len(items))):
            title = self.products[j].title
            yield Lesson(asked, title, "same" if model in title.lower() else "sibling")
        yield from self._some(asked, [j for j in self._of_maker[maker] if j not in good], "other", 2, chance)

    # ------------------------------------------------------------------------------------------------ what is looked up

    def _some(
        self, query: str, places: Sequence[int], standing: Standing, most: int, chance: random.Random
    ) -> Iterator[Lesson]:
        for i in chance.sample(list(places), min(most, len(places))):
            yield Lesson(query, self.products[i].title, standing)

    def _drawn(self, count: int, chance: random.Random) -> list[int]:
        return [chance.randrange(len(self.products)) for _ in range(count)]

    def _a_kind(self, chance: random.Random) -> str:
        kinds, weights = self._kinds
        return chance.choices(kinds, weights)[0]

    @cached_property
    def _kinds(self) -> tuple[list[str], list[float]]:
        kinds = [kind for kind, items in self._of_kind.items() if len(items) >= 3]
        return kinds, [len(self._of_kind[kind]) ** 0.5 for kind in kinds]

    @cached_property
    def _makers_asked(self) -> list[str]:
        return [maker for maker, items in self._of_maker.items() if len(items) >= 5]

    @cached_property
    def _lines(self) -> list[tuple[str, str]]:
        """(maker, line): the word right behind the maker in several titles, where it is no kind."""
        counts: Counter[tuple[str, str]] = Counter()
        for i, maker in enumerate(self._makers):
            tokens, width = self._tokens(i), len(maker.split())
            if maker and len(tokens) > width and " ".join(tokens[:width]).lower() == maker:
                line = tokens[width].lower()
                if _LINE.fullmatch(tokens[width]) and line not in self._heads:
                    counts[maker, line] += 1
        return [one for one, n in counts.items() if n >= 4]

    def _called(self, kind: str) -> list[str]:
        """Other names of a kind: each side of a slash, singular and plural, those that the tables know."""
        words = kind.split()
        parts = [
            " ".join([*words[:i], part, *words[i + 1 :]])
            for i, word in enumerate(words)
            if "/" in word
            for part in word.split("/")
        ]
        names = [form for name in parts or [kind] for form in (name, name[:-1] if name.endswith("s") else f"{name}s")]
        return list(dict.fromkeys([*names, *self._names.get(words_of(kind), ())]))

    def _kinds_below(self, words: tuple[str, ...]) -> list[int]:
        """The products whose kind's name ends in these words."""
        return [
            i for kind, items in self._of_kind.items() if words_of(kind)[-len(words) :] == words for i in items
        ]  # fmt: skip

    def _with_all(self, words: Sequence[str]) -> list[int]:
        if not words:
            return []
        first, *rest = sorted((self._having[word] for word in words), key=len)
        others = [set(one) for one in rest]
        return [i for i in first if all(i in one for one in others)]

    def _is_supply(self, i: int) -> bool:
        return bool(supplies().intersection(words_of(self.products[i].kind or "")))

    def _tokens(self, i: int) -> list[str]:
        return _TOKEN.findall(self.products[i].title)

    def _opening(self, i: int) -> list[str]:
        return [token.lower() for token in self._tokens(i)[:4]]

    def _place(self, words: tuple[str, ...], i: int) -> str | None:
        """How words stand in a title: free; bound (before a noun, behind "for"); apart; None: not all are there."""
        title = [singular(token.lower()) for token in self._tokens(i)]
        found = None
        for start in range(len(title) - len(words) + 1):
            if tuple(title[start : start + len(words)]) == words:
                behind = title[start + len(words)] if start + len(words) < len(title) else ""
                if behind not in self._nouns and not _FOR.intersection(title[max(0, start - 6) : start]):
                    return "free"
                found = "bound"
        return found or ("apart" if all(word in title for word in words) else None)


def _names_of(knowledge: Knowledge) -> dict[tuple[str, ...], tuple[str, ...]]:
    """The words of each name of a category → all of its names."""
    found: dict[tuple[str, ...], tuple[str, ...]] = {}
    for category in knowledge.categories.values():
        names = (category.name, *category.terms)
        found |= {words_of(name): names for name in names}
    return found
