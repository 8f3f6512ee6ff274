"""Relations along trees: kinds of things, brands and their parents, models and their series."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from lore_mm.knowledge import Brand, Category, Knowledge
from lore_mm.text import fold, singular, tokens
from lore_mm.types import Evidence
from relevance.construct import Step
from relevance.evidence import Found, ItemView
from relevance.findings import UNSTATED, Finding, best, unstated, wanted

__all__ = ["CORNER", "brand", "category", "category_relation", "goes_with", "mains_of", "model"]

# A common broad kind makes two kinds related only where it is a corner of the shop: at most so many kinds lie below it.
# Desks and sofas are furniture (48 kinds); cameras and keyboards are both electronics (130), which says nothing.
CORNER = 60


def category(step: Step, view: ItemView, knowledge: Knowledge) -> Finding:
    """The item's kind against the demanded kind, by the category tree. Any reading of an ambiguous word will do."""
    demand = step.demand
    asked = [c for c in wanted(demand) if c in knowledge.categories]
    here = [f for f in view.categories if f.value in knowledge.categories]
    if demand.role == "modifier" and not demand.latent:
        return goes_with(step, asked, view, knowledge)
    if not here:
        return _called(step, view, asked, knowledge) or _part_of_it(step, view, asked, knowledge) or unstated(demand)
    findings = []
    for found in here:
        for want in asked:
            relation = category_relation(want, found.value, knowledge)
            if relation == "exact" and not _same_word(demand.value, found.value, knowledge):
                relation = "synonym"
            findings.append(Finding.of(relation, found, _category_reason(demand.value, relation, found, knowledge)))
    findings += _by_brand(step, view, knowledge)
    nearest = best(findings) or unstated(demand)
    if nearest.relation in _MISFILED:
        return _named(step, view, asked) or _called(step, view, asked, knowledge) or nearest
    return (_also(step, view, asked, knowledge) if nearest.relation in _APART else None) or nearest


def _by_brand(step: Step, view: ItemView, knowledge: Knowledge) -> list[Finding]:
    """A word that names a kind and a maker ("apple") is met by what that maker makes."""
    makers = [w for w in step.demand.alternatives if w in knowledge.brands and w not in knowledge.categories]
    here = view.stated("brand") if makers else ()
    reason = f"asks for {step.demand.value}; it is by {{}}"
    return [Finding.of("exact", f, reason.format(f.value)) for f in here if f.value in makers]


# Kinds so near that the item's own text may know better than where it is filed.
_MISFILED = frozenset(("hypernym", "sibling", "co_hyponym", "similar"))


def _named(step: Step, view: ItemView, asked: list[str]) -> Finding | None:
    """The item's text calls it by the demanded kind's own name; a kind below may be named in passing."""
    for found in view.mentioned("category"):
        if found.value in asked and not found.negated:
            reason = f"asks for {step.demand.value}; its text calls it {found.quote!r}"
            return Finding.of("named", found, reason)
    return None


# Kinds so far apart that an item filed as one may be called the other as well ("case 15 inch, backpack black"). Not
# those that belong together: a title that names a PC and a mouse sells the mouse with the PC.
_APART = frozenset(("related", "distant", "unrelated"))


def _also(step: Step, view: ItemView, asked: list[str], knowledge: Knowledge) -> Finding | None:
    """The title calls it the demanded kind as well: a noun by itself, that nothing further is the name of."""
    for found in view.kinds_named:
        if any(knowledge.is_a(found.value, want) for want in asked):
            reason = f"asks for {step.demand.value}; its title calls it {found.quote!r} as well"
            return replace(Finding.of("named", found, reason), confidence=_CALLED_SO)
    return None


_CALLED_SO = 0.75  # how far words apart in a title, or a second name in it, are believed
_OF_HOST = 0.8  # how far an unknown noun behind a thing's name is believed to be a part or accessory of it


