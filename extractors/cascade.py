"""All extractors over one micro-batch of items, cheapest first, and the verdict over them.

Category first: the first extractor that finds one sets it for those that follow. Before each extractor the gate says
what those before it have settled, so that a costly one is asked only for the rest; text read on the pack is handed on.
Every extraction comes back as its extractor made it, with its own confidences; the gate and the verdict see calibrated
ones. Row law by construction: one dict an item, one extraction an extractor, whatever breaks. This module knows nothing
of files, stores or jobs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from extractors.gate import Gate
from extractors.merge import Merger
from extractors.protocol import Extraction, Extractor, ExtractorInput
from extractors.reuse import as_it_stands, made_from, standing, with_pictures
from lore_mm.errors import LoreError
from lore_mm.knowledge import load_knowledge
from lore_mm.schema import load_schemas

__all__ = ["extract_all"]


def extract_all(
    inputs: Sequence[ExtractorInput],
    extractors: Sequence[Extractor],
    merger: Merger | None = None,
    gate: Gate | None = None,
) -> list[dict[str, Extraction]]:
    """What each extractor found for each input, by extractor name in the order they ran, and last `merge`.

    `merger` is the shipped knowledge and schemas unless given, `gate` one without a fitted calibration. An extraction
    that was taken over from an input's `earlier` is that very object.

    Raises:
        LoreError: an engine is dead or missing; one item's failure is an Extraction with status failed instead.
    """
    merger = merger or Merger(load_knowledge(), load_schemas())
    gate = gate or Gate()
    inputs = list(inputs)
    found: list[dict[str, Extraction]] = [{} for _ in inputs]
    weighed: list[dict[str, Extraction]] = [{} for _ in inputs]  # with calibrated confidences
    known = [one.settled for one in inputs]  # before any extractor: the caller's
    for extractor in extractors:
        if found and found[0]:
            settled = [before | gate.settled(w) for before, w in zip(known, weighed, strict=True)]
            inputs = [replace(one, settled=names) for one, names in zip(inputs, settled, strict=True)]
        for i, extraction in enumerate(_extract(extractor, inputs)):
            found[i][extractor.name] = extraction
            weighed[i][extractor.name] = gate.calibrated(extractor.name, extraction)
            inputs[i] = _handed_on(inputs[i], extraction)
    for one, extractions, calibrated in zip(inputs, found, weighed, strict=True):
        try:
            extractions["merge"] = merger.merge(one.item, calibrated)
        except Exception as error:
            extractions["merge"] = _failed(one, f"merge: {type(error).__name__}: {error}")
    return found


def _handed_on(one: ExtractorInput, extraction: Extraction) -> ExtractorInput:
    """The input with what those that follow should know: the category, and the text on the pack."""
    if extraction.category and not one.category:
        one = replace(one, category=extraction.category)
    return replace(one, pack=one.pack + extraction.pack) if extraction.pack else one


def _extract(extractor: Extractor, inputs: list[ExtractorInput]) -> list[Extraction]:
    """What stands of each input, else what is made of it; `inputs` get their pictures where that needs them."""
    found = [standing(extractor, one) for one in inputs]
    todo = [i for i, one in enumerate(found) if one is None]
    if extractor.needs_pictures:
        for i in todo:
            inputs[i] = with_pictures(inputs[i])
    asked = [inputs[i] for i in todo]
    for i, one, made in zip(todo, asked, _run(extractor, asked) if asked else (), strict=True):
        found[i] = as_it_stands(extractor, one, replace(made, made_from=made_from(extractor, one)))
    return [one for one in found if one is not None]


def _run(extractor: Extractor, inputs: Sequence[ExtractorInput]) -> list[Extraction]:
    """One extraction an input. A batch that breaks is taken again item by item, so that one row fails and not all."""
    try:
        extractions = extractor.extract(inputs)
    except LoreError:
        raise
    except Exception as error:
        if len(inputs) == 1:
            return [_failed(inputs[0], f"{type(error).__name__}: {error}")]
        return [extraction for one in inputs for extraction in _run(extractor, [one])]
    if len(extractions) != len(inputs):
        fault = f"{extractor.name} gave {len(extractions)} extractions for {len(inputs)} items"
        return [_failed(one, fault) for one in inputs]
    return extractions


def _failed(one: ExtractorInput, error: str) -> Extraction:
    return Extraction(category=one.category, status="failed", error=error)
