"""Values held against the attribute schema of the item's category. It knows schemas, not where values come from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from lore_mm.attribute import known_value
from lore_mm.errors import InputError
from lore_mm.schema import MAX_TEXT, AttributeSchema, check_value
from lore_mm.types import AttributeValue

__all__ = ["lawful"]


def lawful(values: Iterable[AttributeValue], schema: AttributeSchema | None) -> list[AttributeValue]:
    """The values that the category's schema has, in its words, each once with all its evidence."""
    merged: dict[tuple[str, str | None], AttributeValue] = {}
    for value in values:
        one = _in_schema(value, schema)
        if one is None:
            continue
        key = (one.name, (one.value or "").casefold() if one.number is None else f"{one.number:.6g}{one.unit}")
        held = merged.get(key)
        if held is None:
            merged[key] = one
        else:
            winner, other = (held, one) if held.confidence >= one.confidence else (one, held)
            share = winner.share if winner.share is not None else other.share
            merged[key] = replace(winner, evidence=(*winner.evidence, *other.evidence), share=share)
    return list(merged.values())


def _in_schema(value: AttributeValue, schema: AttributeSchema | None) -> AttributeValue | None:
    if schema is None:
        return value
    spec = schema.specs.get(value.name)
    words = value.value or ""
    if spec is None and value.number is not None:
        return None  # what such a thing is not measured by
    if spec is None or value.name in ("style_detail", "special", "function"):
        spec = schema.find(value.dimension, words)
    if spec is None:
        return None
    try:
        if spec.type == "number":
            check_value(spec, value.number)
            return replace(value, name=spec.name, kind=spec.kind)
        # A text stays in the seller's words; a value in the tables' own words needs no look-up.
        own = spec.type == "text" or words in spec.values
        if spec.type == "choice" and not own:  # without the hint of an error that nobody reads
            known = known_value(spec, words[:MAX_TEXT])
            if known is None:
                return None
            legal = known
        else:
            legal = words[:MAX_TEXT] if own else str(check_value(spec, words[:MAX_TEXT]))
    except InputError:
        return None
    if (value.name, value.value, value.kind) == (spec.name, legal, spec.kind):
        return value
    return replace(value, name=spec.name, value=legal, kind=spec.kind)
