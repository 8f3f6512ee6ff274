"""The engine `knowledge`: the tables alone turn a query into demands on the 18 dimensions, head first.

It knows no items and no model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from extractors.context import Phrase, read_phrase, without_overlap
from extractors.query.demands import from_mention, from_need, from_offer, from_price, from_quantities, share_of
from extractors.query.engine import guarded
from extractors.query.exclusions import with_exclusions
from extractors.query.hard_types import hard_type
from extractors.query.implied import excluded_kinds, kind_name, with_implied
from extractors.query.links import linker_for
from extractors.query.needs import need_by_words
from extractors.query.offers import Offer, find_offers, year_ranges
from extractors.query.readings import confidence, other_readings, referent
from extractors.query.typed import corrections, with_names_as_typed
from extractors.query.unknown import HEAD_ORDER, unknown_words
from lore_mm.fingerprint import sha_of
from lore_mm.knowledge import Knowledge
from lore_mm.mentions import Mention, Scanner, scanner_for
from lore_mm.types import Demand, Query, Understanding
from lore_mm.values import Quantity, find_prices, find_quantities

__all__ = ["KnowledgeEngine"]

_VERSION = "3"

_JOINED = re.compile(r"\s*(?:\bor\b|\band\b|,|/|&|\+)\s*", re.IGNORECASE)


class KnowledgeEngine:
    """The embedded default: a parser over the knowledge tables, without a model; it always answers alike."""

    name = "knowledge"

    def __init__(self, knowledge: Knowledge) -> None:
        self.knowledge = knowledge
        self.sha = sha_of(["knowledge", _VERSION, knowledge.sha])
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
    prices = find_prices(text)
    offers = find_offers(text)
    spans = [(p.start, p.end) for p in prices]
    if offers:
        spans = [*(s for s in spans if not _overlaps(s, offers)), *((o.start, o.end) for o in offers)]
        prices = [p for p in prices if (p.start, p.end) in spans]
    mentions = with_names_as_typed(text, without_overlap(scanner.find(text), spans), scanner)
    quantities = [q for q in (*find_quantities(text), *year_ranges(text)) if _stands(q, mentions, spans)]
    mentions = without_overlap(mentions, [(q.start, q.end) for q in quantities])
    mentions = need_by_words(text, _without_specs(text, mentions, quantities), knowledge)
    phrase = read_phrase(text, with_exclusions(text, mentions), knowledge)
    corrected = corrections(phrase.mentions)

    demands = [_variant(d, text) for d in _known(text, phrase, quantities, knowledge)]
    demands.extend(from_price(p, text) for p in prices)
    demands.extend(from_offer(o, text) for o in offers)
    demands.extend(from_quantities(quantities, phrase, knowledge, text))
    demands.extend(unknown_words(text, demands, phrase, quantities, knowledge))
    demands = with_implied(_with_head(demands, text), phrase, knowledge)
    demands.extend(list(excluded_kinds(demands, scanner, knowledge)))
    readings = other_readings(text, phrase, knowledge)
    return Understanding(
        query=query,
        normalized=_corrected(normalized, corrected),
        demands=linker_for(knowledge).link(demands),
        corrections=corrected,
        hard_type=hard_type(text, demands, phrase, knowledge),
        referent=referent(demands[0] if demands and demands[0].role == "head" else None, knowledge),
        readings=readings,
        confidence=confidence(demands, readings),
        engine=KnowledgeEngine.name,
    )


def _overlaps(span: tuple[int, int], offers: Sequence[Offer]) -> bool:
    return any(o.start < span[1] and span[0] < o.end for o in offers)


def _stands(q: Quantity, mentions: Sequence[Mention], prices: Sequence[tuple[int, int]]) -> bool:
    """False for a number that is part of a price or of a known term (iPhone 13, 2 in 1)."""
    if any(q.start < end and start < q.end for start, end in prices):
        return False
    if q.kind == "share":
        return True
    return not any(
        (m.start <= q.start and q.end <= m.end and (m.end - m.start) > (q.end - q.start))
        or (m.table == "series" and m.start < q.end and q.start < m.end)
        for m in mentions
    )  # fmt: skip


def _known(text: str, phrase: Phrase, quantities: Sequence[Quantity], knowledge: Knowledge) -> Iterator[Demand]:
    """The demands of known terms: the thing, its qualities, and what it is for."""
    shares = [q for q in quantities if q.kind == "share"]
    named = phrase.category is not None
    if phrase.noun is not None and phrase.category is not None:
        start, end = phrase.noun
        word = next(iter(knowledge.categories[phrase.category].name.split()[-1:]), "")
        why = f"the {word} of a {knowledge.categories[phrase.host or phrase.category].name}"
        yield Demand("category", word, phrase.category, start=start, end=end, confidence=0.9, why=why)
    elif phrase.noun is not None:
        start = min((m.start for m in phrase.hosts), default=phrase.noun[0])
        value = text[min(start, phrase.noun[0]) : phrase.noun[1]]
        why = f"a part or accessory for a {kind_name(phrase.host, knowledge)} that no table knows"
        yield Demand("category", value, start=start, end=phrase.noun[1], confidence=0.5, why=why)
    for m in phrase.mentions:
        if m.table == "need":
            yield from from_need(m, knowledge, named)
        elif m is phrase.head:
            head = replace(from_mention(m), alternatives=_as_well(text, m, phrase))
            if phrase.category != m.canonical:
                head = replace(head, why=f"a {m.text} for a {kind_name(phrase.host, knowledge)}")
            yield replace(head, canonical=phrase.category)
        elif phrase.head and m.canonical in _as_well(text, phrase.head, phrase):
            continue
        elif m.table == "category" and not m.negated:
            yield _second_thing(m, phrase, knowledge)
        else:
            yield from_mention(m, share_of(m, text, shares))


_NEXT_NUMBER = re.compile(
    r"[ -]?(?:[a-z]?\d{1,4}[a-z]?)(?![\w%\"”″.])(?!\s?(?:inch|in|gb|tb|cm|mm|mah|pack|w|x)\b)", re.IGNORECASE
)


def _variant(d: Demand, text: str) -> Demand:
    """A known series with a number that is not known ("iPhone 17"): a model of its own, known by its words only."""
    if d.dimension != "model" or d.canonical is None or d.end is None or d.start is None or d.canonical[-1].isdigit():
        return d
    more = _NEXT_NUMBER.match(text, d.end)
    if more is None:
        return d
    why = f"an unknown model of the series {d.canonical}"
    return replace(d, value=text[d.start : more.end()], canonical=None, end=more.end(), why=why)


def _as_well(text: str, head: Mention, phrase: Phrase) -> tuple[str, ...]:
    """Other kinds of thing that would do: "tablet or laptop", "keyboard and mouse"."""
    found: list[str] = []
    place = head.end
    for m in phrase.mentions:
        if m.start >= place and _JOINED.fullmatch(text[place : m.start]) and m.table == "category" and not m.negated:
            found.append(m.canonical)
            place = m.end
    return tuple(found)


def _without_specs(text: str, mentions: Sequence[Mention], quantities: Sequence[Quantity]) -> list[Mention]:
    """The mentions without those that only say what a number measures: the memory of "laptop 16gb ram"."""
    things = [m for m in mentions if m.table == "category"]
    ends = {q.end for q in quantities if q.kind == "storage"}
    return [
        m
        for m in mentions
        if not (
            m.table == "category"
            and len(things) > 1
            and any(text[e : m.start].strip() == "" for e in ends if e <= m.start)
        )
    ]


def _second_thing(m: Mention, phrase: Phrase, knowledge: Knowledge) -> Demand:
    """A kind of thing that is not the head: what it is for, another kind wanted as well, or what is on it."""
    if m.canonical == phrase.host or m in phrase.hosts:
        return Demand(
            "component", m.text, "accessory", strictness="soft", start=m.start, end=m.end, confidence=0.7,
            why=f"for a {kind_name(m.canonical, knowledge)}",
        )  # fmt: skip
    return Demand("style_detail", m.text, None, strictness="soft", start=m.start, end=m.end, confidence=0.5)


def _with_head(demands: list[Demand], text: str) -> list[Demand]:
    """The demands with the main target first: the thing named, else a model, brand, character or store."""
    for dimension in HEAD_ORDER:
        fitting = [d for d in demands if d.dimension == dimension and d.polarity > 0]
        best = next(iter(sorted(fitting, key=lambda d: (d.canonical is None, d.latent))), None)
        if best is not None:
            rest = [d for d in demands if d is not best]
            if dimension != "category":
                rest = [d if d.dimension != "category" else replace(d, strictness="soft") for d in rest]
            return [replace(best, role="head", strictness="hard"), *rest]
    return demands


def _corrected(normalized: str, corrections: Sequence[tuple[str, str]]) -> str:
    """The normalised text with its spelling put right."""
    for typed, read in corrections:
        normalized = re.sub(rf"\b{re.escape(typed)}\b", read, normalized, count=1)
    return normalized
