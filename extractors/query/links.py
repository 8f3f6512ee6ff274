"""Links of demands to what others call the same: Shopify's categories, the schemas' legal values, shoe sizes.

Every engine calls `Linker.link` as its last step. With a copy of Shopify's taxonomy, words that no table of ours knows
are looked up among its names and attribute values too. It knows the tables and schemas; what words mean is settled
before, and a value that the schema of the head's category does not know gets no link rather than a wrong one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import cached_property, lru_cache
from operator import attrgetter
from pathlib import Path

import lore_mm
from lore_mm.fingerprint import sha_of, sha_of_file
from lore_mm.knowledge import Knowledge
from lore_mm.liquids import ML_PER_GRAM, in_ounces, is_liquid
from lore_mm.quantities import parse_number
from lore_mm.schema import Schemas, load_schemas
from lore_mm.shoe_sizes import SYSTEMS, convert, foot_lengths, has_shoe_sizes, wearer
from lore_mm.shopify import Taxonomy
from lore_mm.shopify_links import load_links
from lore_mm.shopify_names import TaxonomyNames
from lore_mm.types import Demand
from lore_mm.values import format_number

__all__ = ["Linker", "linker_for"]

_MOST = 100_000  # values that are remembered with their links; beyond them all are forgotten
# These name entries of the knowledge tables, or numbers: no schema lists them.
_UNLISTED = frozenset(("brand", "model", "price", "year", "bundle"))
_TABLES = [
    Path(lore_mm.__file__).parent / name for name in ("knowledge/shopify.toml", "shoe_sizes.toml", "liquids.toml")
]
_BARE = re.compile(r"\d{1,2}(?:[.,]5)?|\d{1,2}½")
_SURE = 0.8  # that a bare number with shoes is their size
# dataclasses.replace costs twice as much; links and knowledge are the last fields.
_KEPT = attrgetter(*(f.name for f in fields(Demand)[:-2]))
_make: Callable[..., Demand] = Demand


class Linker:
    """Made once from the tables; `link` costs a dict look-up a demand, and a copy for each that gains a link.

    Links are `shopify:aa-8-8` (a category), `schema:footwear/closure=lace-up` (a legal value), `size:EU=42.5` (a shoe
    size, one link a reading) and, only with a taxonomy, `shopify:neckline=Boat` (a value of an attribute there).
    """

    def __init__(self, knowledge: Knowledge, schemas: Schemas | None = None, taxonomy: Taxonomy | None = None) -> None:
        self.knowledge = knowledge
        self.schemas = schemas or load_schemas()
        self.names = None if taxonomy is None else TaxonomyNames(taxonomy)
        self._known: dict[tuple[str | None, str, str], tuple[str, ...]] = {}

    @cached_property
    def sha(self) -> str:
        """Identifies what links depend on beside the knowledge tables: schemas, shipped tables, the taxonomy."""
        release = self.names.taxonomy.version if self.names else None
        return sha_of(["links", self.schemas.sha, [sha_of_file(path) for path in _TABLES], release])

    def link(self, demands: Sequence[Demand]) -> tuple[Demand, ...]:
        """The same demands in the same order, with `links` as far as something is known of them.

        Legal values are those of the category that the demands name, the first of them; the common ones without. Two
        things are read anew, for what kind of thing it is, is known only now: ounces of a liquid are fluid ounces, in
        ml; a bare number with shoes ("nike shoes 9.5") is their size.
        """
        category = self._category(demands)
        linked = []
        for d in demands:
            if d.dimension == "special" and d.canonical is None and _BARE.fullmatch(d.value):
                d = self._size_of_shoes(d, category, demands)
            if d.number is None or d.canonical is not None:
                beside = d.value if d.dimension == "category" else category
                links = self.links(d.dimension, d.canonical or d.value, beside)
            elif d.dimension == "spec":
                if d.unit == "g" and is_liquid(category, self.knowledge) and in_ounces(d.value):
                    d = _fluid(d)
                links = self._sizes(d, category, demands)
            else:
                links = ()
            linked.append(d if links == d.links else _make(*_KEPT(d), links, d.knowledge))
        return tuple(linked)

    def links(self, dimension: str, value: str, beside: str | None = None) -> tuple[str, ...]:
        """The links of one value, canonical or in words.

        `beside`: of a category the words it was called by, else the category that the query is for, an id of ours or
        unknown words.
        """
        key = (beside, dimension, value)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _MOST:
                self._known.clear()
            found = self._known[key] = self._look_up(dimension, value, beside)
        return found

    def shopify(self, category: str, words: str = "") -> str | None:
        """The id of a category of ours in Shopify's taxonomy, or of unknown words where a copy of it is at hand."""
        if category in self.knowledge.categories:
            link = load_links().of(category, self.knowledge, words)
            return link and link.id
        return self.names.category(category) if self.names else None

    def _category(self, demands: Sequence[Demand]) -> str | None:
        """What the query is for: the first known category, else, with a taxonomy, the first in unknown words."""
        words = None
        for d in demands:
            if d.dimension == "category" and d.polarity > 0:
                if d.canonical in self.knowledge.categories:
                    return d.canonical
                words = words or d.value
        return words if self.names else None

    def _look_up(self, dimension: str, value: str, category: str | None) -> tuple[str, ...]:
        if dimension == "category":
            theirs = self.shopify(value, category or "")
            return () if theirs is None else (f"shopify:{theirs}",)
        if dimension in _UNLISTED:
            return ()
        ours = category if category in self.knowledge.categories else None
        schema = self.schemas.for_category(ours, self.knowledge)
        links = tuple(f"schema:{schema.name}/{spec.name}={legal}" for spec, legal in schema.legal(dimension, value))
        if links or self.names is None or category is None or (theirs := self.shopify(category)) is None:
            return links
        return tuple(f"shopify:{name}={legal}" for name, legal in self.names.values(theirs, value))

    def _size_of_shoes(self, d: Demand, category: str | None, demands: Sequence[Demand]) -> Demand:
        """A bare number as the size it is, where the query is for shoes and names no other size."""
        if d.number is not None or any(x.dimension == "spec" and x.unit in (None, *SYSTEMS) for x in demands):
            return d
        size, sure = parse_number(d.value), max(d.confidence, _SURE)
        if not has_shoe_sizes(category, self.knowledge) or not foot_lengths(size, None, _group(demands)):
            return d
        why = "a number with shoes is their size"
        return replace(d, dimension="spec", number=size, strictness="hard", confidence=sure, why=why)

    def _sizes(self, d: Demand, category: str | None, demands: Sequence[Demand]) -> tuple[str, ...]:
        if d.number is None or not (d.unit is None or d.unit in SYSTEMS):
            return ()
        if not has_shoe_sizes(category, self.knowledge):
            return ()
        return _european(d.number, d.number_high, d.unit, _group(demands))


def _group(demands: Sequence[Demand]) -> str | None:
    """Whose shoe sizes the demands are about."""
    return wearer(d.canonical for d in demands if d.dimension == "audience" and d.canonical and d.polarity > 0)


def _fluid(d: Demand) -> Demand:
    high = None if d.number_high is None else d.number_high * ML_PER_GRAM
    return replace(d, number=(d.number or 0.0) * ML_PER_GRAM, number_high=high, unit="ml")


@lru_cache(maxsize=4096)
def _european(low: float, high: float | None, unit: str | None, group: str | None) -> tuple[str, ...]:
    """A size or range of sizes in EU sizes: one link a reading."""
    found = [format_number(size) for size in convert(low, unit, "EU", group)]
    if high is not None:
        upper = [format_number(size) for size in convert(high, unit, "EU", group)]
        found = [f"{a}-{b}" for a, b in zip(found, upper, strict=False)]
    return tuple(f"size:EU={size}" for size in found)


@lru_cache(maxsize=4)
def linker_for(knowledge: Knowledge) -> Linker:
    """The linker of these tables with the shipped schemas, made once."""
    return Linker(knowledge)
