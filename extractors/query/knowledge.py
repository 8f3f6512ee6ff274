"""The engine `knowledge`: the tables alone turn a query into demands on the 18 dimensions, head first.

It knows no items and no model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from extractors.context import Phrase, read_phrase, without_overlap
from extractors.query.demands import from_mention, from_need, from_price, from_quantities
from extractors.query.engine import guarded
from extractors.query.hard_types import hard_type
from extractors.query.needs import need_by_words
from lore_mm.fingerprint import sha_of
from lore_mm.knowledge import Knowledge
from lore_mm.mentions import Mention, Scanner, scanner_for
from lore_mm.text import Token, tokens
from lore_mm.types import Demand, Query, Understanding
from lore_mm.values import Quantity, find_prices, find_quantities

__all__ = ["KnowledgeEngine"]

_VERSION = "2"

# Words that carry no demand.
_EMPTY = frozenset(
    "a an the of for with in on and or to by from at as is are be it its this that these those my your our their "
    "me i we you some any all very really quite just also too so best good great nice want need looking look find "
    "search buy buying get shop please show something thing things stuff which what who how where when why do "
    "does can could should would will not no without non free except excluding minus under over below above "
    "between around about up than more less least most if but plus use used using like per ones one other else "
    "there here online near today now model brand size sized color colour type kind made series version edition "
    "needed set make makes buyable quality".split()
)
_NEGATING = frozenset(("without", "no", "not", "non", "excluding", "except", "minus"))
_JOINED = re.compile(r"\s*(?:\bor\b|\band\b|,|/|&|\+)\s*", re.IGNORECASE)
_PART_NUMBER = re.compile(r"(?=[a-z0-9-]*\d)(?=[a-z0-9-]*[a-z])[a-z0-9]+(?:-[a-z0-9]+)*", re.IGNORECASE)
_HEAD_ORDER = ("category", "model", "brand", "ip", "store")


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
    spans = [(p.start, p.end) for p in prices]
    mentions = without_overlap(scanner.find(text), spans)
    quantities = [q for q in find_quantities(text) if _stands(q, mentions, spans)]
    mentions = without_overlap(mentions, [(q.start, q.end) for q in quantities])
    mentions = need_by_words(text, _without_specs(text, mentions, quantities), knowledge)
    phrase = read_phrase(text, mentions, knowledge)
    corrections = tuple((m.text, m.correction) for m in phrase.mentions if m.correction)

    known = [_variant(d, text) for d in _known(text, phrase, quantities, knowledge)]
    demands = [*known, *(from_price(p, text) for p in prices)]
    demands.extend(from_quantities(quantities, phrase, knowledge))
    demands.extend(_unknown(text, demands, phrase, quantities, knowledge))
    demands = _with_implied(_with_head(demands, text), phrase, knowledge)
    demands = [*demands, *_excluded_kinds(demands, scanner, knowledge)]
    kind = hard_type(text, demands, phrase, knowledge)
    return Understanding(query, _corrected(normalized, corrections), tuple(demands), corrections, kind)


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
        why = f"a part or accessory for a {_name(phrase.host, knowledge)} that no table knows"
        yield Demand("category", value, start=start, end=phrase.noun[1], confidence=0.5, why=why)
    for m in phrase.mentions:
        if m.table == "need":
            yield from from_need(m, knowledge, named)
        elif m is phrase.head:
            head = replace(from_mention(m), alternatives=_as_well(text, m, phrase))
            if phrase.category != m.canonical:
                head = replace(head, why=f"a {m.text} for a {_name(phrase.host, knowledge)}")
            yield replace(head, canonical=phrase.category)
        elif phrase.head and m.canonical in _as_well(text, phrase.head, phrase):
            continue
        elif m.table == "category" and not m.negated:
            yield _second_thing(m, phrase, knowledge)
        else:
            share = next((q for q in shares if q.end <= m.start and m.start - q.end <= 4), None)
            yield from_mention(m, share)


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


def _name(category: str | None, knowledge: Knowledge) -> str:
    return knowledge.categories[category].name if category else "thing"


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
            why=f"for a {_name(m.canonical, knowledge)}",
        )  # fmt: skip
    return Demand("style_detail", m.text, None, strictness="soft", start=m.start, end=m.end, confidence=0.5)


def _unknown(
    text: str, demands: Sequence[Demand], phrase: Phrase, quantities: Sequence[Quantity], knowledge: Knowledge
) -> Iterator[Demand]:
    """Words that no table knows: a part number, a series' unknown variant, the unknown thing itself, else a wish."""
    taken = {i for d in demands if d.start is not None and d.end is not None for i in range(d.start, d.end)}
    taken.update(i for m in phrase.mentions for i in range(m.start, m.end))
    taken.update(i for q in quantities for i in range(q.start, q.end))
    words = [w for w in tokens(text) if w.start not in taken]
    solved = any(m.table == "need" and knowledge.needs[m.canonical].kind != "jargon" for m in phrase.mentions)
    named = any(
        d.dimension in _HEAD_ORDER and (d.canonical or d.dimension == "category") for d in demands if d.polarity > 0
    )
    found = [*_runs(text, words)]
    thing = _likeliest_thing(text, found)
    for n, (start, end, negated) in enumerate(found):
        value = text[start:end]
        if _PART_NUMBER.fullmatch(value) and len(value) > 3:
            yield Demand("model", value, start=start, end=end, confidence=0.8)
        elif negated:
            yield Demand("style_detail", value, op="not", polarity=-1, start=start, end=end, confidence=0.6)
        elif not named and not solved and n == thing:
            yield Demand("category", value, start=start, end=end, confidence=0.4, why="no table knows these words")
        else:
            yield Demand("special", value, strictness="soft", start=start, end=end, confidence=0.4)


