"""Our categories in Shopify's product taxonomy: the shipped table of links, and candidates for links to be reviewed.

The table (`knowledge/shopify.toml`) holds ids only: neither it nor this module needs a copy of the taxonomy to be
read. A link is exact (the same kind under Shopify's name) or broader (Shopify has the kind above only). Words that no
table of ours knows are found in a copy of the taxonomy by `lore_mm.shopify_names`.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from lore_mm.errors import ConfigError
from lore_mm.knowledge import Knowledge
from lore_mm.shopify import Taxonomy
from lore_mm.shopify_names import category_names, name_key

__all__ = ["Candidate", "ShopifyLink", "ShopifyLinks", "candidates", "load_links"]

_TABLE = Path(__file__).parent / "knowledge" / "shopify.toml"
_SHOPIFY_ID = re.compile(r"[a-z]{2}(?:-\d+)*")
_OWN_DEPARTMENT = "shopify_"  # of categories made by `lore taxonomy`: their ids are Shopify's
_OWN_NAME, _TERM, _PART = 1.0, 0.8, 0.1  # scores: by our name, by a synonym; less where only a part of theirs agrees


class ShopifyLink(NamedTuple):
    """A category of Shopify's; `broader`: it is a kind above ours, for Shopify has none of its own."""

    id: str
    broader: bool = False


class ShopifyLinks(NamedTuple):
    """The table: our category → Shopify's; read by `of`.

    `words` are terms of ours, by category and `name_key`, that Shopify has a kind of its own for: we call a burp cloth
    and a bib one kind. `none` are those that Shopify has no place for; `elsewhere` are those that it shelves in another
    place than below the link of our parent (cycling shoes are with bicycles there).
    """

    version: str
    links: Mapping[str, ShopifyLink]
    words: Mapping[tuple[str, str], str]
    none: frozenset[str]
    elsewhere: frozenset[str]

    def of(self, category: str, knowledge: Knowledge, words: str = "") -> ShopifyLink | None:
        """The link of a category: its own, else that of the nearest kind above as a broader one; None without.

        `words`: what it was called, where that may be more exact.
        """
        if words and (theirs := self.words.get((category, name_key(words)))):
            return ShopifyLink(theirs)
        department = knowledge.department(category)
        if department and department.startswith(_OWN_DEPARTMENT) and _SHOPIFY_ID.fullmatch(category):
            return ShopifyLink(category)
        if category in self.links:
            return self.links[category]
        if category in self.none:
            return None
        above = next((self.links[one] for one in knowledge.ancestors(category) if one in self.links), None)
        return above and above._replace(broader=True)


class Candidate(NamedTuple):
    """A category of the taxonomy that may be ours; `score` in (0, 2] is for ordering, not a probability."""

    id: str
    score: float
    full_name: str


@lru_cache(maxsize=1)
def load_links() -> ShopifyLinks:
    """The shipped table.

    Raises:
        ConfigError: a category has two links.
    """
    raw = tomllib.loads(_TABLE.read_text(encoding="utf-8"))
    entries = Counter((*raw["exact"], *raw["broader"], *raw["none"]))
    if twice := sorted(one for one, times in entries.items() if times > 1):
        raise ConfigError(f"{_TABLE}: more than one entry for {', '.join(twice)}")
    exact = {ours: ShopifyLink(theirs) for ours, theirs in raw["exact"].items()}
    broader = {ours: ShopifyLink(theirs, True) for ours, theirs in raw["broader"].items()}
    words = {(ours, name_key(term)): theirs for ours, named in raw["words"].items() for term, theirs in named.items()}
    return ShopifyLinks(raw["version"], exact | broader, words, frozenset(raw["none"]), frozenset(raw["elsewhere"]))


def candidates(knowledge: Knowledge, taxonomy: Taxonomy, most: int = 4) -> dict[str, tuple[Candidate, ...]]:
    """For each of our categories, at most `most` of the taxonomy's that share a name with it, the likeliest first.

    The score is by name or synonym, plus the share of our kind's parent, siblings and children whose own candidates
    lie on the same branch.
    """
    named = category_names(taxonomy)
    own: dict[str, dict[str, float]] = {}
    for category in knowledge.categories.values():
        found = own.setdefault(category.id, {})
        for words, score in ((category.name, _OWN_NAME), *((term, _TERM) for term in category.terms)):
            for theirs, whole in named.get(name_key(words), ()):
                found[theirs] = max(found.get(theirs, 0.0), score if whole else score - _PART)
    kin = _kin(knowledge)
    result = {}
    for ours, found in own.items():
        branches = _branches([own[one] for one in kin[ours]])
        scored = [
            Candidate(theirs, round(score + _agreement(theirs, branches), 3), taxonomy.categories[theirs].full_name)
            for theirs, score in found.items()
        ]
        result[ours] = tuple(sorted(scored, key=lambda c: (-c.score, len(c.full_name), c.id))[:most])
    return result


def _kin(knowledge: Knowledge) -> dict[str, list[str]]:
    """The parent, siblings and children of each category."""
    below: dict[str | None, list[str]] = {}
    for category in knowledge.categories.values():
        below.setdefault(category.parent, []).append(category.id)
    return {
        c.id: [*([c.parent] if c.parent else []), *(s for s in below[c.parent] if s != c.id), *below.get(c.id, ())]
        for c in knowledge.categories.values()
    }


def _branches(kin: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """How much of the kin stands on each branch: a branch's id → a share in [0, 1]."""
    shares: dict[str, float] = {}
    for found in kin:
        best = max(found.values(), default=0.0)
        top = [theirs for theirs, score in found.items() if score == best]
        for branch in {b for theirs in top for b in _upwards(theirs)}:
            on_it = sum(branch in _upwards(theirs) for theirs in top)
            shares[branch] = shares.get(branch, 0.0) + on_it / len(top) / len(kin)
    return shares


def _agreement(theirs: str, branches: Mapping[str, float]) -> float:
    """In [0, 1]: the kin on the branches above, the mean over them, so that depth by itself counts nothing."""
    above = _upwards(theirs)
    return sum(branches.get(branch, 0.0) for branch in above) / len(above)


def _upwards(theirs: str) -> list[str]:
    parts = theirs.split("-")
    return ["-".join(parts[:n]) for n in range(1, len(parts) + 1)]
