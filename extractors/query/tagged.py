"""What the tables read and what a tagger saw made one: which words are the thing, and what unknown ones are.

Numbers, prices, negations and words that the tables know keep the tables' reading. The tagger says which of them is the
thing itself, picks between readings that the tables leave open ("apple"), and gives unknown words their dimension.
This module knows demands, tags and tables, and no model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from extractors.query.demands import entry, is_soft
from extractors.query.unknown import HEAD_ORDER
from lore_mm.datasets.queryner_types import EntityType, entity_types
from lore_mm.knowledge import Knowledge
from lore_mm.mentions import Scanner, scanner_for
from lore_mm.models.query_tagger import Tag
from lore_mm.text import Token, fold, tokens
from lore_mm.types import Demand, OtherReading

__all__ = ["with_tags"]

_THING = "core_product_type"
_NAMES = frozenset(("creator", "product_name", "product_number", "content"))
_NUMBERED = frozenset(("price", "bundle", "year"))  # without a number they say nothing: words such as "cheap"
_FIRM = frozenset(("category", "brand", "model", "ip", "audience", "color", "material", "spec"))
_SURE = 0.7  # confidence from which on an unknown maker, colour … is required rather than wished
_BELIEVED = 0.5  # confidence from which on a tag goes before a reading of the tables
_SMALL = frozenset("a an the of for and in with to by on from or at as is it made my your this that".split())
_ONCE_HEAD = 0.5  # confidence of a thing that turned out not to be the head


@dataclass(frozen=True, slots=True)
class _Span:
    """A tag with its type and the words in it that say something."""

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
        self.spans = [*_spans(text, tags)]
        self.head = next((d for d in demands if d.role == "head"), None)
        self.said = [d for d in demands if d.start is not None and d.end is not None]
        self.implied = [d for d in demands if d.start is None]
        self.readings = list(readings)

    def merged(self) -> tuple[list[Demand], tuple[OtherReading, ...]]:
        known = [d for d in self.said if _is_known(d)]
        unknown = [d for d in self.said if not _is_known(d)]
        made: list[Demand] = []
        for span in self.spans:
            inside = [d for d in known if _overlaps(d, span.start, span.end)]
            free = [w for w in span.words if not any(_overlaps(d, w.start, w.end) for d in inside)]
            if all(w.text in _SMALL for w in free):
                known = self._chosen(known, inside, span)
            elif span.type.name == _THING:
                known, thing = self._thing(known, inside, free, span)
                made += thing
            elif span.type.name in _NAMES:
                known, name = self._name(known, inside, span)
                made += name
            else:
                made += [self._demand(span, run[0].start, run[-1].end) for run in _runs(self.text, free)]
        # what no tag touches says nothing, as far as the tagger can tell, unless the tables take it for a name or thing
        left = [d for d in unknown if not self._is_tagged(d) and d.dimension in HEAD_ORDER]
        return self._ordered([*known, *made, *left]), tuple(self.readings)

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
                used = (entry(r.dimension, r.canonical),) if r.canonical else ()
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
                wider = replace(last, start=run[0].start, value=self.text[run[0].start : last.end])
                return [wider if d is last else d for d in known], []
            return known, []
        if last is not None:
            return known, []
        # an unknown thing: kinds named before it are part of its name ("bread lame"), qualities are not ("steel lame")
        kinds = [d for d in inside if d.dimension in ("category", "component") or d.canonical is None]
        qualities = [d for d in inside if d not in kinds]
        start = max([span.start, *(d.end or 0 for d in qualities)])
        first = next(w for w in span.words if w.start >= start)
        thing = self._demand(span, first.start, span.end)
        return [d for d in known if d not in kinds or not _overlaps(d, first.start, span.end)], [thing]

    def _name(self, known: list[Demand], inside: Sequence[Demand], span: _Span) -> tuple[list[Demand], list[Demand]]:
        """A name, where the tables do not know all of its words: as a whole, unless they know part of it as such."""
        same = [d for d in inside if d.dimension in (span.type.dimension, *span.type.also) or d.polarity < 0]
        if same or span.tag.confidence < _BELIEVED or any(d.number is not None for d in inside):
            return known, []
        return [d for d in known if d not in inside], [self._demand(span, span.start, span.end)]

    def _demand(self, span: _Span, start: int, end: int) -> Demand:
        """The demand of a tag's words, linked to the tables where they know the words as a whole."""
        value = self.text[start:end]
        dimension, canonical = self._linked(value, (span.type.dimension, *span.type.also))
        if dimension in _NUMBERED and canonical is None:
            dimension = "special"
        sure = span.tag.confidence
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
            knowledge=(entry(dimension, canonical),) if canonical else (),
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
        rest = [self._second(d) if d.role == "head" else d for d in demands if d is not head]
        rest.sort(key=lambda d: d.start or 0)
        said = {d.dimension for d in demands if d.polarity > 0}
        implied = [d for d in self.implied if d.dimension not in said or not _of_series(d)]
        if head is None:
            return [*rest, *implied]
        if head.dimension == "category":
            implied = [replace(d, role="modifier") if d.role == "head" else d for d in implied]
        elif any(d.role == "head" for d in implied):
            return [*(d for d in implied if d.role == "head"), head, *rest, *(d for d in implied if d.role != "head")]
        return [replace(head, role="head", strictness="hard"), *rest, *implied]

    def _head(self, demands: Sequence[Demand]) -> Demand | None:
        """The thing: a kind tagged so, the tables' head where it is one of them; else by the order of dimensions."""
        kinds = [d for d in demands if d.dimension == "category" and d.polarity > 0]
        tagged = [(self._as_thing(d), d) for d in kinds]
        if any(sure for sure, _ in tagged):
            kept = next((d for sure, d in tagged if sure and d.role == "head"), None)
            return kept or max((pair for pair in tagged if pair[0]), key=lambda pair: pair[0])[1]
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

    def _second(self, d: Demand) -> Demand:
        """What the tables took for the head, where it is not: it narrows the thing, by the dimension of its tag."""
        if d.dimension != "category":
            return replace(d, role="modifier")
        kinds = [s.type.dimension for s in self.spans if _overlaps(d, s.start, s.end) and s.type.name != _THING]
        dimension = next((k for k in kinds if k not in ("category", *_NUMBERED)), "style_detail")
        sure = min(d.confidence, _ONCE_HEAD)
        return replace(
            d, dimension=dimension, canonical=None, role="modifier", strictness="soft", confidence=sure, alternatives=()
        )


