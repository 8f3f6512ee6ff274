"""Migration files: what becomes of stored attributes and kinds when a schema moves from one version to the next.

    name = "boats-2"             # what rows say made them; the file's own name unless given
    department = "boats"         # whose versions are meant
    from = "1"
    to = "2"

    [[attribute]]
    name = "hull"                # as it was called
    to = "hull_shape"            # as it is called now
    values = { keel = "long keel", fin = "fin keel" }   # values renamed, or several to one: merged
    categories = ["sailing_boat"]   # only for these kinds and below; the nearest kind named decides

    [[attribute]]
    name = "berth"
    [attribute.split]            # a value → values of other attributes
    "double cabin" = { berths = "2", privacy = "cabin" }

    [[attribute]]
    name = "capacity"
    [[attribute.where]]          # a number → the attribute that it belongs to, by its unit or size
    unit = "ml"
    to = "volume"

    [[attribute]]
    name = "charm"
    drop = true                  # its values are not taken along

    [[attribute]]
    name = "rig"
    add = true                   # new: nobody was asked yet, nothing is written

    [categories]                 # kinds, old → new
    dinghy = "small_boat"
    yacht = { by = "hull", values = { keel = "sea_yacht", flat = "lake_yacht" } }
    barge = { among = ["houseboat", "freighter"] }   # one of these, and nothing tells which: stays, and is reported

All of it happens at once: every name on the left is an old one and every name on the right a new one, so that the order
of the file says nothing, two attributes may change places, and what becomes of `a` is not touched by what becomes of
`b`. This module applies nothing (`lore_mm.migrations` does).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lore_mm.attribute import fold
from lore_mm.errors import ConfigError, nearest
from lore_mm.fingerprint import sha_of

__all__ = ["CATEGORY", "Condition", "KindRule", "Migration", "Step", "load_migration"]

CATEGORY = "category"  # the attribute that holds an item's kind; kinds move by [categories]
_DIGITS = 16  # of the sha in a row
_NAME = re.compile(r"[\w.-]{1,80}")
_SEVERAL = "split and where: one of the two"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_min_length=1, allow_inf_nan=False)


class Condition(_Part):
    """Where a number goes: to `to`, if it has this unit and lies in [at_least, below)."""

    to: str
    unit: str | None = None
    at_least: float | None = None
    below: float | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Condition:
        if self.unit is None and self.at_least is None and self.below is None:
            raise ValueError("needs unit, at_least or below")
        if self.at_least is not None and self.below is not None and self.at_least >= self.below:
            raise ValueError("at_least must lie below below")
        return self

    def fits(self, number: float | None, unit: str | None) -> bool:
        """Whether a number is meant."""
        if number is None or (self.unit is not None and unit != self.unit):
            return False
        return (self.at_least is None or number >= self.at_least) and (self.below is None or number < self.below)

    def overlaps(self, other: Condition) -> bool:
        """Whether one number could fit both."""
        if self.unit is not None and other.unit is not None and self.unit != other.unit:
            return False
        starts = [c.at_least for c in (self, other) if c.at_least is not None]
        ends = [c.below for c in (self, other) if c.below is not None]
        return not starts or not ends or max(starts) < min(ends)


class Step(_Part):
    """What becomes of one attribute, everywhere or in some kinds; the module's docstring says what each key does."""

    name: str
    categories: tuple[str, ...] = ()
    to: str | None = None
    values: Mapping[str, str] = {}
    split: Mapping[str, Mapping[str, str]] = {}
    where: tuple[Condition, ...] = ()
    drop: bool = False
    add: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Step:
        does = [key for key in ("to", "values", "split", "where", "drop", "add") if getattr(self, key)]
        if not does:
            raise ValueError("does nothing; legal: to, values, split, where, drop, add")
        for alone in ("drop", "add"):
            if alone in does and len(does) > 1:
                raise ValueError(
                    f"{alone}: goes with nothing else, not with {', '.join(k for k in does if k != alone)}"
                )
        if self.split and self.where:
            raise ValueError(_SEVERAL)
        if self.to == self.name:
            raise ValueError("to: it is called so already")
        if CATEGORY in (self.name, *self.targets):
            raise ValueError("category: kinds move by [categories], and the attribute keeps its name")
        if pair := next(((a, b) for a, b in combinations(self.where, 2) if a.overlaps(b)), None):
            raise ValueError(f"where: a number can fit both that of {pair[0].to!r} and that of {pair[1].to!r}")
        if empty := next((value for value, parts in self.split.items() if not parts), None):
            raise ValueError(f"split: {empty!r} becomes nothing; to lose values on purpose, drop the attribute")
        for table in (self.values, self.split):
            _check_words(table)
        return self

    @property
    def targets(self) -> tuple[str, ...]:
        """The attributes it leads to, each once."""
        names = [self.to] if self.to else []
        names += [name for parts in self.split.values() for name in parts] + [c.to for c in self.where]
        return tuple(dict.fromkeys([*names, self.name] if self.add else names))

    @cached_property
    def new_values(self) -> Mapping[str, tuple[str, str]]:
        """Folded value → the value as the file has it, and the new one."""
        return {fold(old): (old, new) for old, new in self.values.items()}

    @cached_property
    def parts(self) -> Mapping[str, tuple[str, Mapping[str, str]]]:
        """Folded value → the value as the file has it, and attribute → value of what it is split into."""
        return {fold(old): (old, new) for old, new in self.split.items()}

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Each thing it does in a few words, as reports name them."""
        found = [self.label] if self.to or self.drop or self.add else []
        found += [self.value_label(old) for old in self.values] + [self.split_label(old) for old in self.split]
        return tuple(found + [self.where_label(condition) for condition in self.where])

    @cached_property
    def label(self) -> str:
        """What becomes of the attribute as a whole."""
        if self.drop or self.add:
            return f"{self._called}: {'dropped' if self.drop else 'added, not asked yet'}"
        return f"{self._called} → {self.to}" if self.to else self._called

    def value_label(self, old: str) -> str:
        """What becomes of a value."""
        return f"{self._called}: {old} → {self.values[old]}"

    def split_label(self, old: str) -> str:
        """What a value is split into."""
        return f"{self._called}: {old} → " + ", ".join(f"{name} {value}" for name, value in self.split[old].items())

    def where_label(self, condition: Condition) -> str:
        """Which numbers go where."""
        bounds = [f"in {condition.unit}"] if condition.unit else []
        bounds += [f"from {condition.at_least:g}"] if condition.at_least is not None else []
        bounds += [f"below {condition.below:g}"] if condition.below is not None else []
        return f"{self._called} {' '.join(bounds)} → {condition.to}"

    @property
    def _called(self) -> str:
        return f"{self.name} ({', '.join(self.categories)})" if self.categories else self.name


class KindRule(_Part):
    """What becomes of a kind that is now several: by the value of an attribute, or one of them and nothing tells."""

    by: str | None = None
    values: Mapping[str, str] = {}
    among: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> KindRule:
        if (self.among is None) == (not (self.by and self.values)) or (self.among is not None and self.by):
            raise ValueError("needs by and values, or among")
        _check_words(self.values)
        return self

    @cached_property
    def new_kinds(self) -> Mapping[str, str]:
        """Folded value of `by` → kind."""
        return {fold(value): kind for value, kind in self.values.items()}


class Migration(_Part):
    """A migration file. Steps happen at once; see the module's docstring."""

    name: str
    title: str | None = None
    department: str | None = None
    from_version: str | None = Field(default=None, alias="from")
    to_version: str | None = Field(default=None, alias="to")
    attribute: tuple[Step, ...] = ()
    categories: Mapping[str, str | KindRule] = {}

    @model_validator(mode="after")
    def _consistent(self) -> Migration:
        if not _NAME.fullmatch(self.name):
            raise ValueError("name: 1 to 80 letters, digits, _, - and . are legal")
        if not self.attribute and not self.categories:
            raise ValueError("it does nothing; legal: [[attribute]] tables and [categories]")
        meant: set[tuple[str, str]] = set()
        for step in self.attribute:
            for place in step.categories or ("",):
                if (step.name, place) in meant:
                    where = f"for {place}" if place else "everywhere"
                    raise ValueError(f"attribute: {step.name!r} stands twice {where}; one table says all of it")
                meant.add((step.name, place))
        if same := next((old for old, new in self.categories.items() if new == old), None):
            raise ValueError(f"categories: {same!r} is called so already")
        return self

    @cached_property
    def sha(self) -> str:
        """Identifies what it does, whatever it is called and in whatever order it says so."""
        content = self.model_dump(mode="json", exclude={"name", "title", "attribute"})
        steps = [step.model_dump(mode="json") for step in self.attribute]
        return sha_of([content, sorted(steps, key=sha_of)])

    @property
    def mark(self) -> str:
        """What stands behind the settings of a row that it was applied to."""
        return f"+{self.sha[:_DIGITS]}"

    @cached_property
    def steps_of(self) -> Mapping[str, tuple[Step, ...]]:
        """Attribute, as it was called → its steps; those that only announce a new attribute are not among them."""
        found: dict[str, tuple[Step, ...]] = {}
        for step in self.attribute:
            if not step.add:
                found[step.name] = (*found.get(step.name, ()), step)
        return found

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Everything it does in a few words each, as reports name it."""
        steps = [label for step in self.attribute for label in step.labels]
        return (*steps, *(self.kind_label(old) for old in self.categories))

    def kind_label(self, old: str) -> str:
        """What becomes of a kind."""
        new = self.categories[old]
        if isinstance(new, str):
            return f"kind {old} → {new}"
        if new.among is not None:
            return f"kind {old} → {'one of ' + ', '.join(new.among) if new.among else 'nothing'}"
        return f"kind {old} → {', '.join(dict.fromkeys(new.values.values()))}, by {new.by}"

    @property
    def moves_in_circles(self) -> bool:
        """True where something it leads to is something it starts from: done twice it would do something else."""
        kinds = [new for rule in self.categories.values() for new in _kinds_of(rule)]
        return any(kind in self.categories for kind in kinds) or any(
            _touches(step, name, value)
            for source in self.attribute
            for name, value in _results(source)
            for step in self.steps_of.get(name, ())
        )


def load_migration(path: Path) -> Migration:
    """Read a migration file.

    Raises:
        ConfigError: naming the file, the key and what would be legal.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        return Migration.model_validate({"name": path.stem} | raw)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_fault(error)}") from None
    except OSError as error:
        raise ConfigError(f"migration {path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: {error}") from None


