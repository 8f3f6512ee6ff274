"""What following one step gives, and the shared way of choosing between several things an item says.

The preference between relations is an order of nearness to the demand, not a level: levels are the rulebook's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lore_mm.types import Demand, Evidence
from relevance.evidence import Found

__all__ = ["UNSTATED", "Finding", "best", "unstated", "wanted"]

# How sure one is that what is not stated is not so.
UNSTATED = 0.6

# Nearest first. Relations that never compete (a colour's and a price's) need no order between them.
_NEARNESS = """
    exact synonym pure pure_small within on_a_piece member covers narrower hyponym hyponym_precise named compatible
    series_variant brand_child hypernym base near near_stage kin similar sibling genericized brand_store
    sizes_reach one_step multiple deviates other_count set_of_single other_year unstated_model_year
    processed patterned family co_hyponym related accessory whole likeness ingredient raw plain imitation
    other other_model model_accessory brand_parent brand_other part_of_set far_stage other_model_year contradicts
    other_currency main_of_accessory distant brand_other_trade unrelated
    words_all words_beside words_some unstated words_everyday words_none impossible
""".split()
_RANK = {relation: i for i, relation in enumerate(_NEARNESS)}


@dataclass(frozen=True, slots=True)
class Finding:
    """How the item relates to one demand: everything of a leg but the demand, the level and the rule."""

    relation: str
    reason: str
    found: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    confidence: float = 1.0
    deviation: float | None = None
    attribute: str | None = None
    against: tuple[Evidence, ...] = ()  # what other sources say instead

    @staticmethod
    def of(relation: str, found: Found, reason: str, deviation: float | None = None) -> Finding:
        """A finding that rests on one thing the item says."""
        value, against = (found.value,), found.against
        return Finding(relation, reason, value, found.evidence, found.confidence, deviation, found.attribute, against)


def best(findings: Iterable[Finding]) -> Finding | None:
    """The nearest of several findings; among equals the smaller deviation, then the surer one."""
    return min(findings, key=lambda f: (_RANK[f.relation], f.deviation or 0.0, -f.confidence), default=None)


def unstated(demand: Demand, relation: str = "unstated") -> Finding:
    """Nothing was found."""
    return Finding(relation, f"asks for {demand.value}; nothing says so", confidence=UNSTATED)


def wanted(demand: Demand) -> tuple[str, ...]:
    """The canonical values any of which satisfies a demand, the main reading first; empty for unknown words."""
    if demand.canonical is None:
        return demand.alternatives
    return tuple(dict.fromkeys((demand.canonical, *demand.alternatives)))