_TAIL = re.compile(r"\b(?:for|from|with|without|over|under|to|in|on|by)\b", re.IGNORECASE)


def _likeliest_thing(text: str, runs: Sequence[tuple[int, int, bool]]) -> int | None:
    """Which run of unknown words names the thing: the last before "for", "with" and the like; never a bare number."""
    worded = [n for n, (start, end, _) in enumerate(runs) if not text[start:end].replace(" ", "").isdigit()]
    before = [n for n in worded if not _TAIL.search(text[: runs[n][0]])]
    return next(iter([*reversed(before), *worded[-1:]]), None)


def _runs(text: str, words: Sequence[Token]) -> Iterator[tuple[int, int, bool]]:
    """Neighbouring unknown words as one; part numbers alone. The flag says that a negation stands before."""
    run: list[Token] = []
    negated = False
    for word in [*words, None]:
        empty = word is None or word.text in _EMPTY
        code = word is not None and not empty and bool(_PART_NUMBER.fullmatch(word.text)) and len(word.text) > 3
        joined = bool(run) and word is not None and not text[run[-1].end : word.start].strip(" -'’&")
        if run and (empty or code or not joined):
            yield run[0].start, run[-1].end, negated
            run, negated = [], False
        if word is None:
            return
        if code:
            start = word.start
            yield start, word.end, negated
            negated = False
        elif empty:
            negated = word.text in _NEGATING
        else:
            run.append(word)


def _with_head(demands: list[Demand], text: str) -> list[Demand]:
    """The demands with the main target first: the thing named, else a model, brand, character or store."""
    for dimension in _HEAD_ORDER:
        fitting = [d for d in demands if d.dimension == dimension and d.polarity > 0]
        best = next(iter(sorted(fitting, key=lambda d: (d.canonical is None, d.latent))), None)
        if best is not None:
            rest = [d for d in demands if d is not best]
            if dimension != "category":
                rest = [d if d.dimension != "category" else replace(d, strictness="soft") for d in rest]
            return [replace(best, role="head", strictness="hard"), *rest]
    return demands


def _with_implied(demands: list[Demand], phrase: Phrase, knowledge: Knowledge) -> list[Demand]:
    """A series implies its brand, and, where it stands alone, the kind of thing it is."""
    out = list(demands)
    brands = {d.canonical for d in demands if d.dimension == "brand"}
    has_kind = any(d.dimension == "category" and d.polarity > 0 for d in demands)
    for d in demands:
        model = (
            (d.canonical or (d.why or "").rpartition("series ")[2]) if d.dimension == "model" and d.polarity > 0 else ""
        )
        series = knowledge.series.get(model)
        if series is None:
            continue
        if series.brand and not brands:
            brands.add(series.brand)
            why = f"{series.name} is by {series.brand}"
            out.append(Demand("brand", series.brand, series.brand, confidence=0.9 * d.confidence, latent=True, why=why))
        if series.category and not has_kind:
            has_kind = True
            why = f"{series.name} is a {_name(series.category, knowledge)}"
            name = _name(series.category, knowledge)
            out.append(Demand("category", name, series.category, confidence=0.9 * d.confidence, latent=True, why=why))
    return [_with_readings(d, phrase, knowledge) for d in out]


def _excluded_kinds(demands: Sequence[Demand], scanner: Scanner, knowledge: Knowledge) -> Iterator[Demand]:
    """Where an excluded quality and the head name a kind of their own ("camera not digital"), that kind is out too."""
    head = demands[0] if demands and demands[0].dimension == "category" else None
    if head is None or head.canonical is None or head.canonical not in knowledge.categories:
        return
    for d in demands:
        if d.polarity > 0 or d.dimension == "category":
            continue
        kinds = scanner.find(f"{d.value} {head.value}", correct=False)
        if len(kinds) == 1 and kinds[0].table == "category" and kinds[0].canonical != head.canonical:
            kind = kinds[0].canonical
            if knowledge.is_a(kind, head.canonical):
                why = f"a {_name(kind, knowledge)} is a kind of its own"
                yield replace(d, dimension="category", canonical=kind, latent=True, why=why)


def _with_readings(d: Demand, phrase: Phrase, knowledge: Knowledge) -> Demand:
    """Other readings of the same words: of the same dimension as alternatives, of another in the note."""
    mention = next((m for m in phrase.mentions if m.start == d.start and m.canonical == d.canonical and m.others), None)
    if mention is None:
        return d
    same = tuple(o.canonical for o in mention.others if o.dimension == d.dimension)
    if d.dimension == "category" and len(phrase.mentions) == 1:  # apple alone: the fruit, or whatever Apple makes
        same += tuple(o.canonical for o in mention.others if o.table == "brand")
    alternatives = tuple(dict.fromkeys((*d.alternatives, *same)))
    other = [f"{o.dimension} {o.canonical}" for o in mention.others if o.dimension != d.dimension]
    why = d.why or (f"can also be {', '.join(other)}" if other else None)
    return replace(d, alternatives=alternatives, why=why)


def _corrected(normalized: str, corrections: Sequence[tuple[str, str]]) -> str:
    """The normalised text with its spelling put right."""
    for typed, read in corrections:
        normalized = re.sub(rf"\b{re.escape(typed)}\b", read, normalized, count=1)
    return normalized
