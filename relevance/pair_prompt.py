"""A pair put before a model: the parts of a request, in an order that lets an engine read what is shared once.

First what is the same for all pairs (the system turn), then what depends on the query, then the item, last its
pictures and the question. Pairs of one query stand side by side. The text comes from two templates: that of
`prompts/pair.jinja` tells of the pair for every mode, the mode's own says what to do with it. It knows no engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL.Image import Image

from lore_mm.errors import ConfigError, PictureError
from lore_mm.fingerprint import sha_of
from lore_mm.models.chat import Part
from lore_mm.prompts import Prompt, load_prompt
from lore_mm.types import MatchPath, Understanding
from relevance.dossier import EXAMPLE, Dossiers
from relevance.protocol import Pair, Pictures

__all__ = ["PROMPTS", "PairPrompt", "Told", "by_query", "look"]

PROMPTS = Path(__file__).parent / "prompts"
_PAIR = PROMPTS / "pair.jinja"
_BLOCKS = ("system", "query", "item", "ask")
_THREADS = 8  # pictures read at once: disks and networks are waited for


@dataclass(frozen=True, slots=True)
class Told:
    """One pair as a request has it: the system turn, and the user's parts with the pictures among them."""

    system: str
    parts: tuple[Part, ...]


class PairPrompt:
    """Tells pairs by a template. A template of the user's own may also have the blocks `query` and `item`.

    `own` are values of the mode's besides those of `relevance.dossier.EXAMPLE`, the same for every pair.

    Raises:
        ConfigError: the template is wrong.
    """

    def __init__(self, template: Path, dossiers: Dossiers, own: Mapping[str, Any] | None = None) -> None:
        self.dossiers, self._own = dossiers, dict(own or {})
        self._task = load_prompt(template, {**EXAMPLE, **self._own}, blocks=_BLOCKS)
        missing = {"system", "ask"} - set(self._task.template.blocks)
        if missing:
            raise ConfigError(f"{template}: has no block {missing.pop()!r}")
        pair = load_prompt(_PAIR, {**EXAMPLE, **self._own}, needs=("query", "title"), blocks=_BLOCKS)
        self._of: dict[str, Prompt] = {n: self._task if n in self._task.template.blocks else pair for n in _BLOCKS}
        self.sha = sha_of([self._task.sha, pair.sha, dossiers.sha, sha_of(self._own)])
        self.system = self._render("system", self.dossiers.shared)

    def tell(
        self,
        pairs: Sequence[Pair],
        paths: Sequence[MatchPath | None],
        pictures: Sequence[Sequence[Image]],
        more: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[Told]:
        """One request's text and pictures a pair. A path that is not None is told as the rules' own reading.

        `more` are values of the mode's own that differ from pair to pair, for the block `ask` alone.
        """
        queries: dict[int, tuple[str, dict[str, Any]]] = {}
        items: dict[tuple[int, int, int], tuple[str, dict[str, Any]]] = {}  # several samples of a pair
        told = []
        own = more or [{}] * len(pairs)
        for (understanding, features), path, shown, of_pair in zip(pairs, paths, pictures, own, strict=True):
            if id(understanding) not in queries:
                queries[id(understanding)] = self._query(understanding)
            query, values = queries[id(understanding)]
            key = id(understanding), id(features), len(shown)
            if path is not None or key not in items:
                values = {
                    **values,
                    **self.dossiers.of_item(understanding, features),
                    "findings": self.dossiers.findings(path),
                    "pictures": len(shown),
                }
                items[key] = f"{query}\n\n{self._render('item', values)}", values
            before, values = items[key]
            after = self._render("ask", {**values, **of_pair})
            parts: tuple[Part, ...] = (before, *shown, after) if shown else (f"{before}\n\n{after}",)
            told.append(Told(self.system, parts))
        return told

    def _query(self, understanding: Understanding) -> tuple[str, dict[str, Any]]:
        values = {**self.dossiers.shared, **self.dossiers.of_query(understanding)}
        return self._render("query", values), values

    def _render(self, block: str, values: Mapping[str, Any]) -> str:
        return self._of[block].render({**self._own, **values}, (block,))[block]


def by_query(pairs: Sequence[Pair]) -> list[int]:
    """The places of the pairs with those of one query side by side, queries as they first come."""
    first: dict[str, int] = {}
    for understanding, _ in pairs:
        first.setdefault(understanding.query.text, len(first))
    return sorted(range(len(pairs)), key=lambda place: first[pairs[place][0].query.text])


def look(pairs: Sequence[Pair], pictures: Pictures | None, most: int) -> list[tuple[Image, ...] | str]:
    """The first `most` pictures of each pair's item, read in threads, once an item; or why they cannot be read.

    Nothing for a judge that was given nobody to read them, and for an item without any.
    """
    if pictures is None or most == 0:
        return [()] * len(pairs)

    def read(place: int) -> tuple[Image, ...] | str:
        item = pairs[place][1].item
        try:
            return tuple(pictures(item)[:most]) if item.images else ()
        except PictureError as error:
            return f"its pictures cannot be read: {error}"

    places = list({id(features): place for place, (_, features) in enumerate(pairs)}.values())
    with ThreadPoolExecutor(_THREADS, "pictures") as pool:
        found = dict(zip((id(pairs[place][1]) for place in places), pool.map(read, places), strict=True))
    return [found[id(features)] for _, features in pairs]
