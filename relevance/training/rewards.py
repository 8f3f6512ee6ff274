"""Rewards: how good a chain is that a model wrote, by what can be checked without a model (LORE §3.4).

Every reward but the last is in [0, 1]. A completion that is no chain gets 0 of them all; its weighted sum is thus
R = R_format · (w₄·level + w₂·side + w_d·legs + …) − over-long (the formula of docs/training.md).

    format    1 where `read_chain` takes the completion in the order trained for, at the depth of the rules, with a
              leg or more, none of them twice: a path without legs has no grade (`relevance.rules.decide`)
    level     the right level, and side: the right side of L2 | L3 (`relevance.scoring`, as it is measured)
    legs      sound · follows · covers. All three are needed for a chain to explain anything, so it is a product:
              sound    share of the legs that ask for what the query asks, and have the level (and the rule, where one
                       is cited) that the rulebook gives them: dense, as in TaoSR-AGRL (2510.08048)
              follows  1 where the worst leg is the grade, and the failed dimensions are those of its legs, or of the
                       reference, else 0: a right chain before another verdict is worth nothing
              covers   share of the legs that the reference's grade rests on (`relevance.chain.needed`) which are there
                       with their dimension, demand and level. Legs beyond them may be left out: that is how chains
                       get shorter. Where the label is another than the reference's grade (people know better), 1
    grounded  share of the legs that claim something whose words stand where they are said to stand and speak of what
              was found (2508.12365 calls the rest hallucination). Of a chain without claims 1 where the reference
              needs none either, else 0
    length    1 − tokens / most where the level is right, else 0: short is only better where it is right
    overlong  DAPO's soft punishment (Yu et al. 2025, arXiv 2503.14476, eq. 13): 0 up to most − slack tokens, falling
              linearly to −1 at most

Safe for any text; the time is linear in its length. This module knows no trainer and no tokenizer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from lore_mm.errors import InputError
from lore_mm.text import tokens
from lore_mm.types import Grade, Leg, MatchPath
from relevance.chain import Chain, Order, needed, read_chain
from relevance.rules import Rulebook, decide, load_rulebook
from relevance.scoring import same_level, same_side
from relevance.training.rows import ChainRow, reference

__all__ = ["REWARDS", "Limits", "Rewards", "Truth", "score", "truth_of"]

REWARDS = ("format", "level", "side", "legs", "grounded", "length", "overlong")
# Relations that tell of what is not there: no words can be quoted for them.
_SILENT = frozenset(
    ("unstated", "negation_unstated", "words_none", "words_everyday", "unstated_model_year", "impossible")
)
_TEXTS = ("title", "text", "given.")
_ELLIPSIS = re.compile(r"…|\.{3,}")
_STEM = 4  # letters that two forms of a word share: wood, wooden
_KEPT = 65_536  # completions whose rewards are kept: the functions of a trainer ask for the same ones in turn
_LEVEL = same_level([[t] * 4 for t in range(1, 5)], [[1, 2, 3, 4]] * 4).tolist()  # [label − 1][grade − 1]
_SIDE = same_side([[t] * 4 for t in range(1, 5)], [[1, 2, 3, 4]] * 4).tolist()


@dataclass(frozen=True, slots=True)
class Limits:
    """`most` tokens of a completion; the last `slack` of them cost (DAPO's L_max and L_cache)."""

    most: int
    slack: int = 0


@dataclass(frozen=True, slots=True)
class Truth:
    """What a completion is held against: of one row, prepared once.

    `demands`: dimension and words → polarity and strictness, as the reference has them. `levels`: the reference's, by
    what a leg says. `needed`: dimension, words and level of the legs its grade rests on; empty where the label is
    another. `found`: dimension and value of what it found; `quiet`: its legs that claim nothing. `told`: the words of
    the item. `pictures`: image evidence may stand without words.
    """

    label: int
    asked: frozenset[str]
    demands: Mapping[tuple[str, str], tuple[int, str]]
    levels: Mapping[tuple[Any, ...], Grade]
    needed: frozenset[tuple[str, str, Grade]]
    failed: frozenset[str]
    found: frozenset[tuple[str, str]]
    quiet: frozenset[tuple[Any, ...]]
    claims: bool
    told: str
    pictures: bool


def truth_of(row: ChainRow) -> Truth:
    """What the completions of a row are held against.

    Raises:
        InputError: the row's reference cannot be read.
    """
    path = reference(row)
    basis = needed(path)
    agrees = bool(path.legs) and path.grade == row.label
    quotes = [evidence.quote or "" for leg in path.legs for evidence in leg.evidence]
    return Truth(
        label=row.label,
        asked=frozenset(_words(row.query).split()),
        demands={_place(leg): (leg.demand.polarity, leg.demand.strictness) for leg in path.legs},
        levels={_saying(leg): leg.level for leg in path.legs if leg.level is not None},
        needed=frozenset((*_place(leg), leg.level) for leg in basis.legs if agrees and leg.level is not None),
        failed=frozenset((*path.failed, *row.failed)),
        found=frozenset((leg.demand.dimension, _words(value)) for leg in path.legs for value in leg.found),
        quiet=frozenset(_saying(leg) for leg in path.legs if not leg.evidence),
        claims=any(leg.evidence for leg in basis.legs),
        told=f" {' | '.join(map(_words, (row.item_told, *quotes)))} ",
        pictures=bool(row.pictures) or "image:" in row.item_told,
    )


def score(text: str, length: int, truth: Truth, limits: Limits, rulebook: Rulebook, order: Order) -> dict[str, float]:
    """The rewards of a completion of `length` tokens, by their names."""
    rewards = dict.fromkeys(REWARDS, 0.0) | {"overlong": _overlong(length, limits)}
    try:
        chain = read_chain(text)
    except InputError:
        return rewards
    said_twice = len(set(chain.legs)) < len(chain.legs)
    if chain.order != order or chain.depth != "rules" or not chain.legs or said_twice:
        return rewards
    right = _LEVEL[truth.label - 1][chain.grade - 1]
    return rewards | {
        "format": 1.0,
        "level": right,
        "side": _SIDE[truth.label - 1][chain.grade - 1],
        "legs": _legs(chain, truth, rulebook),
        "grounded": _grounded(chain, truth),
        "length": right * max(0.0, 1.0 - length / limits.most),
    }


def _overlong(length: int, limits: Limits) -> float:
    beyond = length - (limits.most - limits.slack)
    return -min(1.0, beyond / limits.slack) if limits.slack and beyond > 0 else 0.0


class Rewards:
    """The rewards of completions of some rows, for a trainer: one function a reward, each logged by its own name."""

    def __init__(
        self, rows: Sequence[ChainRow], limits: Limits, order: Order = "think_first", rulebook: Rulebook | None = None
    ) -> None:
        self.limits, self.order, self.rulebook = limits, order, rulebook or load_rulebook()
        self._truths = [truth_of(row) for row in rows]
        self._scored = lru_cache(maxsize=_KEPT)(self._score)

    def of(self, row: int, text: str, length: int) -> Mapping[str, float]:
        """The rewards of a completion of the row at a place."""
        return self._scored(row, text, length)

    def functions(self) -> list[Callable[..., list[float]]]:
        """One function a reward, in the order of REWARDS, as TRL calls them.

        They want the columns `completions` (conversations or texts), `completion_ids` and `row`, places of rows.
        """
        return [self._function(name) for name in REWARDS]

    def _score(self, row: int, text: str, length: int) -> Mapping[str, float]:
        return score(text, length, self._truths[row], self.limits, self.rulebook, self.order)

    def _function(self, name: str) -> Callable[..., list[float]]:
        def reward(
            completions: Sequence[Any], completion_ids: Sequence[Any], row: Sequence[int], **_: Any
        ) -> list[float]:
            texts = [one if isinstance(one, str) else one[-1]["content"] for one in completions]
            told = zip(row, texts, completion_ids, strict=True)
            return [self.of(place, text, len(ids))[name] for place, text, ids in told]

        reward.__name__ = name
        return reward


# ----------------------------------------------------------------------------------------------------------------- legs


def _legs(chain: Chain, truth: Truth, rulebook: Rulebook) -> float:
    legs = chain.legs
    try:
        decided = decide(MatchPath("", "", legs), rulebook).path.legs
    except ValueError:  # a relation that needs a number, without one
        return 0.0
    # An exception of the rulebook may rest on a leg that was left out: what the reference says of a leg goes first.
    levels = [truth.levels.get(_saying(leg), one.level) for leg, one in zip(legs, decided, strict=True)]
    bad = {leg.demand.dimension for leg, level in zip(legs, levels, strict=True) if level is not None and level <= 2}
    said = set(chain.failed)
    if chain.grade != min(level for level in levels if level is not None) or not bad <= said <= bad | truth.failed:
        return 0.0
    sound = sum(
        leg.level == level and leg.rule_id in (None, one.rule_id) and _asked(leg, truth)
        for leg, one, level in zip(legs, decided, levels, strict=True)
    )
    covers = 1.0
    if truth.needed:
        there = {(*_place(leg), leg.level) for leg in legs}
        covers = len(truth.needed & there) / len(truth.needed)
    return sound / len(legs) * covers


def _asked(leg: Leg, truth: Truth) -> bool:
    """Whether a leg asks for what the query asks: as the reference does, or else in the query's own words."""
    known = truth.demands.get(_place(leg))
    if known is not None:
        return known == (leg.demand.polarity, leg.demand.strictness)
    words = _words(leg.demand.value).split()
    return bool(words) and truth.asked.issuperset(words)


def _place(leg: Leg) -> tuple[str, str]:
    return leg.demand.dimension, _words(leg.demand.value)


def _saying(leg: Leg) -> tuple[Any, ...]:
    """What a leg says that its level rests on."""
    return leg.demand, leg.attribute, leg.relation, leg.deviation


# ------------------------------------------------------------------------------------------------------------- evidence


def _grounded(chain: Chain, truth: Truth) -> float:
    claims = [leg for leg in chain.legs if leg.found or leg.evidence or not _silent(leg, truth)]
    if not claims:
        return float(not truth.claims)
    return sum(_stands(leg, truth) for leg in claims) / len(claims)


def _silent(leg: Leg, truth: Truth) -> bool:
    return leg.relation in _SILENT or _saying(leg) in truth.quiet


def _stands(leg: Leg, truth: Truth) -> bool:
    """Whether the words that a leg rests on stand in the item, and speak of what it found."""
    if not leg.evidence:
        return False
    source, quote = leg.evidence[0].source, leg.evidence[0].quote
    if source.startswith("image:") and quote is None:
        return truth.pictures
    parts = [_words(part) for part in _ELLIPSIS.split(quote or "")]
    if not source.startswith((*_TEXTS, "image:")) or not all(part and f" {part} " in truth.told for part in parts):
        return False
    return all(_speaks(" ".join(parts), value, leg, truth) for value in leg.found)


def _speaks(quote: str, value: str, leg: Leg, truth: Truth) -> bool:
    """Whether a quote has to do with a value: it is the reference's finding too, or has a word of it."""
    found = _words(value)
    if (leg.demand.dimension, found) in truth.found:
        return True
    stems = {word[:_STEM] for word in quote.split()}
    return any(word[:_STEM] in stems for word in found.split())


@lru_cache(maxsize=4096)
def _words(text: str) -> str:
    """A text's words in the form they are compared in, with one space between them."""
    return " ".join(token.text for token in tokens(text.replace("_", " ")))
