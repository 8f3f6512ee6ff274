"""Offers in words: "2 for 1", "50% off", "half price", "buy two get one free".

An offer is a demand of the dimension `special`, not of `price`: it says on what terms a thing is sold, and no amount of
money. Its number is the least share of the price that is saved, unit `off`: 50% off and half price 0.5, 2 for 1 is 0.5
(one of two is paid), 3 for 2 is 1/3, buy two get one free 1/3. A reduction is canonically `sale`, pieces given free
are `buy one get one` or, where more must be bought, `multi-buy`. An amount of money, or a bound on one, is `price`
(lore_mm.prices); cheap, cheapest and budget are wishes on `special`.

This module knows wording and numbers, not goods.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from lore_mm.text import one_of

__all__ = ["Offer", "find_offers"]


class Offer(NamedTuple):
    """One offer: text[start:end]; `saved` is a share of the price in [0, 1]."""

    canonical: str
    saved: float
    start: int
    end: int


_WORDS = {"one": 1, "a": 1, "two": 2, "three": 3, "four": 4, "five": 5}
_N = r"\d{1,2}|one|two|three|four|five"
_OFFER = re.compile(
    rf"(?P<percent>\d{{1,2}})\s?(?:%|per\s?cent)\s?-?(?:off|discount|reduced|reduction|rabatt|descuento|sale)\b"
    r"|\bsave\s(?P<save>\d{1,2})\s?%"
    r"|(?P<half>\bhalf[\s-](?:price|off)\b)"
    rf"|\bbuy\s(?P<buy>{_N}),?\s(?:and\s)?get\s(?P<free>{_N})(?P<terms>\s(?:at\s)?half[\s-](?:price|off)|\s(?:for\s)?free)?\b"
    rf"|\b(?P<n>{_N})\s?(?:for|4)\s?(?:the\sprice\sof\s)?(?P<m>{_N})\b(?![.,]\d|\s?(?:%|\w+[\s-]olds?\b|years?|yrs?|months?|people|persons?|dollars?|euros?|pounds?|bucks))"
    r"|(?P<bogo>\bbogof?\b)",
    re.IGNORECASE,
)
_SIGNS = one_of(
    "off", " for ", "for1", "get ", "half", "bogo", "save", "discount", "reduc", "rabatt", "descuento", "% sale"
)


def find_offers(text: str) -> list[Offer]:
    """The offers of a text, in order."""
    if not _SIGNS.search(text.lower()):
        return []
    return [offer for m in _OFFER.finditer(text) if (offer := _offer(m)) is not None]


def _offer(m: re.Match[str]) -> Offer | None:
    start, end = m.span()
    if m["percent"] or m["save"]:
        return Offer("sale", int(m["percent"] or m["save"]) / 100, start, end)
    if m["half"]:
        return Offer("sale", 0.5, start, end)
    if m["bogo"]:
        return Offer("buy one get one", 0.5, start, end)
    if m["buy"]:
        bought, free = _count(m["buy"]), _count(m["free"])
        saved = free / max(bought + free, 1) * (0.5 if "half" in (m["terms"] or "").lower() else 1.0)
        return Offer("buy one get one" if bought == 1 else "multi-buy", saved, start, end)
    got, paid = _count(m["n"]), _count(m["m"])
    if not got > paid > 0:
        return None
    return Offer("buy one get one" if (got, paid) == (2, 1) else "multi-buy", 1 - paid / got, start, end)


def _count(word: str) -> int:
    return _WORDS[word.lower()] if word.isalpha() else int(word)
