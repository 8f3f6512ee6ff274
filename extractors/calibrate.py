"""What extractors say of their own certainty → shares that were right on labelled rows, and what is sure enough.

A `Calibration` is one JSON file for people to read: for each extractor and attribute a rising curve, applied by
interpolation, and the threshold from which a field that this extractor answered counts as settled. `fit_calibration`
makes one. This module knows nothing of items, stores or models, nor of how an answer was found to be right.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from extractors.protocol import Extraction
from lore_mm.errors import ConfigError
from lore_mm.fingerprint import sha_of

__all__ = ["ANY", "Calibration", "CalibrationEntry", "read_calibration", "write_calibration"]

ANY = "*"  # an extractor's entry for attributes without one of their own
Share = Annotated[float, Field(ge=0, le=1)]


class CalibrationEntry(BaseModel):
    """How far an extractor's word on an attribute is to be believed.

    `knots` are (own confidence, share right), rising in both, of `n` values of which `right` were right. A field is
    settled where all its values have a calibrated confidence of `threshold` and more; None: this extractor never
    settles it. Of the labelled fields, `settled` were so, `precision` of them right, at least `precision_low` by the
    guard of `fit_calibration`; `coverage` is their share of all labelled fields.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    extractor: str
    attribute: str
    n: int = Field(ge=0)
    right: int = Field(ge=0)
    method: Literal["isotonic", "logistic"]
    knots: tuple[tuple[Share, Share], ...] = Field(min_length=1)
    threshold: Share | None = None
    settled: int = Field(default=0, ge=0)
    precision: Share | None = None
    precision_low: Share | None = None
    coverage: Share = 0.0

    @model_validator(mode="after")
    def _rising(self) -> CalibrationEntry:
        if any(x0 >= x1 or y0 > y1 for (x0, y0), (x1, y1) in pairwise(self.knots)):
            raise ValueError("knots must rise in both numbers")
        if self.attribute == ANY and self.threshold is not None:
            raise ValueError(f"the entry {ANY!r} settles nothing: it may have no threshold")
        return self

    def apply(self, confidence: float) -> float:
        """The share right at this confidence, between the knots by interpolation, level beyond them."""
        own, right = self._curve
        return float(np.interp(confidence, own, right))

    @cached_property
    def _curve(self) -> tuple[list[float], list[float]]:
        return [x for x, _ in self.knots], [y for _, y in self.knots]


class Calibration(BaseModel):
    """The calibrators and thresholds of one fit. `precision` is the target, `risk` that of missing it by chance."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    fitted_on: str = ""  # what the labelled rows were, for a reader
    precision: Share = 0.95
    risk: Share = 0.05
    entries: tuple[CalibrationEntry, ...] = ()

    @model_validator(mode="after")
    def _each_once(self) -> Calibration:
        names = [(e.extractor, e.attribute) for e in self.entries]
        for twice in names:
            if names.count(twice) > 1:
                raise ValueError(f"two entries for {twice[0]} on {twice[1]}")
        return self

    @cached_property
    def sha(self) -> str:
        """Identifies what it does: curves and thresholds."""
        return sha_of([[e.extractor, e.attribute, e.knots, e.threshold] for e in self.entries])

    @cached_property
    def _by_name(self) -> Mapping[tuple[str, str], CalibrationEntry]:
        return {(e.extractor, e.attribute): e for e in self.entries}

    def apply(self, extractor: str, attribute: str, confidence: float) -> float:
        """The calibrated confidence, in [0, 1]: by the attribute's entry, else the one for any, else what was said."""
        entry = self._by_name.get((extractor, attribute)) or self._by_name.get((extractor, ANY))
        return confidence if entry is None else entry.apply(confidence)

    def threshold(self, extractor: str, attribute: str) -> float | None:
        """The calibrated confidence from which this extractor settles the attribute; None: never."""
        entry = self._by_name.get((extractor, attribute))
        return None if entry is None else entry.threshold

    def calibrated(self, extractor: str, extraction: Extraction) -> Extraction:
        """The same extraction with calibrated confidences; evidence keeps the extractor's own."""
        if not any(e.extractor == extractor for e in self.entries):
            return extraction
        values = (replace(v, confidence=self.apply(extractor, v.name, v.confidence)) for v in extraction.attributes)
        return replace(extraction, attributes=tuple(values))


def read_calibration(path: Path) -> Calibration:
    """Read what `write_calibration` wrote.

    Raises:
        ConfigError: it is not there or is no such file; the text names the entry and the fault.
    """
    try:
        return Calibration.model_validate_json(path.read_bytes(), strict=False)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(x) for x in fault["loc"])
        what = f"{place}: {fault['msg']}" if place else fault["msg"]
        raise ConfigError(f"{path}: {what}; `lore calibrate` makes such a file") from None


def write_calibration(calibration: Calibration, path: Path) -> None:
    """Write it as JSON, an entry a line, in place of what was there at one stroke."""
    body = calibration.model_dump(mode="json")
    entries = [json.dumps(entry, ensure_ascii=False) for entry in body.pop("entries")]
    head = [f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}," for key, value in body.items()]
    lines = ["{", *head, '  "entries": [', ",\n".join(f"    {entry}" for entry in entries), "  ]", "}"]
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_text("\n".join(lines) + "\n", encoding="utf-8")
    new.replace(path)
