"""Queries read with a store beside the engine: what is stored is served, the engine is asked for the rest.

An understanding is served where its text is the same query (`stores.understood`) and it is not stale: an engine that is
named must have made it, as it is now (its sha). Where none is named whatever is stored is served, and the default
engine reads the rest; it is not opened before. This module knows no command and writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from extractors.queries import DEFAULT_ENGINE, QueryEngine, open_engine
from lore_mm import __version__
from lore_mm.knowledge import Knowledge
from lore_mm.types import Provenance, Query, Understanding
from stores.snapshot import Snapshot
from stores.understood import Understood

__all__ = ["QueryDesk", "Reading"]


@dataclass(frozen=True, slots=True)
class Reading:
    """An understanding, and where it comes from: `stored` is None where it was read just now.

    `version` is that of the table of demands it stands in.
    """

    understanding: Understanding
    provenance: Provenance
    stored: Understood | None = None
    version: int | None = None

    @property
    def said(self) -> str:
        """In a line, who read it."""
        if self.stored is None:
            return f"read by {self.understanding.engine}"
        when = f"{self.stored.made_at:%Y-%m-%d %H:%M} UTC" if self.stored.made_at else "nobody knows when"
        who = self.understanding.engine or self.provenance.maker or "nobody knows whom"
        return f"from the store: read by {who}, {when}; version {self.version}"


class QueryDesk:
    """Reads queries; see above. `engine`: an address, None where none is named."""

    def __init__(
        self,
        knowledge: Knowledge,
        engine: str | None = None,
        snapshot: Snapshot | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.knowledge, self.snapshot, self.named = knowledge, snapshot, engine is not None
        self._address, self._options = DEFAULT_ENGINE if engine is None else engine, dict(options or {})
        self._engine: QueryEngine | None = None
        if self.named or options:
            self.engine()  # what cannot be opened is said at once

    def engine(self) -> QueryEngine:
        """The engine, opened when it is first needed."""
        if self._engine is None:
            self._engine = open_engine(self._address, self.knowledge, **self._options)
        return self._engine

    def read(self, queries: Sequence[Query]) -> list[Reading]:
        """One reading a query, in order.

        Raises:
            ModelError, MissingExtraError: the engine is needed, and cannot be had.
        """
        found = [self._served(query, one) for query, one in zip(queries, self._stored(queries), strict=True)]
        rest = [query for query, one in zip(queries, found, strict=True) if one is None]
        read = iter(self.engine().understand(rest) if rest else ())
        return [one or self._fresh(next(read)) for one in found]

    def close(self) -> None:
        """Close the engine, if it was opened."""
        if self._engine is not None:
            self._engine.close()

    def _stored(self, queries: Sequence[Query]) -> Sequence[Understood | None]:
        return [None] * len(queries) if self.snapshot is None else self.snapshot.served([q.text for q in queries])

    def _served(self, query: Query, one: Understood | None) -> Reading | None:
        if one is None or (self.named and one.provenance.settings_sha != self.engine().sha):
            return None
        version = self.snapshot.versions["demands"] if self.snapshot else None
        return Reading(replace(one.understanding, query=query), one.provenance, one, version)

    def _fresh(self, understanding: Understanding) -> Reading:
        maker = f"{understanding.engine} {__version__}"
        return Reading(understanding, Provenance(maker=maker, settings_sha=self.engine().sha))
