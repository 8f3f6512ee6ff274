"""A model's chain as a path: its legs held to the query that was understood and to the words that stand in the item.

A chain is a stranger's. What it asks for is matched with the demands of the query, whose readings, numbers and
confidence are then taken; a demand of its own that the query does not have stays as it is and is counted. What it
quotes is looked for in the item, in the source that is named first; words that the item does not have are dropped with
their place, take half of the leg's confidence, and are counted. Of a picture that was shown, what it sees is believed.

How sure a leg is comes from the likelihoods of the tokens that name its relation and its level. This module knows no
engine, no prompt and no rulebook.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lore_mm.errors import InputError
from lore_mm.models.chat import ChatReply
from lore_mm.models.reply import UNMEASURED, Reply, ReplyError, measured
from lore_mm.prompts import clean
from lore_mm.text import tokens
from lore_mm.types import Demand, Evidence, Leg, Understanding
from relevance.chain import Chain, read_chain
from relevance.paths import write_demand
from relevance.quotes import ItemWords
from relevance.relations import RELATIONS

__all__ = ["HeardChain", "hear"]

_MADE_UP = 0.5  # share of confidence left to a leg with words that the item does not have
_LONGEST = 200  # characters of a text in a leg


@dataclass(frozen=True, slots=True)
class HeardChain:
    """A chain that could be read. `legs` are those of a path without levels, empty below the depth of rules.

    `sure`, in [0, 1], is the confidence in its least sure leg, or in the grade; one half at most where no leg explains
    the grade. `claims` counts the
    legs that rest on words, `grounded` those of them whose words the item has, and `strange` the demands that the query
    does not have. `length` is that of the reply, in characters.
    """

    chain: Chain
    legs: tuple[Leg, ...]
    sure: float
    claims: int
    grounded: int
    strange: int
    length: int


def hear(reply: ChatReply, understanding: Understanding, words: ItemWords, pictures: int = 0) -> HeardChain:
    """What a reply says of a pair; `words` are those of the item, `pictures` were shown.

    Raises:
        ReplyError: the reply is an error or no chain; the text says which, and where.
    """
    if reply.error:
        raise ReplyError(reply.error)
    text = reply.text.strip()
    if not text:
        raise ReplyError("the reply is empty")
    try:
        chain = read_chain(text)
    except InputError as error:
        cut = ", cut off at its longest" if reply.finish == "length" else ""
        raise ReplyError(f"the reply is no chain{cut}: {error}") from None
    lines = _lines(text, measured(reply), reply.text.index(text))
    said = lines[-1 if chain.order == "think_first" else 0]
    sure = said.likelihood(str(chain.grade), len("grade "))
    if chain.depth != "rules" or not chain.legs:
        return HeardChain(chain, (), min(sure, UNMEASURED), 0, 0, 0, len(reply.text))
    reader = _Reader(understanding, words, pictures)
    first = 1 if chain.order == "think_first" else 2
    legs = []
    for leg, line in zip(chain.legs, lines[first:], strict=False):
        asked = len(write_demand(leg)) + len(": ")
        level = line.text.rindex(f"=> {leg.level}") + len("=> ")
        legs.append(reader.leg(leg, line.likelihood(leg.relation, asked) * line.likelihood(str(leg.level), level)))
    own = [leg.confidence / leg.demand.confidence for leg in legs if leg.demand.confidence]
    return HeardChain(
        chain, tuple(legs), min([sure, *own]), reader.claims, reader.grounded, reader.strange, len(reply.text)
    )


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of a reply, and where it begins there."""

    text: str
    start: int
    reply: Reply

    def likelihood(self, words: str, at: int) -> float:
        """That of the tokens of some words, which stand `at` a character of the line."""
        return self.reply.likelihood(self.start + at, self.start + at + len(words))


def _lines(text: str, reply: Reply, start: int) -> list[_Line]:
    """The lines of a text that begins at a character of the reply."""
    lines = []
    for line in text.split("\n"):
        lines.append(_Line(line, start, reply))
        start += len(line) + 1
    return lines


class _Reader:
    """Makes the legs of one chain, and counts what they rest on."""

    def __init__(self, understanding: Understanding, words: ItemWords, pictures: int) -> None:
        self.understanding, self.words, self.pictures = understanding, words, pictures
        self.claims = self.grounded = self.strange = 0

    def leg(self, leg: Leg, sure: float) -> Leg:
        """A leg of the chain as one of a path; `sure` is the likelihood of its relation and level."""
        demand = self._demand(leg.demand)
        found = tuple(clean(one, _LONGEST) for one in leg.found)
        claimed = leg.evidence[0] if leg.evidence else Evidence("")
        quote = clean(claimed.quote or " ".join(found), _LONGEST)
        reason = f"asks for {'no ' if demand.polarity < 0 else ''}{demand.value}; {RELATIONS[leg.relation]}"
        places: tuple[Evidence, ...] = ()
        if quote:
            reason += f": {', '.join(found) or quote}"
            places = self._places(claimed, quote, found, demand.dimension)
            self.claims += 1
            self.grounded += bool(places)
            if not places:
                sure *= _MADE_UP
                reason += f'; the item does not say "{quote}"'
        return replace(
            leg,
            demand=demand,
            attribute=clean(leg.attribute, _LONGEST),
            found=found,
            evidence=places,
            confidence=sure * demand.confidence,
            level=None,
            rule_id=None,
            reason=reason,
        )

    def _demand(self, told: Demand) -> Demand:
        """The query's own demand that is meant; what is told, where the query has none such."""
        for one in self.understanding.demands:
            if (one.dimension, one.polarity) == (told.dimension, told.polarity):
                by_meaning = told.canonical is not None and told.canonical == one.canonical
                if by_meaning or _words(told.value) == _words(one.value):
                    return one
        self.strange += 1
        canonical = None if told.canonical is None else clean(told.canonical, _LONGEST)
        return replace(told, value=clean(told.value, _LONGEST), canonical=canonical)

    def _places(self, claimed: Evidence, quote: str, found: tuple[str, ...], dimension: str) -> tuple[Evidence, ...]:
        """Where the words stand that a leg rests on; what is seen in a picture that was shown stands there."""
        kind = claimed.source.partition(".")[0].partition(":")[0]
        places, _ = self.words.locate(quote, kind, dimension)
        if not places and kind == "image" and self.pictures:
            return (Evidence("image:0", value=", ".join(found) or None),)
        return places


def _words(text: str) -> list[str]:
    return [token.text for token in tokens(text)]
