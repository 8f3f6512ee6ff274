"""Text on the pictures of an item: its lines with their places, for those that follow, and what they state.

It knows pictures and lines; reading the picture is the engine's affair (`extractors.rapid_ocr`), reading the lines
`extractors.pack_text`'s.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from PIL.Image import Image

from extractors.pack_text import PACK_READER_SHA, read_pack
from extractors.protocol import Extraction, ExtractorInput, PackLine
from extractors.rapid_ocr import RapidOcr, Reading, TextReader
from lore_mm.errors import LoreError
from lore_mm.fingerprint import sha_of
from lore_mm.knowledge import Knowledge
from lore_mm.schema import Schemas
from lore_mm.types import RowStatus

__all__ = ["Ocr"]

_MOST_THREADS = 8


class Ocr:
    """The extractor of what is printed. `engine`: RapidOCR unless given; its name and version are part of `sha`.

    `threads` read pictures at the same time: as many as there are cores, at most 8, unless given.

    Raises:
        MissingExtraError: RapidOCR is not installed.
    """

    name = "ocr"
    needs_pictures = True
    depends_on = ("words", "pictures", "category")
    picture_side = 1024  # pixels: small print needs more of them than looks do

    def __init__(
        self, knowledge: Knowledge, schemas: Schemas, engine: TextReader | None = None, threads: int | None = None
    ) -> None:
        self.knowledge = knowledge
        self.schemas = schemas
        self.engine = engine or RapidOcr()
        self.threads = threads or min(_MOST_THREADS, os.cpu_count() or 1)
        read = schemas.sha_without("ask", "prompts", "visual")
        self.sha = sha_of(["ocr 1", self.engine.name, PACK_READER_SHA, knowledge.sha, read])

    def extract(self, inputs: Sequence[ExtractorInput]) -> list[Extraction]:
        """Read items; len(result) == len(inputs).

        An item without a picture is skipped. One of which a picture could not be read, or not to the end in time, is
        failed and keeps the lines that were read.
        """
        pictures = [image for one in inputs for image in one.pictures if image is not None]
        with ThreadPoolExecutor(max(1, min(self.threads, len(pictures))), thread_name_prefix="ocr") as pool:
            readings = iter(list(pool.map(self._read, pictures)))
        return [self._item(one, [None if p is None else next(readings) for p in one.pictures]) for one in inputs]

    def _read(self, image: Image) -> Reading | str:
        """The lines of one picture, or why there are none."""
        try:
            return self.engine.read(image)
        except LoreError:
            raise
        except Exception as error:  # an engine's own faults, on a picture nobody foresaw
            return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"

    def _item(self, one: ExtractorInput, readings: Sequence[Reading | str | None]) -> Extraction:
        lines: list[PackLine] = []
        faults = [error for error in one.picture_errors if error]
        for i, reading in enumerate(readings):
            if isinstance(reading, str):
                faults.append(f"picture {i}: {reading}")
            elif reading is not None:
                lines += [PackLine(line.text, i, line.region, line.confidence) for line in reading.lines]
                if reading.unread:
                    faults.append(f"picture {i}: no time for {reading.unread} more lines of text")
        if not lines and not faults and all(reading is None for reading in readings):
            return Extraction(category=one.category, status="skipped", error="no picture")
        try:
            values = read_pack(one.item, one.category, lines, self.knowledge, self.schemas)
        except Exception as error:
            values = []
            faults.append(f"{type(error).__name__}: {error}")
        status: RowStatus = "failed" if faults else "ok"
        return Extraction(tuple(values), one.category, status, "; ".join(faults) or None, pack=tuple(lines))
