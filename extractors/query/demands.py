"""From what stands in a query to what it demands: mentions, numbers, prices and unknown words become demands.

It knows the dimensions and the knowledge tables; how words are found and which names the thing is settled before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from extractors.query.measures import bounded
from extractors.query.offers import Offer
from lore_mm.entries import entry_id
from lore_mm.knowledge import Knowledge
from lore_mm.mentions import Mention
from lore_mm.phrases import Phrase
from lore_mm.types import Demand, Operator
from lore_mm.values import Price, Quantity, format_number

__all__ = [
    "Share",
    "age_group",
    "from_mention",
    "from_need",
    "from_offer",
    "from_price",
    "from_quantities",
    "is_soft",
    "share_of",
    "with_share",
]

# Wishes rather than conditions: an item that does not say so is no worse.
_SOFT = frozenset(
    {
        ("special", v)
        for v in "popular premium budget sale gift new-release warranty christmas party wedding halloween".split()
    }
    | {("special", "free shipping"), ("special", "made to last")}
    | {("function", v) for v in "comfortable durable lightweight high-performance decorative travel".split()}
    | {("function", v) for v in ("multi-purpose", "living room", "bedroom", "dining room", "home office", "nursery")}
    | {("style_detail", v) for v in "small large tall long short thick".split()}
)
_PACKS = frozenset(("pack", "piece", "set", "pair"))
_NOT_SOLD_IN = frozenset(("share",))
# Kinds of quantity whose attribute has another unit name than the quantity.
_UNITS = {"age": "years", "count": "pieces"}


def is_soft(dimension: str, canonical: str | None) -> bool:
    """True for what is wished rather than required, and for words that no table knows."""
    return canonical is None or (dimension, canonical) in _SOFT


class Share(NamedTuple):
    """What part of the item must be so: `number` in [0, 1], `op` share, at_least or at_most; [start, end) the words."""

    op: Operator
    number: float
    start: int
    end: int


_SHARED = frozenset(("material", "color"))
# More than half: what mostly, mainly and predominantly say.
_MOSTLY = re.compile(
    r"\b(?:(?P<most>mostly|mainly|predominantly|primarily|largely|majority)|(?P<half>half)|"
    r"(?P<pure>pure|all|solid|100 percent))[\s-](?:of\s)?$",
    re.IGNORECASE,
)
_BETWEEN = re.compile(r"\s?(?:of\s)?(?:[a-z]{1,12}\s)?", re.IGNORECASE)  # 80% cotton, 80% organic cotton


def share_of(m: Mention, text: str, shares: Sequence[Quantity]) -> Share | None:
    """The share that the words around a material or colour state: "at least 50% wool", "cotton 80%", "mostly wool"."""
    if m.dimension not in _SHARED or m.negated:
        return None
    for q in shares:
        if q.end <= m.start and _BETWEEN.fullmatch(text, q.end, m.start):
            return _bounded_share(q, m, text)
    for q in shares:
        if q.start >= m.end and text[m.end : q.start] in (" ", " (", ": "):
            return Share("share", q.number / 100, q.start, q.end)
    if m.dimension == "material":
        if m.text.lower().startswith(("pure ", "100%", "all ", "100 ")):
            return Share("share", 1.0, m.start, m.end)
        if before := _MOSTLY.search(text[max(0, m.start - 18) : m.start]):
            op: Operator = "share" if before["pure"] or before["half"] else "at_least"
            return Share(op, 1.0 if before["pure"] else 0.5, m.start - len(before[0]), m.end)
    return None


def _bounded_share(q: Quantity, m: Mention, text: str) -> Share:
    """A share with the bound before it or behind its material: "at least 50% wool", "30% cashmere or more"."""
    before = bounded(q, text)
    if before.op != "eq":
        return Share(before.op, q.number / 100, before.start, m.end)  # type: ignore[arg-type]
    after = bounded(q._replace(start=m.start, end=m.end), text)
    return Share("share" if after.op == "eq" else after.op, q.number / 100, q.start, after.end)  # type: ignore[arg-type]


def with_share(d: Demand, m: Mention, share: Share, text: str) -> Demand:
    """The demand of a mention with the words of its share: that part of the item must be so ("80% cotton")."""
    start, end = min(m.start, share.start), max(m.end, share.end)
    return replace(d, value=text[start:end], op=share.op, number=share.number, unit="share", start=start, end=end)


def from_mention(m: Mention) -> Demand:
    """The demand of one known term."""
    return Demand(
        dimension=m.dimension,
        value=m.text,
        canonical=m.canonical,
        op="not" if m.negated else "eq",
        polarity=-1 if m.negated else 1,
        strictness="soft" if is_soft(m.dimension, m.canonical) and not m.negated else "hard",
        start=m.start,
        end=m.end,
        confidence=m.confidence,
        why=None if m.correction is None else f"{m.text!r} read as {m.correction!r}",
        knowledge=() if m.correction is None else (entry_id(m.dimension, m.canonical),),
    )


def from_need(m: Mention, knowledge: Knowledge, with_category: bool) -> Iterator[Demand]:
    """The demands a need stands for: jargon keeps its place in the query, a problem's solution is implied.

    `with_category`: the query names the thing itself, so the need's own category is not wanted.
    """
    need = knowledge.needs[m.canonical]
    said = need.kind == "jargon"
    for d in need.demands:
        if d.dimension == "category" and with_category:
            continue
        yield Demand(
            dimension=d.dimension,
            value=m.text if said else d.value.replace("_", " "),
            canonical=d.value,
            start=m.start if said else None,
            end=m.end if said else None,
            confidence=m.confidence * (0.95 if said else 0.8),
            latent=not said,
            why=need.why,
            alternatives=d.alternatives,
            knowledge=(f"needs/{need.id}", entry_id(d.dimension, d.value)),
        )


def from_price(p: Price, text: str) -> Demand:
    """A price or a bound on one; `unit` is the currency, where it was said."""
    op: Operator = {"at_most": "at_most", "at_least": "at_least", "range": "range"}.get(p.op, "eq")  # type: ignore[assignment]
    number = p.high if p.op == "at_most" else p.low
    return Demand(
        dimension="price",
        value=text[p.start : p.end],
        op=op,
        number=number,
        number_high=p.high if p.op == "range" else None,
        unit=p.currency,
        start=p.start,
        end=p.end,
    )


def from_offer(offer: Offer, text: str) -> Demand:
    """What a thing is to be sold for: a wish, with the share of the price that is saved (extractors.query.offers)."""
    return Demand(
        dimension="special",
        value=text[offer.start : offer.end],
        canonical=offer.canonical,
        op="at_least",
        number=round(offer.saved, 4),
        unit="off",
        strictness="soft",
        start=offer.start,
        end=offer.end,
    )


def age_group(years: float) -> str:
    """The audience of an age. The bounds are the stages of LORE §10.3: 1, 3, 6 and 12 years."""
    for limit, group in (
        (1, "baby"),
        (3, "toddlers"),
        (6, "preschoolers"),
        (12, "kids"),
        (18, "teens"),
        (60, "adults"),
    ):
        if years < limit:
            return group
    return "seniors"


def from_quantities(quantities: Sequence[Quantity], phrase: Phrase, knowledge: Knowledge) -> Iterator[Demand]:
    """Sizes, numbers with units, counts, ages and years. Shares belong to their material and are left out."""
    electronic = phrase.category is not None and knowledge.department(phrase.category) == "electronics"
    for q in quantities:
        if q.kind in _NOT_SOLD_IN:
            continue
        dimension, unit, number, high = "spec", q.unit or None, q.number, q.number_high
        canonical: str | None = None
        if q.kind == "year":
            dimension, unit = "year", None
            canonical = format_number(q.number) if q.op == "eq" and high is None else None
        elif q.kind == "age":
            dimension, unit, canonical = "audience", "years", age_group(q.number)
        elif q.kind == "count" and q.unit in _PACKS:
            dimension, unit = "bundle", _UNITS["count"]
            number = 2.0 * number if q.unit == "pair" and number == 1 else number
            canonical = "pair" if q.unit == "pair" else "set" if "set" in q.text.lower() else None
        elif q.kind == "length" and electronic and _is_inch(q) and phrase.category not in ("cable",):
            if not knowledge.is_a(phrase.category or "", "cable"):
                unit, number = "in", q.number / 2.54
                high = None if high is None else high / 2.54
        op: Operator = "range" if high is not None else q.op  # type: ignore[assignment]
        yield Demand(
            dimension=dimension,
            value=q.text,
            canonical=canonical,
            op=op,
            number=number,
            number_high=high,
            unit=unit,
            start=q.start,
            end=q.end,
        )


_INCH = re.compile(r"\d\s?-?(?:in|inch|inches|[\"”″]|'')(?![a-z])", re.IGNORECASE)


def _is_inch(q: Quantity) -> bool:
    return _INCH.search(q.text) is not None
