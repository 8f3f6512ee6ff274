"""Attribute schemas: which attributes a kind of thing has, what each may say, and how to ask for it.

One TOML file a department (`lore_mm/schemas/fashion.toml`) yields the legal values and their checks, the words a
zero-shot classifier compares a picture with, the JSON Schema that constrains a decoder, the question put to a
vision-language model, and the Arrow columns. `common.toml` holds what every thing has; a department adds to it or
replaces entries of the same name.

    version = 1
    title = "Fashion"
    thing = "garment"                 # what a prompt calls one item

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

import math
import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lore_mm.errors import ConfigError, InputError, nearest
from lore_mm.fingerprint import sha_of
from lore_mm.knowledge import Knowledge

__all__ = [
    "NOT_APPLICABLE",
    "NOT_STATED",
    "AttributeSchema",
    "AttributeSpec",
    "Dimension",
    "Schemas",
    "check_value",
    "fold",
    "load_dimensions",
    "load_schemas",
]

NOT_STATED, NOT_APPLICABLE = "not_stated", "not_applicable"  # legal answers that are not values
COMMON = "common"
MAX_TEXT = 200  # characters of a free-text value
_SHOWN = 12  # legal values listed in an error before "…"
_NO_DEPARTMENT = ("dimensions.toml", "units.toml")  # other tables that lie beside the departments
_HERE = Path(__file__).parent / "schemas"


class Dimension(BaseModel):
    """One of the 18 demand dimensions; `evidence` is the order in which sources are believed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    ask: str
    evidence: tuple[str, ...]


class AttributeSpec(BaseModel):
    """One attribute: what it may say and how to ask for it.

    `values_from` takes the legal values from a knowledge table when the schema is resolved for a category
    (`Schemas.for_category`); a `choice` is closed over them, a `text` is snapped to one where it is known and otherwise
    free. `prompts` are templates with {value} and {thing} (the category's name).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    dimension: str
    ask: str = Field(min_length=1)
    type: Literal["choice", "number", "text", "flag"] = "choice"
    values: Mapping[str, tuple[str, ...]] = {}
    values_from: Literal["categories", "brands", "series", "colors", "materials", "terms"] | None = None
    visual: bool = False  # can be seen in a picture
    multi: bool = False  # may hold several values at once
    kind: Literal["inherent", "derived"] = "inherent"
    quantity: str | None = None  # numbers: the kind of quantity, as in lore_mm.values
    unit: str | None = None  # numbers: the base unit
    minimum: float | None = None
    maximum: float | None = None
    prompts: tuple[str, ...] = ("a photo of a {value} {thing}", "a {thing}, {value}", "{value} {thing}")
    categories: tuple[str, ...] = ()  # only meaningful for these kinds and below; empty: all of the department

    @cached_property
    def sha(self) -> str:
        """Identifies the content of this attribute."""
        return sha_of(self.model_dump(mode="json"))

    @cached_property
    def lookup(self) -> Mapping[str, str]:
        """Every known spelling, folded, to its value; a value's own name wins over another's word."""
        words = {fold(word): value for value, others in self.values.items() for word in others}
        return words | {fold(value): value for value in self.values}

    @property
    def arrow_type(self) -> pa.DataType:
        """The type of a column that holds this attribute."""
        types: Mapping[str, pa.DataType] = {"number": pa.float64(), "flag": pa.bool_()}
        one = types.get(self.type, pa.string())
        return pa.list_(one) if self.multi else one

    @property
    def question(self) -> str:
        """The question for a model that sees the item, with its legal answers."""
        legal = {
            "choice": f"{'One or more of' if self.multi else 'One of'}: {', '.join(self.values)}.",
            "number": f"A number{f' in {self.unit}' if self.unit else ''}.",
            "flag": "yes or no.",
            "text": "In the item's own words, short.",
        }[self.type]
        return (
            f"{self.ask} {legal} {NOT_STATED} if neither the words nor the picture tell; "
            f"{NOT_APPLICABLE} if such a thing has none."
        )

    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema of one answer; NOT_STATED and NOT_APPLICABLE are always legal."""
        silent = [NOT_STATED, NOT_APPLICABLE]
        one: dict[str, Any]
        if self.type in ("choice", "flag"):
            legal = ["yes", "no"] if self.type == "flag" else list(self.values)
            if not self.multi:
                return {"enum": [*legal, *silent]}
            one = {"enum": legal}
        elif self.type == "number":
            bounds = {"minimum": self.minimum, "maximum": self.maximum}
            one = {"type": "number"} | {k: v for k, v in bounds.items() if v is not None}
        else:
            one = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}
        if self.multi:
            one = {"type": "array", "items": one, "minItems": 1, "maxItems": 8}
        return {"anyOf": [one, {"enum": silent}]}


