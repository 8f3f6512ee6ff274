"""What words around a number add to it: bounds ("16 inch or larger"), ranges of years, sides, packs, what it measures.

It knows wording and quantities, and of goods only which words are kinds of thing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lore_mm.mentions import Mention
from lore_mm.quantities import parse_number
from lore_mm.text import one_of
from lore_mm.values import Price, Quantity

__all__ = ["bounded", "more_prices", "more_quantities", "sides", "stands", "with_what_is_measured"]

Span = tuple[int, int]

_MORE = r"larger|bigger|more|up|upwards?|above|over|longer|higher|wider|taller|heavier|greater|plus|better"
_FEWER = r"smaller|less|under|below|shorter|lower|narrower|lighter|fewer|down"
_AFTER = re.compile(
    rf",?\s?(?:(?:or|and)\s(?:(?P<more>{_MORE})|(?P<fewer>{_FEWER})|(?P<newer>newer|later)"
    r"|(?P<older>older|earlier|younger))"
    r"|(?P<most>max(?:imum)?|at most|or less)|(?P<least>min(?:imum)?|at least)|(?P<system>uk|us|eu|eur))\b",
    re.IGNORECASE,
)
_BEFORE = re.compile(
    r"(?:\b(?P<most>(?:no|not) (?:wider|taller|longer|larger|bigger|heavier|more|higher|thicker|deeper|over) than|"
    r"(?:narrower|shorter|smaller|lighter|lower|thinner|less|fewer) than|under|below|up to|"
    r"at most|not over|max(?:imum)?)"
    r"|\b(?P<least>(?:no|not) (?:less|smaller|shorter|narrower|lighter|fewer|lower) than|"
    r"(?:wider|taller|longer|larger|bigger|heavier|more|higher|thicker|deeper) than|at least|over|above|min(?:imum)?)"
    r"|(?P<lt><=?|≤)|(?P<gt>>=?|≥))\s?$",
    re.IGNORECASE,
)
_YEAR_BEFORE = re.compile(
    r"\b(?:(?P<after>after|since|newer than|later than|from|post)"
    r"|(?P<before>before|older than|earlier than|until|pre))[\s-]?$",
    re.IGNORECASE,
)
_LOOK_BACK = 22  # characters of the longest bound
_SYSTEMS = {"eur": "EU"}


def bounded(q: Quantity, text: str) -> Quantity:
    """A quantity with the bound that words around it set, and with these words in its span.

    "16 inch or larger", "at least 5 kg", "no wider than 50cm", "after 2020"; a size also with its system ("size 7 us").
    """
    if q.number_high is not None:
        return q
    if q.start and q.kind == "year":
        before = _YEAR_BEFORE.search(text, max(0, q.start - _LOOK_BACK), q.start)
        if before is not None:
            op = "at_least" if before["after"] else "at_most"
            return q._replace(op=op, start=before.start(), text=text[before.start() : q.end])
    if q.start and (before := _BEFORE.search(text, max(0, q.start - _LOOK_BACK), q.start)):
        op = "at_least" if before["least"] or before["gt"] else "at_most"
        return q._replace(op=op, start=before.start(), text=text[before.start() : q.end])
    after = _AFTER.match(text, q.end)
    if after is None:
        return q
    if after["system"]:
        if q.kind != "size" or q.unit:
            return q
        system = after["system"].lower()
        unit = _SYSTEMS.get(system, system.upper())
        return q._replace(kind="shoe_size", unit=unit, end=after.end(), text=text[q.start : after.end()])
    least = after["more"] or after["least"] or after["newer"]
    if after["older"]:
        # 5 and older is an age upwards, 2010 or older a year downwards; younger and earlier the other way round
        least = (after["older"].lower() == "older") == (q.kind == "age")
    return q._replace(op="at_least" if least else "at_most", end=after.end(), text=text[q.start : after.end()])


_YEARS = re.compile(r"(?<![\w.,$€£¥#/-])((?:19|20)\d\d)\s?(?:-|–|to)\s?((?:19|20)\d\d)(?![\w%-])")
_TIMES = re.compile(
    r"(?<![\w.,])(?<!\d )(?:(\d{1,3})\s?[x×]\s(?=\d+(?:[.,]\d+)?\s?(?:k?g|lbs?|oz|[mc]?l|[gt]b|w|v)\b)"
    r"|[x×]\s?(\d{1,3})(?![\w.,]|\s?[x×]))",
    re.I,
)


_SIZE = re.compile(
    r"\b(?:größe|groesse|grösse|taille|talla|taglia|maat|размер)\s?(\d{1,2}(?:[.,]5)?)(?![\w.,])|(\d{2}(?:\.5)?)\s?码",
    re.IGNORECASE,
)
_SIZE_SIGNS = one_of("größe", "groes", "grösse", "taill", "tall", "tagl", "maat", "размер", "码")
_ASKED = re.compile(
    r"(?P<most>\b(?:unter|bis|höchstens|moins de|jusqu'à|menos de|hasta|meno di|onder|до)\s|低于|不超过)?"
    r"(?P<a>\d{1,7}(?:[.,]\d{1,2})?)\s?(?P<unit>元|块|円|euros?\b|eur\b|€|руб)(?P<after>以下|以内|以上|左右)?",
    re.IGNORECASE,
)
_ASKED_SIGNS = one_of(
    "元",
    "块",
    "円",
    "unter",
    "bis ",
    "höchst",
    "moins",
    "jusqu",
    "menos",
    "hasta",
    "meno ",
    "onder",
    "до ",
    "руб",
)
_CURRENCY = {"元": "CNY", "块": "CNY", "円": "JPY", "руб": "RUB"}


def more_prices(text: str) -> list[Price]:
    """Prices and bounds in other languages than English: "100元以下", "unter 50 €", "moins de 30 euros"."""
    if not _ASKED_SIGNS.search(text.lower()):
        return []
    found: list[Price] = []
    for m in _ASKED.finditer(text):
        amount = parse_number(m["a"])
        currency = _CURRENCY.get(m["unit"].lower(), "EUR")
        if m["most"] or m["after"] in ("以下", "以内"):
            found.append(Price("at_most", None, amount, currency, *m.span()))
        elif m["after"] == "以上":
            found.append(Price("at_least", amount, None, currency, *m.span()))
        elif m["unit"].lower() in _CURRENCY:
            found.append(Price("eq", amount, amount, currency, *m.span()))
    return found


def more_quantities(text: str) -> list[Quantity]:
    """Ranges of years ("2018-2022"), packs by "x" ("2 x 10kg", "x6"), sizes in other languages ("größe 42", "38码")."""
    found: list[Quantity] = []
    if _SIZE_SIGNS.search(text.lower()):
        for m in _SIZE.finditer(text):
            found.append(Quantity("size", parse_number(m[1] or m[2]), None, "", m.start(), m.end(), m[0]))
    if "20" in text or "19" in text:
        for m in _YEARS.finditer(text):
            if m[1] < m[2]:
                found.append(Quantity("year", float(m[1]), float(m[2]), "year", m.start(), m.end(), m[0]))
    if "x" in text or "×" in text or "X" in text:
        for m in _TIMES.finditer(text):
            end = m.end() if m[2] else m.end() - 1
            found.append(Quantity("count", float(m[1] or m[2]), None, "pack", m.start(), end, text[m.start() : end]))
    return found


_SIDES = re.compile(
    r"(?<![\w.,$€£])\d{1,4}(?:[.,]\d{1,2})?\s?[x×]\s?\d{1,4}(?:[.,]\d{1,2})?(?:\s?[x×]\s?\d{1,4}(?:[.,]\d{1,2})?)?(?![\w%.,])",
    re.IGNORECASE,
)


def sides(text: str, taken: Sequence[Span]) -> list[Span]:
    """Sides without a unit: "160x230", "90 x 90". They are one specification, in words."""
    if "x" not in text and "×" not in text and "X" not in text:
        return []
    return [m.span() for m in _SIDES.finditer(text) if not any(m.start() < e and s < m.end() for s, e in taken)]


def stands(q: Quantity, mentions: Sequence[Mention], taken: Sequence[Span]) -> bool:
    """False for a number that is part of a price or of a known term (iPhone 13, 2 in 1, 100% cotton)."""
    if any(q.start < end and start < q.end for start, end in taken):
        return False
    return not any(
        (m.start <= q.start and q.end <= m.end and (m.end - m.start) > (q.end - q.start))
        or (m.table == "series" and m.start < q.end and q.start < m.end)
        for m in mentions
    )


_MEASURED = re.compile(
    r"\s?(?:ram|memory|ssd|hdd|storage|nvme|emmc|hard drive|battery|screen|display)\b", re.IGNORECASE
)
_BESIDE = frozenset(("storage", "charge", "screen", "length"))


def with_what_is_measured(
    text: str, mentions: Sequence[Mention], quantities: Sequence[Quantity]
) -> tuple[list[Mention], list[Quantity]]:
    """The noun behind a number that only says what it measures (the memory of "laptop 16gb ram") goes to the number.

    Only where another word names the thing: "16gb ram" alone is memory.
    """
    things = [m for m in mentions if m.table in ("category", "series")]
    kept, out = list(mentions), []
    for q in quantities:
        found = _MEASURED.match(text, q.end) if q.kind in _BESIDE else None
        if found is not None and any(m.end <= q.start or m.start >= found.end() for m in things):
            kept = [m for m in kept if m.end <= q.end or m.start >= found.end()]
            q = q._replace(end=found.end(), text=text[q.start : found.end()])
        out.append(q)
    return kept, out
