"""Words in a copy of Shopify's taxonomy: which of its categories, or values of its attributes, are called so.

It knows the taxonomy (`lore_mm.shopify.read_taxonomy`) and English plurals; nothing of our own tables.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from lore_mm.shopify import Taxonomy, TaxonomyCategory
from lore_mm.text import fold, singular, tokens

__all__ = ["TaxonomyNames", "category_names", "name_key"]

_AND = re.compile(r",\s*(?:&\s*)?|\s*&\s*|\s+or\s+|\s+and\s+")
_IE = re.compile(r"(?<=..)ie$")  # caddies: of a caddy or a caddie
_LONGEST = 8  # words of a name
_VERTICALS = 2  # names at the root of the tree ("Vehicles & Parts > Vehicle Parts & Accessories") join much
_BELONGING = frozenset(("accessory", "part", "care", "supply"))


@lru_cache(maxsize=65536)
def name_key(words: str) -> str:
    """The form in which names are compared: folded, each word in singular, one space between, -ie as -y."""
    return " ".join(_IE.sub("y", singular(token.text)) for token in tokens(fold(words)))


def category_names(taxonomy: Taxonomy) -> dict[str, list[tuple[str, bool]]]:
    """Name (by `name_key`) → the ids so called; the flag says that it is the whole name, not one of several in it.

    "Coats & Jackets" is found as itself, as coat and as jacket; "Clutch & Evening Bags" also as clutch bag.
    """
    found: dict[str, list[tuple[str, bool]]] = {}
    for category in taxonomy.categories.values():
        for n, name in enumerate(_names(category)):
            if (category.id, True) not in (entries := found.setdefault(name_key(name), [])):
                entries.append((category.id, n == 0))
    return found


def _names(category: TaxonomyCategory) -> list[str]:
    name = re.sub(r"\s*\([^)]*\)", "", category.name)
    parts = [part for part in _AND.split(name) if part]
    if len(parts) < 2:
        return [category.name]
    noun = parts[-1].split()[-1]
    shared = [f"{part} {noun}" for part in parts[:-1]] if " " in parts[-1] else []
    return list(dict.fromkeys((category.name, *parts, *shared)))


class TaxonomyNames:
    """An index of a taxonomy's names; a look-up costs a few dict look-ups."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        self.taxonomy = taxonomy
        self._named = category_names(taxonomy)
        self._ending = _by_last_word(taxonomy)
        self._values: dict[str, Mapping[str, str]] = {}

    def category(self, words: str) -> str | None:
        """The id of the category that the words name, or None where none or several equally likely are so called.

        The whole of the words is tried first, then without the first ones: "steel shower caddy" is a shower caddy. Of
        several the highest in the tree is meant, if it is one. A single word counts only where it says enough by
        itself: xylophone does; filter does not, for names all over the tree end in it.
        """
        key = name_key(words).split()
        for start in range(max(0, len(key) - _LONGEST), len(key)):
            entries = self._named.get(" ".join(key[start:]), ())
            alone = start == len(key) - 1
            fitting = [theirs for theirs, whole in entries if whole] or [theirs for theirs, _ in entries if not alone]
            if fitting:
                depth = min(theirs.count("-") for theirs in fitting)
                highest = [theirs for theirs in fitting if theirs.count("-") == depth]
                certain = len(highest) == 1 and (not alone or self._holds_all(highest[0], key[-1]))
                return highest[0] if certain and self._in_place(highest[0], key) else None
        return None

    def _in_place(self, category: str, key: list[str]) -> bool:
        """False for parts and accessories of a thing that the words do not name: disinfectant spray for trumpets."""
        path = [name_key(name) for name in self.taxonomy.categories[category].full_name.split(" > ")[_VERTICALS:-1]]
        for above in path:
            things = {word for word in above.split() if word not in _BELONGING}
            if things != set(above.split()) and things.isdisjoint(key):
                return False
        return True

    def _holds_all(self, category: str, word: str) -> bool:
        """True where every category whose name ends in the word is that category, is called so alone, or is below."""
        named = {theirs for theirs, whole in self._named[word] if whole}
        return all(one in named or one.startswith(f"{category}-") for one in self._ending[word])

    def values(self, category: str, words: str) -> tuple[tuple[str, str], ...]:
        """The attributes of a category that know the words as a value: (attribute, value as Shopify writes it)."""
        known = self.taxonomy.categories.get(category)
        key = name_key(words)
        names = known.attributes if known else ()
        return tuple((name, value) for name in names if (value := self._values_of(name).get(key)) is not None)

    def _values_of(self, attribute: str) -> Mapping[str, str]:
        if attribute not in self._values:
            values = self.taxonomy.attributes[attribute].values
            self._values[attribute] = {name_key(value): value for value in values}
        return self._values[attribute]


def _by_last_word(taxonomy: Taxonomy) -> dict[str, list[str]]:
    """The last word of each name, and of each part of a name that joins several → the ids."""
    found: dict[str, list[str]] = {}
    for category in taxonomy.categories.values():
        for word in {name_key(name).split()[-1] for name in _names(category)}:
            found.setdefault(word, []).append(category.id)
    return found
