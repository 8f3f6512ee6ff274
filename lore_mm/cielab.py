"""Colours as people see them apart: sRGB to CIELAB, and the CIEDE2000 difference.

Pure arithmetic on arrays; it knows nothing of pictures or colour names.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ciede2000", "lab_of_hex", "srgb_to_lab"]

Array = NDArray[np.float64]

# IEC 61966-2-1:1999: linear sRGB to CIE XYZ, white point D65.
_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
# The XYZ of sRGB white under that matrix, so that white is exactly L* = 100, a* = b* = 0.
_WHITE = _TO_XYZ.sum(axis=1)
# CIE 15:2018 §8.2.1: below (6/29)^3 the cube root is replaced by its tangent line.
_KNEE = (6 / 29) ** 3


def _decode(encoded: Array) -> Array:
    """The sRGB curve of IEC 61966-2-1 undone: encoded 0..1 → linear 0..1."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


_LINEAR = _decode(np.arange(256) / 255.0)  # of every 8-bit value


def srgb_to_lab(rgb: NDArray[Any]) -> Array:
    """Values of sRGB in 0..255, shape (..., 3) → CIELAB (..., 3): L* in 0..100, a* and b* within ±130, D65.

    Decoding of the sRGB curve and the matrix: IEC 61966-2-1. L*a*b*: CIE 15:2018, equations 8.3 to 8.11.
    """
    values = np.asarray(rgb)
    linear = _LINEAR[values] if values.dtype == np.uint8 else _decode(values / 255.0)
    ratio = linear @ _TO_XYZ.T / _WHITE
    f = np.where(ratio > _KNEE, np.cbrt(ratio), ratio * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def lab_of_hex(code: str) -> Array:
    """The CIELAB values (3,) of "#rrggbb".

    Raises:
        ValueError: not of that form.
    """
    digits = code.removeprefix("#")
    if len(digits) != 6:
        raise ValueError(f"{code!r} is not a colour of the form #rrggbb")
    return srgb_to_lab(np.array([int(digits[i : i + 2], 16) for i in (0, 2, 4)]))


def ciede2000(one: Array, other: Array, k_l: float = 1.0, k_c: float = 1.0) -> Array:
    """The CIEDE2000 colour difference of CIELAB values, shapes (..., 3) that broadcast → (...); 1 is just noticeable.

    `k_l`, `k_c`: how many times less a difference of lightness or chroma counts (2 and 1 are usual for textiles).
    CIE 142:2001, in the computational form of Sharma, Wu and Dalal, "The CIEDE2000
    color-difference formula: implementation notes, supplementary test data and mathematical observations", Color
    Research and Application 30 (2005), equations 2 to 22.
    """
    l1, a1, b1 = np.moveaxis(np.asarray(one, dtype=np.float64), -1, 0)
    l2, a2, b2 = np.moveaxis(np.asarray(other, dtype=np.float64), -1, 0)
    mean_c7 = ((np.hypot(a1, b1) + np.hypot(a2, b2)) / 2) ** 7
    stretch = 1 + 0.5 * (1 - np.sqrt(mean_c7 / (mean_c7 + 25.0**7)))
    c1, c2 = np.hypot(stretch * a1, b1), np.hypot(stretch * a2, b2)
    h1 = np.degrees(np.arctan2(b1, stretch * a1)) % 360
    h2 = np.degrees(np.arctan2(b2, stretch * a2)) % 360
    grey = c1 * c2 == 0
    turn = (h2 - h1 + 180) % 360 - 180
    turn = np.where((turn == -180) & (h2 > h1), 180.0, turn)  # half a turn keeps its sign, as in equation 10
    turn = np.where(grey, 0.0, turn)
    delta_l, delta_c = l2 - l1, c2 - c1
    delta_h = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn) / 2)
    mean_l, mean_c = (l1 + l2) / 2, (c1 + c2) / 2
    far = np.abs(h1 - h2) > 180
    mean_h = (h1 + h2) / 2 + np.where(far, np.where(h1 + h2 < 360, 180.0, -180.0), 0.0)
    mean_h = np.where(grey, h1 + h2, mean_h)
    t = (
        1
        - 0.17 * np.cos(np.radians(mean_h - 30))
        + 0.24 * np.cos(np.radians(2 * mean_h))
        + 0.32 * np.cos(np.radians(3 * mean_h + 6))
        - 0.20 * np.cos(np.radians(4 * mean_h - 63))
    )
    s_l = 1 + 0.015 * (mean_l - 50) ** 2 / np.sqrt(20 + (mean_l - 50) ** 2)
    s_c, s_h = 1 + 0.045 * mean_c, 1 + 0.015 * mean_c * t
    r_c = 2 * np.sqrt(mean_c**7 / (mean_c**7 + 25.0**7))
    r_t = -np.sin(np.radians(60 * np.exp(-(((mean_h - 275) / 25) ** 2)))) * r_c
    lightness, chroma, hue = delta_l / (k_l * s_l), delta_c / (k_c * s_c), delta_h / s_h
    return np.asarray(np.sqrt(np.maximum(lightness**2 + chroma**2 + hue**2 + r_t * chroma * hue, 0.0)))
