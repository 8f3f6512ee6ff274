"""What every extractor takes and gives, row for row. It knows nothing of files, stores or jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL.Image import Image

from lore_mm.types import AttributeValue, Item, RowStatus

__all__ = ["Extraction", "Extractor", "ExtractorInput"]


@dataclass(frozen=True, slots=True)
class ExtractorInput:
    """One item with its decoded pictures.

    `category` is the id chosen so far (None before the first extractor that finds one). `pictures[i]` is None where
    picture i of the item could not be read; `picture_errors[i]` then says why.
    """

    item: Item
    category: str | None = None
    pictures: tuple[Image | None, ...] = ()
    picture_errors: tuple[str | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Extraction:
    """What one extractor found for one item.

    status: ok · failed (it should have worked; `error` says why) · skipped (nothing to work on, such as no picture).
    """

    attributes: tuple[AttributeValue, ...] = ()
    category: str | None = None  # the category it read or worked under
    status: RowStatus = "ok"
    error: str | None = None


class Extractor(Protocol):
    """A batch of items in, as many extractions out, in the same order. Never raises for the sake of one item."""

    name: str  # given, palette, zero_shot …
    needs_pictures: bool

    @property
    def sha(self) -> str:
        """Identifies code-independent settings: schema, knowledge, model, thresholds."""
        ...

    def extract(self, inputs: Sequence[ExtractorInput]) -> list[Extraction]:
        """Extract; len(result) == len(inputs)."""
        ...
