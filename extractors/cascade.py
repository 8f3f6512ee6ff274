"""All extractors over one micro-batch of items, cheapest first, and the verdict over them.

Category first: the first extractor that finds one sets it for those that follow. Row law by construction: one dict an
item, one extraction an extractor, whatever breaks. This module knows nothing of files, stores or jobs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from extractors.merge import Merger
from extractors.protocol import Extraction, Extractor, ExtractorInput
from lore_mm.errors import LoreError
from lore_mm.knowledge import load_knowledge
from lore_mm.schema import load_schemas

__all__ = ["extract_all"]


def extract_all(
    inputs: Sequence[ExtractorInput], extractors: Sequence[Extractor], merger: Merger | None = None
) -> list[dict[str, Extraction]]:
    """What each extractor found for each input, by extractor name in the order they ran, and last `merge`.

    `merger` is the shipped knowledge and schemas unless given.

    Raises:
        LoreError: an engine is dead or missing; one item's failure is an Extraction with status failed instead.
    """
    merger = merger or Merger(load_knowledge(), load_schemas())
    inputs = list(inputs)
    found: list[dict[str, Extraction]] = [{} for _ in inputs]
    for extractor in extractors:
        for i, extraction in enumerate(_run(extractor, inputs)):
            found[i][extractor.name] = extraction
            if extraction.category and not inputs[i].category:
                inputs[i] = replace(inputs[i], category=extraction.category)
    for one, extractions in zip(inputs, found, strict=True):
        try:
            extractions["merge"] = merger.merge(one.item, extractions)
        except Exception as error:
            extractions["merge"] = _failed(one, f"merge: {type(error).__name__}: {error}")
    return found


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
