"""Demands of the words that the tables know: the thing, its qualities, its maker and model, and what it is for.

Which reading holds, and which word is the head, is settled before (`lore_mm.phrases`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from extractors.query.demands import from_mention, from_need, share_of, with_share
from extractors.query.implied import a_kind
from lore_mm.entries import entry_id
from lore_mm.knowledge import Knowledge
from lore_mm.mentions import Mention, scanner_for
from lore_mm.phrases import Phrase
from lore_mm.text import fold, tokens
from lore_mm.types import Demand
from lore_mm.values import Quantity

__all__ = ["known_terms"]

_JOINED = re.compile(r"\s*(?:\bor\b|\band\b|,|/|&|\+)\s*", re.IGNORECASE)


def known_terms(text: str, phrase: Phrase, quantities: Sequence[Quantity], knowledge: Knowledge) -> Iterator[Demand]:
    """The demands of the phrase's mentions, in their order; an unnamed part or accessory first."""
    shares = [q for q in quantities if q.kind == "share" and q.number <= 100]
    as_well = () if phrase.head is None else _as_well(text, phrase.head, phrase)
    if phrase.noun is not None:
        yield _noun(text, phrase, phrase.noun, knowledge)
    for m in phrase.mentions:
        if m.table == "need":
            yield from from_need(m, knowledge, phrase.category is not None)
            if knowledge.needs[m.canonical].kind == "solution":
                yield from _said_in(m, knowledge)
        elif m is phrase.head:
            yield _head(m, phrase, as_well, knowledge)
        elif m.canonical in as_well:
            continue
        elif m.table == "category" and not m.negated:
            yield _second_thing(m, phrase, knowledge)
        elif m.table == "series":
            yield from _maker_and_model(m, text, knowledge)
        else:
            share = share_of(m, text, shares)
            yield from_mention(m) if share is None else with_share(from_mention(m), m, share, text)


def _head(m: Mention, phrase: Phrase, as_well: tuple[str, ...], knowledge: Knowledge) -> Demand:
    """The thing itself, as its kind for what it is for: the bag of "bag for laptop" is a laptop bag."""
    why = None if m.correction is None else f"{m.text!r} read as {m.correction!r}"
    if phrase.category != m.canonical:
        why = f"a {m.text} for {a_kind(phrase.host, knowledge)}"
    return Demand(
        m.dimension, m.text, phrase.category, role="head", start=m.start, end=m.end, confidence=m.confidence, why=why,
        alternatives=as_well, knowledge=() if m.correction is None else (entry_id(m.dimension, m.canonical),),
    )  # fmt: skip


_WISHED = frozenset(("audience", "season", "style"))  # that it is a gift, no item says


def _said_in(need: Mention, knowledge: Knowledge) -> Iterator[Demand]:
    """What the words of a problem or occasion say by themselves: the mom of "gift for mom"."""
    scanner = scanner_for(knowledge)
    for word in tokens(need.text):
        found = scanner.find(need.text[word.start : word.end], correct=False)
        if len(found) == 1 and found[0].dimension in _WISHED:
            start, end = need.start + word.start, need.start + word.end
            yield replace(from_mention(found[0]), strictness="soft", start=start, end=end)


def _noun(text: str, phrase: Phrase, span: tuple[int, int], knowledge: Knowledge) -> Demand:
    """The head that an unknown noun and its host name: the case of "iphone 13 case", the rod of "towel rod"."""
    start, end = span
    if phrase.category is not None:
        word = knowledge.categories[phrase.category].name.split()[-1]
        why = f"the {word} of {a_kind(phrase.host or phrase.category, knowledge)}"
        return Demand("category", text[start:end], phrase.category, start=start, end=end, confidence=0.9, why=why)
    start = min(start, min((m.start for m in phrase.hosts), default=start))
    why = f"a part or accessory for {a_kind(phrase.host, knowledge)} that no table knows"
    return Demand("category", text[start:end], start=start, end=end, confidence=0.5, why=why)


_SPACE = re.compile(r"\s+")
_NEXT_NUMBER = re.compile(
    r"[ -]?(?!(?:19|20)\d\d\b)(?:[a-z]?\d{1,4}[a-z]?)(?![\w%\"”″.])(?!\s?(?:inch|in|gb|tb|cm|mm|mah|pack|w|x)\b)",
    re.IGNORECASE,
)


def _maker_and_model(m: Mention, text: str, knowledge: Knowledge) -> Iterator[Demand]:
    """A series; a maker's name before it is its own demand ("samsung s24"), unless in its name ("apple watch").

    With a number that no table knows ("iphone 17") it is a model known by its words.
    """
    series = knowledge.series[m.canonical]
    maker = _plain(series.brand or "")
    d = from_mention(m)
    if maker and not _plain(series.name).startswith(maker):
        behind = next((gap for gap in _SPACE.finditer(m.text) if _plain(m.text[: gap.start()]) == maker), None)
        if behind is not None:
            end, start = m.start + behind.start(), m.start + behind.end()
            yield replace(d, dimension="brand", value=text[m.start : end], canonical=series.brand, end=end)
            d = replace(d, value=text[start : m.end], start=start)
    more = None if d.canonical is None or d.canonical[-1].isdigit() else _NEXT_NUMBER.match(text, m.end)
    if more is not None and d.start is not None:
        why = f"an unknown model of the series {d.canonical}"
        used = (f"series/{d.canonical}",)
        d = replace(d, value=text[d.start : more.end()], canonical=None, end=more.end(), why=why, knowledge=used)
    yield d


def _plain(name: str) -> str:
    return fold(name).replace("'", "").replace(".", "")


def _as_well(text: str, head: Mention, phrase: Phrase) -> tuple[str, ...]:
    """Other kinds of thing that would do: "tablet or laptop", "keyboard and mouse"."""
    found: list[str] = []
    place = head.end
    for m in phrase.mentions:
        if m.start >= place and _JOINED.fullmatch(text[place : m.start]) and m.table == "category" and not m.negated:
            found.append(m.canonical)
            place = m.end
    return tuple(found)


def _second_thing(m: Mention, phrase: Phrase, knowledge: Knowledge) -> Demand:
    """A kind of thing that is not the head: what it is for or goes with, or else what is on it, or in it."""
    if m in phrase.hosts or (m.canonical == phrase.host and _goes_with(phrase.category, m.canonical, knowledge)):
        return Demand(
            "component", m.text, "accessory", strictness="soft", start=m.start, end=m.end, confidence=0.7,
            why=f"for {a_kind(m.canonical, knowledge)}",
        )  # fmt: skip
    return Demand("style_detail", m.text, None, strictness="soft", start=m.start, end=m.end, confidence=0.5)


def _goes_with(category: str | None, host: str, knowledge: Knowledge) -> bool:
    """True for a part or accessory of that kind of host, and for what no table knows."""
    entry = knowledge.categories.get(category or "")
    if entry is None:
        return True
    return any(knowledge.is_a(host, main) or knowledge.is_a(main, host) for main in entry.accessory_of)
