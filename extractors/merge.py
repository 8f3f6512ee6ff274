"""Several extractors' findings for one item → one verdict a judge can read, with all evidence kept.

Same value from several sources: one value, more confident (`claims.noisy_or`). Different values where only one can be
true: the source that the dimension trusts most wins (`evidence` in dimensions.toml), the losers stay as evidence with
their own `value`, and the status is `conflict` where a loser was sure enough. Silence and failure never erase a value.
This module knows nothing of how a value was found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from extractors.claims import CONFLICT, MOST, SAME_NUMBER, Claim, group_claims, verdict
from extractors.merge_colors import FAINT, LIT, UNSAID, merge_colors
from extractors.protocol import Extraction
from lore_mm.fingerprint import sha_of
from lore_mm.knowledge import Knowledge
from lore_mm.schema import AttributeSchema, Schemas, load_dimensions
from lore_mm.types import AttributeValue, Item

__all__ = ["Merger", "merge"]

_VERSION = "2"


@dataclass(frozen=True)
class Merger:
    """`merge` with its knowledge at hand, under one sha."""

    knowledge: Knowledge
    schemas: Schemas
    name: str = "merge"

    @cached_property
    def sha(self) -> str:
        """Identifies the settings: schemas, knowledge, evidence order and thresholds."""
        order = {name: dimension.evidence for name, dimension in load_dimensions().items()}
        settings = [_VERSION, CONFLICT, MOST, SAME_NUMBER, UNSAID, LIT, FAINT]
        weighed = self.schemas.sha_without("ask", "prompts", "visual")
        return sha_of([settings, order, weighed, self.knowledge.sha])

    def merge(self, item: Item, found: Mapping[str, Extraction]) -> Extraction:
        """The verdict over what each extractor found, by extractor name."""
        return merge(item, found, self.knowledge, self.schemas)


def merge(item: Item, found: Mapping[str, Extraction], knowledge: Knowledge, schemas: Schemas) -> Extraction:
    """One extraction over those of several extractors of `item`, by extractor name.

    Failed if any extractor failed (each error after its extractor's name), with whatever the others found; skipped if
    all were; else ok.
    """
    category = next((e.category for e in found.values() if e.category), None)
    schema = schemas.for_category(category, knowledge)
    by_name: dict[str, list[AttributeValue]] = {}
    for extractor, extraction in found.items():
        for value in extraction.attributes:
            named = value if value.extractor else replace(value, extractor=extractor)
            by_name.setdefault(value.name, []).append(named)
    attributes = tuple(
        merged for name, values in by_name.items() for merged in _merge_attribute(name, values, schema, knowledge)
    )
    chosen = next((a.value for a in attributes if a.name == "category" and a.value), category)
    errors = [f"{name}: {e.error or 'failed'}" for name, e in found.items() if e.status == "failed"]
    if errors:
        return Extraction(attributes, chosen, "failed", "; ".join(errors))
    if found and all(e.status == "skipped" for e in found.values()):
        reasons = "; ".join(f"{name}: {e.error}" for name, e in found.items() if e.error)
        return Extraction(attributes, chosen, "skipped", reasons or None)
    return Extraction(attributes, chosen)


def _merge_attribute(
    name: str, values: Sequence[AttributeValue], schema: AttributeSchema, knowledge: Knowledge
) -> list[AttributeValue]:
    """The merged values of one attribute; several where it may hold several."""
    said = [v for v in values if v.status in ("value", "conflict") and v.value is not None]
    if not said:
        return [_silence(values)]
    spec = schema.specs.get(name)
    lookup = spec.lookup if spec else {}
    if said[0].dimension == "color":
        return merge_colors(said, lookup, knowledge)
    claims = group_claims(said, lookup)
    if spec and spec.multi:
        return [verdict(claim) for claim in sorted(claims, key=lambda c: -c.confidence)]
    claims = _without_broader(claims, knowledge)
    winner, *others = sorted(claims, key=lambda c: (c.confidence < CONFLICT, c.rank, -c.confidence))
    # one extractor that reads several values at one place (sizes to choose from, "boys and girls") lists them
    beside = [c for c in others if c.rank == winner.rank and c.extractors & winner.extractors]
    losers = [c for c in others if c not in beside]
    return [verdict(c, losers) for c in (winner, *beside)]


def _silence(values: Sequence[AttributeValue]) -> AttributeValue:
    """What to say of an attribute nobody has a value for: not_applicable over not_stated over failed."""
    failed = [v for v in values if v.status == "failed"]
    silent = [v for v in values if v.status in ("not_applicable", "not_stated")]
    first = min(silent or failed or values, key=lambda v: (v.status != "not_applicable", -v.confidence))
    return replace(
        first,
        value=None,
        status=first.status if silent else "failed",
        extractor="merge",
        evidence=tuple(e for v in values for e in v.evidence),
        error="; ".join(f"{v.extractor}: {v.error or 'failed'}" for v in failed) or None,
    )


def _without_broader(claims: Sequence[Claim], knowledge: Knowledge) -> list[Claim]:
    """Claims less those that a narrower one includes ("shoes" beside "running shoes"); their witnesses join it."""
    kept = list(claims)
    for broad in claims:
        place = next((i for i, c in enumerate(kept) if _covers(broad.said, c.said, knowledge)), None)
        if place is not None:
            narrow = kept[place]
            values = (*narrow.values, *broad.values)
            kept[place] = Claim(narrow.said, values, min(narrow.rank, broad.rank), narrow.confidence)
            kept = [c for c in kept if c.said is not broad.said]
    return kept


def _covers(broad: AttributeValue, narrow: AttributeValue, knowledge: Knowledge) -> bool:
    """True where `narrow` is a kind of `broad` by the knowledge tables."""
    wide, fine = broad.value or "", narrow.value or ""
    if wide == fine:
        return False
    if broad.dimension == "category":
        return wide in knowledge.ancestors(fine)
    if broad.dimension == "material" and fine in knowledge.materials:
        return wide in knowledge.materials[fine].umbrella
    term = knowledge.terms.get((broad.dimension, wide))
    return term is not None and fine in term.covers
