"""What a model is told of a pair: the demands, the rules and the knowledge retrieved for each, and the item.

Values for a prompt, cleaned, and bounded by a stated budget of characters; templates quote them. They fall into three
parts that never mix: what is the same for all pairs (`shared`), what depends on the query alone (`of_query`), and what
depends on the item (`of_item`), so that a prompt can put them in this order and an engine that keeps prefixes reads
the first two once. The rules that are retrieved are those of a demand's dimension that could decide it, whatever the
item; only `findings`, the rules' own reading of the item, comes from the path. It knows no prompt and no model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from lore_mm.entries import entry_id, entry_of, reading_of
from lore_mm.fingerprint import sha_of
from lore_mm.knowledge import Knowledge
from lore_mm.prompts import clean
from lore_mm.schema import load_dimensions
from lore_mm.types import AttributeValue, Demand, Item, ItemFeatures, MatchPath, Understanding
from relevance.construct import construct
from relevance.relations import ANY, LEGAL, RELATIONS
from relevance.rules import Rule, Rulebook

__all__ = ["BUDGETS", "EXAMPLE", "Budget", "Dossiers", "rules_for"]

_VERSION = "1"


@dataclass(frozen=True, slots=True)
class Budget:
    """How much is told: numbers of things, and characters of each, after cleaning."""

    query: int = 200  # characters of the query
    demands: int = 10
    rules: int = 12  # a demand
    entries: int = 2  # lines of the tables, a demand
    readings: int = 2  # other things that the query's words can mean
    sentence: int = 160  # characters of a rule, an entry, a reason
    title: int = 250
    text: int = 600  # characters of the description
    fields: int = 8  # the seller's own
    attributes: int = 16  # what was extracted
    general: int = 40  # rules of any dimension, and of what nobody asked for
    value: int = 100  # characters of a value; names have half

    @property
    def of_query(self) -> int:
        """The most characters that the values of a query can have together."""
        demand = 3 * self.value + self.sentence * (1 + self.rules + self.entries)
        return self.query + 4 * self.value + self.demands * demand + self.readings * (self.value + self.sentence)

    @property
    def of_item(self) -> int:
        """The most characters that the values of an item can have together, with the findings."""
        named = 3 * self.value
        found = self.demands * (3 * self.value + self.sentence)
        return self.title + self.text + 4 * self.value + (self.fields + self.attributes) * named + found


# by the name of the prompt that a model was made for (see lore_mm/models/catalogue.toml)
BUDGETS: Mapping[str, Budget] = MappingProxyType(
    {
        "full": Budget(),
        "compact": Budget(
            demands=6, rules=3, entries=1, readings=0, title=200, text=200, fields=4, attributes=6, value=60, general=0
        ),
        "tiny": Budget(
            demands=6, rules=0, entries=0, readings=0, title=120, text=0, fields=0, attributes=5, value=80, general=0
        ),
    }
)
# What nobody asked for, and rules on any dimension, can come up with every pair.
_UNASKED = ("second_rate", "niche")
_NEGATED = frozenset(("satisfied_negation", "negation_unstated", "violated_negation"))
_BY_WORDS = frozenset(("words_all", "words_some", "words_none", "words_everyday"))
_NUMERIC = frozenset(
    ("within", "deviates", "one_step", "multiple", "other_count", "other_currency", "other_year", "other_model_year")
)
# Shown of every item after what is demanded.
_ALWAYS = ("category", "brand", "material", "season", "audience")
_STEPS = 12  # attributes of a schema that may answer one demand


class Dossiers:
    """Makes the values for prompts, over one set of tables and one rulebook."""

    def __init__(self, knowledge: Knowledge, rulebook: Rulebook, budget: Budget = BUDGETS["full"]) -> None:
        self.knowledge, self.rulebook, self.budget = knowledge, rulebook, budget
        self.sha = sha_of(["dossier", _VERSION, asdict(budget), knowledge.sha, rulebook.sha])
        unasked = [_rule(i, rule) for i, rule in rulebook.rules.items() if rule.relation in _UNASKED]
        self.shared: Mapping[str, Any] = MappingProxyType(
            {
                "dimensions": [{"name": name, "text": one.ask} for name, one in load_dimensions().items()],
                "general": [_rule(f"{ANY}.{name}", rule) for name, rule in _of(rulebook, ANY)][: budget.general],
                "unasked": unasked[: budget.general],
                "exceptions": [{"id": f"exceptions.{n}", "says": e.says} for n, e in rulebook.exceptions.items()],
                "soft_floor": str(rulebook.settings.soft_floor),
            }
        )

    def of_query(self, understanding: Understanding) -> dict[str, Any]:
        """What depends on the query alone: its words, its demands with the rules and entries for each."""
        budget = self.budget
        told: set[str] = set()
        attributes = {id(s.demand): s.attributes for s in construct(understanding, self.knowledge)}
        return {
            "query": clean(understanding.query.text, budget.query),
            "corrections": [
                {"typed": clean(typed, budget.value), "read": clean(read, budget.value)}
                for typed, read in understanding.corrections[:2]
            ],
            "demands": [
                self._demand(number, demand, attributes.get(id(demand), ()), told)
                for number, demand in enumerate(understanding.demands[: budget.demands], 1)
            ],
            "left_out": max(0, len(understanding.demands) - budget.demands),
            "readings": [
                {"words": clean(one.value, budget.value), "dimension": one.dimension, "why": self._said(one.why)}
                for one in understanding.readings[: budget.readings]
            ],
        }

    def of_item(self, understanding: Understanding, features: ItemFeatures) -> dict[str, Any]:
        """What depends on the item: the seller's words and fields, and what was extracted, the demanded first."""
        item, budget = features.item, self.budget
        asked = [demand.dimension for demand in understanding.demands]
        return {
            "title": clean(item.title, budget.title),
            "brand": clean(item.brand or "", budget.value),
            "category": clean(item.category or "", budget.value),
            "store": clean(item.store or "", budget.value),
            "price": _price(item, budget.value),
            "fields": [
                {"name": clean(name, budget.value // 2), "value": clean(", ".join(values), budget.value)}
                for name, values in list(item.attributes.items())[: budget.fields]
            ],
            "attributes": [self._attribute(one) for one in _chosen(features, asked)[: budget.attributes]],
            "text": clean(item.description, budget.text),
        }

    def findings(self, path: MatchPath | None) -> list[dict[str, Any]]:
        """How the rules' own path reads the item, leg by leg, without levels; empty without a path."""
        legs = path.legs[: self.budget.demands] if path else ()
        return [
            {
                "dimension": leg.demand.dimension,
                "words": clean(leg.demand.value, self.budget.value),
                "relation": leg.relation,
                "meaning": clean(RELATIONS[leg.relation], self.budget.sentence),
                "found": clean(", ".join(leg.found), self.budget.value),
                "source": clean(leg.evidence[0].source if leg.evidence else "", self.budget.value),
            }
            for leg in legs
        ]

    def _demand(self, number: int, demand: Demand, attributes: tuple[str, ...], told: set[str]) -> dict[str, Any]:
        """One demand; rules and entries that an earlier one has brought are not said again."""
        budget = self.budget
        rules = rules_for(demand, self.rulebook, attributes[:_STEPS])
        few = [(i, rule) for i, rule in _spread(rules, budget.rules) if i not in told]
        entries = [one for one in self._entries(demand) if one[0] not in told][: budget.entries]
        told.update(i for i, _ in (*few, *entries))
        return {
            "number": number,
            "dimension": demand.dimension,
            "words": clean(demand.value, budget.value),
            "canonical": clean(demand.canonical or "", budget.value),
            "asks": clean(_asks(demand), budget.value),
            "head": demand.role == "head",
            "hard": demand.strictness == "hard",
            "excluded": demand.polarity < 0,
            "implied": demand.latent,
            "why": self._said(demand.why),
            "rules": [_rule(i, rule, budget.sentence) for i, rule in few],
            "knowledge": [line for _, line in entries],
        }

    def _entries(self, demand: Demand) -> Iterator[tuple[str, str]]:
        """The id and the line of what the tables say of a demand: what it was read by, then what it names."""
        values = [one for one in (demand.canonical, *demand.alternatives) if one]
        for cited in dict.fromkeys((*demand.knowledge, *(entry_id(demand.dimension, one) for one in values))):
            reading = reading_of(cited, self.knowledge)
            if reading is not None:
                yield cited, clean(entry_of(reading, self.knowledge).line, self.budget.sentence)

    def _attribute(self, one: AttributeValue) -> dict[str, Any]:
        return {
            "dimension": one.dimension,
            "name": clean(one.name, self.budget.value // 2),
            "value": clean(one.value or "", self.budget.value),
            "share": None if one.share is None else f"{one.share:.0%}",
            "source": clean(one.evidence[0].source if one.evidence else one.extractor, self.budget.value),
            "sure": f"{one.confidence:.2f}",
            "disputed": one.status == "conflict",
        }

    def _said(self, why: str | None) -> str:
        return clean(why or "", self.budget.sentence)


def rules_for(demand: Demand, rulebook: Rulebook, attributes: tuple[str, ...] = ()) -> list[tuple[str, Rule]]:
    """The ids and rules of the demand's own dimension that could decide it, in the rulebook's order.

    `attributes` are those that may answer the demand; without any, no rule is left out for its attribute. Rules of any
    dimension are not among them.
    """
    if demand.polarity < 0:
        legal = _NEGATED
    elif demand.canonical is None and not demand.alternatives and demand.number is None:
        legal = _BY_WORDS
    else:
        legal = frozenset(LEGAL[demand.dimension]) - _NEGATED - _BY_WORDS
        if demand.number is None:
            legal -= _NUMERIC
    wanted = {demand.canonical, *demand.alternatives}
    return [
        (f"{demand.dimension}.{name}", rule)
        for name, rule in _of(rulebook, demand.dimension)
        if rule.relation in legal
        and rule.relation not in _UNASKED
        and (not rule.values or wanted.intersection(rule.values))
        and (not rule.role or rule.role == demand.role)
        and (not rule.attributes or not attributes or set(rule.attributes).intersection(attributes))
    ]


def _of(rulebook: Rulebook, dimension: str) -> Iterator[tuple[str, Rule]]:
    for rule_id, rule in rulebook.rules.items():
        prefix, _, name = rule_id.partition(".")
        if prefix == dimension:
            yield name, rule


def _spread(rules: Iterable[tuple[str, Rule]], most: int) -> list[tuple[str, Rule]]:
    """At most so many rules, one of each level in turn, since what is hard to know is where one level ends.

    Of a level those without a condition on a number first: they say what the others make finer.
    """
    by_level: dict[int, list[tuple[str, Rule]]] = {}
    for one in sorted(rules, key=lambda one: one[1].up_to is not None or one[1].beyond is not None):
        by_level.setdefault(one[1].level, []).append(one)
    turns = [(turn, -level, one) for level, some in by_level.items() for turn, one in enumerate(some)]
    chosen = [one for _, _, one in sorted(turns, key=lambda t: t[:2])[:most]]
    return sorted(chosen, key=lambda one: -one[1].level)


def _rule(rule_id: str, rule: Rule, limit: int = 200) -> dict[str, Any]:
    return {"id": rule_id, "relation": rule.relation, "level": str(rule.level), "says": clean(rule.says, limit)}


def _asks(demand: Demand) -> str:
    """A numeric demand in words; empty for others."""
    if demand.number is None:
        return ""
    if demand.op == "share":
        return f"{demand.number:.0%} of it"
    unit = f" {demand.unit}" if demand.unit else ""
    number = f"{demand.number:g}"
    if demand.op == "range" and demand.number_high is not None:
        return f"{number} to {demand.number_high:g}{unit}"
    return {"at_least": "at least ", "at_most": "at most "}.get(demand.op, "") + number + unit


def _price(item: Item, limit: int) -> str:
    return "" if item.price is None else clean(f"{item.price:.10g} {item.currency or ''}".strip(), limit)


def _chosen(features: ItemFeatures, asked: Iterable[str]) -> list[AttributeValue]:
    """What is known of the item: the demanded dimensions, those shown of every item, then the others; none twice."""
    others = (one.dimension for one in features.attributes)
    found: dict[tuple[str, str | None], AttributeValue] = {}
    for dimension in dict.fromkeys((*asked, *_ALWAYS, *others)):
        for one in features.of(dimension):
            if one.value is not None:
                found.setdefault((one.name, one.value), one)
    return list(found.values())


_RULE = {"id": "color.near", "relation": "near", "level": "L3", "says": "A neighbouring shade passes."}
# every value that a prompt may use, by an example: see lore_mm.prompts.load_prompt
EXAMPLE: Mapping[str, Any] = MappingProxyType(
    {
        "dimensions": [{"name": "color", "text": "Which colours?"}],
        "general": [_RULE],
        "unasked": [_RULE],
        "exceptions": [{"id": "exceptions.ip", "says": "The character counts more than the kind."}],
        "soft_floor": "L3",
        "query": "red nike shoes",
        "corrections": [{"typed": "nkie", "read": "nike"}],
        "demands": [
            {
                "number": 1,
                "dimension": "color",
                "words": "red",
                "canonical": "red",
                "asks": "",
                "head": False,
                "hard": True,
                "excluded": False,
                "implied": False,
                "why": "",
                "rules": [_RULE],
                "knowledge": ["colors/red: a colour of the family red"],
            }
        ],
        "left_out": 0,
        "readings": [{"words": "apple", "dimension": "category", "why": "the fruit"}],
        "title": "Red Running Shoe",
        "brand": "Nike",
        "category": "Shoes > Running",
        "store": "",
        "price": "79 USD",
        "fields": [{"name": "colour", "value": "red"}],
        "attributes": [
            {
                "dimension": "color",
                "name": "color",
                "value": "red",
                "share": "80%",
                "source": "image:0",
                "sure": "0.92",
                "disputed": False,
            }
        ],
        "text": "Light and fast.",
        "findings": [
            {
                "dimension": "color",
                "words": "red",
                "relation": "exact",
                "meaning": "the item has the very value that is demanded",
                "found": "red",
                "source": "title",
            }
        ],
        "pictures": 1,
    }
)
