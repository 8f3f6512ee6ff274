"""Numbers of a query as the tables' own readers find them, for words that a model pointed at.

A model says which words are a size, a price or an age and what it is a bound of; how much that is in which unit is read
from the words (`lore_mm.values`), since small models cannot convert. It knows no model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from extractors.query.demands import from_offer, from_price, from_quantities
from extractors.query.offers import find_offers
from lore_mm.knowledge import Knowledge
from lore_mm.phrases import Phrase
from lore_mm.types import Demand, Operator
from lore_mm.values import find_prices, find_quantities, format_number

__all__ = ["Measures"]

_UNREAD = 0.5  # share of confidence left to a number that does not stand in its words
_SHARED = ("color", "material")  # "80% cotton"
_OFFERED = ("special", "price", "bundle")  # "2 for 1"
_COUNTED = ("spec", "bundle", "year", "audience", "price")
_SHARES = ("share", "off")  # units of the tables' own readers, of numbers from 0 to 1
_DENIED = re.compile(r"\s*(?:not|no)\b", re.IGNORECASE)
_TURNED: Mapping[Operator, Operator] = {"at_most": "at_least", "at_least": "at_most"}


class Measures:
    """The quantities, prices and offers of one query; `category` is the kind of thing it asks for, where known."""

    def __init__(self, text: str, category: str | None, knowledge: Knowledge) -> None:
        self.text, self.category, self.knowledge = text, category, knowledge
        self._offers = find_offers(text)
        self._prices = [p for p in find_prices(text) if not _over(p, self._offers)]
        self._quantities = [q for q in find_quantities(text) if not _over(q, (*self._prices, *self._offers))]

    def measured(self, d: Demand, said: Mapping[str, Any] | None) -> Iterator[Demand]:
        """The demand with the numbers of its words, once for each; as it is where it is about none.

        `said` is the model's own measure. Where the words hold no number that can be read, it is believed: wholly where
        its digits stand in the words, else half ("a dozen", "fifty").
        """
        if d.start is None or d.end is None or d.dimension not in (*_COUNTED, *_SHARED, *_OFFERED):
            yield d
            return
        here = (d,)
        offers = [o for o in self._offers if _over(o, here)]
        prices = [p for p in self._prices if _over(p, here)]
        if offers and d.dimension in _OFFERED:
            yield replace(from_offer(offers[0], self.text), confidence=d.confidence)
        elif d.dimension in _SHARED:
            yield self._shared(d, said)
        elif d.dimension == "price" and prices:
            yield from (self._bounded(_kept(from_price(p, self.text), d), said) for p in prices)
        elif d.dimension in _COUNTED and (made := self._counted(d)):
            yield from (self._bounded(one, said) for one in made)
        elif said and d.dimension in _COUNTED:
            yield self._believed(d, said)
        else:
            yield d

    def _shared(self, d: Demand, said: Mapping[str, Any] | None) -> Demand:
        """A material or colour with the share that stands in its words, or that the model read beside them."""
        shares = [q for q in self._quantities if q.kind == "share" and q.number <= 100]
        meant = [q for q in shares if _over(q, (d,)) or (said and q.number in (said["number"], 100 * said["number"]))]
        if not meant or d.polarity < 0:
            return d
        op: Operator = said["op"] if said and said["op"] in _TURNED else "share"
        start, end = _both(meant[0], d)
        return replace(
            d, value=self.text[start:end], op=op, number=meant[0].number / 100, unit="share", start=start, end=end
        )

    def _counted(self, d: Demand) -> list[Demand]:
        """The quantities among the words; one takes the model's words along, several stand each for itself."""
        quantities = [q for q in self._quantities if _over(q, (d,))]
        phrase = Phrase((), None, self.category)
        made = [_kept(one, d) for one in from_quantities(quantities, phrase, self.knowledge)]
        if len(made) == 1:
            start, end = _both(made[0], d)
            return [replace(made[0], value=self.text[start:end], start=start, end=end)]
        return made

    def _bounded(self, d: Demand, said: Mapping[str, Any] | None) -> Demand:
        """The bound that the model read, where the number's own words say none; turned where it is denied."""
        op: Operator = d.op
        if op == "eq" and said and said["op"] in _TURNED and d.number_high is None:
            op = said["op"]
        if d.polarity < 0:
            if op in _TURNED:  # not under 50 is 50 and more; "not over 50" is read as at most 50 already
                denied = d.start is not None and _DENIED.match(self.text, d.start)
                return replace(d, op=op if denied else _TURNED[op], polarity=1)
            return replace(d, op="not")
        return replace(d, op=op)

    def _believed(self, d: Demand, said: Mapping[str, Any]) -> Demand:
        """The model's own number, in the base unit where its unit is one."""
        number, high, unit = said["number"], said["number_high"], said["unit"]
        unit = None if unit in _SHARES else unit
        stands = format_number(number) in d.value.replace(",", "")
        for q in find_quantities(f"{format_number(number)} {unit}")[:1] if unit and d.dimension == "spec" else ():
            high = None if high is None else high * q.number / max(number, 1e-9)
            number, unit = q.number, q.unit or None
        op: Operator = "range" if high is not None and high > number else "eq"
        made = replace(
            d, op=op, number=float(number), number_high=float(high) if op == "range" else None, unit=unit or None,
            confidence=d.confidence * (1.0 if stands else _UNREAD),
        )  # fmt: skip
        return self._bounded(made, said)


def _kept(made: Demand, d: Demand) -> Demand:
    """A demand of the tables' readers with what the model says of its force and how sure it is."""
    return replace(made, polarity=d.polarity, strictness=d.strictness, role=d.role, confidence=d.confidence)


def _over(one: Any, spans: Iterable[Any]) -> bool:
    """True where it shares a character with one of the spans (whatever has a start and an end)."""
    return any(one.start < span.end and span.start < one.end for span in spans)


def _both(one: Any, other: Any) -> tuple[int, int]:
    return min(one.start, other.start), max(one.end, other.end)
