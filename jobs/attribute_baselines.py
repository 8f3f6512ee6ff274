"""What costs nothing: the commonest answer of the training split for each attribute, on every row.

An extractor that does not beat it has learned nothing of the item. It sees no item at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from jobs.attribute_scoring import Answer, ScoredRow, score
from lore_mm.datasets import Dataset, Truth

__all__ = ["MAJORITY", "majority_answers", "majority_rows"]

MAJORITY = "majority"


def majority_answers(truth: Iterable[Truth]) -> dict[str, Answer]:
    """Attribute → its commonest answer, of a set the commonest set, with its share as confidence; silence may be it.

    Of values that are equally good, each counts. Ties go to the answer met first.
    """
    counts: dict[str, Counter[tuple[str, ...]]] = {}
    rows: Counter[str] = Counter()
    for row in truth:
        said = [(value,) for value in row.values] if row.any_of else [tuple(sorted(row.values))]
        counts.setdefault(row.attribute, Counter()).update(said or [()])
        rows[row.attribute] += 1
    answers = {}
    for attribute, counter in counts.items():
        values, n = counter.most_common(1)[0]
        share = n / rows[attribute]
        answers[attribute] = Answer(values, (share,) * len(values), (None,) * len(values), ((),) * len(values))
    return answers


def majority_rows(train: Dataset, test: Dataset) -> Iterator[ScoredRow]:
    """The commonest answers of one split on the truth of another; silence on what the first has no truth of."""
    answers = majority_answers(train.truth)
    specs = {name: spec for d in test.schemas.departments.values() for name, spec in d.specs.items()}
    for truth in test.truth:
        answer = answers.get(truth.attribute, Answer())
        yield score(MAJORITY, test.group(truth.item_id), truth, specs[truth.attribute], answer)
