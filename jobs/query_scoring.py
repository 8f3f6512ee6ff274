"""One understood query beside its truth, as counts: what was said, what of it is right, what was there to find.

It knows the truth of QueryNER and of the hand-written set; what is summed up from the counts is `jobs.query_metrics`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from jobs.query_matching import heads_match, match, match_latent, overlaps, same_number, same_value
from jobs.query_spans import dimension_spans
from lore_mm.datasets.query_sets import GoldDemand, GoldQuery
from lore_mm.datasets.queryner import Span, TaggedQuery
from lore_mm.text import fold, normalize
from lore_mm.types import Demand, Understanding

__all__ = ["QueryScore", "Share", "Tally", "score_demands", "score_spans"]


class Tally(NamedTuple):
    """`right` of the `said` things are true; `found` of the `true` things were said."""

    said: int
    right: int
    true: int
    found: int


class Share(NamedTuple):
    """`right` of `n` decisions."""

    right: int
    n: int


@dataclass(frozen=True, slots=True)
class QueryScore:
    """The counts of one query. Parts of a family are named family/part: span/color.

    A query that failed counts as one without an answer: nothing said, nothing found, no decision right.
    """

    query_id: str
    text: str
    tallies: Mapping[str, Tally]
    shares: Mapping[str, Share] = field(default_factory=dict)
    error: str | None = None

    @property
    def missed(self) -> int:
        """Things said that are not true, and true things not said, over all families but their parts."""
        own = [t for name, t in self.tallies.items() if "/" not in name]
        return sum(t.said - t.right + t.true - t.found for t in own)


def score_spans(query: TaggedQuery, said: Sequence[Span], error: str | None = None) -> QueryScore:
    """Spans beside the tagged ones: with their types, and by their boundaries alone.

    A span is right where both boundaries and the type are (Tjong Kim Sang and De Meulder, 2003).
    """
    tallies = _span_tallies(said, query.spans)
    exact = error is None and set(said) == set(query.spans)
    return QueryScore(query.query_id, query.text, tallies, {"exact": Share(int(exact), 1)}, error)


def _span_tallies(said: Iterable[Span], true: Iterable[Span]) -> dict[str, Tally]:
    mine, theirs = set(said), set(true)
    bare = [{(s.start, s.end) for s in spans} for spans in (mine, theirs)]
    tallies = {"span": _tally(mine, theirs), "segmentation": _tally(*bare)}
    for kind in sorted({s.type for s in mine | theirs}):
        tallies[f"span/{kind}"] = _tally({s for s in mine if s.type == kind}, {s for s in theirs if s.type == kind})
    return tallies


def _tally(mine: set[Span] | set[tuple[int, int]], theirs: set[Span] | set[tuple[int, int]]) -> Tally:
    both = len(mine & theirs)
    return Tally(len(mine), both, len(theirs), both)


def score_demands(query: GoldQuery, found: Understanding) -> QueryScore:
    """An understanding beside the gold: demands said and latent, head, hard type, referent, numbers, spelling."""
    failed = found.status == "failed"
    demands = () if failed else found.demands
    gold = [g for g in query.demands if not g.latent]
    said = [d for d in demands if not d.latent]
    true_spans = [Span(g.start, g.end, g.dimension) for g in gold if g.start is not None and g.end is not None]
    tallies = _span_tallies(dimension_spans(said), true_spans)
    pairs = match(gold, said, lambda g, d: same_value(g, d, query.text))
    also = _by_alternatives([g for i, g in enumerate(gold) if i not in {i for i, _ in pairs}], said)
    tallies |= _demand_tallies(gold, said, [gold[i] for i, _ in pairs], also)
    tallies["latent"] = _latent(query.demands, [d for d in demands if d.latent])
    tallies["correction"] = _correction(query, found, failed)
    located = match(gold, said, lambda g, d: g.dimension == d.dimension and g.polarity == d.polarity and overlaps(g, d))
    tallies["located"] = Tally(len(said), len(located), len(gold), len(located))
    shares = {
        "head": Share(int(not failed and heads_match(query, found.head)), 1),
        "hard_type": Share(int(not failed and found.hard_type == query.hard_type), 1),
        "referent": Share(int(not failed and found.referent == query.referent), 1),
        "strictness": Share(sum(gold[i].strictness == said[j].strictness for i, j in pairs), len(pairs)),
        **_numbers(gold, {i: said[j] for i, j in located}),
        "unchanged": _unchanged(query, found, failed),
        "exact": Share(int(not failed and len(pairs) == len(gold) == len(said)), 1),
    }
    return QueryScore(query.query_id, query.text, tallies, shares, found.error or "failed" if failed else None)


def _by_alternatives(gold: Sequence[GoldDemand], said: Sequence[Demand]) -> list[GoldDemand]:
    """The heads that are not found as demands of their own, but as an alternative of one."""
    return [
        g
        for g in gold
        if g.role == "head"
        and any(
            d.dimension == g.dimension and d.polarity == g.polarity
            and {fold(a) for a in d.alternatives} & {fold(c) for c in g.canonical or () if c is not None}
            for d in said
        )
    ]  # fmt: skip


def _demand_tallies(
    gold: Sequence[GoldDemand], said: Sequence[Demand], found: Sequence[GoldDemand], also: Sequence[GoldDemand]
) -> dict[str, Tally]:
    hits = [*found, *also]
    tallies = {"demand": Tally(len(said) + len(also), len(hits), len(gold), len(hits))}
    for dimension in sorted({g.dimension for g in gold} | {d.dimension for d in said}):
        mine = sum(d.dimension == dimension for d in said) + sum(g.dimension == dimension for g in also)
        right = sum(g.dimension == dimension for g in hits)
        tallies[f"demand/{dimension}"] = Tally(mine, right, sum(g.dimension == dimension for g in gold), right)
    return tallies


def _latent(gold: Sequence[GoldDemand], said: Sequence[Demand]) -> Tally:
    """What is implied. A gold demand that allows none is there to find only where it is found.

    The maker of a model that is said is not judged: the gold does not repeat it, and it is true.
    """
    wanted = [g for g in gold if g.latent]
    if any(g.dimension == "model" for g in gold) and not any(g.dimension == "brand" for g in wanted):
        said = [d for d in said if d.dimension != "brand"]
    pairs = match_latent(wanted, said)
    found = {i for i, _ in pairs}
    there = [i for i, g in enumerate(wanted) if i in found or g.canonical is None or None not in g.canonical]
    return Tally(len(said), len({j for _, j in pairs}), len(there), len(found))


def _numbers(gold: Sequence[GoldDemand], located: Mapping[int, Demand]) -> dict[str, Share]:
    """Operator, number and unit of the numeric demands; one that was not found where it stands has none right."""
    numeric = [i for i, g in enumerate(gold) if g.number is not None]
    units = [i for i in numeric if gold[i].unit_judged]

    def of(i: int) -> Demand | None:
        return located.get(i)

    return {
        "operator": Share(sum((d := of(i)) is not None and d.op == gold[i].op for i in numeric), len(numeric)),
        "number": Share(sum((d := of(i)) is not None and same_number(gold[i], d) for i in numeric), len(numeric)),
        "unit": Share(sum((d := of(i)) is not None and d.unit == gold[i].unit for i in units), len(units)),
    }


def _spelled(text: str) -> str:
    return fold(normalize(text))


def _correction(query: GoldQuery, found: Understanding, failed: bool) -> Tally:
    changed = not failed and _spelled(found.normalized) != _spelled(query.text)
    wanted = query.normalized is not None
    right = changed and wanted and _spelled(found.normalized) == _spelled(query.normalized or "")
    return Tally(int(changed), int(right), int(wanted), int(right))


def _unchanged(query: GoldQuery, found: Understanding, failed: bool) -> Share:
    if query.normalized is not None:
        return Share(0, 0)
    return Share(int(not failed and _spelled(found.normalized) == _spelled(query.text)), 1)
