"""Attribute schemas: which attributes a kind of thing has, what each may say, and how to ask for it.

One TOML file a department (`lore_mm/schemas/fashion.toml`) yields the legal values and their checks, the words a
zero-shot classifier compares a picture with, the JSON Schema that constrains a decoder, the question put to a
vision-language model, and the Arrow columns. `common.toml` holds what every thing has; a department adds to it or
replaces entries of the same name.

    version = 1
    title = "Fashion"
    thing = "garment"                 # what a prompt calls one item
    common = ["category", "brand"]    # which of the common attributes it takes; all where this is left out

    [neckline]
    dimension = "style_detail"        # one of the 18 of dimensions.toml
    ask = "Which neckline does it have?"
    visual = true
    [neckline.values]                 # value = other words for it: recognised in replies, and used in prompts
    crew = ["crew neck", "round neck"]
    v-neck = []

This module knows nothing of items, pictures or models.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from lore_mm.attribute import MAX_TEXT, NOT_APPLICABLE, NOT_STATED, AttributeSpec, check_value, fold
from lore_mm.errors import ConfigError, InputError, nearest
from lore_mm.fingerprint import sha_of
from lore_mm.knowledge import Knowledge, Term

__all__ = [
    "MAX_TEXT",
    "NOT_APPLICABLE",
    "NOT_STATED",
    "AttributeSchema",
    "AttributeSpec",
    "Dimension",
    "Schemas",
    "check_value",
    "fold",
    "load_dimensions",
    "load_hard_types",
    "load_schemas",
]

COMMON = "common"
_NO_DEPARTMENT = ("dimensions.toml", "units.toml")  # other tables that lie beside the departments
_HERE = Path(__file__).parent / "schemas"


class Dimension(BaseModel):
    """One of the 18 demand dimensions; `evidence` is the order in which sources are believed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    ask: str
    evidence: tuple[str, ...]

    def rank(self, source: str) -> int:
        """The place of a source (title, text, given.<key>, image:<i>) in the order; 0 is believed most.

        `given.<key>` has its own entry's place, else that of `given`; what is not named comes last.
        """
        kind = fold(source.split(":")[0]).replace("colour", "color").replace(" ", "_")
        places = [i for i, entry in enumerate(self.evidence) if entry in (kind, kind.split(".")[0])]
        return min(places, default=len(self.evidence))


@dataclass(frozen=True)
class AttributeSchema:
    """The attributes of one department (or of one category: narrowed, with the values of the knowledge tables)."""

    name: str
    version: str
    specs: Mapping[str, AttributeSpec]
    thing: str = "product"  # what a prompt calls one item
    common: tuple[str, ...] | None = None  # which of the common attributes the department takes; None: all

    @cached_property
    def sha(self) -> str:
        """Identifies the content: any change of an attribute, value or word changes it."""
        content = [self.name, self.version, self.thing, {name: spec.sha for name, spec in self.specs.items()}]
        return sha_of(content if self.common is None else [*content, list(self.common)])

    def spec(self, name: str) -> AttributeSpec:
        """The attribute of that name.

        Raises:
            InputError: there is none; the text lists what there is.
        """
        if name not in self.specs:
            raise InputError(
                f"schema {self.name!r} has no attribute {name!r}{nearest(name, self.specs)}; "
                f"it has: {', '.join(self.specs)}"
            )
        return self.specs[name]

    def find(self, dimension: str, value: str) -> AttributeSpec | None:
        """The attribute of that dimension for which `value` is legal (by any of its words), closed lists first."""
        mine, folded = self._by_dimension.get(dimension, ()), fold(value)
        known = (s for s in mine if folded in s.lookup)
        return next(known, None) or next((s for s in mine if s.type == "text"), None)

    def legal(self, dimension: str, value: str) -> tuple[tuple[AttributeSpec, str], ...]:
        """Every attribute of that dimension that knows `value` by any of its words, with its own name for it."""
        folded = fold(value)
        return tuple((s, s.lookup[folded]) for s in self._by_dimension.get(dimension, ()) if folded in s.lookup)

    @cached_property
    def _by_dimension(self) -> Mapping[str, tuple[AttributeSpec, ...]]:
        found: dict[str, tuple[AttributeSpec, ...]] = {}
        for spec in self.specs.values():
            found[spec.dimension] = (*found.get(spec.dimension, ()), spec)
        return found

    def json_schema(self, names: Sequence[str] | None = None) -> dict[str, Any]:
        """The JSON Schema of a reply that answers these attributes (all unless named), in this order."""
        wanted = [self.spec(name) for name in (self.specs if names is None else names)]
        return {
            "type": "object",
            "properties": {spec.name: spec.json_schema() for spec in wanted},
            "required": [spec.name for spec in wanted],
            "additionalProperties": False,
        }

    def arrow_schema(self) -> pa.Schema:
        """One nullable column an attribute, for a wide table."""
        return pa.schema([pa.field(spec.name, spec.arrow_type) for spec in self.specs.values()])


