"""Which of a word's readings holds here, and which word names the thing: English noun phrases, for queries and titles.

The head of a noun phrase stands last ("road bike helmet" is a helmet), and what follows "for" or "with" is not the
thing ("charger for iPhone 13" is a charger). Knows words and the knowledge tables; nothing of items or demands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from lore_mm.knowledge import Knowledge
from lore_mm.mentions import Mention
from lore_mm.phrase_parts import FOR, Parts, in_for, part_of, parts_of
from lore_mm.phrase_readings import goes_with, kind_of, settle
from lore_mm.text import Token, fold, singular, tokens
from lore_mm.values import Quantity

__all__ = ["Phrase", "as_reading", "read_phrase", "read_title", "without_overlap"]

# Parts and companions: behind the name of a thing ("towel rod", "stove insert") such a noun is what is meant.
_PARTS = frozenset(
    "rod insert cover lid valve door stand holder hook filter cartridge cord handle knob hinge topper liner protector "
    "patch pump blade motor wheel base mount bracket cap plug seal spring tip decal label tag mold mould wrapper skirt "
    "organizer organiser case box pouch sleeve cutter opener dispenser warmer cleaner brush kit pin clip hanger "
    "lighter pad mat polish wax extender hose switch button remote bulb battery charger replacement "
    "part accessory spare spares lock drum tray roller rack arm lamp riser cartridge screen dock".split()
)


@dataclass(frozen=True, slots=True)
class Phrase:
    """A text read as a noun phrase. `head` is among `mentions`, or None where no known word names the thing.

    `category` is the head's kind, refined by what it is for ("bag for laptop" is a laptop bag); `host` is that other
    thing. `hosts` are the mentions after "for". `noun`: the span of an unknown word read as the head with its host
    ("iphone 13 case").
    """

    mentions: tuple[Mention, ...]
    head: Mention | None = None
    category: str | None = None
    host: str | None = None
    hosts: tuple[Mention, ...] = ()
    noun: tuple[int, int] | None = None


def read_phrase(
    text: str,
    mentions: Sequence[Mention],
    knowledge: Knowledge,
    strict: bool = False,
    words: Sequence[Token] | None = None,
    numbers: Sequence[tuple[int, int]] = (),
) -> Phrase:
    """Settle readings and find the head.

    `strict`: punctuation and `numbers`, the spans of quantities, part phrases, and the first that names a thing decides
    (titles); else commas are taken lightly (queries). `words` are the text's tokens, where they are at hand.
    """
    words = tokens(text) if words is None else words
    parts = parts_of(text, words, mentions, strict, numbers)
    settled = settle(mentions, parts, knowledge)
    things = [m for m in settled if m.table == "category" and not m.negated]
    head = _head_of_title(text, settled, things, parts, numbers, knowledge) if strict else _head(things, parts)
    hosts = tuple([m for m in settled if m is not head and in_for(m, parts)]) if parts else ()
    host = _host(hosts, settled, head, knowledge)
    if head is not None and in_for(head, parts):
        noun = _noun(text, words, settled, parts, head.canonical, knowledge)
        if noun is not None:
            return Phrase(settled, None, noun[0], head.canonical, (*hosts, head), noun[1])
        if strict and _is_for(head, words, parts):
            return Phrase(settled, None, None, head.canonical, (*hosts, head))
    if head is not None and (part := _part_behind(text, words, settled, parts, head, knowledge, strict)):
        return Phrase(settled, None, part[0], head.canonical, (*hosts, head), part[1])
    if head is not None:
        category = _refined(head.canonical, host, knowledge)
        if host is not None and category == head.canonical and knowledge.is_a(host, category):
            host = None
        return Phrase(settled, head, category, host, hosts)
    if host is not None:
        noun = _noun(text, words, settled, parts, host, knowledge)
        if noun is not None:
            return Phrase(settled, None, noun[0], host, hosts, noun[1])
    return Phrase(settled, None, None, host, hosts)


def read_title(
    title: str, mentions: Sequence[Mention], quantities: Sequence[Quantity], knowledge: Knowledge
) -> tuple[Phrase, list[Quantity]]:
    """A title as a phrase, and those of its quantities that are no part of a series' name ("EOS 5D")."""
    known = [m for m in mentions if m.table in ("series", "need")]
    free = [q for q in quantities if not any(m.start < q.end and q.start < m.end for m in known)]
    spans = [(q.start, q.end) for q in free if q.kind not in ("share", "year")]
    phrase = read_phrase(title, without_overlap(mentions, spans), knowledge, strict=True, numbers=spans)
    return phrase, free


