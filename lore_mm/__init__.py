"""lore-mm: item understanding from pictures and text, and search relevance one can follow.

Importing this package loads nothing heavy; torch, faiss and the rest are imported by the one module that needs each.
"""

from lore_mm.errors import LoreError
from lore_mm.types import (
    AttributeValue,
    Demand,
    Evidence,
    Grade,
    Item,
    ItemFeatures,
    Judgment,
    Leg,
    MatchPath,
    Provenance,
    Query,
    Understanding,
)

__all__ = [
    "AttributeValue",
    "Demand",
    "Evidence",
    "Grade",
    "Item",
    "ItemFeatures",
    "Judgment",
    "Leg",
    "LoreError",
    "MatchPath",
    "Provenance",
    "Query",
    "Understanding",
    "__version__",
]

__version__ = "0.1.0"
