"""Links of demands to what others call the same: Shopify's categories, the schemas' legal values, shoe sizes.

Every engine calls `link` as its last step. It knows the tables and schemas; what the words mean is settled before, and
a value that the schema of the head's category does not know gets no link rather than a wrong one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import lru_cache
from operator import attrgetter

from lore_mm.knowledge import Knowledge
from lore_mm.schema import AttributeSchema, Schemas, load_schemas
from lore_mm.shoe_sizes import SYSTEMS, convert, wearer
from lore_mm.types import Demand
from lore_mm.values import format_number

__all__ = ["Linker", "linker_for"]

_MOST = 100_000  # pairs of category and words that are remembered; beyond them all are forgotten
# These are linked by their canonical value alone: it names an entry of the tables.
_UNLINKED = frozenset(("category", "brand", "model", "price", "year", "bundle"))
_WORN = "footwear"  # the department whose sizes are shoe sizes
# dataclasses.replace costs twice as much; links and knowledge are the last fields.
_KEPT = attrgetter(*(f.name for f in fields(Demand)[:-2]))
_make: Callable[..., Demand] = Demand


class Linker:
    """Made once from the tables; `link` costs a dict look-up a demand, and a copy for each that gains a link."""

    def __init__(self, knowledge: Knowledge, schemas: Schemas | None = None) -> None:
        self.knowledge = knowledge
        self.schemas = schemas or load_schemas()
        self._known: dict[tuple[str | None, str, str], tuple[str, ...]] = {}

    def link(self, demands: Sequence[Demand]) -> tuple[Demand, ...]:
        """The same demands in the same order, with `links` filled where something is known.

        The legal values are those of the category that the demands name, the head's first; the common ones without.
        """
        category = self._category(demands)
        linked = []
        for d in demands:
            if d.number is None:
                key = (category, d.dimension, d.canonical or d.value)
                links = self._known.get(key)
                if links is None:
                    links = self._remember(key, d.canonical is not None)
            else:
                links = self._sizes(d, category, demands)
            linked.append(d if links == d.links else _make(*_KEPT(d), links, d.knowledge))
        return tuple(linked)

    def links(self, dimension: str, canonical: str, category: str | None = None) -> tuple[str, ...]:
        """The links of one value of the tables, as a demand of a query for that category would get them."""
        key = (category, dimension, canonical)
        found = self._known.get(key)
        return self._remember(key, True) if found is None else found

    def _category(self, demands: Sequence[Demand]) -> str | None:
        categories = self.knowledge.categories
        for d in demands:
            if d.dimension == "category" and d.polarity > 0 and d.canonical in categories:
                return d.canonical
        return None

    def _remember(self, key: tuple[str | None, str, str], known: bool) -> tuple[str, ...]:
        if len(self._known) >= _MOST:
            self._known.clear()
        category, dimension, value = key
        links: tuple[str, ...] = ()
        if dimension not in _UNLINKED:
            links = _legal(self.schemas.for_category(category, self.knowledge), dimension, value)
        self._known[key] = links
        return links

    def _sizes(self, d: Demand, category: str | None, demands: Sequence[Demand]) -> tuple[str, ...]:
        if d.dimension != "spec" or d.number is None or not (d.unit is None or d.unit in SYSTEMS):
            return ()
        if d.unit is None and (category is None or self.knowledge.department(category) != _WORN):
            return ()
        group = wearer(x.canonical for x in demands if x.dimension == "audience" and x.canonical and x.polarity > 0)
        low = convert(d.number, d.unit, "EU", group)
        if d.number_high is None:
            return tuple(f"size:EU={format_number(size)}" for size in low)
        high = convert(d.number_high, d.unit, "EU", group)
        return tuple(
            f"size:EU={format_number(a)}-{format_number(b)}" for a, b in zip(low, high, strict=False) if a <= b
        )


def _legal(schema: AttributeSchema, dimension: str, value: str) -> tuple[str, ...]:
    """The attributes of the dimension for which the value is legal, each with its legal value."""
    return tuple(f"schema:{schema.name}/{spec.name}={legal}" for spec, legal in schema.legal(dimension, value))


@lru_cache(maxsize=4)
def linker_for(knowledge: Knowledge) -> Linker:
    """The linker of these tables with the shipped schemas, made once."""
    return Linker(knowledge)
