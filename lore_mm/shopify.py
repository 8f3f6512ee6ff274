"""Shopify's open product taxonomy → attribute schemas and a category tree of lore-mm's own forms.

Reads the published files: `dist/<language>/categories.json` and `attributes.json` of Shopify/product-taxonomy (MIT), or
the same content as `categories.parquet` and `attributes.parquet`. A kind has exactly the attributes that the taxonomy
lists for it, which are not always those of the kind above it. Which demand dimension an attribute belongs to is data:
`lore_mm/shopify.toml`. This module writes no files and knows nothing of items; `lore_mm.taxonomy` writes.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

from lore_mm.attribute import NOT_APPLICABLE, NOT_STATED, fold
from lore_mm.errors import InputError, nearest
from lore_mm.knowledge import Knowledge
from lore_mm.text import normalize, singular

__all__ = ["Converted", "Taxonomy", "TaxonomyAttribute", "TaxonomyCategory", "convert_taxonomy", "read_taxonomy"]

_RESERVED = ("version", "title", "thing", "common")  # keys of a schema file that are no attributes


@dataclass(frozen=True, slots=True)
class TaxonomyAttribute:
    """An attribute of the taxonomy; `name` is its handle in lower case, words joined by _."""

    name: str
    title: str
    description: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TaxonomyCategory:
    """A kind of the taxonomy; `attributes` are names, all that it has."""

    id: str  # aa-1-13-8
    name: str
    full_name: str  # from the root down, with " > " between
    parent: str | None
    attributes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Taxonomy:
    """A release of the taxonomy; every parent comes before its children."""

    version: str
    categories: Mapping[str, TaxonomyCategory]
    attributes: Mapping[str, TaxonomyAttribute]

    def below(self, root: TaxonomyCategory) -> list[TaxonomyCategory]:
        """The kind and all below it."""
        inside = {root.id}
        for c in self.categories.values():
            if c.parent in inside:
                inside.add(c.id)
        return [c for c in self.categories.values() if c.id in inside]

    def find(self, wanted: str) -> TaxonomyCategory:
        """The kind of that id, full name, or name where only one has it.

        Raises:
            InputError: there is none, or several.
        """
        wanted = wanted.strip().rsplit("/", 1)[-1] if wanted.startswith("gid:") else wanted.strip()
        if wanted in self.categories:
            return self.categories[wanted]
        said = fold(wanted)
        found = [c for c in self.categories.values() if said in (fold(c.full_name), fold(c.name))]
        found = [c for c in found if fold(c.full_name) == said] or found
        if len(found) == 1:
            return found[0]
        if found:
            raise InputError(f"several kinds are called {wanted!r}: {', '.join(c.id for c in found[:8])}; give the id")
        names = [c.full_name for c in self.categories.values()]
        raise InputError(f"no category {wanted!r} in the taxonomy{nearest(wanted, names)}")


@dataclass(frozen=True, slots=True)
class Converted:
    """Departments (file stem → the content of a schema file) and categories (id → the entry of a knowledge table)."""

    departments: Mapping[str, Mapping[str, Any]]
    categories: Mapping[str, Mapping[str, Any]]


def read_taxonomy(folder: Path) -> Taxonomy:
    """The taxonomy of a folder that holds categories and attributes, as .json or as .parquet.

    Raises:
        InputError: a file is absent, or is not of the published form.
    """
    for ending, read in ((".json", _read_json), (".parquet", _read_parquet)):
        paths = [folder / f"{name}{ending}" for name in ("categories", "attributes")]
        if all(path.is_file() for path in paths):
            try:
                return read(*paths)
            except (KeyError, TypeError, AttributeError, ValueError, OSError) as error:  # pyarrow's errors are of these
                said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
                raise InputError(f"{folder}: not the published form of the taxonomy ({said})") from None
    raise InputError(f"{folder}: needs categories.json and attributes.json (dist/en of Shopify/product-taxonomy)")


def _read_json(categories: Path, attributes: Path) -> Taxonomy:
    kinds, listed = (json.loads(path.read_text(encoding="utf-8")) for path in (categories, attributes))
    found = [
        TaxonomyAttribute(
            _name(a["handle"]), a["name"], a.get("description") or "", tuple(v["name"] for v in a["values"])
        )
        for a in listed["attributes"]
    ]
    # an extended attribute is another under a name of its own, with the same values
    found += [
        TaxonomyAttribute(_name(e["handle"]), e["name"], a.description, a.values)
        for a, raw in zip(tuple(found), listed["attributes"], strict=True)
        for e in raw.get("extended_attributes", ())
    ]
    tree = [
        TaxonomyCategory(
            _bare(c["id"]),
            c["name"],
            c["full_name"],
            _bare(c["parent_id"]) if c["parent_id"] else None,
            tuple(_name(a["handle"]) for a in c["attributes"]),
        )
        for vertical in kinds["verticals"]
        for c in vertical["categories"]
    ]
    return _checked(str(kinds["version"]), tree, found)


def _read_parquet(categories: Path, attributes: Path) -> Taxonomy:
    import pyarrow.parquet as pq

    found = [
        TaxonomyAttribute(_name(a["friendly_id"]), a["name"], a["description"] or "", tuple(a["values"] or ()))
        for a in pq.read_table(attributes).to_pylist()
    ]
    tree = [
        TaxonomyCategory(
            c["id"],
            c["name"],
            c["full_name"],
            c["id"].rpartition("-")[0] or None,
            tuple(_name(a) for a in c["attributes"] or ()),
        )
        for c in pq.read_table(categories).to_pylist()
    ]
    version = categories.parent / "VERSION"
    return _checked(version.read_text(encoding="utf-8").strip() if version.is_file() else "unknown", tree, found)


def _checked(version: str, tree: Sequence[TaxonomyCategory], found: Sequence[TaxonomyAttribute]) -> Taxonomy:
    categories = {c.id: c for c in sorted(tree, key=lambda c: (c.full_name.count(" > "), _order(c.id)))}
    attributes: dict[str, TaxonomyAttribute] = {}
    for a in found:
        attributes.setdefault(a.name, a)
    for c in categories.values():
        if c.parent is not None and c.parent not in categories:
            raise ValueError(f"category {c.id} has no parent {c.parent}")
        if unknown := [a for a in c.attributes if a not in attributes]:
            raise ValueError(f"category {c.id} has unknown attributes: {', '.join(unknown[:5])}")
    return Taxonomy(version, categories, attributes)


def _order(category: str) -> tuple[str | int, ...]:
    root, *places = category.split("-")
    return root, *(int(place) for place in places)


def _bare(gid: str) -> str:
    return gid.rsplit("/", 1)[-1]


def _name(handle: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", handle.lower()).strip("_")


@lru_cache(maxsize=1)
def _mapping() -> Mapping[str, Any]:
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


def convert_taxonomy(taxonomy: Taxonomy, roots: Iterable[TaxonomyCategory], knowledge: Knowledge) -> Converted:
    """Departments and categories for these kinds and all below them: a department each, `shopify_<id>`.

    `knowledge`: values are spelled as its tables spell them where they know the word, so that a judge finds them.
    """
    departments: dict[str, Mapping[str, Any]] = {}
    categories: dict[str, dict[str, Any]] = {}
    for root in roots:
        kinds = taxonomy.below(root)
        name = f"shopify_{_name(root.id)}"
        departments[name] = _department(taxonomy, root, kinds, knowledge)
        above = root
        for c in (*_ancestors(taxonomy, above), *kinds):
            categories.setdefault(c.id, {"name": _phrase(c.name)} | ({"parent": c.parent} if c.parent else {}))
        categories[root.id]["department"] = name
    _add_terms(categories, taxonomy)
    return Converted(departments, categories)


def _ancestors(taxonomy: Taxonomy, category: TaxonomyCategory) -> list[TaxonomyCategory]:
    above: list[TaxonomyCategory] = []
    while category.parent is not None:
        category = taxonomy.categories[category.parent]
        above.insert(0, category)
    return above


def _department(
    taxonomy: Taxonomy, root: TaxonomyCategory, kinds: Sequence[TaxonomyCategory], knowledge: Knowledge
) -> dict[str, Any]:
    mapping = _mapping()
    content: dict[str, Any] = {
        "version": f"shopify {taxonomy.version}",
        "title": root.full_name,
        "common": mapping["common"],
    }
    has = {c.id: frozenset(c.attributes) for c in kinds}
    names = dict.fromkeys(a for c in kinds for a in c.attributes)
    for name in names:
        begins = [c.id for c in kinds if name in has[c.id] and name not in has.get(c.parent or "", ())]
        ends = [c.id for c in kinds if name not in has[c.id] and name in has.get(c.parent or "", ())]
        key = f"{name}_" if name in _RESERVED or name in mapping["common"] else name
        content[key] = _attribute(taxonomy.attributes[name], begins, ends, root, knowledge)
    return content


def _attribute(
    attribute: TaxonomyAttribute, begins: list[str], ends: list[str], root: TaxonomyCategory, knowledge: Knowledge
) -> dict[str, Any]:
    mapping = _mapping()
    rule = next(r for r in mapping["rule"] if any(fnmatchcase(attribute.name, p) for p in r["match"]))
    dimension = rule["dimension"]
    title, description = normalize(attribute.title), normalize(attribute.description)
    entry: dict[str, Any] = {
        "dimension": dimension,
        "ask": f"What is its {title[:1].lower() + title[1:]}?"
        + (f" {description.rstrip('.')}." if description else ""),
    }
    values = _values(attribute.values, dimension, knowledge)
    if len(values) > mapping["most_values"] or not values:
        entry["type"] = "text"
    entry |= {key: rule[key] for key in ("visual", "multi", "kind") if key in rule}
    if begins != [root.id]:
        entry["categories"] = begins
    if ends:
        entry["without"] = ends
    return entry | ({"values": values} if values else {})


def _values(names: Iterable[str], dimension: str, knowledge: Knowledge) -> dict[str, list[str]]:
    """Values in small letters or as the knowledge tables spell them; Shopify's own word beside, where it differs."""
    known = _known(dimension, knowledge)
    values: dict[str, list[str]] = {}
    taken = {fold(NOT_STATED), fold(NOT_APPLICABLE), ""}
    for written in names:
        name = normalize(written)
        own = known.get(fold(name), name.lower())
        if fold(own) in taken:  # two of Shopify's mean one of ours: the second keeps its own name
            own = name.lower()
        if fold(own) in taken or fold(name) in taken - {fold(own)}:
            continue
        values[own] = [] if fold(name) == fold(own) else [name]
        taken |= {fold(own), fold(name)}
    return values


