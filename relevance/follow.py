"""Path following: each step of a query, walked on an item's evidence, to a named relation. No levels: see `rules`.

Every text is data: nothing in a title or a query is ever obeyed. This module knows the knowledge tables and what
was extracted; it opens no store, no model and no picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from lore_mm.knowledge import Knowledge
from lore_mm.mentions import scanner_for
from lore_mm.schema import Schemas, load_schemas
from lore_mm.text import singular, tokens
from lore_mm.types import Demand, ItemFeatures, Leg, MatchPath, Understanding
from relevance import follow_names, follow_numbers, follow_shades, follow_special, follow_terms, follow_trees
from relevance.construct import Step, construct
from relevance.evidence import Found, ItemView
from relevance.findings import Finding, wanted
from relevance.follow_likeness import comes_with, derivative, imitation
from relevance.priority import disagreement

__all__ = ["Follower", "follow"]

_MEETS = frozenset(
    (
        "exact",
        "synonym",
        "pure",
        "pure_small",
        "within",
        "on_a_piece",
        "member",
        "narrower",
        "hyponym",
        "hyponym_precise",
        "named",
        "words_all",
        "compatible",
    )
)
_SILENT = frozenset(
    (
        "unstated",
        "unstated_model_year",
        "plain",
        "words_none",
        "words_some",
        "words_beside",
        "words_everyday",
        "other_currency",
    )
)
_MAY_BE = frozenset(("base", "hypernym", "covers"))  # known only by a wider value, which need not be what must not be
_NICHE_CONFIDENCE = 0.6  # a group or a flaw nobody asked about counts only where the item is this sure of it

_BY_KNOWLEDGE: Mapping[str, Callable[[Step, ItemView, Knowledge], Finding | None]] = {
    "category": follow_trees.category,
    "brand": follow_trees.brand,
    "model": follow_trees.model,
    "color": follow_shades.color,
    "material": follow_shades.material,
    "component": follow_special.component,
    "audience": follow_special.audience,
    "store": follow_special.store,
}
_BY_NUMBER: Mapping[str, Callable[[Step, ItemView, Knowledge], Finding | None]] = {
    "spec": follow_numbers.spec,
    "price": follow_numbers.price,
    "year": follow_numbers.year,
    "bundle": follow_numbers.bundle,
}


class Follower:
    """Walks paths over one set of knowledge tables. Holds the scanner; give it many pairs."""

    def __init__(self, knowledge: Knowledge, schemas: Schemas | None = None) -> None:
        self.knowledge = knowledge
        self.schemas = schemas or load_schemas()
        self.scanner = scanner_for(knowledge)

    def construct(self, understanding: Understanding) -> tuple[Step, ...]:
        """The steps of a query, to be followed on many items."""
        return construct(understanding, self.knowledge, self.schemas)

    def view(self, features: ItemFeatures) -> ItemView:
        """An item, to be read for many queries."""
        return ItemView(features, self.knowledge, self.scanner)

    def follow(self, query_id: str, steps: Sequence[Step], view: ItemView) -> MatchPath:
        """Walk the steps on an item: one leg a step, and one for each thing about the item that nobody asked for."""
        legs = [self._leg(step, view, steps) for step in steps]
        legs += self._unasked(steps, view)
        return MatchPath(query_id, view.item.item_id, tuple(legs))

    def _leg(self, step: Step, view: ItemView, steps: Sequence[Step]) -> Leg:
        demand = step.demand
        if step.impossible:
            reason = f"asks for {_wish(demand)}, and for {step.impossible}: nothing can be both"
            return Leg(demand, step.attribute, "impossible", confidence=demand.confidence, reason=reason)
        finding = self._finding(step, view)
        finding = self._only_named(step, finding, view, steps) or _by_another_name(finding, demand) or finding
        if demand.polarity < 0:
            finding = _negate(finding, demand)
        elif finding.relation == "unstated" and (failure := view.failures.get(demand.dimension)):
            finding = Finding("unstated", f"asks for {demand.value}; it could not be read: {failure}", confidence=0.25)
        return Leg(
            demand=demand,
            attribute=finding.attribute or step.attribute,
            relation=finding.relation,
            found=finding.found,
            evidence=finding.evidence,
            confidence=finding.confidence * demand.confidence,
            deviation=finding.deviation,
            reason=finding.reason + disagreement(finding.against),
        )

    def _only_named(self, step: Step, finding: Finding, view: ItemView, steps: Sequence[Step]) -> Finding | None:
        """The finding for an item that bears the demanded name without being the thing; None for the others."""
        if step.demand.dimension == "category" and step.demand.role == "head":
            borne = derivative(step, finding, view, steps, self.knowledge)
            return borne or comes_with(step, finding, view, self.knowledge)
        if step.demand.dimension == "brand" and finding.relation in ("exact", "brand_child", "compatible"):
            return imitation(step, finding, view)
        return None

    def _finding(self, step: Step, view: ItemView) -> Finding:
        demand = step.demand
        if (numeric := _BY_NUMBER.get(demand.dimension)) and (finding := numeric(step, view, self.knowledge)):
            return finding
        if not wanted(demand):
            return self._by_words(step, view)
        by_knowledge = _BY_KNOWLEDGE.get(demand.dimension, follow_terms.term)
        finding = by_knowledge(step, view, self.knowledge)
        assert finding is not None
        return finding

    def _by_words(self, step: Step, view: ItemView) -> Finding:
        """A demand that no table knows: a name where it is the thing or its model, else words anywhere."""
        if step.demand.dimension == "model":
            return follow_names.unknown_model(step, view, self.knowledge)
        if step.demand.dimension == "category" and step.demand.role == "head":
            return follow_names.unknown_thing(step, view)
        return follow_terms.words(step, view, self.scanner)

    def _unasked(self, steps: Sequence[Step], view: ItemView) -> list[Leg]:
        """Legs for what makes an item special where the query is plain: made for a group, used, a sample."""
        if view.peculiar is None:
            view.peculiar = self._peculiar(view)
        if not view.peculiar:
            return []
        asked = {step.demand.dimension for step in steps}
        return [leg for leg in view.peculiar if leg.demand.dimension not in asked]

    def _peculiar(self, view: ItemView) -> tuple[Leg, ...]:
        found = {"special": ("second_rate", _first(view, "special", _SECOND_RATE))}
        if not self._is_of_a_group(view):
            found["audience"] = ("niche", _first(view, "audience", _NICHE))
        return tuple(_unasked_leg(d, relation, one) for d, (relation, one) in found.items() if one is not None)

    def _is_of_a_group(self, view: ItemView) -> bool:
        kinds = [f.value for f in view.categories if f.value in self.knowledge.categories]
        return any(_OF_THE_GROUP.intersection((kind, *self.knowledge.ancestors(kind))) for kind in kinds)


# Groups that a plain query does not mean, and states that it does not want (LORE §10.3, niche scene). Things whose main
# users are the group anyway are not special for being made for it.
_NICHE = frozenset("baby toddlers preschoolers kids boys girls maternity seniors dogs cats birds horses".split())
_OF_THE_GROUP = frozenset("baby_product toy pet_supplies school_bag".split())
_SECOND_RATE = frozenset("used refurbished open-box sample near-expiry".split())


def _first(view: ItemView, dimension: str, values: frozenset[str]) -> Found | None:
    """The first sure sign of one of the values: stated, or named in the title; not merely seen in a picture."""
    here = (*view.stated(dimension), *view.mentioned(dimension, title_only=True))
    sure = (f for f in here if f.confidence >= _NICHE_CONFIDENCE and not f.negated and not f.seen)
    return next((f for f in sure if f.value in values), None)


def _unasked_leg(dimension: str, relation: str, found: Found) -> Leg:
    demand = Demand(dimension, "nothing special", strictness="soft", latent=True, why="the query names nothing special")
    reason = f"it is {found.value}" if dimension == "special" else f"it is made for {found.value}"
    return Leg(
        demand=demand,
        attribute=found.attribute,
        relation=relation,
        found=(found.value,),
        evidence=found.evidence,
        confidence=found.confidence,
        reason=f"{reason}; the query does not ask for that",
    )


def _negate(finding: Finding, demand: Demand) -> Finding:
    """The finding of a demand turned round: what would have met it breaks it."""
    had = ", ".join(finding.found)
    if finding.relation in _MEETS:
        relation, reason = "violated_negation", f"asks for no {demand.value}; it has {had}"
    elif finding.relation in _SILENT:
        relation, reason = "negation_unstated", f"asks for no {demand.value}; nothing says that it has it"
    elif finding.relation in _MAY_BE:
        relation, reason = "negation_unstated", f"asks for no {demand.value}; it has {had}, which need not be that"
    else:
        relation, reason = "satisfied_negation", f"asks for no {demand.value}; it has {had} instead"
    deviation = finding.deviation if relation == "violated_negation" else None
    return replace(finding, relation=relation, reason=reason, deviation=deviation)


_NAMED_ONCE = frozenset(("category", "color", "material"))  # their own followers say it, or measure instead


def _by_another_name(finding: Finding, demand: Demand) -> Finding | None:
    """The very value, where the item says it in none of the query's words; None elsewhere."""
    if finding.relation != "exact" or demand.number is not None or demand.dimension in _NAMED_ONCE:
        return None
    quote = next((e.quote for e in finding.evidence if e.quote), None)
    if quote is None or quote.casefold() == demand.value.casefold() or not {*finding.found} & {*wanted(demand)}:
        return None
    said, asked = ({singular(t.text) for t in tokens(text)} for text in (quote, demand.value))
    if not said.isdisjoint(asked):
        return None
    return replace(finding, relation="synonym", reason=f"asks for {demand.value}; it says {quote}, which is the same")


def _wish(demand: Demand) -> str:
    return demand.value if demand.polarity > 0 else f"no {demand.value}"


def follow(understanding: Understanding, features: ItemFeatures, knowledge: Knowledge) -> MatchPath:
    """Walk one query's path on one item. For many pairs make a `Follower` once, or use `judge.Judge`."""
    follower = Follower(knowledge)
    steps = follower.construct(understanding)
    return follower.follow(understanding.query.query_id, steps, follower.view(features))
