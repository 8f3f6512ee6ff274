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
FAINT = 0.3  # below this, a colour that only the picture shows is oftener a shadow or the background than the thing


def merge_colors(
    said: Sequence[AttributeValue], lookup: Mapping[str, str], knowledge: Knowledge
) -> list[AttributeValue]:
    """The colours of an item, those with the largest share first.

    `said`: values from pictures (with a share) and from words (without); `lookup`: folded word → colour name.
    """
    named = group_claims((v for v in said if v.share is None), lookup)
    seen = group_claims((v for v in said if v.share is not None), lookup)
    if not seen:
        return _by_share([verdict(c) for c in named])
    if not named:
        return _by_share(_without_faint([verdict(c) for c in seen], knowledge))
    matches = [[s for s in seen if _shows(s.said.value, c.said.value, knowledge)] for c in named]
    if not any(matches):
        return _disagreement(named, seen)
    matched = {s.said.value for areas in matches for s in areas}
    owned = _shared_out(named, matches, knowledge)
    joined = [_join(c, areas) for c, areas in zip(named, owned, strict=True)]
    rest = [replace(v, confidence=v.confidence * UNSAID) for v in map(verdict, seen) if v.value not in matched]
    return _by_share([*joined, *(v for v in rest if v.confidence >= FAINT)])


def _shared_out(named: Sequence[Claim], matches: Sequence[Sequence[Claim]], knowledge: Knowledge) -> list[list[Claim]]:
    """Each area given to the one name it comes nearest to: "tan-brown" does not cover the item twice."""
    owned: list[list[Claim]] = [[] for _ in named]
    areas = {s.said.value: s for each in matches for s in each}
    for area in areas.values():
        fitting = [n for n, each in enumerate(matches) if area in each]
        owned[min(fitting, key=lambda n: _unlike(area.said.value, named[n].said.value, knowledge))].append(area)
    return owned


def _without_faint(values: Sequence[AttributeValue], knowledge: Knowledge) -> list[AttributeValue]:
    """Colours that only the picture shows, less those it is not sure of.

    Where it is sure of none, the thing may be any part of the picture: the two families with the largest areas stay.
    """
    sure = [v for v in values if v.confidence >= FAINT]
    if sure:
        return sure
    area: dict[str, float] = {}
    for v in values:
        family = _family(v.value, knowledge)
        area[family] = area.get(family, 0.0) + (v.share or 0.0)
    kept = sorted(area, key=lambda family: -area[family])[:2]
    return [v for v in values if _family(v.value, knowledge) in kept]


def _family(name: str | None, knowledge: Knowledge) -> str:
    entry = knowledge.colors.get(name or "")
    return entry.family if entry else name or ""


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


def _unlike(area: str | None, named: str | None, knowledge: Knowledge) -> float:
    """How far an area's colour is from a named one; 0 for the same name."""
    one, other = knowledge.colors.get(area or ""), knowledge.colors.get(named or "")
    return 0.0 if area == named or one is None or other is None else _apart(one.hex, other.hex)


@lru_cache(maxsize=4096)
def _apart(one: str, other: str) -> float:
    return float(ciede2000(lab_of_hex(one), lab_of_hex(other), k_l=2.0))


def _by_share(values: Sequence[AttributeValue]) -> list[AttributeValue]:
    return sorted(values, key=lambda v: (-(v.share or 0.0), -v.confidence))
