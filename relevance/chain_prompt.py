"""A pair as a judge that writes chains is told it: the same text in training and in judging.

The demands are not told: a chain finds them itself. What is known of the item stands in the words that a leg of a
chain has for it, `- color "black" in given.color "Black"`, the demanded dimensions first, so that there is little to
find and much to copy. With the full budget the rules and the knowledge that were retrieved for the demands are told
as well, and the grammar; a small model has learnt these by heart. It knows no engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from lore_mm.errors import ConfigError
from lore_mm.fingerprint import sha_of
from lore_mm.knowledge import Knowledge
from lore_mm.prompts import clean, load_prompt
from lore_mm.text import tokens
from lore_mm.types import AttributeValue, Demand, Evidence, ItemFeatures, Understanding
from relevance.chain import Order
from relevance.dossier import BUDGETS, EXAMPLE, Budget, Dossiers
from relevance.pair_prompt import PROMPTS
from relevance.path_line import word
from relevance.rules import Rulebook

__all__ = ["PROMPT", "ChainDossiers", "ChainPrompt", "ToldChain"]

PROMPT = PROMPTS / "chain.jinja"
_VERSION = "1"
_BLOCKS = ("system", "query", "item")
_ALWAYS = ("category", "brand")  # told of every item, whatever is asked for
_KNOWN = {"place": "color", "value": "black", "off": "0.38", "source": "image:0", "quote": ""}
_OWN = {"known": [_KNOWN], "given": [{"source": "given.brand", "quote": "Nike"}], "answer_first": False}


@dataclass(frozen=True, slots=True)
class ToldChain:
    """A pair as texts: the system turn, the user's, and of the latter the end, which tells of the item."""

    system: str
    prompt: str
    item_told: str


class ChainDossiers(Dossiers):
    """Dossiers that tell of an item in the words of a chain: `known`, what was read on it, and `given`, the fields."""

    def of_item(self, understanding: Understanding, features: ItemFeatures) -> dict[str, Any]:
        """The title; what was read, as many lines as the budget has attributes; the fields of which that is no part."""
        item, budget = features.item, self.budget
        known = list(self._known(understanding, features))[: budget.attributes]
        told = {(one["source"], one["quote"]) for one in known}
        price = "" if item.price is None else f"{item.price:.10g}"
        own = [("category", item.category), ("brand", item.brand), ("store", item.store), ("price", price)]
        fields = [(name, (text,)) for name, text in own if text] + list(item.attributes.items())[: budget.fields]
        given = []
        for name, values in fields:
            source = word(clean(f"given.{name}", budget.value))
            if any((source, clean(value, budget.value)) not in told for value in values):
                quote = ", ".join(values) if name != "price" else f"{price} {item.currency or ''}".strip()
                given.append({"source": source, "quote": clean(quote, budget.value)})
        return {
            "title": clean(item.title, budget.title),
            "known": known,
            "given": given,
            "text": clean(item.description, budget.text) if budget.text else "",
        }

    def _known(self, understanding: Understanding, features: ItemFeatures) -> Iterator[dict[str, str]]:
        """One line for each thing that a source says, those that answer demands first, in turn."""
        turns = [_answers(demand, features) for demand in understanding.demands]
        first = [one for one in chain.from_iterable(zip_longest(*turns)) if one is not None]
        others = [self._all(features, dimension) for dimension in _ALWAYS]
        if self.budget.general:
            others.append([one for a in features.attributes if a.value for one in _said(a)])
        said: set[tuple[str, str]] = set()
        for attribute, evidence in (*first, *chain.from_iterable(others)):
            line = self._line(attribute, evidence)
            if (key := (line["place"], line["value"])) not in said:
                said.add(key)
                yield line

    def _all(self, features: ItemFeatures, dimension: str) -> list[tuple[AttributeValue, Evidence]]:
        return [one for a in features.of(dimension) for one in _said(a)]

    def _line(self, one: AttributeValue, evidence: Evidence) -> dict[str, str]:
        most = self.budget.value
        value = evidence.value or one.value or ""
        if one.unit and one.number is not None and value == f"{one.number:.10g}":
            value = f"{value} {one.unit}"
        return {
            "place": word(one.dimension) + ("" if one.name == one.dimension else f"/{word(clean(one.name, most))}"),
            "value": clean(value, most),
            "off": "" if one.share is None else f"{1 - one.share:.2g}",  # the missing share, as a leg has it
            "source": word(clean(evidence.source, most)),
            "quote": clean(evidence.quote or "", most),
        }


class ChainPrompt:
    """Tells pairs to a judge that writes chains in an order; `template` may be the user's own.

    Raises:
        ConfigError: the template is wrong.
    """

    def __init__(
        self,
        knowledge: Knowledge,
        rulebook: Rulebook,
        budget: Budget = BUDGETS["full"],
        template: Path = PROMPT,
        order: Order = "think_first",
    ) -> None:
        self.dossiers = ChainDossiers(knowledge, rulebook, budget)
        self._template = load_prompt(template, {**EXAMPLE, **_OWN}, needs=("query", "title"), blocks=_BLOCKS)
        missing = sorted(set(_BLOCKS) - set(self._template.template.blocks))
        if missing:
            raise ConfigError(f"{template}: has no block {missing[0]!r}")
        self._own = {"answer_first": order == "answer_first"}
        self.sha = sha_of(["chain", _VERSION, self._template.sha, self.dossiers.sha, self._own])
        self.system = self._render("system", dict(self.dossiers.shared))
        self._last: tuple[Understanding | None, str] = (None, "")

    def tell(self, understanding: Understanding, features: ItemFeatures) -> ToldChain:
        """One pair as texts."""
        last, query = self._last
        if last is not understanding:  # pairs come query by query
            query = self._render("query", {**self.dossiers.shared, **self.dossiers.of_query(understanding)})
            self._last = understanding, query
        item = self._render("item", {**self.dossiers.shared, **self.dossiers.of_item(understanding, features)})
        return ToldChain(self.system, f"{query}\n{item}", item)

    def _render(self, block: str, values: dict[str, Any]) -> str:
        return self._template.render({**self._own, **values}, (block,))[block]


def _said(one: AttributeValue) -> list[tuple[AttributeValue, Evidence]]:
    """An attribute with the best evidence of each value that its sources say."""
    first: dict[str | None, Evidence] = {}
    for evidence in one.evidence or (Evidence(f"given.{one.name}", one.value),):
        first.setdefault(evidence.value or one.value, evidence)
    return [(one, evidence) for evidence in first.values()]


def _answers(demand: Demand, features: ItemFeatures) -> list[tuple[AttributeValue, Evidence]]:
    """What the item says on a demand's dimension, what shares most words with it first, then the surest."""
    wanted = {token.text for text in (demand.value, demand.canonical or "") for token in tokens(text)}

    def far(one: tuple[AttributeValue, Evidence]) -> int:
        attribute, evidence = one
        words = f"{evidence.value or attribute.value} {evidence.quote or ''} {attribute.name}"
        return -len(wanted.intersection(token.text for token in tokens(words.replace("_", " "))))

    return sorted((one for a in features.of(demand.dimension) if a.value for one in _said(a)), key=far)
