"""What makes a query hard: one of the types of `[hard_types]` in lore_mm/schemas/dimensions.toml."""

from __future__ import annotations

import re
from collections.abc import Sequence

from extractors.context import Phrase
from lore_mm.knowledge import Knowledge
from lore_mm.types import Demand

__all__ = ["hard_type"]

_QUESTION = re.compile(
    r"^\s*(?:is|are|does|do|did|can|could|should|will|what|which|who|whose|why|when|where|"
    r"how (?:many|much|do|does|is|are|to|long|big))\b|\?\s*$",
    re.IGNORECASE,
)
_RELATION = re.compile(
    r"\b(?:alternatives?|substitutes?|dupes?|instead of|similar to|cheaper than|better than|as good as|vs\.?|versus|"
    r"look ?alike|equivalent|replacement for|same as)\b",
    re.IGNORECASE,
)
_SOLUTION = re.compile(
    r"^\s*(?:gifts?|presents?|something|things?|ideas?|what to|how to|stuff)\b.*\b(?:for|to|that)\b"
    r"|\bhow to\b|\bi (?:need|want) to\b|\b(?:gift|present) ideas?\b",
    re.IGNORECASE,
)


def hard_type(text: str, demands: Sequence[Demand], phrase: Phrase, knowledge: Knowledge) -> str:
    """What makes the query hard, by the order of LORE §4: knowledge, then reasoning, then several hard conditions."""
    kinds = {knowledge.needs[m.canonical].kind for m in phrase.mentions if m.table == "need"}
    if "substitute" in kinds or _RELATION.search(text):
        return "entity_relation"
    if _QUESTION.search(text) and not _SOLUTION.search(text):
        return "question"
    if "solution" in kinds or _SOLUTION.search(text):
        return "solution_seeking"
    if any(d.polarity < 0 for d in demands):
        return "negative_constraint"
    head = demands[0] if demands else None
    if "jargon" in kinds or (head and head.dimension == "model" and head.canonical is None):
        return "domain_jargon"
    if len({d.dimension for d in demands if not d.latent and d.strictness == "hard"}) >= 3:
        return "multi_attribute"
    return "other"
