"""How sure a reading is: whether the head has a precise referent, what else words can mean, confidence of the whole.

It knows demands, mentions and the knowledge tables; it changes no demand.
"""

from __future__ import annotations

from collections.abc import Sequence

from lore_mm.knowledge import Knowledge
from lore_mm.mentions import Mention, Reading
from lore_mm.phrases import Phrase
from lore_mm.text import fold, singular
from lore_mm.types import Demand, OtherReading, Referent

__all__ = ["confidence", "other_readings", "referent"]

_ALONE = 0.45  # another reading of the only words there are: apple, the fruit or the maker
_BOTH = 0.25  # a colour that is a material too: either may be meant, and both are often true (gold ring)
_SETTLED = 0.05  # the other words have settled it: apple laptop
_NEAR = 0.6  # a homonym beside the words that go with it: mouse trap
_LEAST = 0.1  # readings less likely than this are no ambiguity
_HEADLESS = 0.5  # nothing names what is wanted
_HUES = frozenset(("color", "material"))


def referent(head: Demand | None, knowledge: Knowledge) -> Referent | None:
    """Whether the head names one everyday thing (precise) or a class without one (generic); None without a head.

    A kind of thing is generic where the tables call it so (shoe, camera, clothing); kinds that no table knows are
    precise: their words name them. A model is precise. A brand, character or store is generic, since it names a world
    of things, but for a brand whose name is the thing (Kleenex). A head that a problem implies ("gift for mom")
    is named by no words, and so has no referent.
    """
    if head is None or head.latent:
        return None
    if head.dimension == "category":
        entry = knowledge.categories.get(head.canonical or "")
        return "generic" if entry is not None and entry.generic else "precise"
    if head.dimension == "brand":
        brand = knowledge.brands.get(head.canonical or "")
        return "precise" if brand is not None and brand.genericized else "generic"
    return "precise" if head.dimension == "model" else "generic"


def other_readings(text: str, phrase: Phrase, knowledge: Knowledge) -> tuple[OtherReading, ...]:
    """The readings that lost, the likeliest first: of words that several tables know, and of homonyms.

    `confidence` is what is left to that reading by the other words of the query, in [0.1, 1); below it is no ambiguity.
    """
    found: list[OtherReading] = []
    alone = len(phrase.mentions) == 1 and len(phrase.mentions[0].text) == len(text.strip())
    for m in phrase.mentions:
        for r in m.others:
            left = _left(m, r, alone, knowledge)
            if left >= _LEAST:
                why = f"{m.text!r} can also be {_as(r.dimension)} {r.canonical.replace('_', ' ')}"
                found.append(OtherReading(r.dimension, m.text, r.canonical, m.start, m.end, left, why))
        word = fold(m.text)
        homonym = knowledge.homonyms.get(word) or knowledge.homonyms.get(singular(word))
        if homonym is not None:
            words = set(fold(text).split())
            for h in homonym.readings:
                near = not words.isdisjoint(h.near)
                left = max(_NEAR, h.likelihood) if near else h.likelihood if alone else h.likelihood / 2
                if left >= _LEAST:
                    found.append(OtherReading(h.dimension, m.text, h.value, m.start, m.end, left, h.why))
    return tuple(sorted(found, key=lambda r: -r.confidence)) if len(found) > 1 else tuple(found)


def _left(m: Mention, other: Reading, alone: bool, knowledge: Knowledge) -> float:
    """What is left to another reading of a mention's words."""
    tables = {m.table, other.table}
    if "need" in tables or (tables == {"term"} and m.dimension == other.dimension):
        return 0.0
    if tables == _HUES:
        return _BOTH
    if "brand" in tables and "category" in tables:
        brand, kind = (m.canonical, other.canonical) if m.table == "brand" else (other.canonical, m.canonical)
        if any(knowledge.is_a(kind, made) for made in knowledge.brands[brand].makes):
            return 0.0  # a thermos is a thermos
    return _ALONE if alone else _SETTLED


def _as(dimension: str) -> str:
    return {"category": "the thing", "ip": "the character", "style_detail": "the detail"}.get(
        dimension, f"the {dimension}"
    )


def confidence(demands: Sequence[Demand], readings: Sequence[OtherReading]) -> float:
    """That the demands are what was meant, in [0, 1].

    The lesser of the head's confidence and the mean confidence of what was said, each demand weighted by its letters;
    times what the likeliest other reading leaves. Unknown words (0.4 to 0.6) and corrected ones (0.75) so lower it by
    their part of the query; without a head it is at most a half. It is a score to compare by, not a probability.
    """
    if not demands:
        return 0.0
    letters, sure = 0, 0.0
    for d in demands:
        if d.start is not None and d.end is not None:
            letters += d.end - d.start
            sure += (d.end - d.start) * d.confidence
    mean = sure / letters if letters else 1.0
    head = demands[0].confidence if demands[0].role == "head" else _HEADLESS
    left = 1.0 - max([r.confidence for r in readings], default=0.0)
    return round(min(head, mean) * left, 4)
