"""Which of an engine's demands are the ones that were meant: gold demands beside those an engine found.

The rules, for a demand that is said: it is of the same dimension and polarity, and its value is the same: a canonical
value that the gold names; where the gold has none (null), none either and the same words; where it judges none, the
same number, or without a number some of the same characters. Numbers are the same within half a per cent (rounded
units). An alternative of a demand ("tablet or laptop") counts as said where the gold has it for a head, and costs
nothing elsewhere. A latent demand is right where its canonical value, or number, is one that the gold names; several
that fulfil one gold demand are all right. It knows no metric and no engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lore_mm.datasets.query_sets import GoldDemand, GoldQuery
from lore_mm.text import fold, tokens
from lore_mm.types import Demand

__all__ = ["NEAR", "heads_match", "match", "match_latent", "overlaps", "same_number", "same_value"]

NEAR = 0.005  # relative difference up to which two numbers are the same: 12 inch are 30.48 cm, or 30.5
Pairs = list[tuple[int, int]]  # (place of the gold demand, place of the engine's)


def same_value(gold: GoldDemand, demand: Demand, query: str) -> bool:
    """Whether a demand of the engine asks for the same value, on the same dimension, wanted or unwanted alike."""
    if demand.dimension != gold.dimension or demand.polarity != gold.polarity:
        return False
    if gold.canonical is not None:
        if demand.canonical is not None:
            return _among(demand.canonical, gold.canonical)
        return None in gold.canonical and (gold.latent or _same_words(gold, demand, query))
    if gold.number is not None:
        return same_number(gold, demand)
    return overlaps(gold, demand)


def overlaps(gold: GoldDemand, demand: Demand) -> bool:
    """Whether both stand on some of the same characters."""
    if gold.start is None or gold.end is None or demand.start is None or demand.end is None:
        return False
    return gold.start < demand.end and demand.start < gold.end


def same_number(gold: GoldDemand, demand: Demand) -> bool:
    """Whether the number, and the upper end of a range, are the same; not the operator, nor the unit."""
    return _near(gold.number, demand.number) and _near(gold.number_high, demand.number_high)


def match(gold: Sequence[GoldDemand], demands: Sequence[Demand], fits: Callable[[GoldDemand, Demand], bool]) -> Pairs:
    """As many pairs that fit as there can be, each demand in one at most (Kuhn's augmenting paths, 1955).

    Of several that fit, one that stands in the same place is tried first.
    """
    choices = [
        sorted((j for j, d in enumerate(demands) if fits(g, d)), key=lambda j, g=g: not overlaps(g, demands[j]))  # type: ignore[misc]
        for g in gold
    ]
    owner: dict[int, int] = {}

    def place(i: int, tried: set[int]) -> bool:
        for j in choices[i]:
            if j not in tried:
                tried.add(j)
                if j not in owner or place(owner[j], tried):
                    owner[j] = i
                    return True
        return False

    for i in range(len(gold)):
        place(i, set())
    return sorted((i, j) for j, i in owner.items())


def match_latent(gold: Sequence[GoldDemand], demands: Sequence[Demand]) -> Pairs:
    """Every pair that fits: one gold demand may be fulfilled by several of the engine's."""
    return [(i, j) for i, g in enumerate(gold) for j, d in enumerate(demands) if same_value(g, d, "")]


def heads_match(query: GoldQuery, head: Demand | None) -> bool:
    """Whether the head is one that was meant; where the gold says none, a latent one or none is right."""
    if not query.heads:
        return head is None or head.latent
    return head is not None and any(same_value(g, head, query.text) for g in query.heads)


def _among(value: str, legal: Sequence[str | None]) -> bool:
    return fold(value) in {fold(one) for one in legal if one is not None}


def _same_words(gold: GoldDemand, demand: Demand, query: str) -> bool:
    said = demand.value if demand.start is None else query[demand.start : demand.end]
    return [t.text for t in tokens(gold.words or "")] == [t.text for t in tokens(said)]


def _near(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= NEAR * max(abs(one), abs(other))
