"""Whether an ounce is one of weight or of volume: "3.4 oz" of perfume are fluid ounces, of coffee beans they are not.

Which kinds of thing are liquids, or hold them, is data: `liquids.toml`. This module knows no items and no text beyond
the words of one quantity.
"""

from __future__ import annotations

import re
import tomllib
from functools import lru_cache
from pathlib import Path

from lore_mm.knowledge import Knowledge
from lore_mm.quantities import Quantity

__all__ = ["ML_PER_GRAM", "in_ounces", "is_liquid", "read_fluid"]

# US fluid ounce, 231/128 cubic inches, over the avoirdupois ounce: what an ounce of weight becomes as one of volume.
ML_PER_GRAM = 29.5735295625 / 28.349523125
_OUNCES = re.compile(r"(?:oz|ounces?)\.?$", re.IGNORECASE)


@lru_cache(maxsize=1)
def _kinds() -> frozenset[str]:
    table = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    return frozenset(kind for kinds in table.values() for kind in kinds)


@lru_cache(maxsize=4096)
def is_liquid(category: str | None, knowledge: Knowledge) -> bool:
    """True for a kind of thing that is sold by volume, or is made to hold a liquid."""
    return category is not None and not _kinds().isdisjoint((category, *knowledge.ancestors(category)))


def in_ounces(words: str) -> bool:
    """True where a quantity is written in ounces."""
    return _OUNCES.search(words.rstrip()) is not None


def read_fluid(q: Quantity) -> Quantity:
    """A quantity of a liquid: ounces as fluid ounces, in ml; any other as it is."""
    if q.kind != "mass" or not in_ounces(q.text):
        return q
    high = None if q.number_high is None else q.number_high * ML_PER_GRAM
    return q._replace(kind="volume", number=q.number * ML_PER_GRAM, number_high=high, unit="ml")