def _called(step: Step, view: ItemView, asked: list[str], knowledge: Knowledge) -> Finding | None:
    """The title has all words of one of the kind's names, in their order: the hub of "usb 2.0 4-port hub"."""
    for want in asked:
        for name in _names(want, knowledge):
            places = [view.naming[word] for word in name if word in view.naming]
            starts = [(p.source, p.start) for p in places]
            if len(places) == len(name) and starts == sorted(starts, key=lambda s: s[1] or 0):
                found = tuple(p.quote or "" for p in places)
                reason = f"asks for {step.demand.value}; it is called {' … '.join(found)}"
                return Finding("named", reason, found, tuple(places), _CALLED_SO)
    return None


@lru_cache(maxsize=4096)
def _names(kind: str, knowledge: Knowledge) -> tuple[tuple[str, ...], ...]:
    """The names of a kind that have several words, each in its words, singular."""
    entry = knowledge.categories[kind]
    names = [tuple(singular(t.text) for t in tokens(name)) for name in (entry.name, *entry.terms)]
    return tuple(name for name in names if len(name) > 1)


def _part_of_it(step: Step, view: ItemView, asked: list[str], knowledge: Knowledge) -> Finding | None:
    """An unknown noun behind the name of the demanded thing, or made for it: "keyboard cover", "stand for printer"."""
    phrase = view.phrase
    host = phrase.host
    if host is None or host not in knowledge.categories or not (phrase.noun or phrase.hosts):
        return None
    if not any(knowledge.is_a(host, want) or knowledge.is_a(want, host) for want in asked):
        return None
    start, end = phrase.noun or (phrase.hosts[0].start, phrase.hosts[0].end)
    place = Evidence("title", view.item.title[start:end], start, end)
    reason = f"asks for {step.demand.value}; {view.item.title[start:end]!r} is an accessory or part of it"
    return Finding("accessory", reason, (view.item.title[start:end],), (place,), _OF_HOST)


def goes_with(step: Step, asked: list[str], view: ItemView, knowledge: Knowledge) -> Finding:
    """A kind that is not the head ("bag for a laptop") is met by an item of it, made for it, or that mentions it."""
    for want in asked:
        for found in (*view.categories, *view.mentioned("category")):
            if found.value not in knowledge.categories:
                continue
            mains = mains_of(found.value, knowledge)
            if knowledge.is_a(found.value, want) or any(knowledge.is_a(want, m) for m in mains):
                reason = f"should go with {step.demand.value}; {_source(found)} {_name(found.value, knowledge)!r}"
                return Finding.of("exact", found, reason)
    return unstated(step.demand)


@lru_cache(maxsize=65536)
def category_relation(want: str, have: str, knowledge: Knowledge) -> str:
    """The relation of one kind to another: a walk over parents, similar and accessory_of.

    Both must be ids of the table. Forms of one everyday thing (the parent is not a broad word) are siblings.
    """
    table = knowledge.categories
    if want == have:
        return "exact"
    if knowledge.is_a(have, want):
        return "hyponym" if table[want].generic else "hyponym_precise"
    if knowledge.is_a(want, have):
        return "hypernym"
    if _similar(table[want], table[have], knowledge):
        return "similar"
    if any(knowledge.is_a(want, main) or knowledge.is_a(main, want) for main in mains_of(have, knowledge)):
        return "accessory"
    if any(knowledge.is_a(have, whole) for k in (want, *_precise_above(want, knowledge)) for whole in table[k].part_of):
        return "whole"
    if any(knowledge.is_a(have, main) or knowledge.is_a(main, have) for main in mains_of(want, knowledge)):
        return "main_of_accessory"
    return _by_common_parent(want, have, knowledge)


def _by_common_parent(want: str, have: str, knowledge: Knowledge) -> str:
    table = knowledge.categories
    mine = knowledge.ancestors(want)
    common = next((a for a in knowledge.ancestors(have) if a in mine), None)
    if common is None:
        return "unrelated"
    if not table[common].generic:
        return "sibling"
    if _breadth(common, knowledge) > CORNER:
        return "distant"
    return "co_hyponym" if common in (table[want].parent, table[have].parent) else "related"