class Schemas:
    """The schemas of all departments."""

    def __init__(self, departments: Mapping[str, AttributeSchema]) -> None:
        self.departments = departments
        self._resolved: dict[tuple[str | None, str], AttributeSchema] = {}
        self._filled: dict[tuple[str, tuple[str, ...], str], AttributeSpec] = {}  # shared: their look-ups fold once

    @cached_property
    def sha(self) -> str:
        """Identifies the content of all departments."""
        return sha_of({name: schema.sha for name, schema in self.departments.items()})

    def sha_without(self, *keys: str, visual: bool = False) -> str:
        """Identifies the content but for these keys of its attributes and the versions, for who does not read them.

        With `visual` only the category and what can be chosen by a picture count.
        """
        return sha_of(
            {
                name: [
                    schema.thing,
                    None if schema.common is None else list(schema.common),
                    [
                        spec.model_dump(mode="json", exclude=set(keys))
                        for spec in schema.specs.values()
                        if not visual or (spec.visual and spec.type == "choice") or spec.name == "category"
                    ],
                ]
                for name, schema in self.departments.items()
            }
        )

    def department(self, name: str | None) -> AttributeSchema:
        """The common attributes with the department's own; a department without a file has the common ones."""
        common = self.departments[COMMON]
        own = self.departments.get(name or COMMON, common)
        if own is common:
            return common
        version = f"{common.version}.{own.version}"
        taken = {n: s for n, s in common.specs.items() if own.common is None or n in own.common}
        return replace(own, version=version, specs={**taken, **own.specs})

    def for_category(self, category: str | None, knowledge: Knowledge) -> AttributeSchema:
        """The attributes of one kind of thing, with legal values from the knowledge tables filled in.

        An unknown category, or none, has the common attributes. A choice for which the tables hold no legal value is
        left out.
        """
        key = (category, knowledge.sha)
        if key not in self._resolved:
            schema = self.department(knowledge.department(category) if category else None)
            specs = {
                name: self._with_values(spec, category, knowledge)
                for name, spec in schema.specs.items()
                if _belongs(spec, category, knowledge)
            }
            specs = {name: spec for name, spec in specs.items() if spec.type != "choice" or spec.values}
            self._resolved[key] = replace(schema, specs=specs)
        return self._resolved[key]

    def _with_values(self, spec: AttributeSpec, category: str | None, knowledge: Knowledge) -> AttributeSpec:
        """The same attribute with its legal values filled in from the knowledge table it names."""
        if spec.values_from is None:
            return spec
        by_category = spec.values_from == "terms"  # a term may be meaningful in some categories only
        values = _legal_words(spec, category, knowledge) if by_category else {}
        key = (spec.sha, tuple(values), knowledge.sha)
        if key not in self._filled:
            values = values or _legal_words(spec, category, knowledge)
            self._filled[key] = AttributeSpec.model_validate(spec.model_dump() | {"values": {**values, **spec.values}})
        return self._filled[key]

    def check_against(self, knowledge: Knowledge) -> None:
        """Check that the categories named by attributes exist.

        Raises:
            ConfigError: one does not.
        """
        for department in self.departments.values():
            for spec in department.specs.values():
                for category in (*spec.categories, *spec.without):
                    if category not in knowledge.categories:
                        raise ConfigError(
                            f"schema {department.name!r}: [{spec.name}] categories: unknown category "
                            f"{category!r}{nearest(category, knowledge.categories)}"
                        )


