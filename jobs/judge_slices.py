"""The pairs of a measured set by what they are about: which slice has which pairs. It knows no metric and no judge.

frequency   head, mid, tail: the commonest queries that make a third of all searches, the rarest that make a third,
and those between; where the set knows how often a query was asked
head        the department that the thing asked for belongs to (lore_mm/schemas); none where it is not known
dimension   queries that demand something of that dimension
hard type   of the query, as it was understood
picture     items with and without one
kind        what the set itself calls the pair
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lore_mm.datasets.relevance import GradedPair, RelevanceSet
from lore_mm.knowledge import Knowledge
from lore_mm.types import Understanding

__all__ = ["LEAST_QUERIES", "slices_of"]

LEAST_QUERIES = 5  # a slice of fewer is left out: its interval would say nothing


def slices_of(
    data: RelevanceSet, understood: Mapping[str, Understanding], knowledge: Knowledge
) -> tuple[dict[str, list[int]], int]:
    """Slice ("dimension: brand") → the places of its pairs; and how many slices were too small.

    A division that all pairs fall on one side of is left out.
    """
    found: dict[str, list[int]] = {}
    small = 0
    for title, names in _divisions(data, understood, knowledge).items():
        places: dict[str, list[int]] = {}
        for place, some in enumerate(names):
            for name in some:
                places.setdefault(name, []).append(place)
        for name, at in sorted(places.items(), key=lambda entry: (-len(entry[1]), entry[0])):
            if len(at) == len(data.pairs):
                continue
            if len({data.pairs[place].query.query_id for place in at}) < LEAST_QUERIES:
                small += 1
            else:
                found[f"{title}: {name}"] = at
    return found, small


def _divisions(
    data: RelevanceSet, understood: Mapping[str, Understanding], knowledge: Knowledge
) -> dict[str, list[Sequence[str]]]:
    """Division → the names of each pair in it."""
    read = [understood[pair.query.query_id] for pair in data.pairs]
    pictures = [data.items[pair.item_id].images if pair.item_id in data.items else None for pair in data.pairs]
    strata = _strata(data.pairs)
    return {
        "frequency": [[strata[p.query.query_id]] if p.query.query_id in strata else [] for p in data.pairs],
        "head": [[_department(one, knowledge)] for one in read],
        "dimension": [sorted({demand.dimension for demand in one.demands}) for one in read],
        "hard type": [[one.hard_type] for one in read],
        "picture": [[] if some is None else ["with" if some else "without"] for some in pictures],
        "kind": [[pair.kind] if pair.kind else [] for pair in data.pairs],
    }


def _department(one: Understanding, knowledge: Knowledge) -> str:
    head = one.head
    if head is None or head.dimension != "category" or head.canonical is None:
        return "none"
    return knowledge.department(head.canonical) or "none"


def _strata(pairs: Iterable[GradedPair]) -> dict[str, str]:
    """query_id → head, mid or tail, for the queries whose frequency is known."""
    counts = {pair.query.query_id: pair.query.frequency for pair in pairs if pair.query.frequency is not None}
    total = sum(counts.values())
    found, before = {}, 0.0
    for query_id in sorted(counts, key=lambda one: (-counts[one], one)):
        # where the middle of the query's own searches lies among all, the commonest first
        middle = (before + counts[query_id] / 2) / total if total else 1.0
        found[query_id] = "head" if middle < 1 / 3 else "mid" if middle < 2 / 3 else "tail"
        before += counts[query_id]
    return found
