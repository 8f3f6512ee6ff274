"""The engine `knowledge`: the tables alone turn a query into demands on the 18 dimensions, head first.

It knows no items and no model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from extractors.query.demands import from_offer, from_price, from_quantities
from extractors.query.engine import guarded
from extractors.query.exclusions import exclusion_cues, with_exclusions
from extractors.query.hard_types import hard_type
from extractors.query.implied import excluded_kinds, with_implied
from extractors.query.known import known_terms
from extractors.query.links import linker_for
from extractors.query.measures import bounded, more_prices, more_quantities, sides, stands, with_what_is_measured
from extractors.query.needs import need_by_words
from extractors.query.offers import find_offers
from extractors.query.readings import confidence, other_readings, referent
from extractors.query.references import in_place_of, with_references
from extractors.query.typed import corrected, corrections, with_names_as_typed, without_everyday_makers
from extractors.query.unknown import HEAD_ORDER, unknown_words
from lore_mm.fingerprint import sha_of
from lore_mm.knowledge import Knowledge
from lore_mm.mentions import Mention, Scanner, scanner_for
from lore_mm.phrases import read_phrase, without_overlap
from lore_mm.text import tokens
from lore_mm.types import Demand, Query, Understanding
from lore_mm.values import Price, Quantity, find_prices, find_quantities

__all__ = ["KnowledgeEngine"]

_VERSION = "4"
_DIGIT = re.compile(r"\d")


class KnowledgeEngine:
    """The embedded default: a parser over the knowledge tables, without a model; it always answers alike."""

    name = "knowledge"

    def __init__(self, knowledge: Knowledge) -> None:
        self.knowledge = knowledge
        self.sha = sha_of(["knowledge", _VERSION, knowledge.sha, linker_for(knowledge).sha])
        self._scanner = scanner_for(knowledge)

    def understand(self, queries: Sequence[Query]) -> list[Understanding]:
        """As many results, in the same order; see `extractors.query.engine.guarded` for what fails."""
        return [guarded(query, self._one, self.name) for query in queries]

    def close(self) -> None:
        """Nothing is held."""

    def _one(self, query: Query, normalized: str) -> Understanding:
        return _understand(query, normalized, self._scanner, self.knowledge)


def _understand(query: Query, normalized: str, scanner: Scanner, knowledge: Knowledge) -> Understanding:
    text = query.text
    words = tokens(text)
    offers = find_offers(text)
    sold = [(o.start, o.end) for o in offers]
    prices = _prices(text, sold) if _DIGIT.search(text) else []
    sold += [(p.start, p.end) for p in prices]
    mentions = with_names_as_typed(text, without_overlap(scanner.find(text, words=words), sold), scanner)
    mentions = without_everyday_makers(mentions, knowledge)
    quantities = _quantities(text, mentions, sold)
    if quantities:
        mentions, quantities = with_what_is_measured(text, mentions, quantities)
        quantities = [q if q.kind == "share" else bounded(q, text) for q in quantities]
    numbered = [(q.start, q.end) for q in quantities]
    numbered += (measures := sides(text, numbered))
    mentions = need_by_words(text, without_overlap(mentions, numbered), knowledge, words)
    if cues := exclusion_cues(text):
        mentions = with_exclusions(text, mentions, cues)
    phrase = read_phrase(text, mentions, knowledge, words=words)

    demands = [*known_terms(text, phrase, quantities, knowledge)]
    demands.extend(from_price(p, text) for p in prices)
    demands.extend(from_offer(o, text) for o in offers)
    demands.extend(from_quantities(quantities, phrase, knowledge))
    demands.extend(Demand("spec", text[start:end], start=start, end=end) for start, end in measures)
    demands.extend(unknown_words(text, words, demands, phrase, numbered, cues, knowledge))
    demands, references = with_references(text, demands)
    demands.extend([*in_place_of(demands, references, knowledge)])
    demands = with_implied(_with_head(demands, references), phrase, knowledge)
    demands.extend([*excluded_kinds(demands, scanner, knowledge)])
    kind = hard_type(text, demands, phrase, knowledge)
    if kind == "question":
        demands = [_asked_about(d) for d in demands]
    put_right = corrections(phrase.mentions)
    readings = other_readings(text, phrase, knowledge)
    return Understanding(
        query=query,
        normalized=corrected(normalized, put_right),
        demands=linker_for(knowledge).link(demands),
        corrections=put_right,
        hard_type=kind,
        referent=referent(demands[0] if demands and demands[0].role == "head" else None, knowledge),
        readings=readings,
        confidence=confidence(demands, readings),
        engine=KnowledgeEngine.name,
    )


def _prices(text: str, sold: Sequence[tuple[int, int]]) -> list[Price]:
    """Prices outside the offers; where two overlap, the first way of reading them."""
    prices: list[Price] = []
    for p in (*more_prices(text), *find_prices(text)):
        if not _within((p.start, p.end), [*sold, *((q.start, q.end) for q in prices)]):
            prices.append(p)
    return prices


def _quantities(text: str, mentions: Sequence[Mention], sold: Sequence[tuple[int, int]]) -> list[Quantity]:
    """Quantities outside prices and known terms; the less common wordings go before what they hold."""
    quantities = [q for q in find_quantities(text) if stands(q, mentions, sold)]
    more = [q for q in more_quantities(text) if stands(q, mentions, sold)] if _DIGIT.search(text) else []
    if not more:
        return quantities
    spans = [(q.start, q.end) for q in more]
    return [*(q for q in quantities if not _within((q.start, q.end), spans)), *more]


def _within(span: tuple[int, int], others: Sequence[tuple[int, int]]) -> bool:
    """True where the span shares a character with one of the others."""
    return any(start < span[1] and span[0] < end for start, end in others)


def _asked_about(d: Demand) -> Demand:
    """What a question asks about is no condition: "are levis 501 high waisted"."""
    named = d.role == "head" or d.dimension in HEAD_ORDER or d.polarity < 0
    return d if named or d.strictness == "soft" else replace(d, strictness="soft")


def _with_head(demands: list[Demand], references: frozenset[int]) -> list[Demand]:
    """The demands with the main target first: the thing named, else a model, brand, character or store."""
    fitting = [d for d in demands if d.dimension in HEAD_ORDER and d.polarity > 0 and d.start not in references]
    best = min(fitting, key=_as_head, default=None)
    rest = [d if d.role == "modifier" else replace(d, role="modifier") for d in demands if d is not best]
    if best is None:
        return rest
    if best.dimension != "category":
        rest = [d if d.dimension != "category" else replace(d, strictness="soft") for d in rest]
    if best.role == "modifier" or best.strictness == "soft":
        best = replace(best, role="head", strictness="hard")
    return [best, *rest]


def _as_head(d: Demand) -> tuple[int, bool, bool]:
    """The least of these is the head."""
    return HEAD_ORDER.index(d.dimension), d.canonical is None, d.latent
