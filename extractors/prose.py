"""What running prose says of the item itself: mentions that speak of something else are left out.

A description compares ("closer to solid copper"), tells where a thing comes from ("found in tropical America"), whom it
pleases and what it goes with. A wrong value is worse than none, so a quality counts only where nothing beside it says
that it belongs elsewhere. This module knows words and the knowledge tables, no fields, titles or schemas.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from lore_mm.knowledge import Knowledge
from lore_mm.mentions import Mention
from lore_mm.text import singular
from lore_mm.values import Quantity

__all__ = ["kin", "measured_here", "said_of_item"]

# Words that in running prose mean something else more often than not.
_LOOSE = frozenset(
    "his him her guy partner couple cat dog horse new used best popular original fresh local present deal deals "
    "natural sale everyday classic smart soft fast strong tough rust amber fun sweet main single set collection "
    "guarantee import relaxed day-to-day simple comfort stem stems learning family travel storage storing volume "
    "auto automatic frozen hire solid plain sealed connected hydration strap straps corner short long big "
    "professional expert business outlet college university trail acoustic remedy healing gentle opaque antique "
    "leisure print prints printing learning bone slate sand".split()
) | {"every day", "cat.", "fall", "all-in-one", "all in one"}
# From such words to the end of the clause the text speaks of other things: what it is compared with, protects from,
# goes with, comes from or may serve as.
_ELSEWHERE = re.compile(
    r"\b(?:than|compar(?:ed|ison)|unlike|versus|vs|instead of|similar to|close(?:r)? to|(?:pixels|times|size|price) of|"
    r"(?:looks?|feels?|tastes?|smells?|fits?) like|as if|reminiscent of|alternative to|lined (?:with|in)|"
    r"protect(?:s|ion)?\b.{0,12}\b(?:from|against)|(?:lining|liner|trim|accents?|details?) (?:of|in)|"
    r"goes? (?:well )?with|(?:function|use|used|work|works|pair|pairs|combine|combined) with|compatib\w+|"
    r"(?:can|may|could|might) (?:also )?be (?:\w+ and )?used|found in|native|habitat|grows? (?:on|in|best)|loves?|"
    r"available (?:separately|in stores)|sold separately|not included)\b",
    re.IGNORECASE,
)
_CLAUSE_END = re.compile(r"[,;:!?)\n•|]|[.](?:\s|$)|\s[-–—]\s|\b(?:but|however|while|which|so that)\b", re.IGNORECASE)
_FOR = re.compile(r"\b(?:for|suits?|aimed at|loved by|designed with)\s+(?P<one>(?:[\w'-]+\s+){0,3})$", re.IGNORECASE)
_ONE = re.compile(r"\b(?:an?|the|your|my|every|any|his|her|little|young|new)\s", re.IGNORECASE)
_REACH = 90  # characters that such a turn holds at most
_ROW = 6  # words looked at behind a quality for the noun it belongs to
_SURFACE = frozenset(("color", "material", "style_detail"))
_SEX = frozenset(("men", "women", "unisex", "boys", "girls", "kids", "baby", "maternity", "plus size", "petite"))
_ADJECTIVES = frozenset(("male", "female", "mens", "womens", "ladies", "unisex", "maternity", "plus-size", "petite"))
_SEASON_BEFORE = re.compile(r"\b(?:for|in|this|all|through(?:out)?|during)\s+(?:\w+\s+){0,1}$", re.IGNORECASE)
_SEASON_AFTER = re.compile(
    r"^[\s-]*(?:wear|weather|days?|nights?|months?|season|collection|edition|temperatures|holidays?|style|training)\b",
    re.IGNORECASE,
)
_METAL_BEFORE = re.compile(
    r"\b(?:made (?:of|from)|pure|purity|solid|plated|sterling|real|genuine)\s+(?:[\w-]+\s+)?$", re.I
)
_METAL_AFTER = re.compile(r"^[\s-]*(?:plated?|plating|wires?|conductors?|connectors?|contacts?|coated|cored?)\b", re.I)
_DOWN_AFTER = re.compile(r"^[\s-]*(?:fill(?:ed|ing)?|feathers?|insulation|insulated|padding|clusters?|jacket)\b", re.I)
_DOWN_BEFORE = re.compile(r"(?:goose|duck|white|real|\d\s?%|fill(?:ed|ing)? (?:of|with))\s*$", re.IGNORECASE)
# What stands before such a word is the looks or stuff of a part that does not make the thing.
_TRIMMING = re.compile(
    r"^(?:[\s-]+(?:padded|colou?red|[\w-]*ing|internal|inner|back|side|front|contrast|hood|carry))*[\s-]+(?:lin(?:ing|er|ed)|accents?|"
    r"inserts?|panels?|detail(?:s|ing)?|trim(?:ming)?|pockets?|pouch(?:es)?|waistband|cuffs?|collar|hem|stitching|piping|"
    r"binding|label|ventilation|zone|brief|buckles?|clasp|straps?|zip(?:per)?s?|pull|bag|edges?|stripes?|centers?|centres?|"
    r"interior)\b",
    re.IGNORECASE,
)
# Lengths of a part of the thing, or of what is done with it.
_PART_AFTER = re.compile(
    r"^\W{0,3}(?:f/?\s?\d|lens|prime|inseam|heels?|straps?|handles?|drop|cuffs?|stems?|deep water|of water|underwater)",
    re.I,
)
_PART_BEFORE = re.compile(
    r"(?:inseam|resistan(?:t|ce)|waterproof|straps?|strap fits|focal length|from|within|up to)\W{0,3}(?:to |of )?\(?$",
    re.I,
)


def said_of_item(
    text: str,
    mentions: Sequence[Mention],
    category: str | None,
    knowledge: Knowledge,
    named: frozenset[str] = frozenset(),
) -> Iterator[Mention]:
    """The mentions of a description that speak of the item; a metal's name is its stuff where the words say so.

    `named`: the kinds that the title names; the looks of these are the item's too.
    """
    elsewhere = _elsewhere(text)
    for n, m in enumerate(mentions):
        if elsewhere[m.start] or m.text.lower() in _LOOSE or not _holds(text, m):
            continue
        if m.dimension in _SURFACE and _TRIMMING.match(text[m.end : m.end + 40]):
            continue
        if _of_another(text, mentions, n, category, knowledge, named):
            continue
        yield _metal(text, m)


def measured_here(text: str, quantities: Sequence[Quantity]) -> Iterator[Quantity]:
    """The numbers of a description that measure the item: not those of what it is compared with, nor of a part."""
    elsewhere = _elsewhere(text)
    for q in quantities:
        if elsewhere[q.start]:
            continue
        part = _PART_AFTER.match(text[q.end : q.end + 16]) or _PART_BEFORE.search(text[max(0, q.start - 24) : q.start])
        if not (q.kind == "length" and part):
            yield q


def kin(one: str, other: str, knowledge: Knowledge) -> bool:
    """True for kinds of which one is the other, stands for it, belongs to it, or lies in its corner of the tree."""
    if knowledge.is_a(one, other) or knowledge.is_a(other, one):
        return True
    first, second = knowledge.categories[one], knowledge.categories[other]
    if other in first.similar or one in second.similar:
        return True
    if set(knowledge.ancestors(one)[:2]) & set(knowledge.ancestors(other)[:2]):
        return True
    return any(knowledge.is_a(other, a) for a in first.accessory_of) or any(
        knowledge.is_a(one, a) for a in second.accessory_of
    )


@lru_cache(maxsize=8)  # asked for mentions, then for numbers
def _elsewhere(text: str) -> bytes:
    """For each character, 1 where the clause has turned to something else."""
    mask = bytearray(len(text))
    for cue in _ELSEWHERE.finditer(text):
        limit = min(len(text), cue.end() + _REACH)
        end = _CLAUSE_END.search(text, cue.end(), limit)
        stop = end.start() if end else limit
        mask[cue.end() : stop] = b"\x01" * (stop - cue.end())
    return bytes(mask)


def _holds(text: str, m: Mention) -> bool:
    """False for a group, a season or a filling whose word is there for another reason."""
    before, after = text[max(0, m.start - 40) : m.start], text[m.end : m.end + 20]
    if m.dimension == "audience":
        word = m.text.lower()
        if word in _ADJECTIVES or (m.canonical in _SEX and word.endswith(("'s", "s'", "’s", "s’"))):
            return True
        whom = _FOR.search(before)
        return whom is not None and (singular(word) != word or bool(_ONE.search(whom["one"])))
    if m.dimension == "season" and "weather" not in m.text.lower() and "season" not in m.text.lower():
        return bool(_SEASON_AFTER.match(after) or _SEASON_BEFORE.search(before))
    if m.canonical == "down":
        return bool(_DOWN_AFTER.match(after) or _DOWN_BEFORE.search(before))
    return m.canonical != "abs" or m.text == "ABS"


def _of_another(
    text: str,
    mentions: Sequence[Mention],
    n: int,
    category: str | None,
    knowledge: Knowledge,
    named: frozenset[str],
) -> bool:
    """True where the word stands, alone or in a row of such words, before another kind of thing."""
    if category is None or category not in knowledge.categories:
        return False
    end = mentions[n].end
    for other in mentions[n + 1 : n + 1 + _ROW]:
        if text[end : other.start].strip(" -"):
            return False
        if other.table == "category" and not any(o.table in ("color", "material", "term") for o in other.others):
            if text[other.end : other.end + 1] == "-":
                return False
            looks = mentions[n].dimension in ("color", "material") and other.canonical in named
            return not looks and not kin(other.canonical, category, knowledge)
        end = other.end
    return False


def _metal(text: str, m: Mention) -> Mention:
    """Silver as the stuff rather than the colour, where the words are about stuff."""
    stuff = next((o for o in m.others if o.table == "material"), None)
    if m.table != "color" or stuff is None:
        return m
    about = _METAL_BEFORE.search(text[max(0, m.start - 40) : m.start]) or _METAL_AFTER.match(text[m.end : m.end + 20])
    return m.read_as(stuff) if about else m