def _head(things: Sequence[Mention], parts: Parts) -> Mention | None:
    """The last thing of the first part that names one."""
    best: Mention | None = None
    for m in things:
        if best is None or part_of(m, parts) == part_of(best, parts):
            best = m
        else:
            break
    return best


def _head_of_title(
    text: str,
    mentions: Sequence[Mention],
    things: Sequence[Mention],
    parts: Parts,
    numbers: Sequence[tuple[int, int]],
    knowledge: Knowledge,
) -> Mention | None:
    """As `_head`, but what a title says the thing has inside ("PC 16 GB RAM 1 TB SSD") names it not, nor does a main
    thing behind its accessory ("sleeve laptop 15"), nor the second of two names ("adapter/inverter").
    """
    best: Mention | None = None
    for m in things:
        if numbers and _is_inside(text, m, mentions, parts, numbers, knowledge):
            continue
        if best is None:
            best = m
        elif part_of(m, parts) != part_of(best, parts):
            break
        elif text[best.end : m.start] != "/" and not goes_with(best.canonical, m.canonical, knowledge):
            best = m
    return best


def _is_inside(
    text: str,
    m: Mention,
    mentions: Sequence[Mention],
    parts: Parts,
    numbers: Sequence[tuple[int, int]],
    knowledge: Knowledge,
) -> bool:
    """True for a part right behind a number, in a title that names a whole it is part of."""
    whole = knowledge.categories[m.canonical].part_of
    if not whole or not any(end <= m.start and text[end : m.start] in ("", " ", "-") for _, end in numbers):
        return False
    kinds = [kind_of(x, knowledge) for x in mentions if x is not m and not in_for(x, parts)]
    return any(kind is not None and knowledge.is_a(kind, w) for kind in kinds for w in whole)


def _is_for(head: Mention, words: Sequence[Token], parts: Parts) -> bool:
    """True for the first thing behind the "for" of a title that has said before what it sells, in words unknown."""
    first = next(w for w in words if parts[w.start] == parts[head.start])
    return first.text in FOR and first is not words[0]


def _host(
    hosts: Sequence[Mention], mentions: Sequence[Mention], head: Mention | None, knowledge: Knowledge
) -> str | None:
    """The thing that the head is for, part of, or used with."""
    before = [m for m in mentions if m is not head and (head is None or m.start < head.start)]
    for m in (*hosts, *before):
        if m.negated:
            continue
        if m.table == "category":
            return m.canonical
        if m.table == "series" and (category := knowledge.series[m.canonical].category):
            return category
    for m in mentions:
        if (
            m.table == "brand"
            and not m.negated
            and (head is None or _is_accessory(head.canonical, m.canonical, knowledge))
        ):
            made = knowledge.brands[m.canonical].makes
            if made and head is not None:
                for thing in made:
                    if _refined(head.canonical, thing, knowledge) != head.canonical:
                        return thing
    if head is None:
        return next((m.canonical for m in mentions if m.table == "category" and not m.negated), None)
    return None


def _is_accessory(category: str, brand: str, knowledge: Knowledge) -> bool:
    made = knowledge.brands[brand].makes
    return not any(knowledge.is_a(category, b) for b in made)


