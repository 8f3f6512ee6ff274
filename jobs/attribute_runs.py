"""Extractors over a labelled data set: every answer beside its truth, in the data set's order.

The cascade runs as in production, so that an extractor knows the category (and the text on the pack) that earlier ones
found; each one's own answers are scored, and the verdict over all of them as `merge`. An item's attributes without
truth are handed over as settled: nobody need ask for them; unless a gate is given nothing else is, so that each
extractor answers everything it can. It knows no metrics.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from PIL.Image import Image

from extractors.calibrate import Calibration
from extractors.cascade import extract_all
from extractors.gate import Gate
from extractors.merge import Merger
from extractors.protocol import Extraction, Extractor, ExtractorInput
from jobs.attribute_scoring import ScoredRow, answer_of, score
from lore_mm.attribute import AttributeSpec
from lore_mm.datasets import Dataset, Truth
from lore_mm.errors import PictureError
from lore_mm.images import PicturePolicy, load_pictures
from lore_mm.knowledge import Knowledge, load_knowledge
from lore_mm.types import Item

__all__ = ["BATCH", "Pictures", "run_extractors", "score_extractions"]

BATCH = 64  # items at once
Pictures = Literal["own", "none", "shuffled"]


@dataclass(frozen=True, slots=True)
class _Loaded:
    pictures: tuple[Image | None, ...] = ()
    errors: tuple[str | None, ...] = ()


def run_extractors(
    dataset: Dataset,
    extractors: Sequence[Extractor],
    *,
    knowledge: Knowledge | None = None,
    policy: PicturePolicy | None = None,
    pictures: Pictures = "own",
    calibration: Calibration | None = None,
    gate: Gate | None = None,
    batch: int = BATCH,
) -> Iterator[ScoredRow]:
    """One scored row for each truth of each item and each extractor, and for `merge` where there are several.

    `pictures`: "none" withholds them, "shuffled" gives each item those of an item of another group (the next but half
    the items on, always the same): what an extractor still gets right it did not see.

    Confidences are as `calibration` corrects them, the extractors' own without one. `gate`: what it settles is not
    asked of later extractors, and such a row of theirs is silence; by default it settles nothing.

    Raises:
        LoreError: an engine is dead or missing.
    """
    known = knowledge or load_knowledge()
    merger = Merger(known, dataset.schemas)
    truths = _by_item(dataset.truth)
    items = dataset.items
    shown = {"own": items, "none": (), "shuffled": _shuffled(dataset)}[pictures]
    looked_at = any(e.needs_pictures for e in extractors) and pictures != "none"
    for start in range(0, len(items), batch):
        part = items[start : start + batch]
        loaded = _load(shown[start : start + batch], dataset, policy) if looked_at else [_Loaded()] * len(part)
        inputs = [
            ExtractorInput(
                item, None, one.pictures, one.errors, settled=_settled(dataset, truths.get(item.item_id, ()))
            )
            for item, one in zip(part, loaded, strict=True)
        ]
        found = extract_all(inputs, extractors, merger, gate or Gate(Calibration()))
        for item, extractions in zip(part, found, strict=True):
            for name, own in extractions.items():
                extraction = calibration.calibrated(name, own) if calibration else own
                if name != "merge" or len(extractors) > 1:
                    yield from score_extractions(dataset, name, extraction, truths.get(item.item_id, ()), known)


def score_extractions(
    dataset: Dataset, name: str, extraction: Extraction, truths: Iterable[Truth], knowledge: Knowledge
) -> Iterator[ScoredRow]:
    """One extractor's extraction of one item beside each truth of that item."""
    schema = dataset.schemas.for_category(extraction.category, knowledge)
    error = (extraction.error or "failed") if extraction.status == "failed" else None
    for truth in truths:
        spec = schema.specs.get(truth.attribute) or _anywhere(dataset, truth.attribute)
        said = [value for value in extraction.attributes if value.name == truth.attribute]
        yield score(name, dataset.group(truth.item_id), truth, spec, answer_of(spec, said, error))


def _anywhere(dataset: Dataset, attribute: str) -> AttributeSpec:
    """An attribute that the category found does not have, as the first department that has it tells it."""
    return next(d.specs[attribute] for d in dataset.schemas.departments.values() if attribute in d.specs)


def _by_item(truth: Iterable[Truth]) -> dict[str, list[Truth]]:
    found: dict[str, list[Truth]] = {}
    for row in truth:
        found.setdefault(row.item_id, []).append(row)
    return found


def _settled(dataset: Dataset, truths: Iterable[Truth]) -> frozenset[str]:
    """The attributes that nobody need ask of an item: those without truth."""
    every = {name for department in dataset.schemas.departments.values() for name in department.specs}
    return frozenset(every - {truth.attribute for truth in truths})


def _shuffled(dataset: Dataset) -> tuple[Item, ...]:
    """For each item one of another group, whose pictures it gets; itself where there is no other group."""
    items, n = dataset.items, len(dataset.items)
    found = []
    for i, item in enumerate(items):
        others = (items[(i + n // 2 + step) % n] for step in range(n))
        apart = (o for o in others if dataset.group(o.item_id) != dataset.group(item.item_id))
        found.append(next(apart, item))
    return tuple(found)


def _load(items: Sequence[Item], dataset: Dataset, policy: PicturePolicy | None) -> list[_Loaded]:
    """The decoded pictures of each item, None with the reason where one cannot be read."""
    root = str(dataset.picture_root) if dataset.picture_root else None
    refs = [ref for item in items for ref in item.images]
    read = iter(load_pictures(refs, root, policy or PicturePolicy()))
    loaded = []
    for item in items:
        some = [next(read) for _ in item.images]
        loaded.append(
            _Loaded(
                tuple(None if isinstance(one, PictureError) else one.image for one in some),
                tuple(str(one) if isinstance(one, PictureError) else None for one in some),
            )
        )
    return loaded
