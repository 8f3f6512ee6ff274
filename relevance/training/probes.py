"""Reward-hacking probes: completions that know nothing of a pair and want a high reward anyway.

Each is a way to answer every pair alike, or with something that only looks like a chain. On rows whose labels are
balanced none may come near what honest chains get; `python -m relevance.rl --probe ROWS` prints the table. Who changes
a reward looks here first. This module knows no model.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from lore_mm.types import Evidence, Grade, Leg
from relevance.chain import CLOSE, OPEN, Chain, Order, needed, write_chain
from relevance.relations import LEGAL
from relevance.rules import Rulebook
from relevance.training.rewards import REWARDS, Limits, Rewards
from relevance.training.rows import ChainRow, reference

__all__ = ["PROBES", "Probed", "balanced", "probe"]

_LETTERS = 3  # of a token, roughly, in chains
_TITLE = 80  # characters of the item that are copied

Answer = Callable[[ChainRow, Chain, Chain], Chain | str]  # of a row, its honest chain, and that of another row


@dataclass(frozen=True, slots=True)
class Probed:
    """What a probe gets in the mean: its weighted sum, and each reward by name. `honest`: one that should get it."""

    name: str
    total: float
    rewards: Mapping[str, float]
    honest: bool


def _title(row: ChainRow) -> str:
    """The beginning of what is told of the item, without the quotes around it."""
    line = next((one for one in row.item_told.splitlines() if one.startswith("title")), row.item_told)
    return line.removeprefix("title").strip(': "')[:_TITLE]


def _copied(row: ChainRow, leg: Leg) -> Leg:
    """A leg that says yes, and gives the item's own beginning as found and as evidence."""
    title = _title(row)
    yes = "exact" if "exact" in LEGAL[leg.demand.dimension] else "unstated"
    return replace(
        leg, relation=yes, found=(title,), evidence=(Evidence("title", title),), deviation=None, level=Grade.L4
    )


def _always(grade: Grade) -> Answer:
    return lambda row, own, other: replace(own, grade=grade)


def _guess(grade: Grade) -> Answer:
    """One leg for every pair: the thing that is asked for is there, or is not."""
    relation = {Grade.L4: "exact", Grade.L3: "similar", Grade.L2: "co_hyponym", Grade.L1: "unrelated"}[grade]

    def answer(row: ChainRow, own: Chain, other: Chain) -> Chain:
        leg = _copied(row, own.legs[0])
        leg = replace(leg, demand=replace(leg.demand, dimension="category"), attribute="category")
        leg = replace(leg, relation=relation, level=grade)
        return Chain(grade, (leg,), ("category",) if grade <= Grade.L2 else ())

    return answer


def _exact(row: ChainRow, own: Chain, other: Chain) -> Chain:
    legs = tuple(_copied(row, leg) for leg in own.legs)
    return Chain(Grade.L4, legs)


def _unstated(row: ChainRow, own: Chain, other: Chain) -> Chain:
    legs = tuple(
        Leg(leg.demand, leg.attribute, "unstated", level=Grade.L2 if leg.demand.role == "head" else Grade.L3)
        for leg in own.legs
    )
    grade = min(leg.level for leg in legs if leg.level)
    return Chain(grade, legs, ("category",) if grade <= Grade.L2 else ())


PROBES: Mapping[str, Answer] = MappingProxyType(
    {
        **{f"always {grade}": _always(grade) for grade in Grade},
        **{f"one leg, {grade}": _guess(grade) for grade in Grade},
        "empty path": lambda row, own, other: replace(own, legs=(), grade=Grade.L4, failed=()),
        "empty path, right grade": lambda row, own, other: replace(own, legs=()),
        "all exact, title copied": _exact,
        "all unstated": _unstated,
        "chain of another pair": lambda row, own, other: other,
        "no closing tag": lambda row, own, other: write_chain(own).replace(f"{CLOSE}\n", ""),
        "grade twice": lambda row, own, other: f"{write_chain(own)}\ngrade {own.grade}",
        "grade alone": lambda row, own, other: f"{OPEN}\n{CLOSE}\ngrade {own.grade}",
        "every grade": lambda row, own, other: "\n".join([write_chain(replace(own, grade=one)) for one in Grade]),
        "a leg ten times": lambda row, own, other: replace(own, legs=own.legs[:1] * 10),
        "a leg twice": lambda row, own, other: replace(own, legs=own.legs + own.legs[:1]),
        "words behind it": lambda row, own, other: f"{write_chain(own)}\nI am sure that this is right.",
        "nothing": lambda row, own, other: "",
    }
)
_HONEST: Mapping[str, Answer] = MappingProxyType(
    {
        "honest, whole chain": lambda row, own, other: own,
        "honest, what is needed": lambda row, own, other: needed(own),
    }
)


def probe(
    rows: Sequence[ChainRow],
    weights: Mapping[str, float],
    limits: Limits,
    order: Order = "think_first",
    rulebook: Rulebook | None = None,
    seed: int = 0,
) -> list[Probed]:
    """What honest chains and every probe get in the mean of the rows with a reference, labels balanced.

    Honest is the reference with its own grade, so rows where people say otherwise are left out.

    Raises:
        InputError: a row's reference cannot be read.
    """
    own = {id(row): reference(row) for row in rows if row.reference}
    kept = balanced([row for row in rows if id(row) in own and own[id(row)].grade == row.label], seed)
    others = kept[1:] + kept[:1]  # shuffled: of any label
    rewards = Rewards(kept, limits, order, rulebook)
    found = []
    for name, answer in {**_HONEST, **PROBES}.items():
        sums = dict.fromkeys(REWARDS, 0.0)
        for place, (row, other) in enumerate(zip(kept, others, strict=True)):
            said = answer(row, replace(own[id(row)], order=order), replace(own[id(other)], order=order))
            text = said if isinstance(said, str) else write_chain(said)
            for reward, value in rewards.of(place, text, len(text) // _LETTERS).items():
                sums[reward] += value / len(kept)
        total = sum(weights.get(reward, 0.0) * value for reward, value in sums.items())
        found.append(Probed(name, total, sums, name in _HONEST))
    return found


def balanced(rows: Sequence[ChainRow], seed: int = 0) -> list[ChainRow]:
    """As many rows of every label as there are of the rarest that there is, shuffled."""
    by_label: dict[int, list[ChainRow]] = {}
    for row in rows:
        by_label.setdefault(row.label, []).append(row)
    least = min((len(some) for some in by_label.values()), default=0)
    chance = random.Random(f"balanced {seed}")
    chosen = [row for label in sorted(by_label) for row in chance.sample(by_label[label], least)]
    chance.shuffle(chosen)
    return chosen
