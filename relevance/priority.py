"""Whom to believe where an item's sources say different things on a dimension that may hold several values.

A dimension names its sources in the order in which they are believed (`evidence` in lore_mm/schemas/dimensions.toml).
The best source that is sure of something overrules what only lower ones say, where the two cannot both be true; a lower
source that says the same and more is no opponent. What is overruled stays beside the winner as `against`, and takes of
its confidence what it takes in merging. It knows no demands: what is believed is the same whoever asks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

from lore_mm.schema import load_dimensions
from lore_mm.types import Evidence
from relevance.evidence import Found

__all__ = ["believed", "disagreement"]

Disagree = Callable[[str, str], bool]
_SURE = 0.5  # who is less sure than this overrules nobody, as in merging (extractors.claims.CONFLICT)
_NAMES = {"title": "its title says", "text": "its description says", "given": "the seller's field says"}


def believed(found: Sequence[Found], dimension: str, disagree: Disagree) -> tuple[Found, ...]:
    """What is left of several values when the best source has been heard, in the given order.

    `disagree(believed, other)`: the item cannot well have both. Values without evidence are left alone.
    """
    placed = [(_rank(dimension, f), f) for f in found]
    heard = [rank for rank, f in placed if rank is not None and f.confidence >= _SURE and not f.negated]
    if not heard or all(rank is None or rank == heard[0] for rank, _ in placed):
        return tuple(found)
    best = min(heard)
    top = [f for rank, f in placed if rank == best and not f.negated]
    lower = [f for rank, f in placed if rank is not None and rank > best and not f.negated]
    strange = [f for f in lower if any(disagree(t.value, f.value) for t in top)]
    agreed = {e.source for f in (*top, *lower) if f not in strange for e in f.evidence}
    fallen = [f for f in strange if not any(e.source in agreed for e in f.evidence)]
    return tuple(_opposed(f, fallen, disagree) if f in top else f for f in found if f not in fallen)


def _opposed(found: Found, fallen: Sequence[Found], disagree: Disagree) -> Found:
    against = [f for f in fallen if disagree(found.value, f.value)]
    if not against:
        return found
    doubt = max(f.confidence for f in against)
    said = tuple(replace(e, value=f.value) for f in against for e in f.evidence)
    return replace(found, against=(*found.against, *said), confidence=found.confidence * (1 - doubt / 2))


def _rank(dimension: str, found: Found) -> int | None:
    return min((_place(dimension, e.source) for e in found.evidence), default=None)


@lru_cache(maxsize=4096)
def _place(dimension: str, source: str) -> int:
    return load_dimensions()[dimension].rank(source)


def disagreement(against: Sequence[Evidence]) -> str:
    """What speaks against a finding, to be put behind its reason: "; but its title says wool"."""
    said = dict.fromkeys(f"{_NAMES.get(_kind(e), 'the picture shows')} {e.value}" for e in against if e.value)
    return f"; but {' and '.join(said)}" if said else ""


def _kind(evidence: Evidence) -> str:
    return evidence.source.split(":")[0].split(".")[0]
