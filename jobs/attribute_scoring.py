"""One answer of an extractor held against the truth: which of the values said are true, and is that all.

It knows schemas and truth, not how an answer was found nor what is summed up from it (`jobs.attribute_metrics`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from lore_mm.attribute import AttributeSpec, fold
from lore_mm.datasets import Truth
from lore_mm.types import AttributeValue
from lore_mm.values import find_quantities

__all__ = ["Answer", "ScoredRow", "answer_of", "score"]

SAME_NUMBER = 0.01  # relative difference up to which two numbers are the same; as in extractors.claims
_CODE = re.compile(r"[^0-9a-z]+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Answer:
    """What an extractor says of one attribute of one item: values in the schema's words, surest first, none twice.

    `numbers` are those of the values that are measured, in their base unit; `quotes` the words each was read from, as
    they stand in the item's text. Without values it is silence, or failure
    where `error` says why; a failed answer is never taken for silence.
    """

    values: tuple[str, ...] = ()
    confidences: tuple[float, ...] = ()  # each in [0, 1]
    numbers: tuple[float | None, ...] = ()
    quotes: tuple[tuple[str, ...], ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """One answer beside its truth.

    `hits[i]` tells whether value i is true; `found` of the `wanted` true values were said. `right`: it was not failed
    and nothing false was said: each value is true, or there is nothing to say and nothing was said. `exact`: it is
    right and said all there is to say.
    """

    extractor: str
    attribute: str
    item_id: str
    group: str  # the independent unit, see `lore_mm.datasets.Dataset`
    truth: Truth
    values: tuple[str, ...]
    confidences: tuple[float, ...]
    hits: tuple[bool, ...]
    wanted: int  # 0 where silence is right, 1 where any of several is
    found: int
    right: bool
    exact: bool
    error: str | None = None

    @property
    def confidence(self) -> float:
        """That of the least certain value; 0 where nothing was said."""
        return min(self.confidences, default=0.0)

    @property
    def failed(self) -> bool:
        """Whether there is no answer because something broke."""
        return self.error is not None


def answer_of(spec: AttributeSpec, said: Iterable[AttributeValue], error: str | None = None) -> Answer:
    """The answer that an extraction's values of one attribute amount to.

    Values in other words for one legal value become that one, the surest confidence kept, shares added. Of an attribute
    that holds one value only, the one with the largest share counts, or without shares the surest. `error` (of the
    extraction as a whole) is kept only where nothing was said of the attribute, not even that it is not stated.
    """
    merged: dict[str, AttributeValue] = {}
    shares: dict[str, float | None] = {}
    failed = error
    for one in said:
        if one.status in ("not_stated", "not_applicable"):
            failed = None
        elif one.status == "failed":
            failed = one.error or failed or "failed"
        if one.status not in ("value", "conflict") or one.value is None:
            continue
        value = spec.lookup.get(fold(one.value), one.value)
        before = merged.get(value)
        if before is None or one.confidence > before.confidence:
            merged[value] = one
        shares[value] = None if one.share is None else one.share + (shares.get(value) or 0.0)
    if not merged:
        return Answer(error=failed)
    by_share = all(share is not None for share in shares.values())
    order = sorted(merged, key=lambda v: -(shares[v] or 0.0) if by_share else -merged[v].confidence)
    kept = order if spec.multi else order[:1]
    return Answer(
        tuple(kept),
        tuple(min(max(merged[v].confidence, 0.0), 1.0) for v in kept),
        tuple(merged[v].number for v in kept),
        tuple(tuple(e.quote for e in merged[v].evidence if e.quote) for v in kept),
    )


def score(extractor: str, group: str, truth: Truth, spec: AttributeSpec, answer: Answer) -> ScoredRow:
    """An answer beside its truth."""
    true = truth.values if truth.status == "value" else ()
    # which of the values said stand for which of the true ones
    meant = [[t for t in true if _same(spec, answer, i, t)] for i in range(len(answer.values))]
    found = len({t for each in meant for t in each})
    wanted = len(true)
    if truth.any_of:
        found, wanted = min(found, 1), min(wanted, 1)
    if truth.status == "value":
        right = bool(meant) and all(meant)
    else:
        right = not answer.values and answer.error is None
    return ScoredRow(
        extractor, truth.attribute, truth.item_id, group, truth, answer.values, answer.confidences,
        tuple(map(bool, meant)), wanted, found, right, right and found == wanted, answer.error,
    )  # fmt: skip


def _same(spec: AttributeSpec, answer: Answer, i: int, true: str) -> bool:
    """Whether value i of an answer is a true one: the same legal value.

    Of free text it may also be the same code, number or quantity, or what it was read from says just that.
    """
    said = answer.values[i]
    legal = spec.lookup.get(fold(true), true)
    if said == legal or (fold(said) and fold(said) == fold(legal)):
        return True
    if spec.type != "text":
        return False
    code = _CODE.sub("", true.casefold())
    if code and code in (_CODE.sub("", words.casefold()) for words in (said, *answer.quotes[i])):
        return True
    number = answer.numbers[i]
    if number is None:
        return False
    if _NUMBER.fullmatch(true.strip()):
        return _near(number, float(true))
    return any(_near(number, q.number) for q in find_quantities(true) if q.text.strip() == true.strip())


def _near(one: float, other: float) -> bool:
    return abs(one - other) <= SAME_NUMBER * max(abs(one), abs(other))
