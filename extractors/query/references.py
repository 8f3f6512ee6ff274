"""Things that a query names only to compare with: "cheaper than an iphone", "olaplex alternative", "shoes like vans".

In place of, or cheaper or better than something, that thing will not do: its demands are turned round, and the kind of
thing it is becomes what is wanted. Like something is a wish. A reference is never the head.

It knows demands, wording, and from the tables what makers make and series are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from extractors.query.unknown import EMPTY
from lore_mm.entries import entry_id
from lore_mm.knowledge import Knowledge
from lore_mm.text import one_of, tokens
from lore_mm.types import Demand

__all__ = ["in_place_of", "with_references"]

_SIGNS = one_of(
    "altern", "substit", "dupe", "instead", "than", "like", "similar", "knock", "same as", "version of", "rather"
)
_THAN = r"(?:cheaper|better|smaller|lighter|bigger|stronger|faster|quieter|newer|nicer|other|rather) than"
_AFTER = re.compile(
    r"\b(?:(?P<not>alternatives? (?:to|for)|substitutes? (?:to|for|of)|(?:dupes?|knock[\s-]?offs?) (?:of|for)"
    rf"|instead of|{_THAN}"
    r"|(?:generic|cheap|cheaper|budget|off[\s-]brand) versions? of)"
    r"|(?P<like>like|similar to|same as|inspired by|style of))\s(?:an?\s|the\s|my\s)?",
    re.IGNORECASE,
)
_BEFORE = re.compile(r"\s(?:alternatives?|substitutes?|dupes?|knock[\s-]?offs?)\b(?!\s(?:to|for|of)\b)", re.IGNORECASE)
_NAMES = frozenset(("brand", "model", "ip"))


def with_references(text: str, demands: Sequence[Demand]) -> tuple[list[Demand], frozenset[int]]:
    """The demands with references turned round or softened, and where the references start."""
    if not _SIGNS.search(text.lower()):
        return list(demands), frozenset()
    out, wont, wish = list(demands), set[int](), set[int]()
    for cue in _AFTER.finditer(text):
        (wont if cue["not"] else wish).update(_from(text, cue.end(), out))
    for cue in _BEFORE.finditer(text):
        before = (d for d in out if d.end is not None and d.end <= cue.start() and _named(d))
        wont.update(d.start for d in before if d.start is not None)
    if not wont and not wish:
        return out, frozenset()
    for i, d in enumerate(out):
        if d.start in wont and d.start is not None:
            out[i] = replace(d, polarity=-1, op="not")
        elif (d.start in wish and d.start is not None) or d.canonical == "replica":
            out[i] = replace(d, strictness="soft")
    return out, frozenset(wont | wish)


def _named(d: Demand) -> bool:
    return d.dimension in _NAMES and d.polarity > 0


def _from(text: str, place: int, demands: Sequence[Demand]) -> Iterator[int]:
    """Where the names start that stand at this place, one behind the other."""
    for d in sorted((d for d in demands if d.start is not None), key=lambda d: d.start or 0):
        if d.start is None or d.end is None or d.start < place:
            continue
        between = tokens(text[place : d.start])
        if not _named(d) or any(w.text not in EMPTY or w.text in ("but", "with", "for", "and") for w in between):
            return
        yield d.start
        place = d.end


def in_place_of(demands: Sequence[Demand], references: frozenset[int], knowledge: Knowledge) -> Iterator[Demand]:
    """The kind of thing that references are, where nothing else names what is wanted."""
    if not references or any(d.dimension == "category" and d.polarity > 0 for d in demands):
        return
    for d in demands:
        if d.start not in references or d.canonical is None:
            continue
        series, brand = knowledge.series.get(d.canonical), knowledge.brands.get(d.canonical)
        if d.dimension == "model" and series is not None and series.category:
            kinds: tuple[str, ...] = (series.category,)
        elif d.dimension == "brand" and brand is not None and brand.makes:
            kinds = brand.makes
        else:
            continue
        name = knowledge.categories[kinds[0]].name
        yield Demand(
            "category",
            name,
            kinds[0],
            confidence=0.8 * d.confidence,
            latent=True,
            why=f"{d.canonical} is named to compare with: {name}",
            alternatives=kinds[1:],
            knowledge=(entry_id(d.dimension, d.canonical), entry_id("category", kinds[0])),
        )
        return
