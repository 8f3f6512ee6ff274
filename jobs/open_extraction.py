"""How `ExtractItems` is opened: whole, with its models, or its reading half without any (see `jobs.openers`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from extractors.calibrate import Calibration
from extractors.merge import Merger
from extractors.protocol import Extractor
from extractors.reuse import parts_read
from jobs.carry import Carry
from jobs.extraction_rows import NEEDED
from jobs.item_input import ItemInput
from jobs.item_to_extract import load_with_earlier
from jobs.open_extractors import VlmChoice, close_extractors, open_extractors
from lore_mm.images import PicturePolicy
from lore_mm.knowledge import Knowledge
from lore_mm.models import Embedder
from lore_mm.schema import Schemas
from stores.features import FeatureStore

if TYPE_CHECKING:
    from jobs.extract_items import ExtractItems

__all__ = ["OpenExtraction"]

# Items a commit. The micro-batches in work and one more are held with their decoded pictures, at most 0.8 MB each;
# commits of few rows make many files, which every reader pays for.
BATCH_ROWS, BATCH_ROWS_TEXT = 256, 4096
# Where an extractor wants larger pictures (`picture_side`): four times the area, and a quarter of them at once.
BATCH_ROWS_LARGE = 64


@dataclass(frozen=True)
class OpenExtraction:
    """Extractors by name, with all that they are opened with. `threads` micro-batches are in an engine at once."""

    store: FeatureStore
    names: Sequence[str]
    embedder: str | Embedder
    vlm: VlmChoice | None
    calibration: Calibration | None
    policy: PicturePolicy
    schemas: Schemas
    knowledge: Knowledge
    threads: int = 1
    loads_apart: bool = True
    idle: bool = False  # no model is going to be asked

    @contextmanager
    def open(self) -> Iterator[ExtractItems]:
        """With the models, which are closed at the end. The policy is for larger pictures where one wants them."""
        from jobs.extract_items import ExtractItems

        extractors = open_extractors(self.names, self.embedder, self.knowledge, self.schemas, self.vlm, self.idle)
        try:
            side = max(getattr(e, "picture_side", 0) for e in extractors)
            policy = replace(self.policy, max_side=side) if side > self.policy.max_side else self.policy
            merger = Merger(self.knowledge, self.schemas)
            yield ExtractItems(self.store, extractors, merger, policy, self.calibration)
        finally:
            close_extractors(extractors)

    def facts(self, work: ExtractItems) -> Mapping[str, Any]:
        """The shas by name, rows a commit, and what the reading half needs."""
        rows = BATCH_ROWS if work.policy.max_side <= self.policy.max_side else BATCH_ROWS_LARGE
        return {
            "shas": dict(work.shas),
            "batch_rows": rows if work.with_pictures else BATCH_ROWS_TEXT,
            "policy": work.policy,
            "extractors": tuple(_Known(e.name, e.needs_pictures, e.sha, parts_read(e)) for e in work.extractors),
        }

    def reading(self, facts: Mapping[str, Any], store: FeatureStore | None = None) -> ItemInput:
        """Items, with their pictures where one looks at them, and what stands of them."""
        return _Reading(store or self.store, facts["policy"], facts["extractors"])


@dataclass(frozen=True, slots=True)
class _Known:
    """What is told of an extractor that is open elsewhere."""

    name: str
    needs_pictures: bool
    sha: str
    depends_on: tuple[str, ...]

    def extract(self, inputs: Sequence[Any]) -> list[Any]:
        """Never called."""
        raise NotImplementedError(f"{self.name} is open elsewhere")


class _Reading(ItemInput):
    def __init__(self, store: FeatureStore, policy: PicturePolicy, extractors: Sequence[Extractor]) -> None:
        super().__init__(store, policy, with_pictures=any(e.needs_pictures for e in extractors))
        self.extractors = extractors
        self._carry: Carry | None = None

    def recall(self, version: int | None, retry_failed: bool) -> None:
        """As ExtractItems does."""
        self._carry = Carry(self.store, "attributes", "item_id", NEEDED, version, retry_failed)

    def load(self, rows: pa.Table) -> tuple[list[str], list[Any]]:
        """As ExtractItems does."""
        work: Any = self  # of ExtractItems it needs no more than is here
        return load_with_earlier(work, rows, self._carry)
