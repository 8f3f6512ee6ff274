"""What bears a name without being the thing: rose tea, a mushroom of plush, seeds of tulips, sneakers in Nike's style.

Which kinds and words make another thing of a name is knowledge (`lore_mm/knowledge/derivatives.toml`). This module
knows nothing of how near the bearer then is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from lore_mm.knowledge import Derivative, Knowledge
from lore_mm.text import singular, tokens
from relevance.construct import Step
from relevance.evidence import Found, ItemView
from relevance.findings import Finding, wanted

__all__ = ["comes_with", "derivative", "imitation"]

# Nearer kinds than these are what was asked for, whatever else they are named after.
_FAR = frozenset(("co_hyponym", "related", "distant", "unrelated", "ingredient", "whole", "main_of_accessory"))
_NAMED = frozenset(("exact", "synonym", "hyponym", "hyponym_precise", "named"))
_SAYS = {
    "processed": "made from it or after it",
    "patterned": "another thing that shows it",
    "likeness": "a figure of it",
    "ingredient": "another thing that holds it",
    "raw": "what it grows from",
}


def derivative(
    step: Step, finding: Finding, view: ItemView, steps: Sequence[Step], knowledge: Knowledge
) -> Finding | None:
    """The item as something that only bears the demanded kind's name; None where it does not.

    `steps` are all of the query's: who asks for dried mango gets just that.
    """
    if finding.relation not in _FAR and finding.relation not in _NAMED:
        return None
    for want in wanted(step.demand):
        for entry in _of(want, knowledge):
            found = _borne(want, entry, finding, view, steps, knowledge)
            if found is not None:
                reason = f"asks for {step.demand.value}; {found.quote!r} is {_SAYS[entry.relation]}"
                return Finding.of(entry.relation, found, reason)
    return None


@lru_cache(maxsize=4096)
def _of(want: str, knowledge: Knowledge) -> tuple[Derivative, ...]:
    """What is known to bear the name of a kind."""
    known = knowledge.derivatives.values()
    return tuple(entry for entry in known if any(knowledge.is_a(want, kind) for kind in entry.of))


def _borne(
    want: str, entry: Derivative, finding: Finding, view: ItemView, steps: Sequence[Step], knowledge: Knowledge
) -> Found | None:
    """What shows that the item is such a bearer of the name: its kind, or the word beside the name."""
    names = [f for f in view.mentioned("category", title_only=True) if not f.negated]
    name = knowledge.categories[want].name
    if not any(knowledge.is_a(f.value, want) or name in f.quote.casefold().split() for f in names):
        return None
    if finding.relation in _FAR or finding.relation == "named":
        kinds = (f for f in (*view.categories, *names) if not knowledge.is_a(f.value, want))
        of_kind = (f for f in kinds if any(knowledge.is_a(f.value, kind) for kind in entry.kinds))
        if (found := next(of_kind, None)) is not None:
            return found
    for term in entry.terms:
        place = view.words.get(singular(term))
        if place is not None and place.source == "title" and not _asked(term, steps):
            return Found(term, "category", evidence=(place,), confidence=finding.confidence)
    return None


def _asked(term: str, steps: Sequence[Step]) -> bool:
    """True where the query itself says the word."""
    return any(singular(t.text) == singular(term) for step in steps for t in tokens(step.demand.value))


_WITH = re.compile(r"\b(?:with|including|incl\.?|includes|plus|and)\W+(?:\w+\W+){0,2}$|[+&]\s?$", re.IGNORECASE)


def comes_with(step: Step, finding: Finding, view: ItemView, knowledge: Knowledge) -> Finding | None:
    """Another thing that comes with the demanded one, as its title says ("Dress with belt"); None elsewhere."""
    if finding.relation not in _WITHOUT:
        return None
    for found in view.mentioned("category", title_only=True):
        start = found.evidence[0].start or 0
        if found.negated or not any(knowledge.is_a(found.value, want) for want in wanted(step.demand)):
            continue
        if _WITH.search(view.item.title[:start]):
            return Finding.of("whole", found, f"asks for {step.demand.value}; it is another thing that comes with one")
    return None


_WITHOUT = frozenset(("main_of_accessory", "distant", "unrelated"))
_BEFORE = re.compile(
    r"\b(?:inspired by|similar to|style of|imitation(?: of)?|replica(?: of)?|dupe (?:of|for)|fake|alternative to)\W*$",
    re.IGNORECASE,
)
_AFTER = re.compile(r"[\s-](?:style|inspired|look-?alike|dupe|replica|imitation)\b", re.IGNORECASE)


def imitation(step: Step, finding: Finding, view: ItemView) -> Finding | None:
    """A maker named only as what the thing is made to look like; None where the maker is stated, or named as such."""
    place = finding.evidence[0] if finding.evidence else None
    if place is None or place.source != "title" or place.start is None or place.end is None:
        return None
    if any(e.source.startswith("given") for e in finding.evidence):
        return None
    title = view.item.title
    if not _BEFORE.search(title[: place.start]) and not _AFTER.match(title, place.end):
        return None
    reason = f"asks for {step.demand.value}; it is only made to look like {finding.found[0]}"
    return Finding("imitation", reason, finding.found, finding.evidence, finding.confidence, None, finding.attribute)
