"""What the tables read and what a tagger saw made one: which words are the thing, and what unknown ones are.

Numbers, prices, negations and words that the tables know keep the tables' reading. The tagger says which of them is the
thing itself, picks between readings that the tables leave open ("apple"), and gives unknown words their dimension.
This module knows demands, tags and tables, and no model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from extractors.query.demands import is_soft
from extractors.query.unknown import HEAD_ORDER
from lore_mm.datasets.queryner_types import EntityType, entity_types
from lore_mm.entries import entry_id
from lore_mm.knowledge import Knowledge
from lore_mm.mentions import Scanner, scanner_for
from lore_mm.models.query_tagger import Tag
from lore_mm.text import Token, fold, tokens
from lore_mm.types import Demand, OtherReading

__all__ = ["with_tags"]

_THING = "core_product_type"
_NAMES = frozenset(("creator", "product_name", "product_number", "content"))
_NUMBERED = frozenset(("price", "bundle"))  # without a number they say nothing: words such as "cheap"
_FIRM = frozenset(("category", "brand", "model", "ip", "audience", "color", "material", "spec"))
_SURE = 0.7  # confidence from which on an unknown maker, colour … is required rather than wished
_BELIEVED = 0.5  # confidence from which on a tag goes before a reading of the tables
# The tagger has learnt from English: letters of other scripts are the tables' to read. Latin ones with accents pass.
_LATIN = {c: None for c in (*range(0x80, 0x300), *range(0x1E00, 0x1F00), *range(0x2000, 0x2200))}
_QUALITIES = frozenset(("style_detail", "function", "material", "color", "style"))
_CLEARLY = 0.2  # by how much more another thing must be one for the tables' head to step back
_ONCE_HEAD = 0.5  # confidence of a thing that turned out not to be the head

_FOR = re.compile(r"\bfor (?:my |your |the |an? )?$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Span:
    """A tag with its type and its words, from the first to the last that says something."""

    tag: Tag
    type: EntityType
    words: tuple[Token, ...]

    @property
    def start(self) -> int:
        return self.words[0].start

    @property
    def end(self) -> int:
        return self.words[-1].end


def with_tags(
    text: str, demands: Sequence[Demand], readings: Sequence[OtherReading], tags: Sequence[Tag], knowledge: Knowledge
) -> tuple[list[Demand], tuple[OtherReading, ...]]:
    """The demands, head first, and the other readings, after the tagger has had its say.

    `demands` and `readings` are those of the engine `knowledge` for the same text.
    """
    return _Merge(text, demands, readings, tags, knowledge).merged()


class _Merge:
    def __init__(
        self,
        text: str,
        demands: Sequence[Demand],
        readings: Sequence[OtherReading],
        tags: Sequence[Tag],
        knowledge: Knowledge,
    ) -> None:
        self.text, self.knowledge = text, knowledge
        self.scanner: Scanner = scanner_for(knowledge)
        self.said = [d for d in demands if d.start is not None and d.end is not None]
        self.implied = [d for d in demands if d.start is None]
        self.spans = [*self._spans(tags)]
        self.readings = list(readings)

    def merged(self) -> tuple[list[Demand], tuple[OtherReading, ...]]:
        known = [d for d in self.said if _is_known(d)]
        unknown = [d for d in self.said if not _is_known(d)]
        made: list[Demand] = []
        for span in self.spans:
            inside = [d for d in known if _overlaps(d, span.start, span.end)]
            free = [w for w in span.words if any(_overlaps(d, w.start, w.end) for d in unknown)]
            free = [w for w in free if not any(_overlaps(d, w.start, w.end) for d in inside)]
            if not free:
                known = self._chosen(known, inside, span)
            elif span.type.name == _THING:
                known, thing = self._thing(known, inside, free, span)
                made += thing
            elif span.type.name in _NAMES and _is_name(inside, span):
                known = [d for d in known if d not in inside]
                made.append(self._demand(span, span.start, span.end))
            else:
                made += [self._demand(span, run[0].start, run[-1].end) for run in _runs(self.text, free)]
        # what no tag touches says nothing, as far as the tagger can tell, unless the tables take it for a name or thing
        left = [d for d in unknown if not self._is_tagged(d) and d.dimension in HEAD_ORDER]
        return self._ordered([*known, *made, *left]), tuple(self.readings)

    def _spans(self, tags: Sequence[Tag]) -> Iterator[_Span]:
        """The tags of known types, without words at their ends that say nothing ("for kids" → "kids")."""
        for tag in tags:
            kind = entity_types().get(tag.type)
            found = [
                Token(t.text, t.start + tag.start, t.end + tag.start) for t in tokens(self.text[tag.start : tag.end])
            ]
            says = [i for i, w in enumerate(found) if any(_overlaps(d, w.start, w.end) for d in self.said)]
            if kind is not None and says and self.text[tag.start : tag.end].translate(_LATIN).isascii():
                yield _Span(tag, kind, tuple(found[says[0] : says[-1] + 1]))

    def _chosen(self, known: list[Demand], inside: Sequence[Demand], span: _Span) -> list[Demand]:
        """Words that the tables know: their reading, or that other reading of theirs which the tag names."""
        if len(inside) != 1 or inside[0].polarity < 0 or span.tag.confidence < _BELIEVED:
            return known
        d, wanted = inside[0], (span.type.dimension, *span.type.also)
        if d.dimension in wanted:
            return known
        for r in self.readings:
            if (r.start, r.end) == (d.start, d.end) and r.dimension in wanted:
                why = f"{d.value!r} is tagged {span.type.name.replace('_', ' ')}"
                used = (entry_id(r.dimension, r.canonical),) if r.canonical else ()
                chosen = Demand(
                    r.dimension, d.value, r.canonical, start=d.start, end=d.end,
                    confidence=span.tag.confidence, why=why, knowledge=used,
                )  # fmt: skip
                other = OtherReading(d.dimension, d.value, d.canonical, d.start, d.end, 1 - span.tag.confidence, r.why)
                self.readings = [other if one is r else one for one in self.readings]
                return [chosen if one is d else one for one in known]
        return known

    def _thing(
        self, known: list[Demand], inside: Sequence[Demand], free: Sequence[Token], span: _Span
    ) -> tuple[list[Demand], list[Demand]]:
        """The thing, where the tables do not know all of its words."""
        last = next((d for d in inside if (d.end or 0) >= span.end), None)
        if last is not None and last.dimension == "category" and last.start is not None and last.polarity > 0:
            # a kind of what is known: "zither boots"
            before = [w for w in free if w.end <= last.start]
            run = [*_runs(self.text, [*before, *_words(self.text, last)])][-1] if before else []
            if run and run[-1].end == last.end:
                sure = min(last.confidence, span.tag.confidence)
                wider = replace(last, start=run[0].start, value=self.text[run[0].start : last.end], confidence=sure)
                return [wider if d is last else d for d in known], []
            return known, []
        if last is not None or any(_is_thing(d) and len(_words(self.text, d)) > 1 for d in inside):
            return known, [self._demand(span, r[0].start, r[-1].end, "special") for r in _runs(self.text, free)]
        # an unknown thing: kinds named before it are part of its name ("bread lame"), qualities are not ("steel lame")
        kinds = [d for d in inside if d.dimension in ("category", "component") or d.canonical is None]
        qualities = [d for d in inside if d not in kinds]
        start = max([span.start, *(d.end or 0 for d in qualities)])
        first = next(w for w in span.words if w.start >= start)
        thing = self._demand(span, first.start, span.end)
        return [d for d in known if d not in kinds or not _overlaps(d, first.start, span.end)], [thing]

    def _demand(self, span: _Span, start: int, end: int, dimension: str | None = None) -> Demand:
        """The demand of a tag's words, linked to the tables where they know the words as a whole.

        `dimension`: where the words belong, if not where the tag's type says.
        """
        value = self.text[start:end]
        wanted = (dimension,) if dimension else (span.type.dimension, *span.type.also)
        dimension, canonical = self._linked(value, wanted)
        sure = span.tag.confidence
        if canonical is None:
            guessed = span.type.name in _NAMES and sure < _BELIEVED
            if dimension in _NUMBERED or guessed:
                dimension = "special"
            elif "function" in span.type.also and _FOR.search(self.text, 0, start):
                dimension = "function"
        firm = dimension in _FIRM and sure >= _SURE if canonical is None else not is_soft(dimension, canonical)
        return Demand(
            dimension=dimension,
            value=value,
            canonical=canonical,
            strictness="hard" if firm else "soft",
            start=start,
            end=end,
            confidence=sure,
            why=None if canonical else f"no table knows these words; tagged {span.type.name.replace('_', ' ')}",
            knowledge=(entry_id(dimension, canonical),) if canonical else (),
        )

    def _linked(self, value: str, dimensions: Sequence[str]) -> tuple[str, str | None]:
        found = self.scanner.find(value)
        if len(found) == 1 and not value[: found[0].start].strip() and not value[found[0].end :].strip():
            m = found[0]
            readings = [(m.dimension, m.canonical), *((o.dimension, o.canonical) for o in m.others)]
            for dimension in dimensions:
                for which, canonical in readings:
                    if which == dimension:
                        return dimension, canonical
        return dimensions[0], None

    def _is_tagged(self, d: Demand) -> bool:
        return any(_overlaps(d, span.start, span.end) for span in self.spans)

    def _ordered(self, demands: Sequence[Demand]) -> list[Demand]:
        """Each once, head first, then as they stand, then what is implied."""
        demands = _once(demands)
        head = self._head(demands)
        if head is None and not any(d.role == "head" for d in self.implied) and (thing := self._quality(demands)):
            head = self._demand(thing, thing.start, thing.end)
            demands = [d for d in demands if not _overlaps(d, thing.start, thing.end)]
        rest = [d if d is head or not _is_thing(d) else self._second(d) for d in demands if d is not head]
        rest = [replace(d, role="modifier") for d in rest]
        rest.sort(key=lambda d: d.start or 0)
        said = {d.dimension for d in demands if d.polarity > 0}
        implied = [d for d in self.implied if d.dimension not in said or not _of_series(d)]
        if head is not None and head.dimension == "category":
            implied = [replace(d, role="modifier") for d in implied]
        named = [d for d in implied if d.role == "head"]  # a problem implies the thing: "gift for mom"
        if head is not None:
            rest = (
                [replace(head, role="modifier"), *rest]
                if named
                else [replace(head, role="head", strictness="hard"), *rest]
            )
        return [*named, *rest, *(d for d in implied if d not in named)]

    def _head(self, demands: Sequence[Demand]) -> Demand | None:
        """The thing: a kind tagged so, the tables' head where it is one of them; else by the order of dimensions."""
        kinds = [d for d in demands if d.dimension == "category" and d.polarity > 0]
        tagged = [(self._as_thing(d), d) for d in kinds]
        if any(sure for sure, _ in tagged):
            sure, best = max(tagged, key=lambda pair: pair[0])
            own = next(((much, d) for much, d in tagged if much and d.role == "head"), None)
            return own[1] if own and own[0] + _CLEARLY > sure else best
        if kept := next((d for d in demands if d.role == "head"), None):
            return kept
        for dimension in HEAD_ORDER:
            fitting = [d for d in demands if d.dimension == dimension and d.polarity > 0]
            if fitting:
                return min(fitting, key=lambda d: d.canonical is None)
        return None

    def _as_thing(self, d: Demand) -> float:
        """The confidence of the tag that calls these words the thing; 0 where none does."""
        said = [s.tag.confidence for s in self.spans if s.type.name == _THING and _overlaps(d, s.start, s.end)]
        return max(said, default=0.0)

    def _quality(self, demands: Sequence[Demand]) -> _Span | None:
        """The tag that calls a mere quality of the tables the thing ("edible glitter"); for queries without a head."""
        things = [s for s in self.spans if s.type.name == _THING and s.tag.confidence >= _BELIEVED]
        over = [
            s
            for s in things
            if all(d.polarity > 0 and d.dimension in _QUALITIES for d in demands if _overlaps(d, s.start, s.end))
        ]
        return max(over, key=lambda s: s.tag.confidence, default=None)

    def _second(self, d: Demand) -> Demand:
        """A kind of thing that is not the head: it narrows the thing, by the dimension of its tag."""
        kinds = [s.type.dimension for s in self.spans if _overlaps(d, s.start, s.end) and s.type.name != _THING]
        dimension = next((k for k in kinds if k not in ("category", *_NUMBERED)), "style_detail")
        sure = min(d.confidence, _ONCE_HEAD)
        return replace(d, dimension=dimension, canonical=None, strictness="soft", confidence=sure, alternatives=())


