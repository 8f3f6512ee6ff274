"""A demand on the quality of a store in a closed grammar, so that a pipeline can stop where it is not met.

    coverage(brand) < 0.8              fails where fewer than 80 % of the items have a brand
    coverage(size, footwear) < 0.9     … of the items of one category; (size, *) asks it of each that has enough items
    disagreement(color) > 0.2          illegal > 0          psi(price) > 0.25          items < 1000

    rule   = metric [ "(" attribute [ "," category ] ")" ] ( "<" | "<=" | ">" | ">=" ) number
    metric = one of METRICS; without an attribute it is asked of each that some item has a value of

A rule says what fails. It is parsed, never evaluated.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lore_mm.errors import InputError, nearest
from stores.quality import ALL, Quality

__all__ = ["METRICS", "Failing", "Rule", "failing", "parse_rule"]

_RULE = re.compile(
    r"\s*(?P<metric>[a-z_]+)\s*(?:\(\s*(?P<attribute>[^(),<>=]+?)\s*(?:,\s*(?P<category>[^(),<>=]+?)\s*)?\))?\s*"
    r"(?P<operator><=|>=|<|>)\s*(?P<bound>-?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE]-?\d+)?)(?P<percent>\s*%)?\s*"
)
_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
# metric → the kind of lines it reads, the column or columns (a share of the first in the second), what it means
METRICS: Mapping[str, tuple[str, tuple[str, ...], str]] = {
    "coverage": ("coverage", ("coverage",), "share of items with a value, of those it applies to"),
    "not_stated": ("coverage", ("not_stated", "items"), "share of items of which it is not stated"),
    "silent": ("coverage", ("silent", "items"), "share of items of which nothing was said"),
    "failed": ("coverage", ("failed", "items"), "share of items on which it failed"),
    "conflict": ("coverage", ("conflict", "stated"), "share of values that stand over a conflict"),
    "confidence": ("coverage", ("confidence",), "mean confidence of the values"),
    "disagreement": ("conflict", ("share",), "share of what two extractors both speak of on which they disagree"),
    "illegal": ("odd", ("n_of_kind",), "number of values that are not legal"),
    "failed_rows": ("failure", ("share",), "share of an extractor's rows that failed for one reason"),
    "coverage_change": ("drift", ("coverage_change",), "coverage less that of before"),
    "jsd": ("drift", ("jsd",), "Jensen–Shannon divergence from before, bits"),
    "psi": ("drift", ("psi",), "population stability index"),
    "ks": ("drift", ("ks",), "Kolmogorov–Smirnov distance of the numbers from before"),
    "drift": ("drift", ("flagged",), "number of what moved: coverage, values, numbers"),
    "items": ("summary", ("items",), "number of items with a verdict"),
    "without_picture": ("gap", ("items without a picture",), "share of items"),
    "without_price": ("gap", ("items without a price",), "share of items"),
    "without_vector": ("gap", ("items without a vector",), "share of items"),
    "not_extracted": ("gap", ("items not extracted",), "share of items"),
    "unread_items": ("gap", ("items that could not be read",), "share of items"),
    "unread_queries": ("gap", ("queries that could not be read",), "share of queries"),
    "failed_judgments": ("gap", ("judgments that failed",), "share of judgments"),
}
_OF_ATTRIBUTES = {"coverage", "conflict", "odd", "drift"}  # kinds whose lines are about attributes
_NO_CATEGORY = {"illegal"}


@dataclass(frozen=True, slots=True)
class Rule:
    """A parsed rule; `attribute` and `category` None where it names none."""

    text: str
    metric: str
    attribute: str | None
    category: str | None
    compare: str
    bound: float


@dataclass(frozen=True, slots=True)
class Failing:
    """A line that fails a rule. `value` is None where a rule names what is not there to be measured."""

    rule: str
    about: str
    category: str | None
    value: float | None


def parse_rule(text: str) -> Rule:
    """Read one rule.

    Raises:
        InputError: it is none; says what a rule looks like, or which metrics there are.
    """
    match = _RULE.fullmatch(text)
    if match is None:
        raise InputError(f"{text!r} is no rule; write one such as 'coverage(brand) < 0.8' or 'illegal > 0'")
    metric, attribute, category = match["metric"], match["attribute"], match["category"]
    if metric not in METRICS:
        raise InputError(f"{text!r}: no metric {metric!r}{nearest(metric, METRICS) or ';'} legal: {', '.join(METRICS)}")
    if attribute and METRICS[metric][0] not in _OF_ATTRIBUTES:
        raise InputError(f"{text!r}: {metric} is not asked of an attribute")
    if category and metric in _NO_CATEGORY:
        raise InputError(f"{text!r}: {metric} is not asked of one category; use --category")
    bound = float(match["bound"]) / (100 if match["percent"] else 1)
    return Rule(text.strip(), metric, attribute, category, match["operator"], bound)


def failing(rule: Rule, quality: Quality) -> list[Failing]:
    """The lines that fail a rule; empty where it is met.

    A named attribute or category that is not there fails: what cannot be measured must not pass.

    Raises:
        InputError: the rule is about drift, and there is no snapshot to compare with.
        StoreError: a table cannot be read.
    """
    if METRICS[rule.metric][0] == "drift" and quality.against is None:
        raise InputError(f"{rule.text!r} is about drift: name the earlier moment with --against")
    values = list(_measured(rule, quality))
    compare = _OPERATORS[rule.compare]
    found = [Failing(rule.text, a, c, v) for a, c, v in values if v is not None and compare(v, rule.bound)]
    if not found and (rule.attribute or rule.category) and not any(v is not None for _, _, v in values):
        if rule.metric != "illegal":  # of which there are no lines where all is well
            found = [Failing(rule.text, rule.attribute or "", rule.category, None)]
    return found


def _measured(rule: Rule, quality: Quality) -> Iterator[tuple[str, str | None, float | None]]:
    """What a rule is asked of: about, category, value."""
    kind, columns, _ = METRICS[rule.metric]
    if kind == "summary":
        yield "items", None, float(quality.summary()["items"])
    elif kind == "gap":
        for row in quality.lines("gap", what=columns[0]):
            yield row["what"], None, row["share"]
    elif kind == "failure":
        for row in quality.lines("failure"):
            yield f"{row['extractor']}: {row['reason']}", None, row["share"]
    elif rule.metric == "illegal":
        yield from _illegal(rule, quality)
    else:
        for row in quality.lines(kind):
            if _is_asked(rule, row, quality):
                pair = f" ({row['one']}, {row['other']})" if kind == "conflict" else ""
                yield row["attribute"] + pair, row["category"], _value(row, columns)


def _illegal(rule: Rule, quality: Quality) -> Iterator[tuple[str, str | None, float | None]]:
    found: dict[tuple[str, str], int] = {}
    for row in quality.lines("odd", wrong=True):
        if rule.attribute in (None, row["attribute"]):
            found[row["attribute"], row["why"]] = row["n_of_kind"]
    for (attribute, why), n in found.items():
        yield f"{attribute}: {why}", None, float(n)


def _is_asked(rule: Rule, row: Mapping[str, Any], quality: Quality) -> bool:
    if rule.attribute is None:
        some = row.get("stated", row.get("both", row.get("stated_before", 0)))
        if not some and not row.get("stated_now"):
            return False
    elif row["attribute"] != rule.attribute:
        return False
    if rule.category == "*":
        size = row.get("items", row.get("both", row.get("items_now", 0))) or 0
        return bool(row["category"] != ALL and size >= quality.limits.items)
    return bool(row["category"] == (rule.category or ALL))


def _value(row: Mapping[str, Any], columns: tuple[str, ...]) -> float | None:
    part = row[columns[0]]
    if isinstance(part, list):
        return float(len(part))
    if part is None or len(columns) == 1:
        return None if part is None else float(part)
    return float(part) / row[columns[1]] if row[columns[1]] else None
