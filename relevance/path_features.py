"""What a path says of a pair, as numbers in a fixed order: what mode `student` reads beside the texts.

First what the rules say (`relevance.by_rules`), then what they rest on, leg by leg, then what the words have in common
(`relevance.word_features`). Every number is finite and in [0, 1]; equal pairs have equal numbers, whatever is judged
beside them. A pair that the rules could not judge has zeros in place of its path, and its words' numbers as ever. No
id, shop or amount, and no count over other pairs, is among them.

A relation that has no number of its own is told by its leg's level and confidence, so that a rulebook and a follower
may learn new ones without a new student. It knows no model. A student is trained on these numbers in this order: it
names FEATURES_SHA, and is refused if that is another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from lore_mm.fingerprint import sha_of
from lore_mm.types import Grade, ItemFeatures, Judgment, Leg, Understanding
from relevance.pair_text import query_text
from relevance.word_features import WORD_FEATURES, ItemWords, QueryWords, read_item, read_query, word_features

__all__ = ["FEATURES", "FEATURES_SHA", "GROUPS", "PATH_FEATURES", "features_of_pairs", "path_features"]

_VERSION = 2  # to be raised when a number's meaning changes and its name does not, or `relevance.pair_text` changes

# Dimensions that are told together, because few queries speak of them.
GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "category": ("category",),
        "brand": ("brand",),
        "model": ("model", "ip"),
        "set": ("bundle", "component"),
        "look": ("style_detail", "style"),
        "function": ("function",),
        "color": ("color",),
        "material": ("material",),
        "spec": ("spec",),
        "audience": ("audience",),
        "season": ("season", "year"),
        "price": ("price",),
        "special": ("special", "store"),
    }
)
_GROUP_OF = {dimension: i for i, dimensions in enumerate(GROUPS.values()) for dimension in dimensions}

# Relations that the head's leg is told by, one of them; any other is head_otherwise.
_HEAD_RELATIONS = (
    "exact", "synonym", "hyponym", "hyponym_precise", "named", "hypernym", "sibling", "co_hyponym", "similar",
    "related", "distant", "accessory", "main_of_accessory", "whole", "unrelated", "words_all", "words_some",
    "words_none", "words_beside", "words_everyday", "unstated", "brand_other", "other_model", "series_variant",
)  # fmt: skip
# What some leg, of whatever dimension, was found to be.
_SOME_LEG: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "some_brand_other": ("brand_other", "brand_other_trade"),
        "some_brand_kin": ("brand_child", "brand_parent", "genericized", "brand_store"),
        "some_compatible": ("compatible",),
        "some_model_other": ("other_model",),
        "some_model_variant": ("series_variant",),
        "some_model_accessory": ("model_accessory",),
        "some_derivative": ("processed", "patterned", "likeness", "ingredient", "raw", "imitation"),
        "some_near": ("near", "covers", "narrower", "member", "base", "family", "kin", "near_stage", "one_step"),
        "some_other": ("other", "contradicts", "far_stage", "other_count", "part_of_set", "set_of_single"),
        "some_deviates": ("deviates", "other_year", "other_model_year"),
        "some_negation_met": ("satisfied_negation", "negation_unstated"),
        "some_negation_broken": ("violated_negation",),
        "unasked_niche": ("niche",),
        "unasked_second_rate": ("second_rate",),
    }
)
_SILENT = frozenset(
    "unstated unstated_model_year words_none words_some words_everyday negation_unstated other_currency plain".split()
)
_UNASKED = frozenset(_SOME_LEG["unasked_niche"] + _SOME_LEG["unasked_second_rate"])
_WORDS = ("words_all", "words_some", "words_none", "words_beside", "words_everyday")
_HARD_TYPES = (
    "domain_jargon", "entity_relation", "solution_seeking", "question", "negative_constraint", "multi_attribute",
    "other",
)  # fmt: skip
_HEAD_KINDS = ("category", "brand", "model")
_MOST_DEMANDS = 8  # counts are divided by this, and cut there

PATH_FEATURES: tuple[str, ...] = (
    "judged",  # 1 where the rules gave a grade; else all that follows up to the query's own is 0
    *(f"rules_{level}" for level in ("l1", "l2", "l3", "l4")),  # P(L1) … P(L4)
    "rules_score",  # the expected grade
    *(f"rules_grade_{level}" for level in ("l2", "l3", "l4")),  # at least this
    "worst_confidence",  # of the first of the worst legs
    "worst_hard",  # 1 where that demand is a hard one
    "worst_is_head",
    "worst_silent",  # 1 where nothing was found for it
    "mean_level",  # over what is asked for, (level − 1) / 3
    "sure_level",  # the same, weighed by confidence
    "least_confidence",  # over what is asked for
    "demands",  # of 8; what nobody asked for is not counted
    "hard_demands",
    "met",  # share of what is asked for at L4
    "near",  # at L3
    "broken",  # at L2 or L1, something else having been found
    "silent",  # nothing found that speaks to it
    "by_words",  # share told by words alone: not in the tables
    "latent",  # share implied, not said
    "negated",
    *(f"head_{relation}" for relation in _HEAD_RELATIONS),
    "head_otherwise",
    "head_none",  # the query has no head
    "head_level",  # (level − 1) / 3
    "head_confidence",
    "head_known",  # 1 where the tables know the head
    *(f"head_is_{dimension}" for dimension in _HEAD_KINDS),
    *_SOME_LEG,
    # Several legs of a group: the worst tells. Not asked: 0 throughout.
    *(f"{group}_{fact}" for group in GROUPS for fact in ("asked", "level", "confidence", "deviation", "stated")),
)
# What is known of the query, judged or not.
_QUERY_FEATURES: tuple[str, ...] = (
    "query_read",  # 1 where its understanding did not fail
    "query_confidence",  # that its demands are what was meant
    "query_corrected",
    "query_readings",  # 1 where words of it can be meant in another way
    "referent_precise",
    "referent_generic",
    *(f"hard_{kind}" for kind in _HARD_TYPES),
)
FEATURES: tuple[str, ...] = (*PATH_FEATURES, *_QUERY_FEATURES, *WORD_FEATURES)
FEATURES_SHA = sha_of([_VERSION, FEATURES])

_WIDTH = len(FEATURES)
_AT = {name: i for i, name in enumerate(FEATURES)}
_HEAD_AT = {relation: _AT[f"head_{relation}"] for relation in _HEAD_RELATIONS}
_SOME_AT = {relation: _AT[name] for name, relations in _SOME_LEG.items() for relation in relations}
_GROUP_AT = {dimension: _AT[f"{tuple(GROUPS)[i]}_asked"] for dimension, i in _GROUP_OF.items()}
_OF_PATH = len(PATH_FEATURES)


def path_features(understanding: Understanding, features: ItemFeatures, judgment: Judgment) -> NDArray[np.float32]:
    """The numbers of one pair, float32 (F,) in the order of FEATURES. `judgment` is the rules' of this very pair."""
    row: NDArray[np.float32] = features_of_pairs([(understanding, features)], [judgment])[0]
    return row