def _spans(text: str, tags: Sequence[Tag]) -> Iterator[_Span]:
    """The tags of known types, without the small words around them ("for kids" → "kids")."""
    for tag in tags:
        kind = entity_types().get(tag.type)
        if kind is None:
            continue
        found = [Token(t.text, t.start + tag.start, t.end + tag.start) for t in tokens(text[tag.start : tag.end])]
        small = _SMALL.union(kind.takes_along)
        while found and found[0].text in small:
            found.pop(0)
        while found and found[-1].text in small:
            found.pop()
        if found:
            yield _Span(tag, kind, tuple(found))


def _is_known(d: Demand) -> bool:
    """True for what the tables or the readers of numbers have read; a negation's words are what is excluded."""
    return (
        d.canonical is not None
        or d.number is not None
        or d.polarity < 0
        or bool(d.knowledge)
        or d.dimension in ("spec", "bundle", "price", "year")
    )


def _overlaps(d: Demand, start: int, end: int) -> bool:
    return d.start is not None and d.end is not None and d.start < end and start < d.end


def _of_series(d: Demand) -> bool:
    return any(used.startswith("series/") for used in d.knowledge)


def _words(text: str, d: Demand) -> list[Token]:
    start = d.start or 0
    return [Token(t.text, t.start + start, t.end + start) for t in tokens(text[start : d.end])]


def _runs(text: str, words: Sequence[Token]) -> Iterator[list[Token]]:
    """Neighbouring words together, without small words around them."""
    run: list[Token] = []
    for word in words:
        if run and text[run[-1].end : word.start].strip(" -'’&./"):
            yield from _trimmed(run)
            run = []
        run.append(word)
    yield from _trimmed(run)


def _trimmed(run: list[Token]) -> Iterator[list[Token]]:
    while run and run[0].text in _SMALL:
        run = run[1:]
    while run and run[-1].text in _SMALL:
        run = run[:-1]
    if run:
        yield run


def _once(demands: Sequence[Demand]) -> list[Demand]:
    """Each demand once, the first that says it; the head is kept in any case."""
    kept: dict[tuple[object, ...], Demand] = {}
    for d in sorted(demands, key=lambda d: d.role != "head"):
        kept.setdefault((d.dimension, d.canonical or fold(d.value), d.number, d.number_high, d.polarity), d)
    return list(kept.values())
