"""Find impossible labels: ids nobody knows, pairs graded twice, grades outside the scale, and relevant pairs that break
the rulebook beyond doubt.

A label is refused only for what is certain on the face of it (a stated price over a stated limit, a brand field that
names another maker, a kind of thing that has nothing to do with the one asked for): whatever needs a picture or an
opinion is the annotator's business, and which of these are *probably* wrong is `relevance.doubt`'s. This module opens
nothing; the command `lore check` (jobs.check_labels) reads the files, understands the queries and reads the items.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lore_mm.errors import nearest
from lore_mm.types import Grade, ItemFeatures, Judgment, Leg, Understanding
from relevance.by_rules import RulesJudge

__all__ = ["Fault", "LabelRow", "broken_demands", "check_labels"]

SURE = 0.8  # a leg at least this sure may doubt a label
# (dimension, relation) pairs that can be seen without opinion, where the evidence is a seller's field or the title
_CERTAIN = frozenset(
    (
        ("category", "unrelated"),
        ("category", "main_of_accessory"),
        ("brand", "brand_other"),
        ("brand", "brand_other_trade"),
        ("price", "deviates"),
        ("model", "other_model"),
    )
)
_PRICE_SLACK = 0.1  # a price this far over its limit may still be called near


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong: in which file, in which row (as the file counts), and what."""

    file: str
    place: str
    query_id: str
    item_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One row of a file of labels, as it stands there; `place` is where, such as "line 7"."""

    file: str
    place: str
    query_id: str
    item_id: str
    grade: str
    reason: str


def check_labels(
    rows: Iterable[LabelRow], queries: Mapping[str, Understanding], items: Mapping[str, ItemFeatures], judge: RulesJudge
) -> list[Fault]:
    """All faults of labels, in the order of the rows.

    `queries` maps query_id to the query understood, `items` item_id to what is known of the item.
    """
    faults: list[tuple[int, Fault]] = []
    first: dict[tuple[str, str], LabelRow] = {}
    sound: list[tuple[int, LabelRow]] = []
    for i, row in enumerate(rows):
        reasons = [*_form(row, queries, items), *_twins(row, first)]
        faults += [(i, _fault(row, reason)) for reason in reasons]
        if row.grade in ("L3", "L4") and row.query_id in queries and row.item_id in items:
            sound.append((i, row))
    faults += [(i, _fault(row, reason)) for i, row, reason in _broken(sound, queries, items, judge)]
    return [fault for _, fault in sorted(faults, key=lambda pair: pair[0])]


def _fault(row: LabelRow, reason: str) -> Fault:
    return Fault(row.file, row.place, row.query_id, row.item_id, reason)


def _form(row: LabelRow, queries: Mapping[str, object], items: Mapping[str, object]) -> Iterator[str]:
    """What is wrong with one row by itself."""
    if row.query_id not in queries:
        yield f"unknown query_id {row.query_id!r}{nearest(row.query_id, queries)}"
    if row.item_id not in items:
        yield f"unknown item_id {row.item_id!r}{nearest(row.item_id, items)}"
    if row.grade not in Grade.__members__:
        yield f"grade {row.grade!r} is not one of {', '.join(Grade.__members__)}"
    if not row.reason:
        yield "the reason is empty"


def _twins(row: LabelRow, first: dict[tuple[str, str], LabelRow]) -> Iterator[str]:
    """Whether the pair was graded before, and how."""
    earlier = first.setdefault((row.query_id, row.item_id), row)
    if earlier is row:
        return
    if earlier.grade == row.grade:
        yield f"the pair is there twice: also in {earlier.place}"
    else:
        yield f"the pair is graded {row.grade} here and {earlier.grade} in {earlier.place}"


def _broken(
    rows: Sequence[tuple[int, LabelRow]],
    queries: Mapping[str, Understanding],
    items: Mapping[str, ItemFeatures],
    judge: RulesJudge,
) -> Iterator[tuple[int, LabelRow, str]]:
    """Relevant labels on pairs that break a demand beyond doubt."""
    judgments = judge.judge([(queries[row.query_id], items[row.item_id]) for _, row in rows])
    for (i, row), judgment in zip(rows, judgments, strict=True):
        for broken in broken_demands(judgment, queries[row.query_id], judge):
            yield i, row, f"graded {row.grade}, but {broken}"


def broken_demands(judgment: Judgment, understanding: Understanding, judge: RulesJudge) -> list[str]:
    """What a pair breaks beyond doubt, in words: no relevant label can be right on it. Empty where all is open."""
    legs = judgment.path.legs if judgment.path else ()
    return [
        f"{leg.demand.dimension} is broken ({leg.rule_id}): {leg.reason}"
        for leg in legs
        if _is_certain(leg) and _is_clear(leg, understanding, judge)
    ]


def _is_clear(leg: Leg, understanding: Understanding, judge: RulesJudge) -> bool:
    """True where the query says plainly what it asks for: a thing by its name, in words that mean nothing else.

    What serves a purpose, answers a question or has two readings is not told from the words alone.
    """
    if understanding.hard_type in _UNCLEAR:
        return False
    if leg.demand.dimension != "category":
        return True
    mentions = judge.follower.scanner.find(leg.demand.value, correct=False)
    return bool(mentions) and not any(mention.others for mention in mentions)


_UNCLEAR = frozenset(("solution_seeking", "question", "entity_relation"))


def _is_certain(leg: Leg) -> bool:
    demand = leg.demand
    if (
        leg.level is None
        or leg.level > Grade.L2
        or leg.confidence < SURE
        or demand.strictness == "soft"
        or demand.latent
    ):
        return False
    if (demand.dimension, leg.relation) not in _CERTAIN or demand.polarity < 0:
        return False
    if demand.dimension == "price" and (leg.deviation or 0.0) <= _PRICE_SLACK:
        return False
    if demand.dimension == "brand":
        return any(e.source == "given.brand" for e in leg.evidence)
    return demand.dimension == "price" or any(e.source == "title" for e in leg.evidence)
