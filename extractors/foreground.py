"""Which pixels of a product picture show the product: colour and place only, no model.

A plain background (a studio's white, a smooth gradient, one wall) is fitted along the border and removed where it is
connected to it. In a busy photo nothing can be cut out by colour alone; there every pixel gets a weight by how near the
centre it is and how seldom its colour is along the border. This module knows nothing of colour names.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lore_mm.cielab import srgb_to_lab

__all__ = ["Foreground", "find_foreground", "thumbnail"]

PLAIN = 0.6  # share of the border that one smooth colour must explain for a background to be plain
COLOURED = 8.0  # chroma C*ab above which a background has a hue
LEAST = 0.004  # a foreground below this share of the picture is no foreground
_SIDE = 96  # pixels of the longer side that are looked at


@dataclass(frozen=True, slots=True)
class Foreground:
    """How much each pixel belongs to the product.

    weights: (h, w) in [0, 1]. certainty: in [0, 1], how far the cut can be trusted. plain: a background was cut away.
    """

    weights: NDArray[np.float64]
    certainty: float
    plain: bool


def thumbnail(image: Image.Image, side: int = _SIDE) -> NDArray[np.uint8]:
    """A picture of any mode as RGB (h, w, 3), its longer side at most `side`; what is transparent becomes white.

    Pixels are picked, not averaged: a mean of a black and white check would be a grey that nobody sees.
    """
    scale = side / max(image.size)
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.NEAREST)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        clear = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
    return np.asarray(image.convert("RGB"))


def find_foreground(rgb: NDArray[np.uint8], lab: NDArray[np.float64] | None = None) -> Foreground:
    """Weigh the pixels of an RGB picture (h, w, 3)."""
    lab = srgb_to_lab(rgb) if lab is None else lab
    height, width = lab.shape[:2]
    if min(height, width) < 8:
        return Foreground(np.ones((height, width)), 0.3, False)
    border = _border(height, width)
    fit = _fit_background(lab, border, border)
    if fit.share < PLAIN:
        return Foreground(_salience(rgb, border), 0.45, False)
    alike = _alike(lab, fit)
    background = _connected(alike, border)
    if np.hypot(*np.median(fit.plane[border], axis=0)[1:]) > COLOURED:
        background = alike  # enclosed by the product it is still not the product; white may well be
    floor = _fit_background(lab, border, border & ~background)
    if floor.share >= PLAIN and _holds_corner(border & ~background):
        background |= _connected(_alike(lab, floor), border & ~background)
    weights = (~background).astype(np.float64)
    if weights.mean() >= LEAST:
        return Foreground(weights, _certainty(fit.share, weights), True)
    return Foreground(np.ones((height, width)), 0.4, False)  # one colour all over: a close-up, or nothing there


def _certainty(inliers: float, weights: NDArray[np.float64]) -> float:
    """The share of the border explained, less where next to nothing or nearly all was kept."""
    kept = float(weights.mean())
    return float(
        min(1.0, 0.4 + 0.6 * (inliers - PLAIN) / (0.9 - PLAIN)) * min(1.0, 0.4 + kept / 0.05, (1.05 - kept) / 0.2)
    )


def _border(height: int, width: int) -> NDArray[np.bool_]:
    """The frame of the picture, 3 % of its side wide."""
    thick = max(1, round(0.03 * max(height, width)))
    mask = np.ones((height, width), dtype=np.bool_)
    mask[thick : height - thick, thick : width - thick] = False
    return mask


@dataclass(frozen=True, slots=True)
class _Background:
    """A background whose colour changes linearly over the picture."""

    plane: NDArray[np.float64]  # its colour at each pixel, (h, w, 3) in CIELAB
    share: float  # of the border it explains
    spread: float  # the distance (ΔE*ab) up to which a pixel belongs to it


def _fit_background(lab: NDArray[np.float64], border: NDArray[np.bool_], on: NDArray[np.bool_]) -> _Background:
    """Fit the background to the border pixels `on`; share 0 where there are too few of them (under 12 %).

    The plane is fitted by least squares to the pixels near their median, then once more to those near the first plane:
    a product that is cut off by the border does not bend it.
    """
    height, width = border.shape
    if on.sum() < max(12.0, 0.12 * border.sum()):
        return _Background(lab, 0.0, 0.0)
    y, x = np.mgrid[0:height, 0:width]
    design = np.stack([np.ones_like(x), x / width - 0.5, y / height - 0.5], axis=-1).astype(np.float64)  # (h, w, 3)
    at, colours = design[on], lab[on]
    near = np.linalg.norm(colours - np.median(colours, axis=0), axis=1) < 20
    slopes = np.zeros((3, 3))
    slopes[0] = np.median(colours, axis=0)
    for limit in (12.0, 8.0):
        if near.sum() < 12:
            break
        slopes = np.linalg.lstsq(at[near], colours[near], rcond=None)[0]
        near = np.linalg.norm(colours - at @ slopes, axis=1) < limit
    residual = np.linalg.norm(colours - at @ slopes, axis=1)
    on_plane = residual < 8
    spread = float(np.clip(2.5 + 1.5 * np.quantile(residual[on_plane], 0.95), 3, 12)) if on_plane.any() else 3.0
    return _Background(design @ slopes, float(on_plane.mean()), spread)


def _alike(lab: NDArray[np.float64], fit: _Background) -> NDArray[np.bool_]:
    """The pixels that have the background's colour, or, where it is coloured, lie in its shadow.

    A shadow dims light and keeps its hue: lightness and chroma fall together. On grey it looks like a grey thing.
    """
    alike = np.linalg.norm(lab - fit.plane, axis=-1) <= fit.spread
    chroma = np.hypot(fit.plane[..., 1], fit.plane[..., 2])
    dimmed = np.clip(lab[..., 0] / np.maximum(fit.plane[..., 0], 1.0), 0.0, 1.0)
    off = np.hypot(lab[..., 1] - dimmed * fit.plane[..., 1], lab[..., 2] - dimmed * fit.plane[..., 2])
    shadow = (chroma > COLOURED) & (dimmed > 0.35) & (off < 0.3 * dimmed * chroma)
    return np.asarray(alike | shadow)


def _holds_corner(mask: NDArray[np.bool_]) -> bool:
    """True where the mask reaches two corners of the picture: a floor does, a thing cut off by the border seldom."""
    return int(mask[0, 0]) + int(mask[0, -1]) + int(mask[-1, 0]) + int(mask[-1, -1]) >= 2


def _connected(alike: NDArray[np.bool_], seeds: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels of `alike` that are joined to a seed through `alike` (4 neighbours).

    Whole runs are filled at once, along rows and columns in turn, until nothing changes.
    """
    reached = alike & seeds
    if not reached.any():
        return reached
    rows, columns = _runs(alike), _runs(alike.T)
    count = int(reached.sum())
    while True:
        reached = _fill(rows, reached) & alike
        reached = _fill(columns, reached.T).T & alike
        if (now := int(reached.sum())) == count:
            return reached
        count = now


