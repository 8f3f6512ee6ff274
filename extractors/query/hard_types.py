"""What makes a query hard: one of the types of `[hard_types]` in lore_mm/schemas/dimensions.toml.

A query is of the first of these that fits: its form (a question, a comparison) goes before what it asks for, and plain
conditions come last, since nearly every query has some:

1. `question`: asks for a fact: begins with is, does, can, which, how many …, or ends in a question mark; but "how to"
   and "what to wear" want a thing, and "which is better, X or Y" is a comparison.
2. `entity_relation`: by relation to another thing: alternative to, dupe, vs, cheaper than, similar to, replacement for,
   "like X but …", "shoes like vans", or a need of the kind substitute.
3. `negative_constraint`: something is excluded: a demand of polarity −1, or a quality that is a lack ("sugar free
   gum", "non alcoholic beer").
4. `solution_seeking`: a problem or an occasion: gift for, something to, ideas for, how to, best way to, "what do I
   need", or a need of the kind solution; also where the thing itself is named by it.
5. `domain_jargon`: a need of the kind jargon ("tlr", "13900k"), or a part number that names the thing
   without its maker.
6. `multi_attribute`: conditions, as said and not mere wishes, on two or more dimensions beside the head. Maker and
   model count as one, what the thing must fit as none, and words that no table knows as one.
7. `other`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lore_mm.knowledge import Knowledge
from lore_mm.phrases import Phrase
from lore_mm.text import one_of
from lore_mm.types import Demand

__all__ = ["hard_type"]

_QUESTION = re.compile(
    r"\s*(?:is|are|does|do|did|can|could|should|will|would|what|what's|which|who|whose|why|when|where|"
    r"how (?:many|much|do|does|is|are|to|long|big|old|often|heavy|tall|far|good|well|safe))\b",
    re.IGNORECASE,
)
_RELATION_SIGNS = one_of(
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
_QUESTION_MARKS = ("?", "？", "؟")
_SOLUTION_SIGNS = one_of("gift", "present", "thing", "idea", "what ", "stuff", "way", "tip", "how ", "i ", "rid of")
_SOLUTION = re.compile(
    r"^\s*(?:gifts?|presents?|something|things?|ideas?|what to|stuff|ways?|tips?)\b.*\b(?:for|to|that)\b"
    r"|\b(?:how (?:to|do i|can i|do you)|best ways? to|way to|what (?:do|should) i|i (?:need|want) to|get rid of"
    r"|(?:gifts?|presents?|party|decoration|stocking) ideas?|ideas for|gifts? for|presents? for)\b",
    re.IGNORECASE,
)
_LACKING = re.compile(r"(?:\bno|\bnon|\bzero|\bwithout|\bnot)\b|\bun(?=scented|sweetened)|\bfree\b", re.IGNORECASE)
# Qualities that are the lack of something, where the words say so: sugar free, non alcoholic.
_LACKED = frozenset(
    "sugar-free gluten-free alcohol-free lactose-free nut-free decaffeinated low-fat unscented cruelty-free "
    "child-safe sleeveless strapless".split()
)
_LIKE = re.compile(r"\b(?:just |something )?like\s(?:an?\s|the\s)?", re.IGNORECASE)
_CHOICE = re.compile(r"\bor\b|还是|哪个", re.IGNORECASE)
_CONDITIONS = 2
_AS = {"model": "brand"}  # maker and model are one condition
_NO_CONDITION = frozenset((("special", "popular"), ("special", "premium"), ("special", "budget")))


def hard_type(text: str, demands: Sequence[Demand], phrase: Phrase, knowledge: Knowledge) -> str:
    """What makes the query hard; the order and the cues stand above."""
    kinds = {knowledge.needs[m.canonical].kind for m in phrase.mentions if m.table == "need"}
    relates = "substitute" in kinds or _relates(text, phrase)
    solution = _SOLUTION_SIGNS.search(text.lower()) is not None and _SOLUTION.search(text) is not None
    if not solution and (_QUESTION.match(text) or text.rstrip().endswith(_QUESTION_MARKS)):
        return "entity_relation" if relates or _is_choice(text, demands) else "question"
    if relates:
        return "entity_relation"
    if any([d.polarity < 0 or (d.canonical in _LACKED and _LACKING.search(d.value)) for d in demands]):
        return "negative_constraint"
    if solution or "solution" in kinds:
        return "solution_seeking"
    head = demands[0] if demands else None
    if "jargon" in kinds or _is_code(head, demands):
        return "domain_jargon"
    return "multi_attribute" if _conditions(demands) >= _CONDITIONS else "other"


def _is_code(head: Demand | None, demands: Sequence[Demand]) -> bool:
    """True for a part number without a maker who would explain it."""
    if head is None or head.dimension != "model" or head.canonical is not None or head.why:
        return False
    return not any(d.dimension == "brand" and not d.latent for d in demands)


def _is_choice(text: str, demands: Sequence[Demand]) -> bool:
    """True for "ninja or instant pot, which is better": two makers or models to choose from."""
    return (
        _CHOICE.search(text) is not None
        and sum(d.dimension in ("brand", "model") and not d.latent for d in demands) > 1
    )


def _conditions(demands: Sequence[Demand]) -> int:
    """On how many dimensions something is required beside the head."""
    found = {
        "unknown"
        if d.canonical is None and d.number is None and d.strictness == "soft"
        else _AS.get(d.dimension, d.dimension)
        for d in demands
        if d.role != "head"
        and not d.latent
        and d.dimension != "component"
        and (d.dimension, d.canonical) not in _NO_CONDITION
    }
    head = demands[0] if demands and demands[0].role == "head" else None
    if head is not None and head.dimension in ("brand", "model"):
        found.discard("brand")
    return len(found)


def _relates(text: str, phrase: Phrase) -> bool:
    if not _RELATION_SIGNS.search(text.lower()):
        return False
    if _RELATION.search(text):
        return True
    return any(
        m.start == like.end() and m.table in ("brand", "series")
        for like in _LIKE.finditer(text)
        for m in phrase.mentions
    )
