"""Demands as spans of a query: by dimension, or as QueryNER would tag them.

Demands stand on the words that name a value; the annotators of QueryNER tag every word, count the preposition before an
audience in, and never cut a word in two. What of this can be undone without reading the query anew is undone here, by
the table queryner.toml. It knows no truth.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from lore_mm.datasets.queryner import Span
from lore_mm.datasets.queryner_types import entity_types, negated_type, type_of
from lore_mm.types import Demand

__all__ = ["apart", "dimension_spans", "tag_spans"]

_WORD = re.compile(r"\S+")


def dimension_spans(demands: Iterable[Demand]) -> tuple[Span, ...]:
    """The spans of the demands that are said, each of its dimension's type."""
    said = (Span(d.start, d.end, d.dimension) for d in demands if d.start is not None and d.end is not None)
    return tuple(sorted(set(said)))


def tag_spans(text: str, demands: Sequence[Demand]) -> tuple[Span, ...]:
    """The spans of the demands that are said, with QueryNER's types and on whole words; no two overlap.

    A negated demand is a condition whatever its dimension. Words that the annotators count in are taken along where
    they stand right before a span and in no other.
    """
    words = [m.span() for m in _WORD.finditer(text)]
    rough = []
    for d in demands:
        if d.start is not None and d.end is not None:
            at = [i for i, (start, end) in enumerate(words) if start < d.end and d.start < end]
            kind = negated_type() if d.polarity < 0 else type_of(d.dimension, d.canonical)
            if at:
                rough.append(Span(at[0], at[-1] + 1, kind))  # in words, for now
    spans = apart(rough)
    ends = {span.end for span in spans}
    found = []
    for span in spans:
        start = span.start
        if start and start not in ends and _word(text, words[start - 1]) in entity_types()[span.type].takes_along:
            start -= 1
        found.append(Span(words[start][0], words[span.end - 1][1], span.type))
    return tuple(found)


def apart(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Spans that do not overlap, in order: the longer is kept, of two as long the one that was named first."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda s: s.start - s.end):
        if all(span.end <= other.start or other.end <= span.start for other in kept):
            kept.append(span)
    return tuple(sorted(kept))


def _word(text: str, place: tuple[int, int]) -> str:
    return text[place[0] : place[1]].casefold()
