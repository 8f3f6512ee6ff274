"""What a model said of a query as demands: held to the schema, to the words that stand in the query, to the tables.

A model is a stranger that read the query, perhaps one that was talked into something. So: words that do not stand in
the query were not said, and what is claimed of them is a guess of the model's (a latent wish, believed half as much) if
the tables know the value, and is dropped if they do not, or if it is a number. A canonical value is one of the tables'
or None; numbers are read from the words by the tables' own readers, and not from the model's arithmetic; knowledge
counts as used only if it was shown. Confidence is the likelihood of the tokens that say it.

It knows no engine and no prompt.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Any

from extractors.query.demands import is_soft
from extractors.query.engine import readable
from extractors.query.implied import excluded_kinds, with_implied
from extractors.query.links import linker_for
from extractors.query.llm_measure import Measures
from extractors.query.llm_schema import LISTS, reply_schema
from extractors.query.readings import confidence, referent
from extractors.query.typed import corrected
from extractors.query.unknown import HEAD_ORDER
from extractors.query.words import Places
from extractors.vlm_read import Reply, ReplyError, parse_reply
from lore_mm.knowledge import Knowledge
from lore_mm.mentions import scanner_for
from lore_mm.models.chat import ChatReply
from lore_mm.models.json_reply import fault
from lore_mm.phrases import Phrase
from lore_mm.prompts import clean
from lore_mm.text import fold, tokens
from lore_mm.types import Demand, OtherReading, Query, Referent, Understanding

__all__ = ["canonical_of", "read_reply"]

_GUESSED = 0.5  # share of confidence left to what does not stand in the query
_ALIKE = 0.6  # least likeness (difflib's ratio) of a misspelt word and the right one
_NAMES = {"category": "categories", "brand": "brands", "model": "series", "color": "colors", "material": "materials"}
_NUMBERED = frozenset(("price", "spec", "bundle", "year"))  # dimensions that are about numbers, said or not


def read_reply(
    query: Query, reply: ChatReply, knowledge: Knowledge, shown: Collection[str], engine: str
) -> Understanding:
    """The understanding that a reply gives of a query; `shown` are the ids of the entries the model was shown.

    Raises:
        ReplyError: the reply is an error, no JSON, breaks the schema, or demands nothing; the text says which.
    """
    if reply.error:
        raise ReplyError(reply.error)
    parsed = parse_reply(reply)
    said = {
        key: list(a.values) if key in LISTS else a.values[0] if len(a.values) == 1 else None
        for key, a in parsed.answers.items()
    }
    if wrong := fault(said, reply_schema()):
        raise ReplyError(f"the reply breaks the schema: {wrong}")
    reader = _Reader(query, knowledge, frozenset(shown), parsed, said)
    demands = reader.demands()
    if not demands:
        raise ReplyError("the model found no demand in the query")
    demands = with_implied(demands, Phrase(()), knowledge)  # a series its brand and kind, as in every engine
    demands += list(excluded_kinds(demands, scanner_for(knowledge), knowledge))
    corrections, linked = reader.corrections(), linker_for(knowledge).link(demands)
    readings = reader.readings(linked)
    return Understanding(
        query=query,
        normalized=corrected(readable(query)[0], corrections),
        demands=linked,
        corrections=corrections,
        hard_type=_consistent(str(said["hard_type"]), linked),
        referent=reader.referent(linked),
        readings=readings,
        confidence=confidence(linked, readings),
        engine=engine,
    )


@dataclass
class _Reader:
    """One reply being read: what it said, and where its words stand."""

    query: Query
    knowledge: Knowledge
    shown: frozenset[str]
    reply: Reply
    said: Mapping[str, Any]

    def __post_init__(self) -> None:
        self.places = Places(self.query.text)
        head = self.said["head"]
        named = head["canonical"] if head and head["dimension"] == "category" else None
        category = canonical_of("category", named, head["words"], self.knowledge) if named else None
        self.measures = Measures(self.query.text, category, self.knowledge)

    def demands(self) -> list[Demand]:
        """Head first, then what is said, then what is guessed or implied; none twice."""
        said: list[Demand] = []
        if head := self.said["head"]:
            made = self._stated({**head, "force": "wanted", "measure": None}, self._likelihood("head"))
            said += [replace(d, role="head", strictness="hard", knowledge=self._cited(head)) for d in made]
        for i, one in enumerate(self.said["demands"]):
            said += self._stated(one, self._likelihood("demands", i))
        implied = [d for i, one in enumerate(self.said["implied"]) for d in self._implied(one, i)]
        if any(d.dimension == "category" and d.canonical and not d.latent and d.polarity > 0 for d in said):
            implied = [d for d in implied if d.dimension != "category"]  # the query names the thing itself
        return _with_head(_once([*said, *implied]))

    def corrections(self) -> tuple[tuple[str, str], ...]:
        """Words of the query that are misspelt, each with the right ones; nothing known and no part number."""
        scanner = scanner_for(self.knowledge)
        places = Places(self.query.text)
        found: list[tuple[str, str]] = []
        for one in self.said["corrections"]:
            typed, read = one["typed"].strip(), clean(one["read"])
            span = places.take(typed)
            known = all(scanner.knows(word.text) for word in tokens(typed))
            alike = SequenceMatcher(None, fold(typed), fold(read), autojunk=False).ratio()
            if span and not known and fold(typed) != fold(read) and alike >= _ALIKE:
                if not any(c.isdigit() for c in typed + read):
                    found.append((self.query.text[slice(*span)], read))
        return tuple(found)

    def referent(self, demands: Sequence[Demand]) -> Referent | None:
        """The tables' word, but the model's for a kind of thing that no table knows."""
        head = demands[0] if demands[0].role == "head" else None
        said = self.said["head"]
        if said and head and head.dimension == "category" and head.canonical is None and not head.latent:
            told: Referent = said["referent"]
            return told
        return referent(head, self.knowledge)

    def readings(self, demands: Sequence[Demand]) -> tuple[OtherReading, ...]:
        """Other things that words of the query can mean, as far as the tables know them; no demand again."""
        found: dict[tuple[str, str, int], OtherReading] = {}
        for i, one in enumerate(self.said["readings"]):
            span = Places(self.query.text).take(one["words"])
            canonical = canonical_of(one["dimension"], one["canonical"], one["words"], self.knowledge)
            if span is None or canonical is None:
                continue
            over = [d for d in demands if d.start is not None and d.start < span[1] and span[0] < (d.end or 0)]
            if any((d.dimension, d.canonical) == (one["dimension"], canonical) for d in over):
                continue
            left = 1 - max((d.confidence for d in over), default=0.0)
            sure = min(self._likelihood("readings", i), left)
            words = self.query.text[slice(*span)]
            reading = OtherReading(one["dimension"], words, canonical, *span, confidence=sure)
            found.setdefault((one["dimension"], canonical, span[0]), reading)
        return tuple(found.values())

    def _likelihood(self, key: str, i: int = 0) -> float:
        spans = self.reply.answers[key].spans
        return self.reply.likelihood(*spans[i]) if i < len(spans) else 0.0

    def _cited(self, one: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for name in one["knowledge"] if name in self.shown))

    def _stated(self, one: Mapping[str, Any], sure: float) -> Iterator[Demand]:
        """The demand of some words, several where they hold several numbers."""
        dimension, words = one["dimension"], one["words"]
        canonical = canonical_of(dimension, one["canonical"], words, self.knowledge)
        excluded = one["force"] == "excluded"
        span = self.places.take(words)
        if span is None:
            if canonical is not None and not excluded and one["measure"] is None and dimension not in _NUMBERED:
                why = "the model's guess: the query does not say so"
                value = canonical.replace("_", " ")
                yield Demand(
                    dimension, value, canonical, strictness="soft", confidence=sure * _GUESSED, latent=True, why=why
                )
            return
        soft = one["force"] == "wished" or (not excluded and canonical is not None and is_soft(dimension, canonical))
        value = self.query.text[slice(*span)]
        demand = Demand(
            dimension=dimension,
            value=value,
            canonical=canonical,
            op="not" if excluded else "eq",
            polarity=-1 if excluded else 1,
            strictness="soft" if soft else "hard",
            start=span[0],
            end=span[1],
            confidence=sure,
        )
        yield from self.measures.measured(demand, one["measure"])

    def _implied(self, one: Mapping[str, Any], i: int) -> Iterator[Demand]:
        """What the query needs and does not say: the thing itself must be so, all else is a wish."""
        dimension = one["dimension"]
        canonical = canonical_of(dimension, one["canonical"], "", self.knowledge)
        if dimension in _NUMBERED:
            return
        sure, cited = self._likelihood("implied", i), self._cited(one)
        value = clean(one["canonical"]).replace("_", " ") if canonical is None else canonical.replace("_", " ")
        yield Demand(
            dimension=dimension,
            value=value,
            canonical=canonical,
            strictness="hard" if dimension == "category" and canonical else "soft",
            confidence=sure if canonical else sure * _GUESSED,
            latent=True,
            why=clean(one["why"]),
            alternatives=tuple(self._as_well(dimension, canonical, cited)),
            knowledge=cited,
        )

    def _as_well(self, dimension: str, canonical: str | None, cited: Collection[str]) -> Iterator[str]:
        """What meets the need as well, by the entries that the model goes by."""
        for name in cited:
            need = self.knowledge.needs.get(name.removeprefix("needs/"))
            for d in need.demands if need else ():
                if d.dimension == dimension and canonical in (values := (d.value, *d.alternatives)):
                    yield from (value for value in values if value != canonical)


def canonical_of(dimension: str, said: str | None, words: str, knowledge: Knowledge) -> str | None:
    """The tables' value for what a model said and the words it said it of; None where they know none.

    What the words mean by themselves goes before what the model says, unless that is a kind of it ("bag": laptop_bag).
    """
    own = _reading(dimension, words, knowledge)
    named = None
    if said is not None:
        name = said.strip().rpartition("/")[2].removeprefix(f"{dimension}.")
        named = name if _is_known(dimension, name, knowledge) else _reading(dimension, name, knowledge)
    if own is None or (named and dimension == "category" and knowledge.is_a(named, own)):
        return named
    return own


def _is_known(dimension: str, name: str, knowledge: Knowledge) -> bool:
    table = _NAMES.get(dimension)
    return name in getattr(knowledge, table) if table else (dimension, name) in knowledge.terms


def _reading(dimension: str, words: str, knowledge: Knowledge) -> str | None:
    """What the words as a whole name on that dimension."""
    text = words.replace("_", " ").strip()
    whole = tokens(text)
    if not whole:
        return None
    for m in scanner_for(knowledge).find(text)[:1]:
        if m.start <= whole[0].start and m.end >= whole[-1].end:
            readings = [(m.dimension, m.canonical), *((o.dimension, o.canonical) for o in m.others)]
            return next((canonical for which, canonical in readings if which == dimension), None)
    return None


def _once(demands: Sequence[Demand]) -> list[Demand]:
    """Each demand once: the first, and what is said before what is guessed."""
    kept: dict[tuple[Any, ...], Demand] = {}
    for d in sorted(demands, key=lambda d: d.latent):
        value = d.canonical or fold(d.value)
        kept.setdefault((d.dimension, value, d.number, d.number_high, d.polarity if not d.latent else 1), d)
    return list(kept.values())


def _with_head(demands: list[Demand]) -> list[Demand]:
    """The head first and only one; where the model named none, what the order of dimensions makes it."""
    head = next((d for d in demands if d.role == "head"), None)
    for dimension in HEAD_ORDER if head is None else ():
        fitting = [d for d in demands if d.dimension == dimension and d.polarity > 0]
        head = min(fitting, key=lambda d: (d.canonical is None, d.latent), default=None)
        if head is not None:
            break
    if head is None:
        return demands
    rest = [replace(d, role="modifier") if d.role == "head" else d for d in demands if d is not head]
    return [replace(head, role="head", strictness="hard"), *rest]


def _consistent(hard_type: str, demands: Sequence[Demand]) -> str:
    """The type, unless the demands deny it: an exclusion that there is not, or one that goes before what was said."""
    excluded = any(d.polarity < 0 for d in demands)
    if excluded and hard_type in ("other", "multi_attribute"):
        return "negative_constraint"
    if hard_type == "negative_constraint" and not excluded:
        hard = {d.dimension for d in demands if d.strictness == "hard" and not d.latent}
        return "multi_attribute" if len(hard) >= 3 else "other"
    return hard_type
