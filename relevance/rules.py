"""The rulebook, and how it decides: (dimension, relation) → level, the worst leg → grade. Data and pure functions.

A rulebook is a TOML file (`relevance/rules/default.toml`; your own by `load_rulebook(path)`). It holds per dimension
the level of every relation a leg of that dimension may have, with a sentence and an example each; thresholds on a
leg's deviation; the floor of soft demands; and the exceptions from the worst-leg rule. Nothing in it is executed.
`decide` is a function of the path and the rulebook alone, so that stored paths can be graded again when a rule
changes. This module knows nothing of knowledge tables, items or how relations were found.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from lore_mm.errors import ConfigError, nearest
from lore_mm.fingerprint import sha_of
from lore_mm.types import Grade, Leg, MatchPath, Role
from relevance.relations import ANY, DIMENSIONS, LEGAL, RELATIONS

__all__ = ["DEFAULT_RULES", "Decision", "Example", "Exemption", "Rule", "Rulebook", "decide", "load_rulebook"]

DEFAULT_RULES = Path(__file__).parent / "rules" / "default.toml"


def _grade(value: object) -> object:
    if isinstance(value, str) and value in Grade.__members__:
        return Grade[value]
    raise ValueError(f"{value!r} is not a level; legal levels: {', '.join(Grade.__members__)}")


Level = Annotated[Grade, BeforeValidator(_grade)]
Probabilities = tuple[float, float, float, float]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Example(_Model):
    """A query and an item that this rule decides: documentation, and the rule's test.

    `item` is the title; `picture` holds what a picture would show, colour → share of the item's area.
    """

    query: str
    item: str
    level: Level
    description: str = ""
    category: str | None = None
    brand: str | None = None
    price: float | None = None
    currency: str | None = None
    store: str | None = None
    given: Mapping[str, str | tuple[str, ...]] = Field(default_factory=dict)
    picture: Mapping[str, float] = Field(default_factory=dict)


class Rule(_Model):
    """One rule. It holds for a leg with its relation that meets all of its conditions; the first that holds decides."""

    relation: str
    level: Level
    says: str = Field(min_length=10)
    example: Example
    up_to: float | None = Field(default=None, ge=0)  # condition: the leg's deviation is known and not above this
    beyond: float | None = Field(default=None, ge=0)  # condition: the leg's deviation is known and above this
    attributes: tuple[str, ...] = ()  # condition: the leg's attribute is one of these
    values: tuple[str, ...] = ()  # condition: the demanded canonical value is one of these
    role: Role | None = None  # condition: the demand is the query's head, or a modifier

    @property
    def conditional(self) -> bool:
        """True where the rule does not hold for every leg with its relation."""
        numeric = self.up_to is not None or self.beyond is not None
        return bool(self.attributes or self.values or self.role) or numeric

    def holds(self, leg: Leg) -> bool:
        """True where a leg of this relation meets the conditions."""
        if self.attributes and leg.attribute not in self.attributes:
            return False
        if self.values and leg.demand.canonical not in self.values:
            return False
        if self.role and leg.demand.role != self.role:
            return False
        if self.up_to is None and self.beyond is None:
            return True
        if leg.deviation is None:
            return False
        above_low = self.beyond is None or leg.deviation > self.beyond + _EPSILON
        return above_low and (self.up_to is None or leg.deviation <= self.up_to + _EPSILON)


_EPSILON = 1e-9  # 55 against 50 is a deviation of 0.1, not of 0.10000000000000009


class Exemption(_Model):
    """An exception from the worst-leg rule: a leg at level `at` counts as `becomes` while another leg is good enough.

    It speaks of levels only and may only soften, so that a worse leg never gives a better grade.
    """

    leg: str
    at: Level
    unless: str
    at_least: Level
    becomes: Level
    says: str = Field(min_length=10)
    example: Example


class Settings(_Model):
    """The numbers that belong to no single dimension."""

    soft_floor: Level  # a demand that is not hard never counts as worse than this
    spread: float = Field(gt=0, le=1)  # doubt about a level falls on the others by spread ** distance


class _File(_Model):
    version: str
    settings: Settings
    exceptions: Mapping[str, Exemption] = Field(default_factory=dict)
    rules: Mapping[str, Mapping[str, Rule]]


@dataclass(frozen=True, slots=True)
class Decision:
    """What the rulebook makes of a path.

    `path` has a level and a rule id on every leg. `probabilities` is the exact distribution of the worst of the legs,
    taken as independent; `score` is its expected grade scaled to [0, 1]. `failed_dimensions` are those at L2 or L1.
    """

    path: MatchPath
    grade: Grade
    probabilities: Probabilities
    score: float
    failed_dimensions: tuple[str, ...]
    rule_ids: tuple[str, ...]


class Rulebook:
    """A checked rulebook, ready to look up. Immutable; `sha` identifies its content."""

    def __init__(self, file: _File, where: str) -> None:
        self.version = file.version
        self.settings = file.settings
        self.exceptions = dict(file.exceptions)
        self.rules: dict[str, Rule] = {f"{d}.{name}": r for d, rules in file.rules.items() for name, r in rules.items()}
        self.sha = sha_of(file.model_dump(mode="json"))
        self._table = {
            (dimension, relation): chosen
            for dimension, legal in LEGAL.items()
            for relation in legal
            if (chosen := self._rules_for(dimension, relation))
        }
        _check(self, file, where)
        self._tails = _tails(file.settings.spread)

    def _rules_for(self, dimension: str, relation: str) -> tuple[tuple[str, Rule], ...]:
        """The rules of a relation in the order they are tried: the dimension's own, then those of any dimension."""
        return tuple(
            (rule_id, rule)
            for prefix in (dimension, ANY)
            for rule_id, rule in self.rules.items()
            if rule_id.startswith(prefix + ".") and rule.relation == relation
        )

    def rule_for(self, leg: Leg) -> tuple[str, Rule]:
        """The id and the rule that decide a leg.

        Raises:
            ValueError: the leg's relation is not one of its dimension's.
        """
        key = (leg.demand.dimension, leg.relation)
        for rule_id, rule in self._table.get(key, ()):
            if rule.holds(leg):
                return rule_id, rule
        raise ValueError(f"no rule for relation {leg.relation!r} in dimension {leg.demand.dimension!r}")

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The deviations, ascending, that some rule begins or ends beyond: between two of them size changes nothing."""
        limits = {limit for rule in self.rules.values() for limit in (rule.up_to, rule.beyond) if limit is not None}
        return tuple(limit + _EPSILON for limit in sorted(limits))

    def at_least(self, level: Grade, confidence: float) -> tuple[float, float, float]:
        """P(level ≥ L2), P(≥ L3), P(≥ L4) of one leg that was found at `level` with this confidence."""
        tail = self._tails[level]
        doubt = 1.0 - confidence
        return (
            (confidence if level >= 2 else 0.0) + doubt * tail[0],
            (confidence if level >= 3 else 0.0) + doubt * tail[1],
            (confidence if level >= 4 else 0.0) + doubt * tail[2],
        )


def _tails(spread: float) -> dict[Grade, tuple[float, float, float]]:
    """Where doubt about a level falls: level → its share at or above L2, L3, L4 (the level itself gets none)."""
    result = {}
    for level in Grade:
        weight = {k: 0.0 if k == level else spread ** abs(k - level) for k in Grade}
        total = sum(weight.values())
        low, mid, high = (sum(w for k, w in weight.items() if k >= least) / total for least in (2, 3, 4))
        result[level] = (low, mid, high)
    return result


def decide(path: MatchPath, rulebook: Rulebook) -> Decision:
    """Give every leg of a path its level by the rulebook, and the path its grade: the level of its worst leg.

    Softness first (a soft demand counts at least as the floor), then the exceptions, then the minimum.

    Raises:
        ValueError: the path has no legs, or a leg's relation is unknown to its dimension.
    """
    if not path.legs:
        raise ValueError("a path without legs has no grade")
    ruled = [rulebook.rule_for(leg) for leg in path.legs]
    floor = rulebook.settings.soft_floor
    levels = [
        max(rule.level, floor) if leg.demand.strictness == "soft" else rule.level
        for leg, (_, rule) in zip(path.legs, ruled, strict=True)
    ]
    used = _except(path.legs, levels, rulebook)
    legs = tuple(
        Leg(
            demand=leg.demand,
            attribute=leg.attribute,
            relation=leg.relation,
            found=leg.found,
            evidence=leg.evidence,
            confidence=leg.confidence,
            deviation=leg.deviation,
            level=level,
            rule_id=rule_id,
            reason=leg.reason,
        )
        for leg, level, (rule_id, _) in zip(path.legs, levels, ruled, strict=True)
    )
    probabilities = _minimum(legs, rulebook)
    failed = dict.fromkeys(leg.demand.dimension for leg, level in zip(legs, levels, strict=True) if level <= Grade.L2)
    return Decision(
        path=MatchPath(path.query_id, path.item_id, legs),
        grade=min(levels),
        probabilities=probabilities,
        score=sum(k * p for k, p in enumerate(probabilities)) / 3,
        failed_dimensions=tuple(failed),
        rule_ids=tuple(dict.fromkeys([*(rule_id for rule_id, _ in ruled), *used])),
    )


def _except(legs: tuple[Leg, ...], levels: list[Grade], rulebook: Rulebook) -> list[str]:
    """Soften levels in place by the exceptions; the ids of those that were used."""
    used = []
    for name, exception in rulebook.exceptions.items():
        saved = any(
            leg.demand.dimension == exception.unless and level >= exception.at_least
            for leg, level in zip(legs, levels, strict=True)
        )
        for i, leg in enumerate(legs):
            if saved and leg.demand.dimension == exception.leg and levels[i] == exception.at:
                levels[i] = exception.becomes
                used.append(f"exceptions.{name}")
    return used


def _minimum(legs: Iterable[Leg], rulebook: Rulebook) -> Probabilities:
    """The distribution of the minimum of independent legs: P(min ≥ k) is the product of P(leg ≥ k).

    A leg's confidence is that in its demand times that in what was found. A modifier that is perhaps not meant (its
    demand is in doubt) constrains only as far as it is there; a head in doubt leaves the level in doubt.
    """
    two = three = four = 1.0
    floor = rulebook.settings.soft_floor
    for leg in legs:
        assert leg.level is not None
        there = leg.demand.confidence if leg.demand.role == "modifier" else 1.0
        a, b, c = rulebook.at_least(leg.level, min(max(leg.confidence, 0.0) / (there or 1.0), 1.0))
        a, b, c = 1 - there + there * a, 1 - there + there * b, 1 - there + there * c
        if leg.demand.strictness == "soft":  # what would fall below the floor lands on it
            a, b, c = (1.0 if floor >= 2 else a), (1.0 if floor >= 3 else b), (1.0 if floor >= 4 else c)
        two, three, four = two * a, three * b, four * c
    return (1.0 - two, two - three, three - four, four)


@lru_cache(maxsize=8)
def load_rulebook(path: Path | None = None) -> Rulebook:
    """Read and check a rulebook; the shipped one unless a path is given.

    Raises:
        ConfigError: naming the file, the rule, the fault and what is legal there.
    """
    path = path or DEFAULT_RULES
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"rulebook {path} does not exist") from None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    try:
        return Rulebook(_File.model_validate(raw), str(path))
    except ValidationError as error:
        raise ConfigError(f"{path}: {_fault(error, raw)}") from None


def _fault(error: ValidationError, raw: Mapping[str, Any]) -> str:
    first: Any = error.errors()[0]
    place = ".".join(str(x) for x in first["loc"])
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        legal = _fields_at(first["loc"])
        return f"[{place}] unknown key{nearest(str(first['loc'][-1]), legal)}; legal keys: {', '.join(sorted(legal))}"
    return f"[{place}] {message}"


def _fields_at(place: tuple[str | int, ...]) -> set[str]:
    model: type[BaseModel] = _File
    if "example" in place[:-1]:
        model = Example
    elif place[0] == "settings":
        model = Settings
    elif place[0] == "exceptions":
        model = Exemption
    elif place[0] == "rules":
        model = Rule
    return set(model.model_fields)


def _check(book: Rulebook, file: _File, where: str) -> None:
    """Check a rulebook against the vocabulary: legal names, no unreachable rule, no relation without a rule."""
    for dimension, rules in file.rules.items():
        if dimension not in LEGAL and dimension != ANY:
            legal = (*DIMENSIONS, ANY)
            raise ConfigError(
                f"{where}: [rules.{dimension}] unknown dimension{nearest(dimension, legal)}; legal: {', '.join(legal)}"
            )
        legal = LEGAL.get(dimension, tuple(RELATIONS))
        done: dict[str, str] = {}
        for name, rule in rules.items():
            place = f"{where}: [rules.{dimension}.{name}]"
            if rule.relation not in legal:
                raise ConfigError(
                    f"{place} unknown relation {rule.relation!r}{nearest(rule.relation, legal)}; "
                    f"legal relations: {', '.join(legal)}"
                )
            if rule.relation in done:
                raise ConfigError(f"{place} is never reached: [rules.{dimension}.{done[rule.relation]}] takes all")
            if not rule.conditional:
                done[rule.relation] = name
            _check_example(place, rule.example.level, rule.level)
    for dimension, legal in LEGAL.items():
        for relation in legal:
            chosen = book._table.get((dimension, relation), ())
            if not chosen or chosen[-1][1].conditional:
                raise ConfigError(f"{where}: [rules.{dimension}] has no rule without conditions for {relation!r}")
    _check_exceptions(file, where)


def _check_exceptions(file: _File, where: str) -> None:
    for name, exception in file.exceptions.items():
        place = f"{where}: [exceptions.{name}]"
        for dimension in (exception.leg, exception.unless):
            if dimension not in LEGAL:
                raise ConfigError(
                    f"{place} unknown dimension {dimension!r}{nearest(dimension, LEGAL)}; legal: {', '.join(LEGAL)}"
                )
        if exception.leg == exception.unless:
            raise ConfigError(f"{place} a leg cannot be the condition of its own exception")
        if exception.becomes != exception.at + 1:  # a wider step could make a worse leg give a better grade
            raise ConfigError(f"{place} may soften {exception.at} by one level only, not to {exception.becomes}")


def _check_example(place: str, said: Grade, level: Literal[1, 2, 3, 4] | Grade) -> None:
    if said != level:
        raise ConfigError(f"{place} its example says {said}, the rule gives {Grade(level)}")
