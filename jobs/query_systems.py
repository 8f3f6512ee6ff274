"""What is measured on queries: engines by their addresses, and baselines that any engine must beat.

On tagged queries the engine `tagger` gives its model's own tags, and every other engine its demands as spans
(`jobs.query_spans`). It knows no metric.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from extractors.queries import QueryEngine, open_engine
from jobs.query_spans import tag_spans
from lore_mm.console import progress
from lore_mm.datasets.query_sets import GoldQuery
from lore_mm.datasets.queryner import Span, TaggedQuery, bio_spans
from lore_mm.knowledge import Knowledge
from lore_mm.types import Demand, Query, Understanding

__all__ = [
    "COMMONEST",
    "ONE_THING",
    "DemandTags",
    "Reading",
    "Run",
    "TagReader",
    "commonest_tags",
    "has_tags",
    "one_thing",
    "one_thing_tagged",
    "open_tags",
    "run_over",
]

ONE_THING, COMMONEST = "one thing", "commonest tag"  # baselines
THING, UNKNOWN = "core_product_type", "modifier"  # the types of the whole query, and of a word never met
_AT_ONCE = 256
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Reading:
    """What a system made of one tagged query: spans, or the reason why there are none."""

    spans: tuple[Span, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Run(Generic[Result]):
    """A system's results, one a query in the same order, and the seconds it took; 0 where they are not measured."""

    name: str
    results: Sequence[Result]
    seconds: float = 0.0


class TagReader(Protocol):
    """Whatever tags queries."""

    name: str

    def read(self, queries: Sequence[Query]) -> list[Reading]:
        """One reading a query, in the same order."""
        ...

    def close(self) -> None:
        """Free what is held."""
        ...


class DemandTags:
    """An engine's demands as tags: by dimension, which loses what several types share."""

    def __init__(self, engine: QueryEngine) -> None:
        self.name = engine.name
        self._engine = engine

    def read(self, queries: Sequence[Query]) -> list[Reading]:
        """The spans of each query's demands."""
        return [
            Reading(error=u.error or "failed") if u.status == "failed" else Reading(tag_spans(u.query.text, u.demands))
            for u in self._engine.understand(queries)
        ]

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()


class _ModelTags:
    """The tagger's own tags, before demands are made of them."""

    def __init__(self, address: str, knowledge: Knowledge | None) -> None:
        from lore_mm.models.query_tagger import open_tagger

        folder = address.partition(":")[2]
        self.name = address
        self._tagger = open_tagger(Path(folder) if folder else None, knowledge=knowledge)

    def read(self, queries: Sequence[Query]) -> list[Reading]:
        found = self._tagger.tag([query.text for query in queries])
        return [Reading(tuple(Span(t.start, t.end, t.type) for t in tags)) for tags in found]

    def close(self) -> None:
        self._tagger.close()


def open_tags(address: str, knowledge: Knowledge | None = None) -> TagReader:
    """The tags of an engine: its own where it has some, else its demands as tags.

    Raises:
        InputError, ModelError, MissingExtraError: as `extractors.queries.open_engine`.
    """
    if has_tags(address):
        return _ModelTags(address, knowledge)
    return DemandTags(open_engine(address, knowledge))


def has_tags(address: str) -> bool:
    """True for an engine that says tags of its own: `tagger` or `tagger:FOLDER`, alone."""
    return address.partition(":")[0] == "tagger" and "," not in address


def run_over(
    name: str, queries: Sequence[Query], read: Callable[[Sequence[Query]], Sequence[Result]], label: str
) -> Run[Result]:
    """All queries read, some at a time, with the time it took.

    Raises:
        ModelError: the system is dead.
    """
    results: list[Result] = []
    with progress(f"{label} {name}", len(queries)) as advance:
        started = time.perf_counter()
        for n in range(0, len(queries), _AT_ONCE):
            results.extend(read(queries[n : n + _AT_ONCE]))
            advance(len(results) - n)
        seconds = time.perf_counter() - started
    return Run(name, results, seconds)


def one_thing_tagged(queries: Sequence[TaggedQuery]) -> Run[Reading]:
    """Every query is one thing, from the first word to the last."""
    return Run(ONE_THING, [Reading((Span(0, len(query.text), THING),)) for query in queries])


def commonest_tags(train: Sequence[TaggedQuery], queries: Sequence[TaggedQuery]) -> Run[Reading]:
    """Each word has the type it has most often in other queries; neighbours of one type are one span.

    A word that was never met is a modifier.
    """
    counts: dict[str, Counter[str]] = {}
    for query in train:
        for token, label in zip(query.tokens, query.labels, strict=True):
            counts.setdefault(token.casefold(), Counter())[label.partition("-")[2]] += 1
    types = {word: max(sorted(found), key=lambda kind: found[kind]) for word, found in counts.items()}
    readings = []
    for query in queries:
        kinds = [types.get(token.casefold(), UNKNOWN) for token in query.tokens]
        spans = bio_spans([f"I-{kind}" if kind else "O" for kind in kinds])
        readings.append(Reading(tuple(Span(query.places[a][0], query.places[b][1], kind) for kind, a, b in spans)))
    return Run(COMMONEST, readings)


def one_thing(queries: Sequence[GoldQuery]) -> Run[Understanding]:
    """Every query names one thing in all of its words, unknown to the tables; the commonest hard type and referent."""
    hard = Counter(query.hard_type for query in queries).most_common(1)[0][0]
    referent = Counter(query.referent for query in queries).most_common(1)[0][0]
    results = []
    for query in queries:
        thing = Demand("category", query.text, role="head", start=0, end=len(query.text))
        asked = Query(query.query_id, query.text)
        results.append(
            Understanding(asked, query.text, (thing,), hard_type=hard, referent=referent, engine=ONE_THING)
        )  # fmt: skip
    return Run(ONE_THING, results)