@dataclass(frozen=True)
class AttributeSchema:
    """The attributes of one department (or of one category: narrowed, with the values of the knowledge tables)."""

    name: str
    version: str
    specs: Mapping[str, AttributeSpec]
    thing: str = "product"  # what a prompt calls one item

    @cached_property
    def sha(self) -> str:
        """Identifies the content: any change of an attribute, value or word changes it."""
        return sha_of([self.name, self.version, self.thing, {name: spec.sha for name, spec in self.specs.items()}])

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
        mine = [s for s in self.specs.values() if s.dimension == dimension]
        known = [s for s in mine if fold(value) in s.lookup]
        return next(iter([*known, *(s for s in mine if s.type == "text")]), None)

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

    @cached_property
    def sha(self) -> str:
        """Identifies the content of all departments."""
        return sha_of({name: schema.sha for name, schema in self.departments.items()})

    def department(self, name: str | None) -> AttributeSchema:
        """The common attributes with the department's own; a department without a file has the common ones."""
        common = self.departments[COMMON]
        own = self.departments.get(name or COMMON, common)
        if own is common:
            return common
        version = f"{common.version}.{own.version}"
        return replace(own, version=version, specs={**common.specs, **own.specs})

    def for_category(self, category: str | None, knowledge: Knowledge) -> AttributeSchema:
        """The attributes of one kind of thing, with legal values from the knowledge tables filled in.

        An unknown category, or none, has the common attributes. A choice for which the tables hold no legal value is
        left out.
        """
        key = (category, knowledge.sha)
        if key not in self._resolved:
            schema = self.department(knowledge.department(category) if category else None)
            specs = {
                name: _with_values(spec, category, knowledge)
                for name, spec in schema.specs.items()
                if not spec.categories or (category and any(knowledge.is_a(category, c) for c in spec.categories))
            }
            specs = {name: spec for name, spec in specs.items() if spec.type != "choice" or spec.values}
            self._resolved[key] = replace(schema, specs=specs)
        return self._resolved[key]

    def check_against(self, knowledge: Knowledge) -> None:
        """Check that the categories named by attributes exist.

        Raises:
            ConfigError: one does not.
        """
        for department in self.departments.values():
            for spec in department.specs.values():
                for category in spec.categories:
                    if category not in knowledge.categories:
                        raise ConfigError(
                            f"schema {department.name!r}: [{spec.name}] categories: unknown category "
                            f"{category!r}{nearest(category, knowledge.categories)}"
                        )


def check_value(spec: AttributeSpec, value: object) -> str | float | bool:
    """One value in canonical form: a legal value by any of its words, a number within bounds, a flag, a short text.

    Raises:
        InputError: the value is not legal; the text names the attribute, the legal values and the nearest of them.
    """
    if spec.type == "number":
        return _check_number(spec, value)
    if spec.type == "flag":
        return _check_flag(spec, value)
    text = " ".join(str(value).split())
    known = spec.lookup.get(fold(text))
    if known is not None:
        return known
    if spec.type == "text" and 0 < len(text) <= MAX_TEXT:
        return text
    if spec.type == "text":
        raise InputError(f"{spec.name}: a text has 1 to {MAX_TEXT} characters, this has {len(text)}")
    legal = list(spec.values)
    shown = ", ".join(legal[:_SHOWN]) + (f", … ({len(legal)} in all)" if len(legal) > _SHOWN else "")
    hint = nearest(fold(text)[:80], spec.lookup)
    raise InputError(f"{spec.name}: {text[:80]!r} is not legal{hint}; legal values: {shown}")


def _check_number(spec: AttributeSpec, value: object) -> float:
    try:
        if isinstance(value, bool):
            raise ValueError
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{spec.name}: {str(value)[:80]!r} is not a number") from None
    low = -math.inf if spec.minimum is None else spec.minimum
    high = math.inf if spec.maximum is None else spec.maximum
    if not (math.isfinite(number) and low <= number <= high):
        unit = f" {spec.unit}" if spec.unit else ""
        raise InputError(f"{spec.name}: {number:g} is outside {low:g} to {high:g}{unit}")
    return number


def _check_flag(spec: AttributeSpec, value: object) -> bool:
    if isinstance(value, bool):
        return value
    flag = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}.get(fold(str(value)))
    if flag is None:
        raise InputError(f"{spec.name}: {str(value)[:80]!r} is not legal; legal values: yes, no")
    return flag


def fold(text: str) -> str:
    """Case, width, hyphens and runs of spaces do not matter when values are compared."""
    return re.sub(r"[\s\-_/]+", " ", unicodedata.normalize("NFKC", text).casefold()).strip()


def _with_values(spec: AttributeSpec, category: str | None, knowledge: Knowledge) -> AttributeSpec:
    """The same attribute with its legal values filled in from the knowledge table it names."""
    if spec.values_from is None:
        return spec
    values: dict[str, tuple[str, ...]]
    if spec.values_from == "terms":
        values = {
            term.value: term.terms
            for term in knowledge.terms.values()
            if term.dimension == spec.dimension
            and (not term.categories or (category and any(knowledge.is_a(category, c) for c in term.categories)))
        }
    elif spec.values_from == "categories":
        values = {c.id: (c.name, *c.terms) for c in knowledge.categories.values()}
    else:
        values = {name: entry.terms for name, entry in getattr(knowledge, spec.values_from).items()}
    return AttributeSpec.model_validate(spec.model_dump() | {"values": {**values, **spec.values}})


@lru_cache(maxsize=1)
def load_dimensions() -> Mapping[str, Dimension]:
    """The 18 demand dimensions by key, in the order in which paths are read."""
    raw = tomllib.loads((_HERE / "dimensions.toml").read_text(encoding="utf-8"))
    return {key: Dimension(**body) for key, body in raw.items() if key != "hard_types"}


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
    specs = {name: _read_spec(path, name, body) for name, body in raw.items()}
    return AttributeSchema(path.stem, str(version), specs, thing)


def _read_spec(path: Path, name: str, body: object) -> AttributeSpec:
    """One attribute's table; `values` may be a list of names or a table of name → other words."""
    if not isinstance(body, dict):
        raise ConfigError(f"{path}: [{name}] must be a table; legal keys beside tables: version, title, thing")
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
