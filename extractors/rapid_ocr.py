"""Lines of text on one picture, read by RapidOCR (PP-OCR models that come with the package, on the CPU, offline).

Every call is bounded in size, in lines and in time, whatever the picture. It knows pixels and lines, no items and no
attributes.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from queue import SimpleQueue
from typing import Any, Protocol

import numpy as np
from PIL.Image import Image, Resampling

from lore_mm.errors import MissingExtraError
from lore_mm.text import normalize

__all__ = ["RapidOcr", "Reading", "TextLine", "TextReader"]

DETECTED_SIDE = 640  # pixels of the longer side in which lines are looked for; they are read at full size
MOST_ENLARGED = 4.0  # of small pictures
SMALLEST_SIDE = 8  # pixels; nothing is written on less
MOST_LINES = 64  # the largest are read; a page of small print is no pack
MOST_SECONDS = 20.0  # for one picture
LEAST_SURE = 0.5  # lines read with less are noise
LONGEST_LINE = 200  # characters


@dataclass(frozen=True, slots=True)
class TextLine:
    """A line as read. `region`: x0, y0, x1, y1 in shares of width and height; `confidence` in [0, 1]."""

    text: str
    region: tuple[float, float, float, float]
    confidence: float


@dataclass(frozen=True, slots=True)
class Reading:
    """The lines of one picture from top to bottom; `unread` counts those there was no time for."""

    lines: tuple[TextLine, ...] = ()
    unread: int = 0


class TextReader(Protocol):
    """What `Ocr` needs of an engine. `read` may be called from several threads."""

    name: str  # engine and version

    def read(self, image: Image) -> Reading:
        """The lines of text of an RGB picture."""
        ...


class RapidOcr:
    """RapidOCR on one thread a call; as many engines as threads have called at once.

    Raises:
        MissingExtraError: the package is not installed.
    """

    def __init__(self, *, most_lines: int = MOST_LINES, most_seconds: float = MOST_SECONDS) -> None:
        try:
            self.name = f"rapidocr {version('rapidocr')} {DETECTED_SIDE} {most_lines}"
        except PackageNotFoundError:
            raise MissingExtraError("rapidocr", "ocr") from None
        self.most_lines = most_lines
        self.most_seconds = most_seconds
        self._idle: SimpleQueue[Any] = SimpleQueue()  # an engine keeps state between the steps of a call
        self._idle.put(_open_engine())

    def read(self, image: Image) -> Reading:
        """The lines of text of an RGB picture, the largest `most_lines` of them."""
        if min(image.size) < SMALLEST_SIDE:
            return Reading()
        engine = _open_engine() if self._idle.empty() else self._idle.get()
        try:
            return self._read(engine, image)
        finally:
            self._idle.put(engine)

    def _read(self, engine: Any, image: Image) -> Reading:
        started = time.monotonic()
        looked_at = _scaled(image)
        found = engine(_bgr(looked_at), use_det=True, use_cls=False, use_rec=False)
        if getattr(found, "boxes", None) is None:
            return Reading()
        read_from = image if image.width > looked_at.width else looked_at
        pixels = _bgr(read_from)
        scale = np.asarray(read_from.size, np.float32) / np.asarray(looked_at.size, np.float32)
        boxes = [np.asarray(box, np.float32) * scale for box in found.boxes]  # each (4, 2): corners, clockwise
        largest = sorted(range(len(boxes)), key=lambda i: -_height(boxes[i]))[: self.most_lines]
        lines: list[TextLine] = []
        for n, i in enumerate(sorted(largest)):
            if time.monotonic() - started > self.most_seconds:
                return Reading(tuple(lines), len(largest) - n)
            line = _read_line(engine, pixels, boxes[i])
            if line is not None:
                lines.append(line)
        return Reading(tuple(lines))


def _open_engine() -> Any:
    try:
        import onnxruntime  # noqa: F401 the engine beneath, an own package
        from rapidocr import RapidOCR
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "rapidocr", "ocr") from None
    return RapidOCR(
        params={
            "Global.log_level": "critical",
            # Pictures come in the right size: its own rule enlarges the shorter side, which a strip of 3 × 400 pixels
            # turns into gigabytes.
            "Global.use_preprocess_img": False,
            "Det.limit_type": "max",
            "Det.limit_side_len": DETECTED_SIDE,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )


def _bgr(image: Image) -> np.ndarray:
    """The picture as OpenCV has it: (h, w, 3) bytes, blue first."""
    return np.ascontiguousarray(np.asarray(image)[:, :, ::-1])


def _scaled(image: Image) -> Image:
    factor = min(DETECTED_SIDE / max(image.size), MOST_ENLARGED)
    width, height = (max(1, round(side * factor)) for side in image.size)
    return image if (width, height) == image.size else image.resize((width, height), Resampling.BICUBIC)


def _height(box: np.ndarray) -> float:
    """The shorter side of a box: how high its letters are."""
    return min(math.dist(box[0], box[1]), math.dist(box[1], box[2]))


def _read_line(engine: Any, pixels: np.ndarray, box: np.ndarray) -> TextLine | None:
    from rapidocr.utils.process_img import get_rotate_crop_image

    crop = get_rotate_crop_image(pixels, box.copy())
    if min(crop.shape[:2]) < 2:
        return None
    read = engine(crop, use_det=False, use_cls=True, use_rec=True)
    texts, scores = getattr(read, "txts", None), getattr(read, "scores", None)
    if not texts or not scores:
        return None
    text, sure = normalize(texts[0])[:LONGEST_LINE], float(scores[0])
    if sure < LEAST_SURE or not re.search(r"\w", text):
        return None
    return TextLine(text, _region(box, pixels.shape), min(1.0, sure))


def _region(box: np.ndarray, shape: Sequence[int]) -> tuple[float, float, float, float]:
    shares = np.clip(box / (shape[1], shape[0]), 0.0, 1.0)
    (x0, y0), (x1, y1) = shares.min(axis=0).tolist(), shares.max(axis=0).tolist()
    return round(x0, 4), round(y0, 4), round(x1, 4), round(y1, 4)