@lru_cache(maxsize=4096)
def _breadth(kind: str, knowledge: Knowledge) -> int:
    """How many kinds lie below one."""
    return sum(kind in knowledge.ancestors(other) for other in knowledge.categories)


def _similar(want: Category, have: Category, knowledge: Knowledge) -> bool:
    """True where either, or a precise kind above it, names as similar the other or a kind above the other."""
    table = knowledge.categories

    def names(one: str, other: str) -> bool:
        kinds = (one, *_precise_above(one, knowledge))
        return any(knowledge.is_a(other, s) for kind in kinds for s in table[kind].similar)

    return names(want.id, have.id) or names(have.id, want.id)


def _precise_above(kind: str, knowledge: Knowledge) -> list[str]:
    above = []
    for one in knowledge.ancestors(kind):
        if knowledge.categories[one].generic:
            break
        above.append(one)
    return above


def mains_of(kind: str, knowledge: Knowledge) -> tuple[str, ...]:
    """What a kind is an accessory or part of, its own or as its parents are."""
    return tuple(m for k in (kind, *knowledge.ancestors(kind)) for m in knowledge.categories[k].accessory_of)


def _name(kind: str, knowledge: Knowledge) -> str:
    return knowledge.categories[kind].name


def _same_word(value: str, kind: str, knowledge: Knowledge) -> bool:
    name = fold(_name(kind, knowledge))
    said = fold(value)
    return said == name or said.rstrip("s") == name.rstrip("s")


def _source(found: Found) -> str:
    if found.seen:
        return "the picture shows"
    return "the title says" if found.evidence and found.evidence[0].source == "title" else "the item says"


_CATEGORY_REASONS = {
    "exact": "asks for {want}; it is one",
    "synonym": "asks for {want}; {have} is the same thing",
    "hyponym": "asks for {want}; {have} is one of them",
    "hyponym_precise": "asks for {want}; {have} is a kind of it",
    "hypernym": "asks for {want}; it is known only as {have}",
    "sibling": "asks for {want}; {have} is another form of the same thing",
    "co_hyponym": "asks for {want}; {have} is another kind",
    "similar": "asks for {want}; {have} serves the same purpose",
    "related": "asks for {want}; {have} is from the same corner, another thing",
    "accessory": "asks for {want}; {have} is an accessory or part of it",
    "main_of_accessory": "asks for {want}; {have} is the main thing it belongs to",
    "whole": "asks for {want}; {have} contains one",
    "distant": "asks for {want}; {have} is from the same wide department, another thing altogether",
    "unrelated": "asks for {want}; {have} has nothing to do with it",
}


def _category_reason(value: str, relation: str, found: Found, knowledge: Knowledge) -> str:
    return _CATEGORY_REASONS[relation].format(want=value, have=_name(found.value, knowledge))


def brand(step: Step, view: ItemView, knowledge: Knowledge) -> Finding:
    """The item's brand against the demanded one, by the brand tree. The title stands in for a missing field."""
    demand = step.demand
    here = view.stated("brand") or view.mentioned("brand", title_only=True)
    kinds = [f.value for f in view.categories if f.value in knowledge.categories]
    mains = any(mains_of(kind, knowledge) for kind in kinds)
    findings = []
    for want in wanted(demand):
        findings += [_brand_against(want, found, kinds, knowledge) for found in here]
        named = [f for f in view.mentioned("brand", title_only=True) if fold(f.value) == fold(want)]
        named += [f for f in view.mentioned("model", title_only=True) if _maker(f.value, knowledge) == want]
        if named and mains:
            reason = f"asks for {want}; an accessory that names it is made for it"
            findings.append(Finding.of("compatible", named[0], reason))
        elif named and _is_of(named[0].value, kinds, knowledge):
            findings.append(Finding.of("exact", named[0], f"asks for {want}; {named[0].value} is by {want}"))
    if not here and not findings:
        return _unbranded(step, kinds, knowledge)
    return best(findings) or unstated(demand)


