"""The two texts of a pair as a student reads them: the query, and the item's title.

Training and judging share this, so that both read alike. Texts are cleaned of control and invisible characters; what
they say is data. What else is known of the item stands in the path's features. It knows no tokenizer.
"""

from __future__ import annotations

from lore_mm.text import normalize
from lore_mm.types import ItemFeatures, Understanding

__all__ = ["LONGEST_LINE", "item_text", "one_line", "query_text"]

LONGEST_LINE = 160  # characters of a title


def query_text(understanding: Understanding) -> str:
    """The query as it is read: with its spelling put right, where that was done."""
    return normalize(understanding.normalized or understanding.query.text)


def item_text(features: ItemFeatures) -> str:
    """The item's title; of an item without one, how its description begins."""
    return one_line(features.item.title) or one_line(features.item.description)


def one_line(text: str) -> str:
    """A text as one line of at most LONGEST_LINE characters."""
    return normalize(text[: 4 * LONGEST_LINE])[:LONGEST_LINE].rstrip()
