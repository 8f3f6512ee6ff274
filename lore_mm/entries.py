"""What the tables say of one of their entries, as a short line that a model is shown, and the id by which it is cited.

Every line is the tables' own words: nothing of a query or an item gets in. It knows no prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from lore_mm.knowledge import Knowledge
from lore_mm.mentions import Reading
from lore_mm.prompts import clean

__all__ = ["Entry", "below", "entry_id", "entry_of", "reading_of"]

_LINE = 160  # characters of an entry
_FEW = 4  # names listed of each relation
_TABLES = {"category": "categories", "brand": "brands", "model": "series", "color": "colors", "material": "materials"}
_READ = {"categories": "category", "brands": "brand", "series": "series", "colors": "color", "materials": "material"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the tables: `id` as `Demand.knowledge` cites it (series/iPhone 13), and the line a model reads."""

    id: str
    line: str


def entry_id(dimension: str, canonical: str) -> str:
    """The table entry of a canonical value: `brands/Nike`, `terms/style_detail.lace-up`."""
    table = _TABLES.get(dimension)
    return f"terms/{dimension}.{canonical}" if table is None else f"{table}/{canonical}"


def reading_of(cited: str, knowledge: Knowledge) -> Reading | None:
    """What an id names; None where the tables have no such entry."""
    folder, _, key = cited.partition("/")
    if folder == "needs":
        return Reading("need", key, "need") if key in knowledge.needs else None
    if folder == "terms":
        dimension, _, value = key.partition(".")
        return Reading(dimension, value, "term") if (dimension, value) in knowledge.terms else None
    table: Mapping[str, object] = getattr(knowledge, folder) if folder in _READ else {}
    dimension = "model" if folder == "series" else _READ.get(folder, "")
    return Reading(dimension, key, _READ[folder]) if key in table else None


def entry_of(reading: Reading, knowledge: Knowledge) -> Entry:
    """The entry that a reading names, with its line."""
    if reading.table == "need":
        name = f"needs/{reading.canonical}"
    else:
        name = entry_id(reading.dimension, reading.canonical)
    about = "; ".join(part for part in _about(reading, knowledge) if part)
    return Entry(name, clean(f"{name}: {about}", _LINE))


def _about(reading: Reading, knowledge: Knowledge) -> Iterator[str]:
    key = reading.canonical
    if reading.table == "need":
        need = knowledge.needs[key]
        yield need.why
        yield "asks for " + _few(f"{d.dimension} {d.value}" for d in need.demands)
    elif reading.table == "series":
        series = knowledge.series[key]
        yield f"by {series.brand}" if series.brand else ""
        yield f"a {series.category}" if series.category else ""
        yield f"a variant of {series.base}" if series.base else ""
    elif reading.table == "brand":
        brand = knowledge.brands[key]
        yield f"a brand of {brand.parent}" if brand.parent else "a brand"
        yield f"makes {_few(brand.makes)}" if brand.makes else ""
    elif reading.table == "category":
        category = knowledge.categories[key]
        yield category.name
        yield f"a kind of {category.parent}" if category.parent else ""
        yield "a class of many things" if category.generic else ""
        yield f"near {_few(category.similar)}" if category.similar else ""
        yield f"for {_few(category.accessory_of)}" if category.accessory_of else ""
        kinds = below(knowledge).get(key, ())
        yield f"kinds: {_few(kinds)}" if kinds else ""
    elif reading.table == "color":
        yield f"a colour of the family {knowledge.colors[key].family}"
    elif reading.table == "material":
        material = knowledge.materials[key]
        yield f"a material, a kind of {_few(material.umbrella)}" if material.umbrella else "a material"
    else:
        term = knowledge.terms[reading.dimension, key]
        yield f"a value of {reading.dimension}"
        yield f"also {_few(term.terms)}" if term.terms else ""
        yield f"covers {_few(term.covers)}" if term.covers else ""


def _few(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:_FEW]) + (", …" if len(listed) > _FEW else "")


@lru_cache(maxsize=4)
def below(knowledge: Knowledge) -> dict[str, tuple[str, ...]]:
    """Category → the kinds right below it."""
    found: dict[str, list[str]] = {}
    for c in knowledge.categories.values():
        if c.parent:
            found.setdefault(c.parent, []).append(c.id)
    return {parent: tuple(kinds) for parent, kinds in found.items()}
