"""Colour, joined: words give names, pictures give shares.

The seller says "blue", the picture shows 62 % navy: the item is blue on 62 % of its area, and both are evidence.
Colours that only the picture shows are kept with their shares. Where word and picture have no colour family in common,
one of them is wrong: the dimension's evidence order picks the winner and the status is `conflict`. This module knows
nothing of other attributes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from extractors.claims import CONFLICT, MOST, Claim, group_claims, verdict
from lore_mm.cielab import ciede2000, lab_of_hex
from lore_mm.knowledge import Knowledge
from lore_mm.types import AttributeValue

__all__ = ["kin", "merge_colors"]

LIT = 13.0  # ΔE00 (k_L = 2) up to which light and shadow may account for the difference from the colour named
UNSAID = 0.6  # a colour that only the picture shows may be background: its confidence beside a named one is cut to this


def merge_colors(
    said: Sequence[AttributeValue], lookup: Mapping[str, str], knowledge: Knowledge
) -> list[AttributeValue]:
    """The colours of an item, those with the largest share first.

    `said`: values from pictures (with a share) and from words (without); `lookup`: folded word → colour name.
    """
    named = group_claims((v for v in said if v.share is None), lookup)
    seen = group_claims((v for v in said if v.share is not None), lookup)
    if not seen or not named:
        return _by_share([verdict(c) for c in (*named, *seen)])
    matches = [[s for s in seen if _shows(s.said.value, c.said.value, knowledge)] for c in named]
    if not any(matches):
        return _disagreement(named, seen)
    joined = [_join(c, areas) for c, areas in zip(named, matches, strict=True)]
    matched = {s.said.value for areas in matches for s in areas}
    rest = [verdict(s) for s in seen if s.said.value not in matched]
    return _by_share([*joined, *(replace(v, confidence=v.confidence * UNSAID) for v in rest)])


def _join(named: Claim, areas: Sequence[Claim]) -> AttributeValue:
    """A named colour with the summed share of its kin in the pictures, and noisy-or with the surest of them."""
    if not areas:
        return verdict(named)
    doubt = (1 - named.confidence) * (1 - max(a.confidence for a in areas))
    return replace(
        verdict(named),
        share=min(1.0, sum(a.said.share or 0.0 for a in areas)),
        confidence=min(1 - doubt, max(MOST, named.confidence)),
        evidence=(*named.evidence, *(e for area in areas for e in area.evidence)),
    )


def _disagreement(named: Sequence[Claim], seen: Sequence[Claim]) -> list[AttributeValue]:
    """No family in common: the side whose source is believed more wins, with the other side as evidence."""
    words, picture = min(named, key=lambda c: c.rank), max(seen, key=lambda c: c.said.share or 0.0)
    if words.rank <= picture.rank or picture.confidence < CONFLICT:
        return [_against(verdict(c, [picture]), seen) for c in named]
    first, *rest = sorted(seen, key=lambda c: -(c.said.share or 0.0))
    return [verdict(first, named), *(verdict(c) for c in rest)]


def _against(value: AttributeValue, seen: Sequence[Claim]) -> AttributeValue:
    """The same value with the evidence of all that was seen instead."""
    known = set(value.evidence)
    return replace(value, evidence=(*value.evidence, *(e for c in seen for e in c.evidence if e not in known)))


def kin(one: str | None, other: str | None, knowledge: Knowledge) -> bool:
    """True for colours of one family, or that pass for each other."""
    if one == other:
        return True
    first, second = knowledge.colors.get(one or ""), knowledge.colors.get(other or "")
    if first is None or second is None:
        return False
    return first.family == second.family or second.name in first.near or first.name in second.near


def _shows(area: str | None, named: str | None, knowledge: Knowledge) -> bool:
    """True where an area measured as `area` may well be the colour that words call `named`.

    Kin, or no further apart than light changes a colour: a black shoe under a lamp measures dark gray, a white one in
    the shade light gray. (black and dark gray are 10.8 apart, white and light gray 5.6; black and navy 14.4.)
    """
    if kin(area, named, knowledge):
        return True
    one, other = knowledge.colors.get(area or ""), knowledge.colors.get(named or "")
    return one is not None and other is not None and _apart(one.hex, other.hex) <= LIT


@lru_cache(maxsize=4096)
def _apart(one: str, other: str) -> float:
    return float(ciede2000(lab_of_hex(one), lab_of_hex(other), k_l=2.0))


def _by_share(values: Sequence[AttributeValue]) -> list[AttributeValue]:
    return sorted(values, key=lambda v: (-(v.share or 0.0), -v.confidence))
