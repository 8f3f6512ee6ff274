"""Extractors over a labelled data set: every answer beside its truth, in the data set's order.

The cascade runs as in production, so that an extractor knows the category (and the text on the pack) that earlier ones
found; each one's own answers are scored, and the verdict over all of them as `merge`. An item's attributes without
truth are handed over as settled: nobody need ask for them; unless a gate is given nothing else is, so that each
extractor answers everything it can. It knows no metrics.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from lore_mm.datasets import Dataset, Truth, shipped_name
from lore_mm.errors import PictureError
from lore_mm.images import PicturePolicy, load_pictures
from lore_mm.knowledge import Knowledge, load_knowledge
from lore_mm.schema import Schemas
from lore_mm.types import Item

__all__ = ["BATCH", "Pictures", "run_extractors", "score_extraction"]

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
    schemas: Schemas | None = None,
    policy: PicturePolicy | None = None,
    pictures: Pictures = "own",
    calibration: Calibration | None = None,
    gate: Gate | None = None,
    batch: int = BATCH,
) -> Iterator[ScoredRow]:
    """One scored row for each truth of each item and each extractor, and for `merge` where there are several.

    `pictures`: "none" withholds them, "shuffled" gives each item those of an item of another group (the next but half
    the items on, always the same): what an extractor still gets right it did not see.

    `schemas`: those that the extractors work under, the data set's own unless given; with others an attribute is asked
    by the name it has there (`lore_mm.datasets.shipped_name`), and an answer counts for the legal value it means.
    Confidences are as `calibration` corrects them, the extractors' own without one. `gate`: what it settles is not
    asked of later extractors, and such a row of theirs is silence; by default it settles nothing.

    Raises:
        LoreError: an engine is dead or missing.
    """
    known = knowledge or load_knowledge()
    merger = Merger(known, schemas or dataset.schemas)
    asked_as = {t.attribute: shipped_name(t.attribute) if schemas else t.attribute for t in dataset.truth}
    every = {n for department in merger.schemas.departments.values() for n in department.specs}
    # nobody need ask for what has no truth; but under the shipped schemas the kind of thing tells what there is to ask
    every -= {"category"} if schemas else set()
    truths = _by_item(dataset.truth)
    items = dataset.items
    shown = _shuffled(dataset) if pictures == "shuffled" else items
    looked_at = any(e.needs_pictures for e in extractors) and pictures != "none"
    for start in range(0, len(items), batch):
        part = items[start : start + batch]
        loaded = _load(shown[start : start + batch], dataset, policy) if looked_at else [_Loaded()] * len(part)
        settled = [
            frozenset(every - {asked_as[truth.attribute] for truth in truths.get(item.item_id, ())}) for item in part
        ]
        inputs = [
            ExtractorInput(item, None, one.pictures, one.errors, settled=names)
            for item, one, names in zip(part, loaded, settled, strict=True)
        ]
        found = extract_all(inputs, extractors, merger, gate or Gate(Calibration()))
        for item, extractions in zip(part, found, strict=True):
            for name, own in extractions.items():
                extraction = calibration.calibrated(name, own) if calibration else own
                if name != "merge" or len(extractors) > 1:
                    rows = truths.get(item.item_id, ())
                    yield from score_extraction(dataset, name, extraction, rows, asked_as, known)


def score_extraction(
    dataset: Dataset,
    name: str,
    extraction: Extraction,
    truths: Iterable[Truth],
    asked_as: Mapping[str, str],
    knowledge: Knowledge,
) -> Iterator[ScoredRow]:
    """One extractor's extraction of one item beside each truth of that item. `asked_as`: attribute → its name there."""
    specs = dataset.schemas.for_category(extraction.category, knowledge).specs
    error = (extraction.error or "failed") if extraction.status == "failed" else None
    for truth in truths:
        spec = specs.get(truth.attribute) or _anywhere(dataset, truth.attribute)
        said = [one for one in extraction.attributes if one.name == asked_as.get(truth.attribute, truth.attribute)]
        yield score(name, dataset.group(truth.item_id), truth, spec, answer_of(spec, said, error))


def _anywhere(dataset: Dataset, attribute: str) -> AttributeSpec:
    """An attribute that the category found does not have, as the first department that has it tells it."""
    return next(d.specs[attribute] for d in dataset.schemas.departments.values() if attribute in d.specs)


def _by_item(truth: Iterable[Truth]) -> dict[str, list[Truth]]:
    found: dict[str, list[Truth]] = {}
    for row in truth:
        found.setdefault(row.item_id, []).append(row)
    return found


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
