"""What demands imply: a series its brand and kind, an excluded quality the kind it names, words what else they mean.

It knows demands, mentions and the knowledge tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from lore_mm.entries import entry_id
from lore_mm.knowledge import Knowledge
from lore_mm.mentions import Scanner
from lore_mm.phrases import Phrase
from lore_mm.types import Demand

__all__ = ["a_kind", "excluded_kinds", "with_implied"]


_AN = re.compile(r"[aeio]|u[mn](?!i)", re.IGNORECASE)  # an umbrella, but a uniform, a usb cable


_SINGULAR = frozenset(("cactus", "canvas", "lens", "nas", "stylus", "thermos"))  # one, though it ends in s


def a_kind(category: str | None, knowledge: Knowledge) -> str:
    """One of that kind: "a laptop", "an apple"; what comes in the plural has no article: "earbuds", "swim trunks"."""
    name = knowledge.categories[category].name if category else "thing"
    noun = name.partition(" of ")[0].split()[-1]
    if noun.endswith("s") and not noun.endswith("ss") and noun.lower() not in _SINGULAR:
        return name
    return f"{'an' if _AN.match(name) else 'a'} {name}"


def with_implied(demands: list[Demand], phrase: Phrase, knowledge: Knowledge) -> list[Demand]:
    """A series implies its brand, and, where it stands alone, the kind of thing it is."""
    out = list(demands)
    models = [d for d in demands if d.dimension == "model" and d.polarity > 0]
    brands = {d.canonical for d in demands if d.dimension == "brand"}
    has_kind = any([d.dimension == "category" and d.polarity > 0 for d in demands])
    for d in models:
        known = d.canonical or next((e[7:] for e in d.knowledge if e.startswith("series/")), "")
        series = knowledge.series.get(known)
        if series is None:
            continue
        if series.brand and not brands:
            brands.add(series.brand)
            why = f"{series.name} is by {series.brand}"
            out.append(_implied(d, "brand", series.brand, series.brand, series.name, why))
        if series.category and not has_kind:
            has_kind = True
            name = knowledge.categories[series.category].name
            why = f"{series.name} is {a_kind(series.category, knowledge)}"
            out.append(_implied(d, "category", name, series.category, series.name, why))
    if not any([m.others for m in phrase.mentions]):
        return out
    return [_with_readings(d, phrase, knowledge) for d in out]


def _implied(d: Demand, dimension: str, value: str, canonical: str, series: str, why: str) -> Demand:
    used = (f"series/{series}", entry_id(dimension, canonical))
    return Demand(dimension, value, canonical, confidence=0.9 * d.confidence, latent=True, why=why, knowledge=used)


def excluded_kinds(demands: Sequence[Demand], scanner: Scanner, knowledge: Knowledge) -> Iterator[Demand]:
    """Where an excluded quality and the head name a kind of their own ("camera not digital"), that kind is out too."""
    head = demands[0] if demands and demands[0].dimension == "category" else None
    if head is None or head.canonical is None or head.canonical not in knowledge.categories:
        return
    for d in demands:
        if d.polarity > 0 or d.dimension == "category":
            continue
        kinds = scanner.find(f"{d.value} {head.value}", correct=False)
        if len(kinds) == 1 and kinds[0].table == "category" and kinds[0].canonical != head.canonical:
            kind = kinds[0].canonical
            if knowledge.is_a(kind, head.canonical):
                why = f"{a_kind(kind, knowledge)} is a kind of its own"
                used = (entry_id("category", kind),)
                yield replace(d, dimension="category", canonical=kind, latent=True, why=why, knowledge=used)


def _with_readings(d: Demand, phrase: Phrase, knowledge: Knowledge) -> Demand:
    """Other readings of the same words on the same dimension: either satisfies the demand."""
    mention = next((m for m in phrase.mentions if m.start == d.start and m.canonical == d.canonical and m.others), None)
    if mention is None:
        return d
    same = tuple(o.canonical for o in mention.others if o.dimension == d.dimension)
    if d.dimension == "category" and len(phrase.mentions) == 1:  # apple alone: the fruit, or whatever Apple makes
        same += tuple(o.canonical for o in mention.others if o.table == "brand")
    alternatives = tuple(dict.fromkeys((*d.alternatives, *same)))
    return replace(d, alternatives=alternatives) if alternatives != d.alternatives else d
