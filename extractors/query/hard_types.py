"""What makes a query hard: one of the types of `[hard_types]` in lore_mm/schemas/dimensions.toml.

A query is of the first of these that fits; what it says in the form of a question or a comparison goes before what it
asks for, and conditions come last, since nearly every query has some:

1. `entity_relation`: by relation to another thing: alternative to, dupe, vs, cheaper than, similar to, replacement for,
   "like X but …", "shoes like vans", or a need of the kind substitute.
2. `question`: asks for a fact: begins with is, does, can, which, how many …, or ends in a question mark.
3. `domain_jargon`: a need of the kind jargon ("tlr", "13900k"), or a part number that alone names the thing.
4. `solution_seeking`: a problem or an occasion: gift for, something to, ideas for, how to, best way to, "what do I
   need", or a need of the kind solution.
5. `negative_constraint`: something is excluded: a demand of polarity −1, or a quality that is a lack ("sugar free
   gum", "non alcoholic beer").
6. `multi_attribute`: hard conditions, as said, on three dimensions or more, the thing's kind among them.
7. `other`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from extractors.context import Phrase
from lore_mm.knowledge import Knowledge
from lore_mm.types import Demand

__all__ = ["hard_type"]

_QUESTION = re.compile(
    r"^\s*(?:is|are|does|do|did|can|could|should|will|would|what|what's|which|who|whose|why|when|where|"
    r"how (?:many|much|do|does|is|are|to|long|big|old|often|heavy|tall|far|good|well|safe))\b|[?？؟]\s*$",
    re.IGNORECASE,
)
_RELATION_WORDS = (
    "alternativ", "substitut", "dupe", "instead", "similar", "than", "as good", "vs", "versus", "alike", "equivalent",
    "replac", "same as", "differ", "compar", "like ", "knock", "generic ", "clone", "ersatz",
)  # fmt: skip
_RELATION = re.compile(
    r"\b(?:alternatives?|alternativen?|substitutes?|dupes?|instead of|similar to|(?:cheaper|better|smaller|lighter|"
    r"bigger|stronger|faster|quieter|newer) than|as good as|vs\.?|versus|look[\s-]?a?likes?|equivalents?|"
    r"replacements? for|to replace|replaces?|same as|compared? (?:to|with)|difference between|comparison|"
    r"knock[\s-]?offs?|generic (?:version|for)|clones? of|like .{2,40}? but)\b",
    re.IGNORECASE,
)
_SOLUTION = re.compile(
    r"^\s*(?:gifts?|presents?|something|things?|ideas?|what to|stuff|ways?|tips?)\b.*\b(?:for|to|that)\b"
    r"|\b(?:how (?:to|do i|can i|do you)|best ways? to|way to|what (?:do|should) i|i (?:need|want) to|get rid of"
    r"|(?:gifts?|presents?|party|decoration|stocking) ideas?|ideas for|gifts? for|presents? for)\b",
    re.IGNORECASE,
)
_LACKING = re.compile(r"(?:\bno|\bnon|\bzero|\bwithout|\bnot)\b|\bun(?=scented|sweetened)|\bfree\b", re.IGNORECASE)
_LACKED = frozenset(
    "sugar-free gluten-free alcohol-free lactose-free nut-free decaffeinated low-fat unscented cruelty-free "
    "child-safe".split()
)
_LIKE = re.compile(r"\b(?:just |something )?like\s(?:an?\s|the\s)?", re.IGNORECASE)
_CONDITIONS = 3


def hard_type(text: str, demands: Sequence[Demand], phrase: Phrase, knowledge: Knowledge) -> str:
    """What makes the query hard; the order and the cues stand above."""
    kinds = {knowledge.needs[m.canonical].kind for m in phrase.mentions if m.table == "need"}
    low = text.lower()
    if "substitute" in kinds or _relates(text, low, phrase):
        return "entity_relation"
    solution = _SOLUTION.search(text) is not None
    if not solution and _QUESTION.search(text):
        return "question"
    head = demands[0] if demands else None
    if "jargon" in kinds or (head and head.dimension == "model" and head.canonical is None and not head.why):
        return "domain_jargon"
    if solution or "solution" in kinds:
        return "solution_seeking"
    if any(d.polarity < 0 or _lacks(d) for d in demands):
        return "negative_constraint"
    if len({d.dimension for d in demands if not d.latent and d.strictness == "hard"}) >= _CONDITIONS:
        return "multi_attribute"
    return "other"


def _relates(text: str, low: str, phrase: Phrase) -> bool:
    if not any(word in low for word in _RELATION_WORDS):
        return False
    if _RELATION.search(text):
        return True
    return any(
        m.start == like.end() and m.table in ("brand", "series")
        for like in _LIKE.finditer(text)
        for m in phrase.mentions
    )


def _lacks(d: Demand) -> bool:
    """True for a quality that is the lack of something, said so: sugar free, non alcoholic."""
    return d.canonical in _LACKED and d.canonical is not None and bool(_LACKING.search(d.value))