def _is_thing(d: Demand) -> bool:
    return d.dimension == "category" and d.polarity > 0


def _is_name(inside: Sequence[Demand], span: _Span) -> bool:
    """True where a name of which the tables know some words is one name all the same ("kitchen craft")."""
    firm = [
        d
        for d in inside
        if d.number is not None or d.polarity < 0 or d.dimension in (span.type.dimension, *span.type.also)
    ]
    return not inside or (not firm and span.tag.confidence >= _BELIEVED)


def _is_known(d: Demand) -> bool:
    """True for what the tables or the readers of numbers have read; a negation's words are what is excluded."""
    return (
        d.canonical is not None
        or d.number is not None
        or d.polarity < 0
        or bool(d.knowledge)
        or d.dimension in ("spec", "bundle", "price", "year", "model")  # a part number, a maker's model
    )


def _overlaps(d: Demand, start: int, end: int) -> bool:
    return d.start is not None and d.end is not None and d.start < end and start < d.end


def _of_series(d: Demand) -> bool:
    return any(used.startswith("series/") for used in d.knowledge)


def _words(text: str, d: Demand) -> list[Token]:
    start = d.start or 0
    return [Token(t.text, t.start + start, t.end + start) for t in tokens(text[start : d.end])]


def _runs(text: str, words: Sequence[Token]) -> Iterator[list[Token]]:
    """Neighbouring words together."""
    run: list[Token] = []
    for word in words:
        if run and text[run[-1].end : word.start].strip(" -'’&./"):
            yield run
            run = []
        run.append(word)
    if run:
        yield run


def _once(demands: Sequence[Demand]) -> list[Demand]:
    """Each demand once, the first that says it; the head is kept in any case."""
    kept: dict[tuple[object, ...], Demand] = {}
    for d in sorted(demands, key=lambda d: d.role != "head"):
        kept.setdefault((d.dimension, d.canonical or fold(d.value), d.number, d.number_high, d.polarity), d)
    return list(kept.values())
