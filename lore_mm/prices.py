"""Prices and bounds on prices in text, with spans. It knows currencies and how people word a budget, not goods."""

from __future__ import annotations

import re
from typing import NamedTuple

from lore_mm.quantities import parse_number, starts_measured

__all__ = ["Price", "find_prices"]


class Price(NamedTuple):
    """A price or a bound on one. op: eq · at_most (high) · at_least (low) · range (both). currency: ISO 4217."""

    op: str
    low: float | None
    high: float | None
    currency: str | None
    start: int
    end: int


_SYMBOLS = {
    "$": "USD",
    "€": "EUR",
    "£": "GBP",
    "¥": "CNY",
    "￥": "CNY",
    "₹": "INR",
    "us$": "USD",
    "a$": "AUD",
    "c$": "CAD",
}
_NAMES = {
    "dollar": "USD", "dollars": "USD", "bucks": "USD", "usd": "USD", "euro": "EUR", "euros": "EUR", "eur": "EUR",
    "quid": "GBP", "gbp": "GBP", "pounds": "GBP", "pound": "GBP", "yuan": "CNY", "rmb": "CNY", "cny": "CNY",
    "yen": "JPY", "jpy": "JPY", "rupees": "INR", "inr": "INR", "chf": "CHF", "cad": "CAD", "aud": "AUD", "sek": "SEK",
}  # fmt: skip
_SYMBOL = r"us\$|a\$|c\$|[$€£¥￥₹]"
_AMOUNT = r"\d{1,3}(?:,\d{3})+(?:\.\d{1,2})?|\d{1,9}(?:[.,]\d{1,2})?"
_MOST = (
    r"under|below|less than|cheaper than|up to|at most|max(?:imum)?|no more than|not over|not more than|within|<=?|≤"
)
_LEAST = r"over|above|more than|at least|from|min(?:imum)?|starting (?:at|from)|>=?|≥"
_PRICE = re.compile(
    rf"(?:(?<![\w])(?:(?P<most>{_MOST})|(?P<least>{_LEAST})|(?P<between>between)|(?P<about>around|about|approx\.?|~))\s?)?"
    rf"(?<![\w.,])(?P<sym>{_SYMBOL})?\s?(?P<a>{_AMOUNT})(?P<k>k)?(?:\s?(?P<sym_a>[€£$])(?!\d))?(?:[\s-]?(?P<cur_a>{'|'.join(_NAMES)})\b)?"
    rf"(?:\s?(?:-|–|to|and)\s?(?P<sym_b>{_SYMBOL})?(?P<b>{_AMOUNT})(?P<k_b>k)?(?![\w])(?:\s?(?P<sym_c>[€£$]))?(?:[\s-]?(?P<cur_b>{'|'.join(_NAMES)})\b)?)?"
    r"(?![\w%\"”″]|[.,]\d)(?P<or>\s?(?:or (?P<or_less>less|under|below)|or (?:more|over|above)"
    r"|and (?P<and_less>under|below)|and (?:up|over|above)|max\b))?",
    re.IGNORECASE,
)
_DIGIT = re.compile(r"\d")
# A number without any of these in its text is no price: a currency, a bound or a price word, whole or in part.
_HINT = re.compile(
    rf"[$€£¥￥₹<>≤≥~]|{'|'.join(_NAMES)}|under|below|less|cheaper|up to|most|max|no more|not over|not more|within|over|"
    r"above|more|at least|from|min|starting|between|around|about|approx|and up|price|budget|cost|only"
)
_PRICE_WORD_BEFORE = re.compile(
    r"(?:price[ds]?|budget|cost(?:s|ing)?|for only|only)\s?(?:of|is|at|:)?\s?$", re.IGNORECASE
)


def find_prices(text: str, default_currency: str | None = None) -> list[Price]:
    """Prices and price bounds: "under 50", "between €20 and €40", "50-100 dollars", "$20 or less".

    A bare number is a price only after a bound ("under 50") or a price word ("budget 50"), and never before a unit.
    """
    found: list[Price] = []
    if not _DIGIT.search(text) or not _HINT.search(text.lower()):
        return found
    for m in _PRICE.finditer(text):
        symbol = m["sym"] or m["sym_a"] or m["sym_b"] or m["sym_c"]
        name = m["cur_a"] or m["cur_b"]
        bound = m["most"] or m["least"] or m["between"] or m["about"] or m["or"]
        worded = _PRICE_WORD_BEFORE.search(text[max(0, m.start("a") - 12) : m.start("a")])
        if not (symbol or name or worded or (bound and _bare(m, text))):
            continue
        if name and name.lower().startswith("pound") and not symbol and not (bound and bound != m["least"]):
            continue  # a weight
        currency = _SYMBOLS[symbol.lower()] if symbol else _NAMES[name.lower()] if name else default_currency
        low = parse_number(m["a"]) * (1000 if m["k"] else 1)
        high = parse_number(m["b"]) * (1000 if m["k_b"] else 1) if m["b"] else None
        found.append(_priced(m, low, high, currency))
    return found


def _bare(m: re.Match[str], text: str) -> bool:
    """True where a number after a bound has no unit after it, so that it must be a price."""
    if m["between"] and not m["b"]:
        return False
    return not starts_measured(text, m.start("b" if m["b"] else "a"))


def _priced(m: re.Match[str], low: float, high: float | None, currency: str | None) -> Price:
    span = (m.start() + len(m[0]) - len(m[0].lstrip()), m.end())
    if high is not None:
        return Price("range", min(low, high), max(low, high), currency, *span)
    if m["most"] or m["or_less"] or m["and_less"] or (m["or"] or "").strip().lower() == "max":
        return Price("at_most", None, low, currency, *span)
    if m["least"] or m["or"]:
        return Price("at_least", low, None, currency, *span)
    return Price("eq", low, low, currency, *span)
