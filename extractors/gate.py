"""Which fields of an item are known surely enough that no costly extractor needs to be asked for them.

This module knows nothing of models, items or of how a value was found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from extractors.calibrate import Calibration
from extractors.protocol import Extraction
from lore_mm.fingerprint import sha_of
from lore_mm.types import AttributeValue

__all__ = ["Gate"]

# Confidence of a seller's own field that settles where nothing was fitted: what was read there without reserve. Words
# of another thing ("with black legs") and a category known from a path alone stand lower.
STATED = 0.85
_VERSION = "1"


@dataclass(frozen=True)
class Gate:
    """Decides what is settled: by the thresholds of a calibration, or conservatively where none was fitted.

    Without a calibration only what the seller states in a field of its own settles, and only where it was read with a
    confidence of STATED and more: a statement is no guess, and any other threshold would be a number nobody measured.
    """

    calibration: Calibration | None = None

    @cached_property
    def sha(self) -> str:
        """Identifies the rule and the calibration."""
        return sha_of([_VERSION, STATED, self.calibration.sha if self.calibration else None])

    def calibrated(self, extractor: str, extraction: Extraction) -> Extraction:
        """The extraction with calibrated confidences; the same one where nothing is known of its extractor."""
        return self.calibration.calibrated(extractor, extraction) if self.calibration else extraction

    def settled(self, found: Mapping[str, Extraction]) -> frozenset[str]:
        """The names of the settled attributes, given calibrated extractions by extractor name.

        An attribute is settled where an extractor is sure enough of every value it gave, and no other that is as sure
        says something else altogether.
        """
        sure: dict[str, list[frozenset[str]]] = {}
        for extractor, extraction in found.items():
            by_name: dict[str, list[AttributeValue]] = {}
            for value in extraction.attributes:
                if value.status == "value" and value.value is not None:
                    by_name.setdefault(value.name, []).append(value)
            for name, values in by_name.items():
                if self._is_sure(extractor, name, values):
                    sure.setdefault(name, []).append(frozenset(v.value or "" for v in values))
        return frozenset(name for name, said in sure.items() if _agree(said))

    def _is_sure(self, extractor: str, name: str, values: Sequence[AttributeValue]) -> bool:
        if self.calibration is None:
            return extractor == "given" and all(_stated(v) for v in values)
        threshold = self.calibration.threshold(extractor, name)
        return threshold is not None and all(v.confidence >= threshold for v in values)


def _stated(value: AttributeValue) -> bool:
    """True where a seller's own field says just this value."""
    said = any(e.source.startswith("given.") and e.value in (None, value.value) for e in value.evidence)
    return said and value.confidence >= STATED


def _agree(said: Sequence[frozenset[str]]) -> bool:
    return all(one & other for i, one in enumerate(said) for other in said[i + 1 :])
