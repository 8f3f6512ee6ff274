"""What the engine knows of the world of goods: categories, brands, series, colours, materials, audiences, needs.

Knowledge is data: TOML files beside this module, seeded by hand, extended by the user's own files of the same form
(`load_knowledge([folder])`). Every entry names things in the words people use (`terms`, lower case, singular); the
scanner (`lore_mm.mentions`) finds them in text, the parsers turn them into values and demands, and the follower
reads relations between them. This module knows nothing of items, queries or rules.

The files, each optional in a user's folder:

    categories.toml   [id] name, terms, parent, generic, similar, accessory_of, part_of, department
    brands.toml       [Name] terms, parent, makes, misspelt, genericized
    series.toml       [Name] terms, brand, category, base
    colors.toml       [name] terms, family, hex, near
    materials.toml    [name] terms, umbrella, kin
    terms.toml        [dimension.value] terms, stage, excludes, near, categories, dedicated
    derivatives.toml  [id] relation (processed | patterned | likeness | ingredient | raw), of, kinds, terms
    needs.toml        [id] terms, words, kind (jargon | solution | substitute), demands = [{dimension, value} …], why
    homonyms.toml     [word] readings = [{dimension, value, likelihood, near, why} …]

`foreign`, in categories, colors, materials and terms, holds the commonest words of other languages: they are found in
text like `terms`, but English is never corrected to them, and models are not asked about them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lore_mm.errors import ConfigError, nearest
from lore_mm.fingerprint import sha_of

__all__ = [
    "Brand",
    "Category",
    "Color",
    "Derivative",
    "Homonym",
    "HomonymReading",
    "Knowledge",
    "Material",
    "Need",
    "NeedDemand",
    "Series",
    "Term",
    "load_knowledge",
]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Category(_Entry):
    """A kind of thing. The tree is by `parent`; the id is what demands and attributes carry."""

    id: str
    name: str
    terms: tuple[str, ...] = ()  # synonyms: each means exactly this kind
    foreign: tuple[str, ...] = ()  # the same in other languages, as in the other tables
    parent: str | None = None
    generic: bool = (
        False  # no precise everyday referent ("electronics", "shoes"): any kind below it is the thing itself
    )
    similar: tuple[str, ...] = ()  # other kinds of the same function or form: near, not the same
    accessory_of: tuple[str, ...] = ()  # the main things this belongs to or is a part of
    part_of: tuple[str, ...] = ()  # of these, the ones that come with it inside: they contain what is asked for
    department: str | None = None  # names the attribute schema; inherited from the parent


class Brand(_Entry):
    """A maker's name."""

    name: str
    terms: tuple[str, ...] = ()  # other spellings that are right
    misspelt: tuple[str, ...] = ()
    parent: str | None = None
    makes: tuple[str, ...] = ()  # category ids, where the brand is known for them
    genericized: bool = False  # the name is used for the thing itself


class Series(_Entry):
    """A series or model of a brand; `base` is the plainer model it is a variant of."""

    name: str
    terms: tuple[str, ...] = ()
    brand: str | None = None
    category: str | None = None
    base: str | None = None


class Color(_Entry):
    """A colour word. `family` is the base colour it belongs to; a base colour is its own family."""

    name: str
    terms: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    family: str
    hex: str  # a typical sRGB value, "#rrggbb"
    near: tuple[str, ...] = ()  # neighbours that pass for it with a tolerance


class Material(_Entry):
    """What things are made of. An umbrella word covers the materials that name it."""

    name: str
    terms: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    umbrella: tuple[str, ...] = ()
    kin: tuple[str, ...] = ()  # related: near, not the same


class Term(_Entry):
    """A value of any other dimension: audience, season, style, style_detail, function, component, special …"""

    dimension: str
    value: str
    terms: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    stage: int | None = None  # for ages: 0 under 1, 1 for 1–3, 2 for 3–6, 3 for 6–12, 4 for 12 and over
    covers: tuple[str, ...] = ()  # narrower values of the same dimension it includes (unisex covers women and men)
    excludes: tuple[str, ...] = ()  # values of the same dimension that contradict it
    near: tuple[str, ...] = ()  # values that pass for it with a tolerance
    categories: tuple[str, ...] = ()  # only meaningful in these categories (and below); empty: anywhere
    dedicated: tuple[str, ...] = ()  # audiences: categories of which there are things made for just this group


