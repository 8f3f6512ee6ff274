"""The attributes of a data set as schemas that ask for them, with the data set's own legal values.

Extractors speak in the words of the knowledge tables; so each legal value gets the words that mean it or something
narrower ("Blue": navy, sky blue …), unless another legal value means them more exactly. This module knows no file
format.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from lore_mm.attribute import NOT_APPLICABLE, NOT_STATED, AttributeSpec, fold
from lore_mm.errors import InputError
from lore_mm.knowledge import Knowledge
from lore_mm.mentions import scanner_for
from lore_mm.schema import AttributeSchema, Schemas

__all__ = ["attribute_spec", "dimension_of", "plain_name", "schemas_of", "shipped_name", "words_for"]

# Extractors name many values of these at once; free text would take any of them for its own.
_LISTED = ("style", "style_detail", "function", "season")
_TABLES = {"color": "color", "material": "material", "category": "category"}  # the others are terms


def plain_name(name: str) -> str:
    """A data set's name of an attribute as schemas spell it: "Heel Height" → heel_height, "Color(s)" → color."""
    return "_".join(fold("".join(c if c.isalnum() else " " for c in name.replace("(s)", ""))).split())


def shipped_name(name: str) -> str:
    """The plain name, or that which the shipped schemas have for the same thing: "Part Number" → model."""
    plain = plain_name(name)
    return str(_table()["names"].get(plain, plain))


def dimension_of(name: str, default: str) -> str:
    """The demand dimension of an attribute by the words of its name (attributes.toml), or `default`."""
    words = set(plain_name(name).split("_"))
    known = {entry: dimension for dimension, entries in _table()["dimensions"].items() for entry in entries}
    found = [entry for entry in known if set(entry.split()) <= words]
    return str(known[max(found, key=lambda e: (len(e.split()), len(e)))]) if found else default


@lru_cache(maxsize=1)
def _table() -> Mapping[str, Mapping[str, Any]]:
    return tomllib.loads((Path(__file__).parent / "attributes.toml").read_text(encoding="utf-8"))


def attribute_spec(
    name: str,
    label: str,
    options: Sequence[str],
    knowledge: Knowledge,
    *,
    multi: bool = False,
    visual: bool = False,
) -> AttributeSpec:
    """An attribute that chooses among `options` (spellings of one are one); without any it takes free text.

    Raises:
        InputError: an option is one of the two answers that are no values.
    """
    chosen: dict[str, str] = {}
    for option in options:
        if fold(option) in (fold(NOT_STATED), fold(NOT_APPLICABLE)):
            raise InputError(f"attribute {name!r}: {option!r} is a reserved answer and cannot be a legal value")
        chosen.setdefault(fold(option) or option, option)
    dimension = dimension_of(name, "style_detail" if options else "spec")
    if not options and dimension in _LISTED:
        dimension = "spec"
    values = words_for(list(chosen.values()), dimension, knowledge)
    ask = f"What is its {' '.join(label.split()).lower()}?"
    kind = "choice" if options else "text"
    return AttributeSpec.model_validate(
        {"name": name, "dimension": dimension, "ask": ask, "type": kind, "values": values, "multi": multi}
        | {"visual": visual}
    )


def schemas_of(name: str, version: str, specs: Iterable[AttributeSpec]) -> Schemas:
    """Schemas that ask for these attributes whatever the category."""
    return Schemas({"common": AttributeSchema(name, version, {spec.name: spec for spec in specs})})


def words_for(options: Sequence[str], dimension: str, knowledge: Knowledge) -> dict[str, tuple[str, ...]]:
    """Each legal value with the words of the knowledge tables that mean it: its own first, then narrower ones."""
    taken = {fold(option): option for option in options}
    meant = {option: _entries(option, dimension, knowledge) for option in options}
    words: dict[str, list[str]] = {option: [] for option in options}
    for of in (_own_words, _narrower):
        for option in options:
            for entry in meant[option]:
                for word in of(entry, dimension, knowledge):
                    if taken.setdefault(fold(word), option) == option and word not in (option, *words[option]):
                        words[option].append(word)
    return {option: tuple(dict.fromkeys(found)) for option, found in words.items()}


def _entries(option: str, dimension: str, knowledge: Knowledge) -> list[str]:
    """The entries of the knowledge tables that an option names; of several kinds ("Bras & Tanks") all of them."""
    table = _TABLES.get(dimension, "term")
    named = _table()["entries"].get(dimension, {}).get(fold(option))
    found = [named] if named else []
    for mention in scanner_for(knowledge).find(option, correct=False):
        whole = not option[: mention.start].strip() and not option[mention.end :].strip()
        if not (whole or dimension == "category") or mention.negated:
            continue
        readings = [(mention.table, mention.dimension, mention.canonical)]
        readings += [(r.table, r.dimension, r.canonical) for r in mention.others]
        found += [canonical for t, d, canonical in readings if t == table and d == dimension]
    return found


def _own_words(entry: str, dimension: str, knowledge: Knowledge) -> tuple[str, ...]:
    if dimension == "color":
        return (entry, *knowledge.colors[entry].terms)
    if dimension == "material":
        return (entry, *knowledge.materials[entry].terms)
    if dimension == "category":
        return (entry, knowledge.categories[entry].name, *knowledge.categories[entry].terms)
    return (entry, *knowledge.terms[dimension, entry].terms)


def _narrower(entry: str, dimension: str, knowledge: Knowledge) -> tuple[str, ...]:
    if dimension == "color":
        return tuple(c.name for c in knowledge.colors.values() if c.family == entry)
    if dimension == "material":
        return tuple(m.name for m in knowledge.materials.values() if entry in m.umbrella)
    if dimension == "category":
        return tuple(c for c in knowledge.categories if knowledge.is_a(c, entry))
    return knowledge.terms[dimension, entry].covers