@lru_cache(maxsize=64)
def _known(dimension: str, knowledge: Knowledge) -> Mapping[str, str]:
    """Every word of a dimension's table, folded → the value it stands for there."""
    entries: list[tuple[str, tuple[str, ...]]]
    if dimension == "color":
        entries = [(c.name, c.terms) for c in knowledge.colors.values()]
    elif dimension == "material":
        entries = [(m.name, m.terms) for m in knowledge.materials.values()]
    else:
        entries = [(t.value, t.terms) for t in knowledge.terms.values() if t.dimension == dimension]
    words = {fold(word): value for value, terms in entries for word in terms}
    return words | {fold(value): value for value, _ in entries}


def _phrase(name: str) -> str:
    """A kind's name as a text would have it: small letters, the last word in singular ("t-shirts" → "t-shirt")."""
    *first, last = normalize(name).lower().split(" ")
    return " ".join([*first, singular(last)])


def _add_terms(categories: dict[str, dict[str, Any]], taxonomy: Taxonomy) -> None:
    """The parts of a name that joins several ("hats, caps & hoods") are its terms, where no other kind is called so."""
    named: dict[str, int] = {}
    parts: dict[str, list[str]] = {}
    for category, entry in categories.items():
        pieces = [_phrase(piece) for piece in re.split(r",\s*|\s*&\s*", taxonomy.categories[category].name) if piece]
        parts[category] = [piece for piece in pieces if piece != entry["name"]] if len(pieces) > 1 else []
        for word in {entry["name"], *parts[category]}:
            named[word] = named.get(word, 0) + 1
    for category, entry in categories.items():
        if terms := [word for word in dict.fromkeys(parts[category]) if named[word] == 1]:
            entry["terms"] = terms
