"""What every extractor takes and gives, row for row. It knows nothing of files, stores or jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

from PIL.Image import Image

from lore_mm.models.chat import NO_USAGE, Usage
from lore_mm.types import AttributeValue, Item, RowStatus

__all__ = ["Earlier", "Extraction", "Extractor", "ExtractorInput", "PackLine"]

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class PackLine:
    """A line of text read on a picture: which picture, where on it, and how sure the reader is."""

    text: str
    picture: int
    region: tuple[float, float, float, float]  # x0, y0, x1, y1 in shares of width and height
    confidence: float = 1.0  # in [0, 1]


@dataclass(frozen=True, slots=True)
class ExtractorInput:
    """One item with its decoded pictures, and what earlier extractors of the cascade made of it.

    `category` is the id chosen so far (None before the first extractor that finds one). `pictures[i]` is None where
    picture i of the item could not be read; `picture_errors[i]` then says why. `settled` names the attributes that are
    known surely enough: a costly extractor does not ask for them.

    `content` has the shas of words, record and pictures (see `extractors.reuse`), and `earlier` what stands of this
    item by extractor name; without both everything is made. `look` reads the pictures, where they were not read yet.
    """

    item: Item
    category: str | None = None
    pictures: tuple[Image | None, ...] = ()
    picture_errors: tuple[str | None, ...] = ()
    settled: frozenset[str] = frozenset()
    pack: tuple[PackLine, ...] = ()
    content: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    earlier: Mapping[str, Earlier] = field(default_factory=lambda: _NOTHING)
    look: Callable[[], tuple[tuple[Image | None, ...], tuple[str | None, ...]]] | None = None


@dataclass(frozen=True, slots=True)
class Extraction:
    """What one extractor found for one item.

    status: ok · failed (it should have worked; `error` says why) · skipped (nothing to work on, such as no picture).
    `asked` are the attributes a model was asked for and `usage` what that cost; `settled` those it would have been
    asked for, were they not known surely enough already. `reply` is the model's last raw answer where it failed, for
    the person who looks into it.

    `made_from` has a sha for each part of the input that the extractor reads. `asked_with` has, for each attribute that
    a model was ever asked for here, the sha of all that made up the question, and None for one that was settled.
    """

    attributes: tuple[AttributeValue, ...] = ()
    category: str | None = None  # the category it read or worked under
    status: RowStatus = "ok"
    error: str | None = None
    pack: tuple[PackLine, ...] = ()  # text read on the pictures, for the extractors that follow
    asked: tuple[str, ...] = ()
    settled: tuple[str, ...] = ()
    usage: Usage = NO_USAGE
    reply: str | None = None
    made_from: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    asked_with: Mapping[str, str | None] = field(default_factory=lambda: _NOTHING)


@dataclass(frozen=True, slots=True)
class Earlier:
    """What stands of an item by one extractor, and the sha of that extractor when it made it.

    `again`: what of it failed is to be made again, though nothing has changed.
    """

    extraction: Extraction
    sha: str
    again: bool = False


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
