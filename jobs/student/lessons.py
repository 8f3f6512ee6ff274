"""What a student is taught before it sees a judgment: pairs made up from text whose meaning is known.

A lesson is a query, a title, and how they stand to one another, as far as the source tells; each standing has a
distribution over the levels, soft where the source is not sure. It knows no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

__all__ = ["TARGETS", "WEIGHTS", "Lesson", "Standing"]

Standing = Literal["same", "other", "sibling", "part", "near", "named"]

# standing → P(L1) … P(L4). The numbers are choices: how far the source can be trusted, not measurements.
TARGETS: Mapping[Standing, tuple[float, float, float, float]] = MappingProxyType(
    {
        "same": (0.0, 0.0, 0.05, 0.95),  # the thing that is asked for
        "other": (0.93, 0.05, 0.02, 0.0),  # another thing, whatever words they share
        "sibling": (0.6, 0.3, 0.1, 0.0),  # another thing whose name ends in the same word
        "part": (0.35, 0.5, 0.1, 0.05),  # the right thing of another maker, or with another property
        "near": (0.0, 0.1, 0.4, 0.5),  # the right thing; the property is not said
        "named": (0.15, 0.05, 0.2, 0.6),  # a title that has the very words, free-standing; nobody knows its kind
    }
)
WEIGHTS: Mapping[Standing, float] = MappingProxyType(
    {"same": 1.0, "other": 1.0, "sibling": 0.6, "part": 0.6, "near": 0.6, "named": 0.6}
)


@dataclass(frozen=True, slots=True)
class Lesson:
    """One made-up pair."""

    query: str
    title: str
    standing: Standing