def _refined(category: str, host: str | None, knowledge: Knowledge) -> str:
    """The accessory of that host which is called as the category is: bag + laptop → laptop bag."""
    if host is None or host == category:
        return category
    entry = knowledge.categories[category]
    name = _last_word(entry.name)
    found = _accessory(name, host, knowledge)
    # A phone case for a tablet is a tablet case; a gift card is nobody's network card.
    ending = name if entry.accessory_of else entry.name
    if found is None or not (knowledge.is_a(found, category) or knowledge.categories[found].name.endswith(ending)):
        return category
    return found


def _noun(
    text: str, words: Sequence[Token], mentions: Sequence[Mention], parts: Parts, host: str | None, knowledge: Knowledge
) -> tuple[str, tuple[int, int]] | None:
    """An unknown word that with its host names an accessory: "case" in "iphone 13 case" or "stand for laptop"."""
    if host is None:
        return None
    for word in reversed(words):
        if in_for(word, parts) or _covers(mentions, word):
            continue
        found = _accessory(singular(word.text), host, knowledge)
        if found is not None:
            return found, (word.start, word.end)
    return None


def _part_behind(
    text: str,
    words: Sequence[Token],
    mentions: Sequence[Mention],
    parts: Parts,
    head: Mention,
    knowledge: Knowledge,
    strict: bool,
) -> tuple[str | None, tuple[int, int]] | None:
    """The unknown noun right behind the head that names a part or accessory of it, with its kind where known.

    In a title it may be the last of several unknown words: "laptop privacy filter".
    """
    end = head.end
    for m in mentions:
        if strict and m.start == end + 1 and text[end] == "/":  # "printer/scanner spare part"
            end = m.end
    word: Token | None = None
    for w in words:
        if w.start < end:
            continue
        if text[end : w.start] not in (" ", "-") or _covers(mentions, w) or (word is not None and not w.text.isalpha()):
            break
        word, end = w, w.end
        if not strict:
            break
    if word is None or parts.get(word.start) != parts.get(head.start):
        return None
    noun = singular(word.text)
    found = _accessory(noun, head.canonical, knowledge)
    return (found, (word.start, word.end)) if found or noun in _PARTS else None


def _covers(mentions: Sequence[Mention], word: Token) -> bool:
    return any([m.start <= word.start < m.end for m in mentions])


def _accessory(noun: str, host: str, knowledge: Knowledge) -> str | None:
    candidates = _accessories(knowledge).get(noun)
    if candidates is None:
        return None
    direct = [c for c in candidates if host in knowledge.categories[c].accessory_of]
    wider = [
        c
        for c in candidates
        if any(knowledge.is_a(host, a) or knowledge.is_a(a, host) for a in knowledge.categories[c].accessory_of)
    ]
    return next(iter([*direct, *wider]), None)


@lru_cache(maxsize=4096)
def _last_word(name: str) -> str:
    return singular(tokens(name)[-1].text)


@lru_cache(maxsize=4)
def _accessories(knowledge: Knowledge) -> dict[str, tuple[str, ...]]:
    """Last word of an accessory's names → the accessories, those so called by their own name first."""
    found: dict[str, list[str]] = {}
    entries = [c for c in knowledge.categories.values() if c.accessory_of]
    for names in (lambda c: (c.name,), lambda c: c.terms):
        for c in entries:
            for name in names(c):
                words = tokens(fold(name))
                if words and c.id not in found.setdefault(singular(words[-1].text), []):
                    found[singular(words[-1].text)].append(c.id)
    return {noun: tuple(ids) for noun, ids in found.items()}


def without_overlap(mentions: Sequence[Mention], spans: Sequence[tuple[int, int]]) -> list[Mention]:
    """The mentions that share no character with the spans."""
    if not spans:
        return list(mentions)
    return [m for m in mentions if not any(m.start < end and start < m.end for start, end in spans)]


def as_reading(mention: Mention, table: str) -> Mention | None:
    """A mention in its reading of one table, where it has one."""
    if mention.table == table:
        return mention
    other = next((o for o in mention.others if o.table == table), None)
    return replace(mention.read_as(other)) if other else None
