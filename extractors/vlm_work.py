"""One item on its way through a model: what it is shown, what was asked and answered so far, and what is made of it.

This module asks nobody, and reads no answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL.Image import Image

from extractors.protocol import Extraction, ExtractorInput
from extractors.vlm_evidence import Witness
from extractors.vlm_kept import Kept
from extractors.vlm_read import Reading
from lore_mm.attribute import AttributeSpec
from lore_mm.models.chat import NO_USAGE, Usage
from lore_mm.types import AttributeValue, Evidence

__all__ = ["NAME", "VlmWork", "attribute_of", "extraction_of", "kept_text", "said"]

NAME = "vlm"
_LONGEST_KEPT = 4_000  # characters of a failed reply


@dataclass(slots=True)
class VlmWork:
    """One input on its way: what the model is shown, and what came of it so far."""

    one: ExtractorInput
    places: tuple[int, ...]
    pictures: tuple[Image, ...]
    words: Mapping[str, Any]
    witness: Witness
    category: str | None
    kept: Kept  # what stands of it
    share: float = 1.0  # the likelihood of the top of the tree, where the kind is found in two steps
    order: list[str] = field(default_factory=list)  # of all attributes it has an answer for, or is to have
    found: dict[str, list[AttributeValue]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)  # just now
    asked_with: dict[str, str | None] = field(default_factory=dict)
    settled: list[str] = field(default_factory=list)  # not asked for, because known surely enough
    usage: Usage = NO_USAGE
    errors: list[str] = field(default_factory=list)
    reply: str | None = None


def attribute_of(
    spec: AttributeSpec, reading: Reading, confidence: float = 0.0, evidence: tuple[Evidence, ...] = ()
) -> AttributeValue:
    """An answer as a value of its attribute."""
    return AttributeValue(
        name=spec.name,
        dimension=spec.dimension,
        value=reading.value,
        status=reading.status,
        number=reading.number,
        unit=reading.unit,
        kind=spec.kind,
        confidence=confidence,
        extractor=NAME,
        evidence=evidence,
        error=reading.error,
    )


def extraction_of(work: VlmWork) -> Extraction:
    """Failed where a request failed, with each reason once; what the others told is kept."""
    values = tuple(value for name in work.order for value in work.found.get(name, ()))
    errors = "; ".join(dict.fromkeys(work.errors))
    return Extraction(
        values,
        work.category,
        "failed" if errors else "ok",
        errors or None,
        asked=tuple(work.asked),
        settled=tuple(name for name in work.settled if not work.kept.was_settled(name)),
        usage=work.usage,
        reply=work.reply,
        asked_with=work.asked_with | dict.fromkeys(work.settled),
    )


def said(values: Sequence[AttributeValue] | None) -> str | None:
    """The value among answers on one attribute, None where none was told."""
    return next((v.value for v in values or () if v.value), None)


def kept_text(text: str) -> str | None:
    """A raw reply as it can be stored: of bounded length, and without halves of characters."""
    return text[:_LONGEST_KEPT].encode("utf-8", "replace").decode("utf-8") or None
