"""Stored paths graded by another rulebook, whole columns at a time: `decide` for millions of rows, without a model.

Every distinct kind of leg is given its rule once, by `Rulebook.rule_for`; levels, exceptions, the worst leg and the
probabilities follow by arithmetic over the segments of one long array of legs. That the result is what `decide` gives
path by path is tested on random paths and rulebooks. This module knows no store and no model, and does not ask where
a path came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lore_mm.tables import JUDGMENTS, LEG, check_table
from lore_mm.types import Demand, Grade, Leg
from relevance.rules import Rulebook

__all__ = ["GRADED_BY_RULES", "Regraded", "regrade"]

GRADED_BY_RULES = ("rules", "reason", "reason-vision")  # the modes whose grade is what `decide` makes of their path

_LEVELS = (None, *(str(grade) for grade in Grade))  # at 0: none
Array = Any  # of Arrow, of any type
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Regraded:
    """Judgments with the grades of another rulebook, in the same order.

    `refused` maps the position of each row that got no grade to the reason: it has no probabilities, score, rule ids or
    failed dimensions either, and its legs have neither level nor rule.
    """

    rows: pa.Table
    refused: Mapping[int, str]


def regrade(judgments: pa.Table, rulebook: Rulebook) -> Regraded:
    """Grade the paths of JUDGMENTS by a rulebook: grade, probabilities, score, legs, failed dimensions and rule ids.

    `samples` are emptied: they were grades of answers whose paths are not kept. All other columns stay as they are,
    status and error too. Nothing raises for the sake of a row.

    Raises:
        TableError: the table is not JUDGMENTS.
    """
    check_table(judgments, JUDGMENTS, "regrade")
    legs = _Legs.of(judgments.column("legs"))
    levels, rules, rule_ids, refused = _ruled(legs, rulebook)
    used = _soften(legs, levels, rulebook)
    probabilities = _minimum(legs, levels, rulebook)
    refused |= dict.fromkeys(np.flatnonzero(legs.counts == 0).tolist(), "a path without legs has no grade")
    lost = np.flatnonzero(~np.isfinite(probabilities).all(axis=1)).tolist()
    refused = dict.fromkeys(lost, "the confidence of a leg is no number") | refused
    fit = np.ones(legs.n, np.bool_)
    fit[list(refused)] = False
    of_fit = fit[legs.path]
    levels, rules = np.where(of_fit, levels, 0), np.where(of_fit, rules, len(rule_ids))
    grade = np.where(fit, legs.worst(levels), 0)
    names = [*rule_ids, None, *(f"exceptions.{name}" for name in rulebook.exceptions)]
    softened = [(len(rule_ids) + 1 + i, path[fit[path]]) for i, path in used]
    gone = pa.array(~fit)
    two, three, four = probabilities[:, 1], probabilities[:, 2], probabilities[:, 3]
    columns = {
        "grade": _taken(_LEVELS, grade),
        "probabilities": _listed(np.full(legs.n, 4), pa.array(probabilities.ravel()), gone),
        "score": pa.array((two + 2 * three + 3 * four) / 3, mask=~fit),
        "legs": legs.with_rules(_taken(_LEVELS, levels), _taken(names, rules)),
        "failed_dimensions": legs.distinct(of_fit & (levels <= Grade.L2), legs.dimension, legs.dimensions),
        "rule_ids": legs.distinct(of_fit, rules, names, softened),
        "samples": _listed(np.zeros(legs.n, np.int64), pa.array([], pa.string())),
    }
    for name, column in columns.items():
        judgments = judgments.set_column(judgments.schema.get_field_index(name), JUDGMENTS.field(name), column)
    return Regraded(judgments, dict(sorted(refused.items())))


@dataclass(frozen=True, slots=True)
class _Legs:
    """The legs of n paths as one long array; `path` (rising) and `counts` say whose they are."""

    values: Array  # (legs,) of LEG
    counts: Ints  # (n,)
    path: Ints  # (legs,) the row that each leg belongs to
    dimension: Ints  # (legs,) position in `dimensions`
    dimensions: list[str | None]

    @classmethod
    def of(cls, column: Array) -> _Legs:
        lists = column.combine_chunks()
        counts = pc.list_value_length(lists).fill_null(0).to_numpy().astype(np.int64)
        values = lists.flatten()
        dimension, dimensions = _coded(pc.struct_field(values, ["demand", "dimension"]))
        return cls(values, counts, np.repeat(np.arange(len(counts)), counts), dimension, dimensions)

    @property
    def n(self) -> int:
        return len(self.counts)

    def column(self, *place: str) -> Array:
        """A field of the legs, or of their demands."""
        return pc.struct_field(self.values, list(place))

    def numbers(self, *place: str) -> Floats:
        """A field of numbers; NaN where there is none."""
        return np.asarray(self.column(*place).fill_null(float("nan")).to_numpy())

    def are(self, value: str, *place: str) -> Mask:
        """Where a field of texts has a value."""
        same: Array = pc.equal(self.column(*place), pa.scalar(value))
        return np.asarray(same.fill_null(False))

    def in_dimension(self, name: str) -> Mask:
        """Where the demand is of a dimension."""
        at = self.dimensions.index(name) if name in self.dimensions else -1
        return np.asarray(self.dimension == at)

    def worst(self, levels: Ints) -> Ints:
        """The least level of each path; 0 where it has no legs."""
        found = np.zeros(self.n, np.int64)
        found[self.counts > 0] = np.minimum.reduceat(levels, self._starts) if len(levels) else 0
        return found

    def product(self, values: Floats) -> Floats:
        """The product over the legs of each path; 1 where it has none."""
        found = np.ones(self.n)
        found[self.counts > 0] = np.multiply.reduceat(values, self._starts) if len(values) else 1.0
        return found

    @property
    def _starts(self) -> Ints:
        return (np.cumsum(self.counts) - self.counts)[self.counts > 0]

    def with_rules(self, levels: Array, rules: Array) -> Array:
        """The legs as lists again, with these levels and rule ids."""
        fields = dict(zip((field.name for field in LEG), self.values.flatten(), strict=True))
        fields |= {"level": levels, "rule_id": rules}
        return _listed(self.counts, pa.StructArray.from_arrays(list(fields.values()), fields=list(LEG)))

    def distinct(
        self, chosen: Mask, codes: Ints, names: Sequence[str | None], more: Sequence[tuple[int, Ints]] = ()
    ) -> Array:
        """The names of the chosen legs of each path, each once, in the order of the legs; `more`: (code, paths)."""
        path, codes = self.path[chosen], codes[chosen]
        for code, paths in more:
            path, codes = np.append(path, paths), np.append(codes, np.full(len(paths), code))
        if more:
            order = np.argsort(path, kind="stable")
            path, codes = path[order], codes[order]
        counts = np.bincount(path, minlength=self.n)
        place = np.arange(len(path)) - np.repeat(np.cumsum(counts) - counts, counts)  # within the path
        new = np.ones(len(path), np.bool_)
        for back in range(1, int(counts.max(initial=0))):
            later = np.flatnonzero(place >= back)
            new[later] &= codes[later] != codes[later - back]
        counts = np.bincount(path[new], minlength=self.n)
        return _listed(counts, _taken(names, codes[new]))


def _listed(counts: Ints, values: Array, gone: Array | None = None) -> Array:
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values, mask=gone)


def _taken(names: Sequence[str | None], codes: Ints) -> Array:
    """Positions in a vocabulary as texts."""
    vocabulary: Array = pa.array(names, pa.string())
    return vocabulary.take(pa.array(codes))


def _coded(texts: Array) -> tuple[Ints, list[str | None]]:
    """Texts as positions in a vocabulary."""
    coded = texts.dictionary_encode(null_encoding="encode")
    return coded.indices.to_numpy().astype(np.int64), coded.dictionary.to_pylist()


def _first(keys: Ints) -> tuple[Ints, Ints]:
    """Numbers as positions among the distinct ones in order of appearance, and where each of these appears first."""
    at = pa.array(keys).dictionary_encode().indices.to_numpy().astype(np.int64)
    first = np.empty(int(at.max(initial=-1)) + 1, np.int64)
    first[at[::-1]] = np.arange(len(at))[::-1]
    return at, first


def _ruled(legs: _Legs, rulebook: Rulebook) -> tuple[Ints, Ints, list[str | None], dict[int, str]]:
    """Per leg its level (0 where it has none) and the position of its rule id among those returned; refused paths.

    Legs are of one kind where no condition of a rule can tell them apart (see `relevance.rules.Rule.holds`): values and
    attributes that no rule names are alike, and so are deviations between two thresholds.
    """
    relation, relations = _coded(legs.column("relation"))
    attribute, attributes = _coded(legs.column("attribute"))
    canonical, canonicals = _coded(legs.column("demand", "canonical"))
    role, roles = _coded(legs.column("demand", "role"))
    deviation = legs.numbers("deviation")
    unknown = legs.column("deviation").is_null().to_numpy(zero_copy_only=False)
    edges = np.array(rulebook.thresholds)
    band = np.where(unknown, len(edges) + 2, np.searchsorted(edges, deviation, side="left"))
    band[~unknown & np.isnan(deviation)] = len(edges) + 1
    named = {name for rule in rulebook.rules.values() for name in rule.attributes}
    valued = {name for rule in rulebook.rules.values() for name in rule.values}
    parts = [
        (legs.dimension, len(legs.dimensions)),
        (relation, len(relations)),
        (_told_apart(attributes, named)[attribute], len(attributes) + 1),
        (_told_apart(canonicals, valued)[canonical], len(canonicals) + 1),
        (role, len(roles)),
        (band, len(edges) + 3),
    ]
    key, kinds = np.zeros(len(band), np.int64), 1
    for codes, size in parts:
        if kinds * size >= 2**62:
            key, kinds = _first(key)[0], len(key)
        key, kinds = key * size + codes, kinds * size
    kind, example = _first(key)
    levels, rule_of = np.zeros(len(example), np.int64), np.zeros(len(example), np.int64)
    names: dict[str, int] = {}
    faults: dict[int, str] = {}
    for i, at in enumerate(example.tolist()):
        demand = Demand(
            legs.dimensions[legs.dimension[at]] or "",
            "",
            canonicals[canonical[at]],
            role=roles[role[at]],
        )
        known = None if unknown[at] else float(deviation[at])
        leg = Leg(demand, attributes[attribute[at]] or "", relations[relation[at]] or "", deviation=known)
        try:
            rule_id, rule = rulebook.rule_for(leg)
        except ValueError as error:
            faults[i] = str(error)
            continue
        levels[i], rule_of[i] = rule.level, names.setdefault(rule_id, len(names))
    refused: dict[int, str] = {}
    for i, fault in faults.items():
        refused |= dict.fromkeys(np.unique(legs.path[kind == i]).tolist(), fault)
    level = levels[kind]
    soft = legs.are("soft", "demand", "strictness")
    return np.where(soft, np.maximum(level, rulebook.settings.soft_floor), level), rule_of[kind], list(names), refused


def _told_apart(texts: Sequence[str | None], named: Iterable[str]) -> Ints:
    """Each text as a number: its own where a rule names it, one and the same for all others."""
    kept = set(named)
    return np.array([i if text in kept else len(texts) for i, text in enumerate(texts)], np.int64)


def _soften(legs: _Legs, levels: Ints, rulebook: Rulebook) -> list[tuple[int, Ints]]:
    """Soften levels in place by the exceptions; (position, the paths of its legs) of each that was used."""
    used = []
    for i, exception in enumerate(rulebook.exceptions.values()):
        hard = legs.in_dimension(exception.leg) & (levels == exception.at)
        if hard.any():
            saved = np.zeros(legs.n, np.bool_)
            saved[legs.path[legs.in_dimension(exception.unless) & (levels >= exception.at_least)]] = True
            hard &= saved[legs.path]
            levels[hard] = exception.becomes
            used.append((i, legs.path[hard]))
    return used


def _minimum(legs: _Legs, levels: Ints, rulebook: Rulebook) -> Floats:
    """The distribution of the worst leg, (n, 4), as `relevance.rules` works it out; NaN where a number is missing."""
    there = np.where(legs.are("modifier", "demand", "role"), legs.numbers("demand", "confidence"), 1.0)
    with np.errstate(over="ignore"):  # by next to nothing: infinite, and so certain
        confidence = np.maximum(legs.numbers("confidence"), 0.0) / np.where(there == 0.0, 1.0, there)
    confidence = np.minimum(confidence, 1.0)
    ends = np.array([[(0.0, 0.0, 0.0), *(rulebook.at_least(k, sure) for k in Grade)] for sure in (0.0, 1.0)])
    soft = legs.are("soft", "demand", "strictness")
    at_least = [np.ones(legs.n)]
    for k in (Grade.L2, Grade.L3, Grade.L4):
        in_doubt, sure = ends[0, levels, k - 2], ends[1, levels, k - 2]
        share = 1 - there + there * (confidence * sure + (1 - confidence) * in_doubt)
        share[soft & (rulebook.settings.soft_floor >= k)] = 1.0  # what would fall below the floor lands on it
        at_least.append(legs.product(share))
    tails = np.column_stack([*at_least, np.zeros(legs.n)])
    return tails[:, :-1] - tails[:, 1:]