class Derivative(_Entry):
    """What bears another thing's name without being it: "rose tea" comes of a rose, a "rose" dress shows one.

    An item that names a kind of `of` in its title stands in `relation` to it where it is of one of `kinds`, or where
    one of `terms` stands beside the name.
    """

    id: str
    relation: Literal["processed", "patterned", "likeness", "ingredient", "raw"]
    of: tuple[str, ...]  # category ids
    kinds: tuple[str, ...] = ()  # category ids
    terms: tuple[str, ...] = ()  # single words, singular


class NeedDemand(_Entry):
    """One demand that a need stands for."""

    dimension: str
    value: str
    alternatives: tuple[str, ...] = ()


class Need(_Entry):
    """Words that stand for demands they do not name: jargon, a problem to solve, a substitute asked for."""

    id: str
    terms: tuple[str, ...]
    words: tuple[str, ...] = ()  # "keep|stay hot|warm coffee|tea": one of each group, inflected, in any order
    kind: Literal["jargon", "solution", "substitute"]
    demands: tuple[NeedDemand, ...]
    why: str


class HomonymReading(_Entry):
    """What else a word of the tables can mean; `value` is canonical, or None where no table has a word for it."""

    dimension: str
    value: str | None = None
    likelihood: float = Field(gt=0, lt=1)  # that it is meant where the word stands alone
    near: tuple[str, ...] = ()  # words beside which it is meant: trap, cage
    why: str


class Homonym(_Entry):
    """A word whose further readings are not to be had from the other tables."""

    word: str
    readings: tuple[HomonymReading, ...]


class Knowledge:
    """All tables together, checked against each other. Immutable once made; `sha` identifies the content."""

    def __init__(
        self,
        categories: Iterable[Category] = (),
        brands: Iterable[Brand] = (),
        series: Iterable[Series] = (),
        colors: Iterable[Color] = (),
        materials: Iterable[Material] = (),
        terms: Iterable[Term] = (),
        needs: Iterable[Need] = (),
        homonyms: Iterable[Homonym] = (),
        derivatives: Iterable[Derivative] = (),
    ) -> None:
        self.categories: Mapping[str, Category] = {c.id: c for c in categories}
        self.brands: Mapping[str, Brand] = {b.name: b for b in brands}
        self.series: Mapping[str, Series] = {s.name: s for s in series}
        self.colors: Mapping[str, Color] = {c.name: c for c in colors}
        self.materials: Mapping[str, Material] = {m.name: m for m in materials}
        self.terms: Mapping[tuple[str, str], Term] = {(t.dimension, t.value): t for t in terms}
        self.needs: Mapping[str, Need] = {n.id: n for n in needs}
        self.homonyms: Mapping[str, Homonym] = {h.word: h for h in homonyms}
        self.derivatives: Mapping[str, Derivative] = {d.id: d for d in derivatives}
        self._check()
        self._above = {category: tuple(self._walk_up(category)) for category in self.categories}

    @cached_property
    def sha(self) -> str:
        """Identifies the content of all tables."""
        tables: Sequence[Mapping[Any, _Entry]] = (
            self.categories,
            self.brands,
            self.series,
            self.colors,
            self.materials,
            self.terms,
            self.needs,
            self.homonyms,
            self.derivatives,
        )
        return sha_of([[entry.model_dump(mode="json") for entry in table.values()] for table in tables])

    def ancestors(self, category: str) -> tuple[str, ...]:
        """The ids above a category, nearest first; empty for a root or an unknown id."""
        return self._above.get(category, ())

    def is_a(self, category: str, other: str) -> bool:
        """True where `category` is `other` or lies below it."""
        return category == other or other in self.ancestors(category)

    def department(self, category: str) -> str | None:
        """The department of a category, its own or the nearest inherited one."""
        for one in (category, *self.ancestors(category)):
            entry = self.categories.get(one)
            if entry and entry.department:
                return entry.department
        return None

    def _check(self) -> None:
        def need(table: str, key: str, field: str, names: Iterable[str | None], legal: Collection[str]) -> None:
            for name in names:
                if name is not None and name not in legal:
                    raise ConfigError(f"knowledge {table} {key!r}: unknown {field} {name!r}{nearest(name, legal)}")

        for c in self.categories.values():
            need("categories", c.id, "parent", [c.parent], self.categories)
            need("categories", c.id, "similar", c.similar, self.categories)
            need("categories", c.id, "accessory_of", c.accessory_of, self.categories)
            need("categories", c.id, "part_of", c.part_of, self.categories)
            seen = {c.id}
            for above in self._walk_up(c.id):
                if above in seen:
                    raise ConfigError(f"knowledge categories {c.id!r}: its parents go in a circle through {above!r}")
                seen.add(above)
        for b in self.brands.values():
            need("brands", b.name, "parent", [b.parent], self.brands)
            need("brands", b.name, "makes", b.makes, self.categories)
        for s in self.series.values():
            need("series", s.name, "brand", [s.brand], self.brands)
            need("series", s.name, "category", [s.category], self.categories)
            need("series", s.name, "base", [s.base], self.series)
        for color in self.colors.values():
            need("colors", color.name, "family", [color.family], self.colors)
            need("colors", color.name, "near", color.near, self.colors)
        for m in self.materials.values():
            need("materials", m.name, "umbrella", m.umbrella, self.materials)
            need("materials", m.name, "kin", m.kin, self.materials)
        for t in self.terms.values():
            legal = {value for dimension, value in self.terms if dimension == t.dimension}
            for field in ("covers", "excludes", "near"):
                need(f"terms {t.dimension}", t.value, field, getattr(t, field), legal)
            need(f"terms {t.dimension}", t.value, "categories", t.categories, self.categories)
            need(f"terms {t.dimension}", t.value, "dedicated", t.dedicated, self.categories)
        for derivative in self.derivatives.values():
            need("derivatives", derivative.id, "of", derivative.of, self.categories)
            need("derivatives", derivative.id, "kinds", derivative.kinds, self.categories)
        tables: Mapping[str, Collection[str]] = {
            "category": self.categories,
            "brand": self.brands,
            "model": self.series,
            "color": self.colors,
            "material": self.materials,
        }
        for n in self.needs.values():
            for d in n.demands:
                legal_values = tables.get(d.dimension) or [v for dim, v in self.terms if dim == d.dimension]
                need("needs", n.id, f"{d.dimension} value", (d.value, *d.alternatives), legal_values)
        for h in self.homonyms.values():
            for r in h.readings:
                legal_values = tables.get(r.dimension) or [v for dim, v in self.terms if dim == r.dimension]
                need("homonyms", h.word, f"{r.dimension} value", [r.value], legal_values)

    def _walk_up(self, category: str) -> Iterable[str]:
        for _ in range(len(self.categories) + 1):
            entry = self.categories[category]
            if entry.parent is None:
                return
            category = entry.parent
            yield category