def _maker(series: str, knowledge: Knowledge) -> str | None:
    entry = knowledge.series.get(series)
    return entry.brand if entry else None


def _is_of(series: str, kinds: list[str], knowledge: Knowledge) -> bool:
    """True where a series is of one of these kinds: a laptop with an RTX 2060 inside is no graphics card."""
    entry = knowledge.series.get(series)
    of = entry.category if entry else None
    return of is not None and any(knowledge.is_a(kind, of) or knowledge.is_a(of, kind) for kind in kinds)


def _unbranded(step: Step, kinds: list[str], knowledge: Knowledge) -> Finding:
    """No brand is known: at least the thing should be of a kind that the brand makes."""
    entries = [e for want in wanted(step.demand) if (e := knowledge.brands.get(want))]
    if not kinds or not entries or any(_in_trade(kinds, e, knowledge) for e in entries):
        return unstated(step.demand)
    reason = f"asks for {step.demand.value}; no brand is stated, and {step.demand.value} does not make such things"
    return Finding("brand_other_trade", reason, confidence=UNSTATED)


def _in_trade(kinds: list[str], brand: Brand, knowledge: Knowledge) -> bool:
    """True where a brand makes a thing of such a kind, or nobody knows what it makes."""
    made = brand.makes
    return not made or any(knowledge.is_a(kind, m) or knowledge.is_a(m, kind) for kind in kinds for m in made)


def _brand_against(want: str, found: Found, kinds: list[str], knowledge: Knowledge) -> Finding:
    have = found.value
    if fold(want) == fold(have):
        return Finding.of("exact", found, f"asks for {want}; it is by {have}")
    entry, other = knowledge.brands.get(want), knowledge.brands.get(have)
    if other and other.parent == want:
        return Finding.of("brand_child", found, f"asks for {want}; {have} is a brand of {want}")
    if entry and entry.parent == have:
        return Finding.of("brand_parent", found, f"asks for {want}; it is by {have}, the parent of {want}")
    if entry and entry.makes and kinds:
        trade = _in_trade(kinds, entry, knowledge)
        if entry.genericized and trade:
            return Finding.of("genericized", found, f"asks for {want}, as the thing is often called; it is by {have}")
        if not trade:
            reason = f"asks for {want}; it is by {have}, in a trade {want} is not in"
            return Finding.of("brand_other_trade", found, reason)
    return Finding.of("brand_other", found, f"asks for {want}; it is by {have}")


def model(step: Step, view: ItemView, knowledge: Knowledge) -> Finding:
    """The item's model or series against the demanded one."""
    demand = step.demand
    here = view.stated("model") or view.mentioned("model")
    named = view.mentioned("model", title_only=True)
    kinds = [f.value for f in view.categories if f.value in knowledge.categories]
    findings = []
    for want in wanted(demand):
        of_kind = knowledge.series[want].category if want in knowledge.series else None
        for found in (*here, *named):
            finding = _model_against(want, of_kind, found, kinds, view, knowledge)
            if step.accessory and finding.relation == "model_accessory":
                finding = Finding.of("exact", found, f"asks for one for {want}; it is made for it")
            findings.append(finding)
    return best(findings) or unstated(demand)


def _model_against(
    want: str, of_kind: str | None, found: Found, kinds: list[str], view: ItemView, knowledge: Knowledge
) -> Finding:
    have = found.value
    base = knowledge.series[have].base if have in knowledge.series else None
    if fold(want) != fold(have) and base != want:
        return Finding.of("other_model", found, f"asks for {want}; it is {have}")
    mains = (main for kind in kinds for main in mains_of(kind, knowledge))
    if (not kinds and view.is_for(found)) or (of_kind and any(knowledge.is_a(of_kind, main) for main in mains)):
        return Finding.of("model_accessory", found, f"asks for {want}; this is an accessory for it")
    if base == want:
        return Finding.of("series_variant", found, f"asks for {want}; {have} is a variant of it")
    return Finding.of("exact", found, f"asks for {want}; it is one")
