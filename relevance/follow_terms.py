"""Relations of words: terms of the knowledge tables (audience, season, style, function …), and words nobody knows."""

from __future__ import annotations

from functools import lru_cache

from lore_mm.knowledge import Knowledge
from lore_mm.mentions import Scanner
from lore_mm.text import fold, singular, tokens
from relevance.construct import Step, spelling
from relevance.evidence import Found, ItemView
from relevance.findings import UNSTATED, Finding, best, unstated, wanted
from relevance.priority import believed

__all__ = ["term", "term_relation", "words"]

# Dimensions whose values exclude one another by nature: an item with another value has not the demanded one.
_EXCLUSIVE = frozenset(("ip", "season"))
_NUMBERED = frozenset(("age",))


def term_relation(dimension: str, want: str, have: str, knowledge: Knowledge) -> str:
    """The relation of two values of one dimension: by `covers`, `near`, `excludes` and, for ages, by their stages."""
    if fold(want) == fold(have):
        return "exact"
    one, other = knowledge.terms.get((dimension, want)), knowledge.terms.get((dimension, have))
    if one is None or other is None:
        return "other"
    if _covers(dimension, have, want, knowledge):
        return "covers"
    if _covers(dimension, want, have, knowledge):
        return "narrower"
    if have in one.excludes or want in other.excludes:
        return "contradicts"
    if one.stage is not None and other.stage is not None and one.stage != other.stage:
        return "near_stage" if abs(one.stage - other.stage) == 1 else "far_stage"
    return "near" if have in one.near or want in other.near else "other"


def _covers(dimension: str, wide: str, narrow: str, knowledge: Knowledge) -> bool:
    """True where `wide` includes `narrow`, through all steps."""
    waiting, seen = [wide], set()
    while waiting:
        one = waiting.pop()
        if one in seen or (dimension, one) not in knowledge.terms:
            continue
        seen.add(one)
        covered = knowledge.terms[dimension, one].covers
        if narrow in covered:
            return True
        waiting.extend(covered)
    return False


def term(step: Step, view: ItemView, knowledge: Knowledge) -> Finding:
    """A term against what the item says on that dimension, stated or mentioned anywhere in its text."""
    demand = step.demand
    dimension = demand.dimension
    findings = []
    for want in wanted(demand):
        for found in _said(view, dimension, knowledge):
            relation = term_relation(dimension, want, found.value, knowledge)
            if relation == "other" and _same_legal(step, want, found.value):
                relation = "exact"
            if found.negated:
                if relation != "exact":
                    continue
                relation = "contradicts"
            elif relation == "other" and not _rules_out(step, found):
                continue
            findings.append(Finding.of(relation, found, _reason(demand.value, relation, found)))
    return best(findings) or _in_words(step, view, knowledge) or unstated(demand)


def _said(view: ItemView, dimension: str, knowledge: Knowledge) -> tuple[Found, ...]:
    """What the item says on a dimension in words, by whom it is believed. Values that go together do not disagree."""
    if dimension not in view.believed:
        stated = [f for f in view.stated(dimension) if f.attribute not in _NUMBERED]
        disputed = {f.value for f in stated if f.against}  # the bare words know nothing of what speaks against them
        bare = (f for f in view.mentioned(dimension) if f.value not in disputed)
        apart = _APART | {"other"} if dimension in _EXCLUSIVE else _APART

        def disagree(one: str, other: str) -> bool:
            return term_relation(dimension, one, other, knowledge) in apart

        view.believed[dimension] = believed((*stated, *bare), dimension, disagree)
    return view.believed[dimension]


_APART = frozenset(("contradicts", "far_stage"))


def _in_words(step: Step, view: ItemView, knowledge: Knowledge) -> Finding | None:
    """A term whose words stand in the text as part of something longer: boxing in "boxing gloves"."""
    demand = step.demand
    for want in wanted(demand):
        for words_of in _wordings(demand.dimension, want, knowledge):
            places = [view.words.get(word) for word in words_of]
            if all(places):
                here = tuple(p for p in places if p)
                found = tuple(p.quote or "" for p in here)
                reason = f"asks for {demand.value}; its text has {' '.join(found)}"
                return Finding("exact", reason, found, here, _IN_WORDS)
    return None


@lru_cache(maxsize=4096)
def _wordings(dimension: str, want: str, knowledge: Knowledge) -> tuple[tuple[str, ...], ...]:
    """A value and its other terms, each in its words, singular."""
    entry = knowledge.terms.get((dimension, want))
    texts = (want, *(entry.terms if entry else ()))
    return tuple(words for text in texts if (words := tuple(singular(t.text) for t in tokens(text))))


_IN_WORDS = 0.7  # how far words that are part of another term are believed


def _same_legal(step: Step, want: str, have: str) -> bool:
    """True where the schema knows both as words for one legal value."""
    known = step.legal.get(spelling(want))
    return known is not None and known == step.legal.get(spelling(have))


def _rules_out(step: Step, found: Found) -> bool:
    """True where another value on the same attribute means that the demanded one is not there."""
    if step.closed:
        return found.attribute == step.attribute
    return step.demand.dimension in _EXCLUSIVE


def _reason(value: str, relation: str, found: Found) -> str:
    source = "the picture shows" if found.seen else "it says"
    tail = {
        "covers": ", which includes it",
        "narrower": ", which is one of them",
        "near": ", which is near",
        "near_stage": ", the neighbouring age",
        "far_stage": ", another age",
        "contradicts": ", which excludes it",
    }.get(relation, "")
    said = "not " + found.value if found.negated else found.value
    return f"asks for {value}; {source} {said}{tail}"


def words(step: Step, view: ItemView, scanner: Scanner) -> Finding:
    """A demand whose words are not in the tables: do they stand in the item's text?"""
    demand = step.demand
    asked = list(dict.fromkeys(singular(t.text) for t in tokens(demand.value) if t.text not in _EMPTY_WORDS))
    if not asked:
        return unstated(demand)
    places = [view.words[w] for w in asked if w in view.words]
    found = tuple(p.quote or "" for p in places)
    if len(places) == len(asked):
        sure = 0.9 if all(p.source == "title" for p in places) else 0.7
        return Finding("words_all", f"asks for {demand.value}; its text has these words", found, tuple(places), sure)
    if places:
        missing = ", ".join(w for w in asked if w not in view.words)
        reason = f"asks for {demand.value}; its text has {', '.join(found)} but not {missing}"
        return Finding("words_some", reason, found, tuple(places), UNSTATED)
    if demand.strictness == "soft" and demand.role == "modifier" and all(scanner.knows(word) for word in asked):
        reason = f"says {demand.value}, which nothing in particular answers"
        return Finding("words_everyday", reason, confidence=UNSTATED)
    return Finding("words_none", f"asks for {demand.value}; its text has none of these words", confidence=UNSTATED)


_EMPTY_WORDS = frozenset("a an the of for with in on and or to by from my your some any is it".split())
