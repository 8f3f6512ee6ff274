"""From what stands in a query to what it demands: mentions, numbers, prices and unknown words become demands.

It knows the dimensions and the knowledge tables; how words are found and which names the thing is settled before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from extractors.context import Phrase
from lore_mm.knowledge import Knowledge
from lore_mm.mentions import Mention
from lore_mm.types import Demand, Operator
from lore_mm.values import Price, Quantity, format_number

__all__ = ["age_group", "from_mention", "from_need", "from_price", "from_quantities", "is_soft"]

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


def from_mention(m: Mention, share: Quantity | None = None) -> Demand:
    """The demand of one known term; with a share ("80% cotton") at least that part of the item must be so."""
    op: Operator = "not" if m.negated else "eq"
    number, unit, start = None, None, m.start
    pure = m.dimension == "material" and m.text.lower().startswith(("pure ", "100%", "all ", "100 "))
    if m.dimension in ("material", "color") and not m.negated and (share or pure):
        op, unit = "share", "share"
        number = 1.0 if share is None else share.number / 100
        start = m.start if share is None else min(m.start, share.start)
    return Demand(
        dimension=m.dimension,
        value=m.text,
        canonical=m.canonical,
        op=op,
        number=number,
        unit=unit,
        polarity=-1 if m.negated else 1,
        strictness="soft" if is_soft(m.dimension, m.canonical) and not m.negated else "hard",
        start=start,
        end=m.end,
        confidence=m.confidence,
        why=None if m.correction is None else f"{m.text!r} read as {m.correction!r}",
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


def from_quantities(
    quantities: Sequence[Quantity], phrase: Phrase, knowledge: Knowledge, default: str | None = None
) -> Iterator[Demand]:
    """Sizes, numbers with units, counts, ages and years. Shares belong to their material and are left out."""
    electronic = phrase.category is not None and knowledge.department(phrase.category) == "electronics"
    for q in quantities:
        if q.kind in _NOT_SOLD_IN:
            continue
        dimension, unit, number, high = "spec", q.unit or None, q.number, q.number_high
        canonical: str | None = None
        if q.kind == "year":
            dimension, unit, canonical = "year", None, format_number(q.number)
        elif q.kind == "age":
            dimension, unit, canonical = "audience", "years", age_group(q.number)
        elif q.kind == "count" and q.unit in _PACKS:
            dimension, unit = "bundle", _UNITS["count"]
            number = 2.0 * number if q.unit == "pair" and number == 1 else number
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


def _is_inch(q: Quantity) -> bool:
    return q.text.rstrip().lower().endswith(("in", "inch", "inches", '"', "”", "″", "''"))