_HERE = Path(__file__).parent
_FILES = ("categories", "brands", "series", "colors", "materials", "terms", "needs", "homonyms", "derivatives")


@lru_cache(maxsize=8)
def load_knowledge(extra: tuple[Path, ...] = ()) -> Knowledge:
    """The seeded tables, with the user's folders laid over them: an entry of the same key replaces the earlier one.

    Raises:
        ConfigError: naming the file, the entry and the fault.
    """
    tables: dict[str, dict[Any, _Entry]] = {name: {} for name in _FILES}
    for folder in (_HERE, *extra):
        if not folder.is_dir():
            raise ConfigError(f"knowledge folder {folder} does not exist")
        for name in _FILES:
            path = folder / f"{name}.toml"
            if path.exists():
                new = _read(path, name)  # first: where two entries share a word, the user's is meant
                tables[name] = {**new, **{key: old for key, old in tables[name].items() if key not in new}}
    return Knowledge(**{name: list(entries.values()) for name, entries in tables.items()})  # type: ignore[arg-type]


def _read(path: Path, table: str) -> dict[Any, _Entry]:
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    entries: dict[Any, _Entry] = {}
    for key, body in raw.items():
        try:
            if table == "terms":
                for value, fields in body.items():
                    entries[key, value] = Term(dimension=key, value=value, **fields)
            else:
                kind, keyword = _KINDS[table]
                entries[key] = kind(**{keyword: key}, **body)
        except (ValidationError, TypeError) as error:
            fault = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
            place = ".".join([key, *(str(x) for x in fault["loc"])])
            raise ConfigError(f"{path}: [{place}] {fault['msg']}") from None
    return entries


_KINDS: Mapping[str, tuple[type[_Entry], str]] = {
    "categories": (Category, "id"),
    "brands": (Brand, "name"),
    "series": (Series, "name"),
    "colors": (Color, "name"),
    "materials": (Material, "name"),
    "needs": (Need, "id"),
    "homonyms": (Homonym, "word"),
    "derivatives": (Derivative, "id"),
}
