"""What a model was asked, what that cost, and what it was spared: for a job's end line, and from a store's rows.

This module knows no extractor and no model.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from extractors.protocol import Extraction
from lore_mm.models.chat import NO_USAGE, Usage
from stores.features import FeatureStore

__all__ = ["Asked", "asked_in", "spent_line", "spent_of", "usage_row"]


@dataclass
class Asked:
    """Sums over extractions: calls and tokens, fields asked for, and fields settled without asking. Thread-safe."""

    items: int = 0  # that a model was asked about, or spared
    usage: Usage = NO_USAGE
    fields: int = 0
    settled: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, extractions: Iterable[Extraction]) -> None:
        """Count what one item's extractions cost."""
        with self._lock:
            for one in extractions:
                if usage_row(one) is not None:
                    self.items += 1
                    self.usage += one.usage
                    self.fields += len(one.asked)
                    self.settled += len(one.settled)

    def short(self) -> str:
        """A few words beside a progress bar."""
        tokens = self.usage.prompt_tokens + self.usage.completion_tokens
        return f"{self.usage.calls:,} calls · {tokens:,} tokens"

    def line(self) -> str:
        """One sentence at the end of a job."""
        used = self.usage
        return (
            f"{used.calls:,} calls for {self.items:,} items: {self.fields:,} fields asked, {self.settled:,} settled "
            f"without asking; {used.prompt_tokens:,} tokens of prompts, {used.completion_tokens:,} of replies"
        )


def spent_of(*askers: object) -> dict[str, Usage]:
    """What was asked so far, by the name of the model, of all that has a `chat` and a `usage`, and of their `engines`.

    A model that was not asked yet stands there with nothing; what has no model does not stand there.
    """
    spent: dict[str, Usage] = {}
    for one in askers:
        parts = getattr(one, "engines", None) or (one,)
        for part in parts:
            if (chat := getattr(part, "chat", None)) is not None:
                spent[chat.name] = spent.get(chat.name, NO_USAGE) + getattr(part, "usage", NO_USAGE)
    return spent


def spent_line(spent: Mapping[str, Usage]) -> str:
    """One sentence on what `spent_of` gives."""
    used = sum(spent.values(), NO_USAGE)
    return f"{used.calls:,} calls; {used.prompt_tokens:,} tokens of prompts, {used.completion_tokens:,} of replies"


def usage_row(extraction: Extraction) -> dict[str, Any] | None:
    """The usage struct of ATTRIBUTES; None for an extractor that asks no model."""
    if not (extraction.asked or extraction.settled or extraction.usage.calls):
        return None
    return {
        "calls": extraction.usage.calls,
        "prompt_tokens": extraction.usage.prompt_tokens,
        "completion_tokens": extraction.usage.completion_tokens,
        "asked": list(extraction.asked),
        "settled": list(extraction.settled),
    }


def asked_in(store: FeatureStore, version: int | None = None) -> Asked | None:
    """The sums over every row ever written, as each was paid for; None where no model was asked."""
    usage = pl.col("usage").struct
    rows = store.scan("attributes", version).filter(pl.col("usage").is_not_null())
    sums = rows.select(
        items=pl.len(),
        calls=usage.field("calls").sum(),
        prompt=usage.field("prompt_tokens").sum(),
        completion=usage.field("completion_tokens").sum(),
        fields=usage.field("asked").list.len().sum(),
        settled=usage.field("settled").list.len().sum(),
    )
    found = sums.collect().row(0, named=True)
    if not found["items"]:
        return None
    spent = Usage(found["calls"], found["prompt"], found["completion"])
    return Asked(found["items"], spent, found["fields"], found["settled"])
