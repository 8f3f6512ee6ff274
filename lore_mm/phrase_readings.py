"""Which of a word's readings holds in a phrase: "gold" the colour or the metal, "notebook" of paper or a laptop.

It knows words and the knowledge tables, and not which word names the thing.
"""

from __future__ import annotations

from collections.abc import Sequence

from lore_mm.knowledge import Knowledge
from lore_mm.mentions import Mention, Reading
from lore_mm.phrase_parts import Parts, part_of

__all__ = ["goes_with", "kind_meant", "kind_of", "settle"]

# Readings that step back where another word of the phrase names the thing.
_QUALITIES = ("color", "material", "brand", "term")
# Departments whose gold, oak and copper are what the thing is made of rather than how it looks.
_MADE_OF = frozenset(("jewellery", "furniture", "home", "tools"))


def _readings(mention: Mention) -> tuple[Reading, ...]:
    return (Reading(mention.dimension, mention.canonical, mention.table), *mention.others)


def settle(mentions: Sequence[Mention], parts: Parts, knowledge: Knowledge) -> tuple[Mention, ...]:
    """The mentions, each in the reading that the others speak for."""
    if not any([m.others for m in mentions]):
        return tuple(mentions)
    firm = [m for m in mentions if m.table == "category" and not any(o.table in _QUALITIES for o in m.others)]
    series = [m for m in mentions if m.table == "series"]
    things = [m.canonical for m in firm] + [
        s.category for m in series if (s := knowledge.series.get(m.canonical)) is not None and s.category
    ]
    out: list[Mention] = []
    for m in mentions:
        if m.others:
            others = [x for x in mentions if x is not m]
            m = kind_meant(m, others, knowledge)
            near = things or [x.canonical for x in others if x.table == "category"]
            chosen = _choose(m, others, near, parts, knowledge)
            if chosen is not None and (chosen.table, chosen.canonical) != (m.table, m.canonical):
                m = m.read_as(chosen)
        out.append(m)
    return tuple(out)


def kind_meant(m: Mention, others: Sequence[Mention], knowledge: Knowledge) -> Mention:
    """The reading of a word with several kinds of thing ("notebook") that what stands beside it speaks for; else m."""
    kinds = [r for r in _readings(m) if r.table == "category"]
    if len(kinds) < 2:
        return m
    near = [kind for x in others if x is not m and (kind := kind_of(x, knowledge)) is not None]
    makers = [x for x in others if any(r.table == "brand" for r in _readings(x))]

    def fits(reading: Reading) -> int:
        kind = reading.canonical
        department = knowledge.department(kind)
        made = sum(
            _makes(r.canonical, [kind], [], knowledge) for x in makers for r in _readings(x) if r.table == "brand"
        )
        return made + sum(goes_with(n, kind, knowledge) or knowledge.department(n) == department for n in near)

    best = max(kinds, key=fits)  # the first of equals
    return m if best == kinds[0] else m.read_as(best)


def _choose(
    m: Mention, others: Sequence[Mention], things: Sequence[str], parts: Parts, knowledge: Knowledge
) -> Reading | None:
    by_table = {r.table: r for r in reversed(_readings(m))}
    brand, thing = by_table.get("brand"), by_table.get("category")
    if brand is not None and _makes(brand.canonical, things, others, knowledge):
        return brand
    if brand is not None and thing is None and len(by_table) > 1 and things:
        return next(r for r in _readings(m) if r.table != "brand")
    if thing is not None:
        later = [
            x for x in others if x.table == "category" and x.start > m.start and part_of(x, parts) == part_of(m, parts)
        ]
        named = later or (things and "color" in by_table)
        for table in ("color", "material", "term") if named else ():
            if table in by_table:
                return _hue_or_stuff(by_table, things, knowledge) if table in ("color", "material") else by_table[table]
        return thing
    return _hue_or_stuff(by_table, things, knowledge)


def _hue_or_stuff(by_table: dict[str, Reading], things: Sequence[str], knowledge: Knowledge) -> Reading | None:
    if "color" in by_table and "material" in by_table:
        made = any(knowledge.department(t) in _MADE_OF for t in things)
        return by_table["material" if made else "color"]
    return by_table.get("color") or by_table.get("material")


def _makes(brand: str, things: Sequence[str], others: Sequence[Mention], knowledge: Knowledge) -> bool:
    made = knowledge.brands[brand].makes
    if any(knowledge.is_a(t, b) or knowledge.is_a(b, t) for t in things for b in made):
        return True
    accessory = [a for t in things for a in knowledge.categories[t].accessory_of]
    if any(knowledge.is_a(a, b) or knowledge.is_a(b, a) for a in accessory for b in made):
        return True
    return any(m.table == "series" and knowledge.series[m.canonical].brand == brand for m in others)


def kind_of(m: Mention, knowledge: Knowledge) -> str | None:
    """The kind of thing that a mention names, itself or by its series."""
    if m.table == "series":
        return knowledge.series[m.canonical].category
    return m.canonical if m.table == "category" and not m.negated else None


def goes_with(accessory: str, main: str, knowledge: Knowledge) -> bool:
    """True where the one is an accessory or part of the other, or of what the other is a kind of."""
    return any(knowledge.is_a(main, a) for a in knowledge.categories[accessory].accessory_of)
