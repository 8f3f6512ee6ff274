"""What is claimed of one attribute, by whom, and how far it is to be believed: the arithmetic under `merge`.

It knows nothing of items, schemas or files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from lore_mm.schema import fold, load_dimensions
from lore_mm.types import AttributeValue, Evidence

__all__ = ["CONFLICT", "MOST", "Claim", "group_claims", "noisy_or", "rank", "verdict"]

CONFLICT = 0.5  # a loser at least this confident makes a conflict
MOST = 0.99  # no agreement of sources makes certain
SAME_NUMBER = 0.01  # relative difference up to which two numbers are the same


@dataclass(frozen=True, slots=True)
class Claim:
    """One value claimed for an attribute, with everyone who says the same."""

    said: AttributeValue  # the statement that stands for all
    values: tuple[AttributeValue, ...]
    rank: int  # place of its best source in the dimension's evidence order; 0 is believed most
    confidence: float

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """All evidence for it, each piece naming the value it stands for and who found it."""
        return tuple(
            replace(e, value=e.value or v.value, extractor=e.extractor or v.extractor)
            for v in self.values
            for e in v.evidence
        )

    @property
    def extractors(self) -> frozenset[str]:
        """Who makes the claim."""
        return frozenset(v.extractor for v in self.values)


def group_claims(said: Iterable[AttributeValue], lookup: Mapping[str, str]) -> list[Claim]:
    """Values grouped by what they say: near-equal numbers of one unit, or words for the same legal value.

    `lookup`: folded word → legal value.
    """
    groups: list[list[AttributeValue]] = []
    for value in said:
        same = next((g for g in groups if _same(g[0], value, lookup)), None)
        if same is None:
            groups.append([value])
        else:
            same.append(value)
    return [
        Claim(max(group, key=lambda v: v.confidence), tuple(group), min(map(rank, group)), noisy_or(group))
        for group in groups
    ]


def _same(one: AttributeValue, other: AttributeValue, lookup: Mapping[str, str]) -> bool:
    if one.number is not None and other.number is not None:
        slack = SAME_NUMBER * max(abs(one.number), abs(other.number))
        return one.unit == other.unit and abs(one.number - other.number) <= slack
    first, second = fold(one.value or ""), fold(other.value or "")
    return lookup.get(first, first) == lookup.get(second, second)


def noisy_or(values: Iterable[AttributeValue]) -> float:
    """The confidence of values that agree: 1 - Π(1 - c), at most MOST unless one alone is surer.

    c is the best confidence within one kind of source (title, text, one seller's field, pictures): a word said twice in
    a title is not two witnesses.
    """
    kinds: dict[str, float] = {}
    for value in values:
        for kind in {_kind(e.source) for e in value.evidence} or {value.extractor}:
            kinds[kind] = max(kinds.get(kind, 0.0), value.confidence)
    doubt = 1.0
    for confidence in kinds.values():
        doubt *= 1.0 - confidence
    return min(1.0 - doubt, max(MOST, max(kinds.values(), default=0.0)))


def _kind(source: str) -> str:
    """One of title, text, image, given.<key>."""
    return source.split(":")[0]


def rank(value: AttributeValue) -> int:
    """The place of a value's best source in its dimension's evidence order; unnamed sources come last."""
    dimension = load_dimensions().get(value.dimension)
    if dimension is None:
        return 0
    return min((dimension.rank(e.source) for e in value.evidence), default=len(dimension.evidence))


def verdict(winner: Claim, losers: Sequence[Claim] = ()) -> AttributeValue:
    """The winning value with everybody's evidence; a conflict where a loser is sure enough.

    In a conflict the confidence is the winner's times (1 - c / 2), c the surest loser's.
    """
    doubt = max((c.confidence for c in losers), default=0.0)
    conflict = doubt >= CONFLICT
    return replace(
        winner.said,
        status="conflict" if conflict else "value",
        confidence=winner.confidence * (1 - doubt / 2) if conflict else winner.confidence,
        extractor="merge",
        evidence=(*winner.evidence, *(e for loser in losers for e in loser.evidence)),
        error=None,
    )