def _belongs(spec: AttributeSpec, category: str | None, knowledge: Knowledge) -> bool:
    """True where a thing of that kind has the attribute: the nearest kind named in either of its lists decides."""
    if not spec.categories and not spec.without:
        return True
    for one in (category, *knowledge.ancestors(category)) if category else ():
        if one in spec.without:
            return False
        if one in spec.categories:
            return True
    return not spec.categories


def _legal_words(spec: AttributeSpec, category: str | None, knowledge: Knowledge) -> dict[str, tuple[str, ...]]:
    """The legal values of the knowledge table that an attribute names, with their words."""
    if spec.values_from == "terms":
        return {
            term.value: term.terms
            for term in _terms_by_dimension(knowledge).get(spec.dimension, ())
            if not term.categories or (category and any(knowledge.is_a(category, c) for c in term.categories))
        }
    if spec.values_from == "categories":
        return {c.id: (c.name, *c.terms) for c in knowledge.categories.values()}
    return {name: entry.terms for name, entry in getattr(knowledge, spec.values_from or "").items()}


@lru_cache(maxsize=4)
def _terms_by_dimension(knowledge: Knowledge) -> Mapping[str, Sequence[Term]]:
    found: dict[str, list[Term]] = {}
    for term in knowledge.terms.values():
        found.setdefault(term.dimension, []).append(term)
    return found


@lru_cache(maxsize=1)
def load_dimensions() -> Mapping[str, Dimension]:
    """The 18 demand dimensions by key, in the order in which paths are read."""
    raw = tomllib.loads((_HERE / "dimensions.toml").read_text(encoding="utf-8"))
    return {key: Dimension(**body) for key, body in raw.items() if key != "hard_types"}


@lru_cache(maxsize=1)
def load_hard_types() -> Mapping[str, str]:
    """What makes a query hard: type → what it means, in the order in which they are tried."""
    raw: dict[str, dict[str, str]] = tomllib.loads((_HERE / "dimensions.toml").read_text(encoding="utf-8"))
    return raw["hard_types"]


@lru_cache(maxsize=8)
def load_schemas(extra: tuple[Path, ...] = ()) -> Schemas:
    """The shipped schemas, with the user's folders laid over them: an attribute of the same file and name is replaced,
    a new file is a new department.

    Raises:
        ConfigError: naming the file, the attribute, the key and the legal values.
    """
    departments: dict[str, AttributeSchema] = {}
    for folder in (_HERE, *extra):
        if not folder.is_dir():
            raise ConfigError(f"schema folder {folder} does not exist")
        for path in sorted(folder.glob("*.toml")):
            if path.name in _NO_DEPARTMENT:
                continue
            new = _read(path)
            if earlier := departments.get(path.stem):
                version = f"{earlier.version}+{new.version}"
                new = replace(new, version=version, specs={**earlier.specs, **new.specs})
            for name in new.common or ():
                if COMMON in departments and name not in departments[COMMON].specs:
                    legal = departments[COMMON].specs
                    raise ConfigError(
                        f"{path}: common: no attribute {name!r}{nearest(name, legal)}: {', '.join(legal)}"
                    )
            departments[path.stem] = new
    return Schemas(departments)