def _fault(error: ValidationError) -> str:
    """The first fault in one line: the key, what is wrong, what would be legal."""
    # a kind is a name or a table: what is wrong with it as a name says nothing
    faults = error.errors()
    fault = next((one for one in faults if "KindRule" in str(one["loc"][2:3])), faults[0])
    place = [str(part) for part in fault["loc"]]
    if place[:1] == ["categories"]:
        del place[2:3]
    key = ".".join(place)
    if fault["type"] == "model_type":
        return f"{key}: a kind, or a table with by and values, or with among"
    if fault["type"] == "extra_forbidden":
        legal = _legal(place)
        return f"{key}: unknown key{nearest(place[-1], legal)}; legal keys: {', '.join(legal)}"
    said = str(fault["msg"]).removeprefix("Value error, ")
    return f"{key}: {said}" if key else said


def _legal(place: list[str]) -> list[str]:
    kind: type[BaseModel] = Migration
    if place[0] == "attribute" and len(place) > 2:
        kind = Condition if "where" in place[2:-1] else Step
    elif place[0] == "categories":
        kind = KindRule
    return [field.alias or name for name, field in kind.model_fields.items()]


def _check_words(table: Mapping[str, Any]) -> None:
    """Refuse words that are empty, or that no reader tells from one another."""
    seen: dict[str, str] = {}
    for word in table:
        if not fold(word):
            raise ValueError(f"{word!r} is no value")
        if (other := seen.setdefault(fold(word), word)) != word:
            raise ValueError(f"{other!r} and {word!r} are one value")


def _kinds_of(rule: str | KindRule) -> Iterable[str]:
    return [rule] if isinstance(rule, str) else [*rule.values.values(), *(rule.among or ())]


def _results(step: Step) -> Iterable[tuple[str, str | None]]:
    """Attribute and value of all it leads to; None for values that it does not name."""
    if step.to:
        yield step.to, None
    yield from ((step.to or step.name, value) for value in step.values.values())
    yield from ((name, value) for parts in step.split.values() for name, value in parts.items())
    yield from ((condition.to, None) for condition in step.where)


def _touches(step: Step, name: str, value: str | None) -> bool:
    """Whether a step would change a value of the attribute it starts from; None stands for any."""
    if step.drop or step.where or (step.to is not None and step.to != name):
        return True
    if value is None:
        return bool(step.values or step.split)
    new = step.new_values.get(fold(value), (value, value))[1]
    split = step.parts.get(fold(value))
    return new != value or (split is not None and dict(split[1]) != {name: value})