def _runs(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """A number for each run of equal pixels along the rows, the same for all pixels of a run."""
    change = np.ones(mask.shape, dtype=np.intp)
    change[:, 1:] = mask[:, 1:] != mask[:, :-1]
    numbers: NDArray[np.intp] = np.cumsum(change, dtype=np.intp).reshape(mask.shape)
    return numbers


def _fill(runs: NDArray[np.intp], reached: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Every pixel whose run holds a reached one."""
    hit = np.zeros(int(runs[-1, -1]) + 1, dtype=np.bool_)
    hit[runs[reached]] = True
    return hit[runs]


def _salience(rgb: NDArray[np.uint8], border: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Weights for a busy photo: near the centre, and of a colour that is commoner there than along the border."""
    height, width = border.shape
    y, x = np.mgrid[0:height, 0:width]
    centre = np.exp(-(((x / width - 0.5) / 0.28) ** 2 + ((y / height - 0.5) / 0.28) ** 2) / 2)  # (h, w)
    coarse = rgb.astype(np.intp) >> 5  # 8 levels a channel
    bins = (coarse[..., 0] << 6) | (coarse[..., 1] << 3) | coarse[..., 2]
    inside = np.bincount(bins.ravel(), weights=centre.ravel(), minlength=512) / centre.sum()
    outside = np.bincount(bins[border], minlength=512) / border.sum()
    ratio = (inside + 1e-4) / (inside + outside + 2e-4)
    return np.asarray(centre * ratio[bins] ** 2)
