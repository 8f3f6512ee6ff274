"""What an engine that understands queries is, and what every engine keeps to: as many results as queries, in order.

Nothing raises for the sake of a query: an empty or overlong one, or one that breaks an engine, is a failed row with the
reason. A dead model raises. This module knows no engine; `extractors.queries.open_engine` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from lore_mm.text import normalize
from lore_mm.types import Query, Understanding

__all__ = ["LONGEST", "QueryEngine", "failed", "guarded", "readable"]

LONGEST = 1000  # characters; a longer text is no query


class QueryEngine(Protocol):
    """Reads queries into demands."""

    name: str  # the address it was opened by: knowledge, tagger, llm:hf:lore-vlm-tiny, knowledge,tagger …
    sha: str  # identifies whatever its results depend on: tables, weights, prompt, settings

    def understand(self, queries: Sequence[Query]) -> list[Understanding]:
        """One understanding a query, in the same order; `engine` says who read it.

        Raises:
            ModelError: the model behind it is dead and did not come back.
        """
        ...

    def close(self) -> None:
        """Free what is held; calling it twice is harmless."""
        ...


def readable(query: Query) -> tuple[str, str | None]:
    """The query normalised (cut to LONGEST), and why it cannot be read, if so."""
    normalized = normalize(query.text[: LONGEST + 1])
    if not any(c.isalnum() for c in normalized):
        return normalized, "empty query"
    if len(query.text) > LONGEST:
        return normalized[:LONGEST], f"the query has {len(query.text):,} characters; at most {LONGEST:,} are read"
    return normalized, None


def failed(query: Query, error: str, engine: str) -> Understanding:
    """A query that was not understood, with the reason."""
    return Understanding(query, readable(query)[0], status="failed", error=error, engine=engine)


def guarded(query: Query, read: Callable[[Query, str], Understanding], engine: str) -> Understanding:
    """`read(query, normalized)`, or a failed row where the query cannot be read or reading it raised."""
    normalized, error = readable(query)
    if error:
        return Understanding(query, normalized, status="failed", error=error, engine=engine)
    try:
        found = read(query, normalized)
    except Exception as fault:
        return failed(query, f"{type(fault).__name__}: {fault}", engine)
    return found if found.engine else replace(found, engine=engine)