def features_of_pairs(
    pairs: Sequence[tuple[Understanding, ItemFeatures]], judgments: Sequence[Judgment]
) -> NDArray[np.float32]:
    """The numbers of many pairs, float32 (n, F); queries and items that are the same objects are read once.

    Raises:
        ValueError: there are not as many judgments as pairs.
    """
    made = np.zeros((len(pairs), _WIDTH), dtype=np.float32)
    queries: dict[int, tuple[QueryWords, list[float]]] = {}
    items: dict[int, ItemWords] = {}
    for row, (understanding, features), judgment in zip(made, pairs, judgments, strict=True):
        known = queries.get(id(understanding))
        if known is None:
            known = queries[id(understanding)] = (read_query(query_text(understanding)), _of_query(understanding))
        item = items.get(id(features))
        if item is None:
            item = items[id(features)] = read_item(features.item)
        row[:] = [*_of_path(judgment), *known[1], *word_features(known[0], item)]
    np.nan_to_num(made, copy=False, nan=0.0, posinf=1.0, neginf=0.0)
    return np.clip(made, 0.0, 1.0, out=made)


def _of_query(understanding: Understanding) -> list[float]:
    return [
        float(understanding.status == "ok"),
        _share(understanding.confidence),
        float(bool(understanding.corrections)),
        float(bool(understanding.readings)),
        float(understanding.referent == "precise"),
        float(understanding.referent == "generic"),
        *(float(understanding.hard_type == kind) for kind in _HARD_TYPES),
    ]


