"""The few types that travel inside a stage: frozen, one per row.

Between stages and on disk the same facts travel as Arrow tables (`lore_mm.tables`). This module knows nothing of
files, models or stores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType
from typing import Literal

__all__ = [
    "AttributeValue",
    "Demand",
    "Evidence",
    "Grade",
    "Item",
    "ItemFeatures",
    "Judgment",
    "Leg",
    "MatchPath",
    "OtherReading",
    "Provenance",
    "Query",
    "Referent",
    "Understanding",
]

Status = Literal["value", "not_stated", "not_applicable", "conflict", "failed"]
RowStatus = Literal["ok", "failed", "skipped"]
Kind = Literal["inherent", "derived"]
Operator = Literal["eq", "range", "at_least", "at_most", "share", "not"]
Strictness = Literal["hard", "soft"]
Role = Literal["head", "modifier"]
Referent = Literal["precise", "generic"]


class Grade(IntEnum):
    """The four relevance levels of RAIR: L1 unrelated, L2 a demand is broken, L3 near, L4 satisfies."""

    L1 = 1
    L2 = 2
    L3 = 3
    L4 = 4

    @property
    def relevant(self) -> bool:
        """The binary collapse: {L3, L4} is relevant."""
        return self >= Grade.L3

    def __str__(self) -> str:
        return self.name


_NO_ATTRIBUTES: Mapping[str, tuple[str, ...]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Item:
    """A shop item as the seller gave it. `attributes`: the seller's own fields, name → values."""

    item_id: str
    title: str
    description: str = ""
    category: str | None = None  # the seller's category path, "A > B > C"
    brand: str | None = None
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _NO_ATTRIBUTES)
    price: float | None = None
    currency: str | None = None
    images: tuple[str, ...] = ()  # paths relative to the catalogue's folder, or URLs
    store: str | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """A search query; `frequency` is its count in the log, where known."""

    query_id: str
    text: str
    frequency: float | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where a value was read.

    `source` is title | text | given.<key> | image:<i>. Text evidence carries the words exactly as they stand and their
    span in characters [start, end); image evidence may carry a region (x0, y0, x1, y1) in shares of width and height.
    """

    source: str
    quote: str | None = None
    start: int | None = None
    end: int | None = None
    region: tuple[float, float, float, float] | None = None
    value: str | None = None  # what this source says, where sources disagree
    extractor: str | None = None
    confidence: float = 1.0  # in [0, 1]


@dataclass(frozen=True, slots=True)
class AttributeValue:
    """One value of one attribute of an item. A multi-valued attribute is several of these with the same name.

    `share` is the part of the item it covers, in [0, 1]: area of a colour, fraction of a material. A status other than
    `value` carries no value, but for `conflict`, which carries the winning one and all evidence.
    """

    name: str
    dimension: str  # one of the 18 demand dimensions
    value: str | None
    status: Status = "value"
    number: float | None = None
    unit: str | None = None
    share: float | None = None
    kind: Kind = "inherent"
    confidence: float = 1.0  # in [0, 1]
    extractor: str = ""
    evidence: tuple[Evidence, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ItemFeatures:
    """An item with what was extracted from it: what a judge sees."""

    item: Item
    attributes: tuple[AttributeValue, ...] = ()
    input_sha: str = ""

    def of(self, dimension: str) -> tuple[AttributeValue, ...]:
        """The values (status value or conflict) of one demand dimension, most confident first."""
        found = [a for a in self.attributes if a.dimension == dimension and a.status in ("value", "conflict")]
        return tuple(sorted(found, key=lambda a: -a.confidence))


@dataclass(frozen=True, slots=True)
class Demand:
    """One thing a query asks for, on one of the 18 dimensions.

    `canonical` is the value in the words of the knowledge tables (a category id, a brand's name, a colour …), None
    where the words are not known. `op` with `number` (and `number_high` for a range) and `unit` holds numeric demands
    in the quantity's base unit. Negated demands have polarity -1. [start, end) are characters of the query as it was
    typed; a latent demand (implied, not said) has none.
    """

    dimension: str
    value: str
    canonical: str | None = None
    op: Operator = "eq"
    number: float | None = None
    number_high: float | None = None
    unit: str | None = None
    polarity: Literal[1, -1] = 1
    strictness: Strictness = "hard"
    role: Role = "modifier"
    start: int | None = None
    end: int | None = None
    confidence: float = 1.0
    latent: bool = False
    why: str | None = None  # the knowledge used, in a sentence, for a latent or corrected demand
    alternatives: tuple[str, ...] = ()  # other canonical values that satisfy it as well (readings, solutions)
    links: tuple[str, ...] = ()  # what it is elsewhere: shopify:aa-8-8, schema:footwear/closure=lace-up, size:EU=42
    knowledge: tuple[str, ...] = ()  # the entries used: needs/keep_coffee_hot, series/iPhone 13


@dataclass(frozen=True, slots=True)
class OtherReading:
    """Another way in which words of a query can be meant ("apple": the fruit, or the brand).

    [start, end) are characters of the query as it was typed; `confidence` is that of this reading, in [0, 1].
    """

    dimension: str
    value: str  # the words
    canonical: str | None
    start: int | None = None
    end: int | None = None
    confidence: float = 0.0
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Understanding:
    """A query understood: its demands, head first. status failed carries an error and no demands.

    `referent`: whether the head names one everyday thing ("lipstick") or a class without one ("clothes"); None without
    a head. `engine` names what read it: knowledge, tagger, llm:…
    """

    query: Query
    normalized: str
    demands: tuple[Demand, ...] = ()
    corrections: tuple[tuple[str, str], ...] = ()  # (as typed, as read)
    hard_type: str = "other"  # see lore_mm/schemas/dimensions.toml [hard_types]
    status: RowStatus = "ok"
    error: str | None = None
    referent: Referent | None = None
    readings: tuple[OtherReading, ...] = ()
    confidence: float = 0.0  # that the demands are what was meant, in [0, 1]
    engine: str = ""

    @property
    def head(self) -> Demand | None:
        """The main target of the query, where one was found."""
        return next((d for d in self.demands if d.role == "head"), None)


@dataclass(frozen=True, slots=True)
class Leg:
    """One step of a path: a demand, the attribute that would answer it, what was found there, and the verdict.

    `relation` names how found relates to demanded (exact, synonym, hyponym, co_hyponym … : relevance/rules); the level
    and rule id are looked up from (dimension, relation) in the rulebook by `decide`, never invented by the follower.
    """

    demand: Demand
    attribute: str
    relation: str
    found: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    confidence: float = 1.0
    deviation: float | None = None  # relative numeric distance, or missing share, where the relation has one
    level: Grade | None = None
    rule_id: str | None = None
    reason: str = ""  # one sentence for a reader


@dataclass(frozen=True, slots=True)
class MatchPath:
    """The legs of one pair, head first."""

    query_id: str
    item_id: str
    legs: tuple[Leg, ...]


@dataclass(frozen=True, slots=True)
class Provenance:
    """What made a row: enough to tell whether it is stale. Empty strings where a part does not apply."""

    run_id: str = ""
    maker: str = ""  # extractor, model or judge mode, with its version
    input_sha: str = ""
    settings_sha: str = ""  # schema, prompt, rulebook and knowledge together


@dataclass(frozen=True, slots=True)
class Judgment:
    """How relevant an item is to a query, and why. A pair that could not be judged has grade None and an error.

    `probabilities` are P(L1..L4), summing to 1; `score` is the expected grade scaled to [0, 1]. `said` is the grade a
    model named itself, where the grade is the rulebook's on the model's path: the two may disagree. `samples` are the
    grades of its several answers, where it was asked for more than one; an answer that could not be read is none of
    them.
    """

    query_id: str
    item_id: str
    grade: Grade | None
    query: str = ""
    probabilities: tuple[float, float, float, float] | None = None
    score: float | None = None
    path: MatchPath | None = None
    failed_dimensions: tuple[str, ...] = ()
    rule_ids: tuple[str, ...] = ()
    said: Grade | None = None
    samples: tuple[Grade, ...] = ()
    mode: str = "rules"
    status: RowStatus = "ok"
    error: str | None = None
    provenance: Provenance = Provenance()
