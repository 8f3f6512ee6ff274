"""Any query engine with a copy of Shopify's taxonomy beside it: its demands are linked again, to that too.

Words that no table of ours knows find their category there ("kimono" → shopify:aa-1-23-1). It knows the protocol of
engines and the linker, and no engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from extractors.query.engine import QueryEngine
from extractors.query.links import Linker
from lore_mm.fingerprint import sha_of
from lore_mm.types import Query, Understanding

__all__ = ["Relinked"]


class Relinked:
    """The engine's readings with links by `linker`. The taxonomy's release is part of the sha."""

    def __init__(self, engine: QueryEngine, linker: Linker) -> None:
        self.engine, self.linker = engine, linker
        self.name = engine.name
        self.sha = sha_of([engine.sha, linker.sha])

    def __getattr__(self, name: str) -> Any:
        """What an engine tells besides (`usage`, `engines`)."""
        return getattr(self.engine, name)

    def understand(self, queries: Sequence[Query]) -> list[Understanding]:
        """As the engine does, linked anew.

        Raises:
            ModelError: as the engine.
        """
        return [replace(u, demands=self.linker.link(u.demands)) for u in self.engine.understand(queries)]

    def close(self) -> None:
        """Free what the engine holds; calling it twice is harmless."""
        self.engine.close()