def _of_path(judgment: Judgment) -> list[float]:
    row = [0.0] * _OF_PATH
    if judgment.grade is None or judgment.path is None or judgment.probabilities is None:
        return row
    legs = judgment.path.legs
    asked = [leg for leg in legs if leg.relation not in _UNASKED]
    worst = min(legs, key=_level, default=None)
    row[0] = 1.0
    row[1:5] = judgment.probabilities
    row[5] = _share(judgment.score)
    row[6:9] = [float(judgment.grade >= level) for level in (Grade.L2, Grade.L3, Grade.L4)]
    if worst is not None:
        row[9:13] = [
            _share(worst.confidence),
            float(worst.demand.strictness == "hard"),
            float(worst.demand.role == "head"),
            float(worst.relation in _SILENT),
        ]
    if asked:
        row[13:25] = _counts(asked)
    _tell_head(row, asked)
    for leg in legs:
        if (place := _SOME_AT.get(leg.relation)) is not None:
            row[place] = 1.0
        if leg.relation not in _UNASKED:
            _tell_group(row, leg)
    return row


def _counts(asked: Sequence[Leg]) -> list[float]:
    """mean_level … negated."""
    n = len(asked)
    levels = [_level(leg) for leg in asked]
    sure = [_share(leg.confidence) for leg in asked]
    silent = [leg.relation in _SILENT for leg in asked]
    weight = sum(sure)
    return [
        sum(levels) / n,
        sum(a * b for a, b in zip(levels, sure, strict=True)) / weight if weight else 0.0,
        min(sure),
        min(n, _MOST_DEMANDS) / _MOST_DEMANDS,
        min(sum(leg.demand.strictness == "hard" for leg in asked), _MOST_DEMANDS) / _MOST_DEMANDS,
        sum(level == 1.0 for level in levels) / n,
        sum(0.5 < level < 1.0 for level in levels) / n,
        sum(level < 0.5 and not none for level, none in zip(levels, silent, strict=True)) / n,
        sum(silent) / n,
        sum(leg.relation in _WORDS for leg in asked) / n,
        sum(leg.demand.latent for leg in asked) / n,
        sum(leg.demand.polarity < 0 for leg in asked) / n,
    ]


def _tell_head(row: list[float], asked: Sequence[Leg]) -> None:
    head = next((leg for leg in asked if leg.demand.role == "head"), None)
    if head is None:
        row[_AT["head_none"]] = 1.0
        return
    row[_HEAD_AT.get(head.relation, _AT["head_otherwise"])] = 1.0
    first = _AT["head_level"]
    row[first : first + 3] = [_level(head), _share(head.confidence), float(head.demand.canonical is not None)]
    for i, dimension in enumerate(_HEAD_KINDS):
        row[first + 3 + i] = float(head.demand.dimension == dimension)


def _tell_group(row: list[float], leg: Leg) -> None:
    """asked, level, confidence, deviation, stated; the worst leg of a group tells, the first of equals."""
    first = _GROUP_AT.get(leg.demand.dimension)
    if first is None:
        return
    level = _level(leg)
    if row[first] and row[first + 1] <= level:
        return
    deviation = _share(leg.deviation)
    row[first : first + 5] = [1.0, level, _share(leg.confidence), deviation, float(leg.relation not in _SILENT)]


def _level(leg: Leg) -> float:
    """0 for L1 … 1 for L4."""
    return 0.0 if leg.level is None else (int(leg.level) - 1) / 3


def _share(value: float | None) -> float:
    """A number as one in [0, 1]; 0 for none, and for what is no number."""
    if value is None or not value > 0.0:  # NaN is not
        return 0.0
    return min(float(value), 1.0)
