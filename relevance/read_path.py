"""A model's reply as a path: held to the schema, to the words that stand in the item, and to our own arithmetic.

A model is a stranger that read the pair, perhaps one that a title talked into something. So

- a relation that is not one of its dimension's makes the whole reply unreadable, as does all that is not the
  schema;
- a quote must stand in the item, in the source that is named or another one. What speaks *for* the item (it is the
  very thing, it is near) without a quote that does rests on what the tables find, if that is the same relation, and
  is else taken as not stated: no item is ever near or right because of words that it does not have. What speaks
  *against* it keeps its relation, for what is missing cannot be quoted, and half of its confidence where words were
  made up;
- a picture has no words to hold a model to: what it says it sees is taken as that, where it was shown pictures and the
  dimension can be seen. Where it was not, it may cite what extractors saw;
- numbers are read and compared by the code that mode `rules` uses, on the words that were quoted, and never by the
  model; an item's price is the seller's number, whatever was quoted;
- that nothing says the item has what must not be is a claim without a quote: it stands only if the tables find nothing;
- what the tables know of a demand whatever the item (everyday words, what the query excludes) is not the model's.

The confidence of a leg is the likelihood of the tokens that name its relation. This module knows no engine, no prompt
and no rulebook.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from lore_mm.models.chat import ChatReply
from lore_mm.models.json_reply import fault
from lore_mm.models.reply import ReplyError, parse_reply
from lore_mm.prompts import clean
from lore_mm.types import AttributeValue, Evidence, Grade, ItemFeatures, Leg, MatchPath
from relevance.construct import Step
from relevance.follow import Follower
from relevance.path_schema import GRADE, LENGTHS, LegKind, keys_of, kind_of, offered, reply_schema
from relevance.quotes import ItemWords
from relevance.relations import RELATIONS

__all__ = ["Asked", "ToldPath", "read_path", "speaks_for"]

# What speaks against an item; all else but silence makes it right or near.
_AGAINST = frozenset(
    """
    contradicts violated_negation deviates other family
    co_hyponym related distant accessory main_of_accessory whole likeness ingredient raw unrelated
    brand_parent brand_other brand_other_trade imitation other_model model_accessory
    other_model_year part_of_set far_stage plain
    """.split()
)
# Where another value does not exclude the demanded one, it is nearer than silence.
_OPEN = frozenset("component bundle style spec function audience special store".split())
_SILENT = frozenset(("unstated", "unstated_model_year", "negation_unstated"))
_OF_THE_QUERY = frozenset(("impossible", "words_everyday"))  # what the tables know whatever the item
# Relations that only shares tell from others: of a material, of the pieces of a set.
_BY_SHARE = ("pure", "pure_small", "within", "deviates", "on_a_piece")
# What the tables find that confirms a relation whose words were copied badly; else the very same.
_SAME: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"exact": ("exact", "words_all"), "synonym": ("synonym", "exact")}
)
_MADE_UP = 0.5  # share of confidence left to what speaks against an item with words that it does not have
_UNGROUNDED = 0.25  # how sure one is of silence that a model meant to be something else
_UNREAD = 0.5  # share of confidence left to a number that we cannot read where it is quoted


def speaks_for(dimension: str, relation: str) -> bool:
    """Whether a relation makes an item right or near; the others speak against it, or of silence."""
    if relation == "other" and dimension in _OPEN:
        return True
    return relation not in _AGAINST and relation not in _SILENT


@dataclass(frozen=True, slots=True)
class Asked:
    """What a model was asked about one pair: its steps in the order of the reply's legs, and what it was shown.

    `tables` are the legs of the rules for the same steps; `pictures` is the number of pictures that were shown.
    """

    query_id: str
    steps: tuple[Step, ...]
    tables: tuple[Leg, ...]
    features: ItemFeatures
    follower: Follower
    pictures: int = 0

    @property
    def kinds(self) -> tuple[LegKind, ...]:
        """The kinds of its legs: what the schema of the reply is made from."""
        return tuple(kind_of(step.demand) for step in self.steps)


@dataclass(frozen=True, slots=True)
class ToldPath:
    """A reply that could be read: the path, and the grade that the model would give.

    `claims` counts the legs that rest on words, and `grounded` those of them whose words the item has.
    """

    path: MatchPath
    said: Grade
    claims: int
    grounded: int
    measured: bool  # whether the backend told likelihoods
    length: int  # characters of the reply


def read_path(reply: ChatReply, asked: Asked, words: ItemWords | None = None) -> ToldPath:
    """The path that a reply tells of a pair, without levels.

    `words` are those of the item, to be shared by several replies.

    Raises:
        ReplyError: the reply is an error, no JSON, or breaks the schema; the text says which, and where.
    """
    if reply.error:
        raise ReplyError(reply.error)
    parsed = parse_reply(reply)
    kinds = asked.kinds
    said = parsed.said
    if wrong := fault(said, reply_schema(kinds)):
        raise ReplyError(f"the reply breaks the schema: {wrong}")
    reader = _Reader(asked, words or ItemWords(asked.features))
    legs = []
    for key, step, tables in zip(keys_of(kinds), asked.steps, asked.tables, strict=True):
        span = parsed.inside(parsed.answers[key])["relation"].spans[0]
        legs.append(reader.leg(step, tables, said[key], parsed.likelihood(*span)))
    return ToldPath(
        MatchPath(asked.query_id, asked.features.item.item_id, tuple(legs)),
        Grade[said[GRADE]],
        reader.claims,
        reader.grounded,
        parsed.measured,
        len(reply.text),
    )


class _Reader:
    """Makes the legs of one reply, and counts what they rest on."""

    def __init__(self, asked: Asked, words: ItemWords) -> None:
        self.asked, self.words = asked, words
        self.claims = self.grounded = 0

    def leg(self, step: Step, tables: Leg, said: Mapping[str, Any], sure: float) -> Leg:
        """The leg of one demand; `sure` is the likelihood of its relation."""
        demand, relation = step.demand, said["relation"]
        priced = demand.dimension == "price" and kind_of(demand).numbered and bool(tables.found)
        if priced or tables.relation in _OF_THE_QUERY:
            return tables
        found, quote = clean(said["found"], LENGTHS["found"]), clean(said["quote"], LENGTHS["quote"])
        here = found or quote
        plain = Leg(
            demand=demand,
            attribute=step.attribute,
            relation=relation,
            found=(here,) if here else (),
            confidence=sure * demand.confidence,
            reason=f"{_asks(step)}; {RELATIONS[relation]}" + (f": {here}" if here else ""),
        )
        if relation in _SILENT:
            return self._silent(step, tables, relation, plain.confidence, RELATIONS[relation])
        evidence, values = self._evidence(step, said["source"], quote, found)
        if evidence:
            return self._worked_out(step, tables, replace(plain, evidence=evidence), values)
        if not speaks_for(demand.dimension, relation):
            return replace(plain, confidence=plain.confidence * (_MADE_UP if quote else 1.0))
        if tables.relation in _SAME.get(relation, (relation,)):
            return replace(plain, found=tables.found, evidence=tables.evidence, deviation=tables.deviation)
        reason = f"the model calls it {relation}"
        reason += f' for "{quote}", which the item does not say' if quote else " and shows nothing for it"
        silence = "negation_unstated" if demand.polarity < 0 else "unstated"
        return self._silent(step, tables, silence, _UNGROUNDED * demand.confidence, reason)

    def _silent(self, step: Step, tables: Leg, relation: str, confidence: float, reason: str) -> Leg:
        """A leg without evidence. That an item has nothing of what must not be stands only if the tables agree."""
        if relation == "negation_unstated" and tables.relation == "violated_negation":
            return tables
        return Leg(step.demand, step.attribute, relation, confidence=confidence, reason=f"{_asks(step)}; {reason}")

    def _evidence(
        self, step: Step, source: str, quote: str, found: str
    ) -> tuple[tuple[Evidence, ...], tuple[AttributeValue, ...]]:
        """Where the words stand that a leg rests on, and the extracted values they are; nothing where they do not."""
        places, values = self.words.locate(quote, source, step.demand.dimension) if quote else ((), ())
        self.claims += bool(quote)
        self.grounded += bool(places)
        if not places and source == "image" and self.asked.pictures and "image" in step.sources:
            return (Evidence("image:0", value=found or None),), ()
        return places, values

    def _worked_out(self, step: Step, tables: Leg, leg: Leg, values: Sequence[AttributeValue]) -> Leg:
        """The leg with what we can work out ourselves: the miss of a number, the share of a colour or material."""
        if kind_of(step.demand).numbered:
            return self._measured(step, tables, leg, values)
        seen = any(e.source.startswith("image") for e in leg.evidence)
        if not (seen or step.demand.dimension == "material") or not speaks_for(step.demand.dimension, leg.relation):
            return leg
        if tables.deviation is not None and tables.relation in (leg.relation, *_BY_SHARE):
            return replace(leg, relation=tables.relation, deviation=tables.deviation)
        shares = [a.share for a in values if a.share is not None and a.dimension == step.demand.dimension]
        return replace(leg, deviation=max(0.0, 1.0 - max(shares))) if shares else leg

    def _measured(self, step: Step, tables: Leg, leg: Leg, values: Sequence[AttributeValue]) -> Leg:
        """A numeric leg: the rules' own reading of the quoted words, as if the item said nothing else."""
        quotes = " ".join(e.quote or "" for e in leg.evidence)
        item = replace(self.asked.features.item, title=quotes, description="", brand=None, attributes={}, store=None)
        kept = [a for a in self.asked.features.attributes if a.dimension == "category"]
        view = self.asked.follower.view(ItemFeatures(item, (*kept, *values)))
        ours = self.asked.follower.follow(self.asked.query_id, (step,), view).legs[0]
        if not ours.found or ours.relation not in offered(kind_of(step.demand)):
            if speaks_for(step.demand.dimension, leg.relation) and not any(c.isdigit() for c in quotes):
                reason = f'the model calls it {leg.relation}, and "{quotes}" holds no number'
                return self._silent(step, tables, "unstated", _UNGROUNDED * step.demand.confidence, reason)
            return replace(leg, confidence=leg.confidence * _UNREAD)
        confidence = leg.confidence if ours.relation == leg.relation else ours.confidence
        return replace(ours, evidence=leg.evidence, confidence=confidence)


def _asks(step: Step) -> str:
    return f"asks for {'no ' if step.demand.polarity < 0 else ''}{step.demand.value}"