def _read(path: Path) -> AttributeSchema:
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    version = raw.pop("version", None)
    if not isinstance(version, int | str):
        raise ConfigError(f'{path}: needs a version at the top, such as: version = "1"')
    raw.pop("title", None)
    thing = raw.pop("thing", AttributeSchema.thing)
    if not isinstance(thing, str):
        raise ConfigError(f'{path}: thing must be a word, such as: thing = "garment"')
    common = raw.pop("common", None)
    if common is not None and not (isinstance(common, list) and all(isinstance(name, str) for name in common)):
        raise ConfigError(f'{path}: common must list names of common attributes, such as: common = ["category"]')
    specs = {name: _read_spec(path, name, body) for name, body in raw.items()}
    return AttributeSchema(path.stem, str(version), specs, thing, None if common is None else tuple(common))


def _read_spec(path: Path, name: str, body: object) -> AttributeSpec:
    """One attribute's table; `values` may be a list of names or a table of name → other words."""
    if not isinstance(body, dict):
        raise ConfigError(f"{path}: [{name}] must be a table; legal keys beside tables: version, title, thing, common")
    body = dict(body)
    if isinstance(body.get("values"), list):
        body["values"] = {value: () for value in body["values"]}
    try:
        spec = AttributeSpec(name=name, **body)
    except (ValidationError, TypeError) as error:
        raise ConfigError(f"{path}: {_fault(name, error)}") from None
    if fault := _inconsistency(spec):
        raise ConfigError(f"{path}: [{name}] {fault}")
    return spec


def _fault(name: str, error: ValidationError | TypeError) -> str:
    """The first fault of an attribute's table, in one line with what would be legal."""
    if isinstance(error, TypeError):
        return f"[{name}] {error}"
    fault = error.errors()[0]
    key = ".".join(str(x) for x in fault["loc"])
    if fault["type"] == "extra_forbidden":
        legal = [field for field in AttributeSpec.model_fields if field != "name"]
        return f"[{name}] {key}: unknown key{nearest(key, legal)}; legal keys: {', '.join(legal)}"
    return f"[{name}] {key}: {fault['msg']}"


def _inconsistency(spec: AttributeSpec) -> str | None:
    """What is wrong between an attribute's keys, or None."""
    dimensions = load_dimensions()
    if spec.dimension not in dimensions:
        hint = nearest(spec.dimension, dimensions)
        return f"dimension: unknown {spec.dimension!r}{hint}; legal values: {', '.join(dimensions)}"
    if spec.type == "choice" and not spec.values and not spec.values_from:
        return "values: a choice needs legal values, or values_from a knowledge table"
    if spec.type in ("number", "flag") and (spec.values or spec.values_from):
        return f"values: a {spec.type} has no list of values"
    if spec.type != "number" and (spec.unit or spec.minimum is not None or spec.maximum is not None):
        return f"unit, minimum, maximum: only a number has them, this is a {spec.type}"
    if spec.minimum is not None and spec.maximum is not None and spec.minimum > spec.maximum:
        return f"minimum: {spec.minimum:g} is above maximum {spec.maximum:g}"
    for template in spec.prompts:
        unknown = set(re.findall(r"\{([^{}]*)\}", template)) - {"value", "thing"}
        if unknown or "{value}" not in template:
            return f"prompts: {template!r} must hold {{value}}, and may hold {{thing}}, nothing else in braces"
    return _clash(spec.values, spec.name)


def _clash(values: Mapping[str, Iterable[str]], name: str) -> str | None:
    """Two values that share a word, or a value that is a reserved answer, or None."""
    owner: dict[str, str] = {}
    for value, words in values.items():
        for word in (value, *words):
            folded = fold(word)
            if not folded or folded in (fold(NOT_STATED), fold(NOT_APPLICABLE)):
                return f"values: {word!r} is empty or reserved"
            if owner.setdefault(folded, value) != value:
                return f"values: {word!r} stands for both {owner[folded]!r} and {value!r}"
    return None
