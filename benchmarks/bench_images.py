"""How fast `load_pictures` reads a folder of product photos, against bare Pillow loops over the same files.

    python benchmarks/bench_images.py [--pictures 120] [--side 1600]

Two loops without any check stand beside it, on one thread: `plain` decodes each photo in full, then shrinks it; `draft`
lets the JPEG decoder scale first, as `load_pictures` does. The rounds are interleaved and the best of each is taken, so
that a busy machine weighs on all alike.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from lore_mm.images import Picture, PicturePolicy, load_pictures

SIDE = 512
ROUNDS = 5


def make_photos(folder: Path, number: int, side: int) -> list[str]:
    """JPEG files of `side` × 3/4 `side` pixels with soft shapes and some grain, like photos; their names."""
    rng = np.random.default_rng(0)
    names = []
    for i in range(number):
        soft = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((side, side * 3 // 4))
        grain = rng.integers(-6, 7, (side * 3 // 4, side, 1))
        photo = np.clip(np.asarray(soft, dtype=np.int16) + grain, 0, 255).astype(np.uint8)
        names.append(f"{i}.jpg")
        Image.fromarray(photo).save(folder / names[-1], quality=88)
    return names


def plain(folder: Path, names: list[str]) -> int:
    """Decode in full, then shrink."""
    for name in names:
        with Image.open(folder / name) as opened:
            opened.convert("RGB").thumbnail((SIDE, SIDE))
    return len(names)


def draft(folder: Path, names: list[str]) -> int:
    """Let the JPEG decoder shrink first."""
    for name in names:
        with Image.open(folder / name) as opened:
            opened.draft("RGB", (SIDE, SIDE))
            opened.convert("RGB").thumbnail((SIDE, SIDE))
    return len(names)


def ours(threads: int) -> Callable[[Path, list[str]], int]:
    """`load_pictures` with that many threads."""

    def load(folder: Path, names: list[str]) -> int:
        found = load_pictures(names, folder, PicturePolicy(max_side=SIDE), threads=threads)
        return sum(isinstance(one, Picture) for one in found)

    return load


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pictures", type=int, default=120)
    parser.add_argument("--side", type=int, default=1600)
    options = parser.parse_args()
    cores = os.cpu_count() or 1
    ways = {"plain": plain, "draft": draft, "1 thread": ours(1), f"{cores} threads": ours(cores)}
    best = dict.fromkeys(ways, float("inf"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = make_photos(folder, options.pictures, options.side)
        for _ in range(ROUNDS):
            for way, read in ways.items():
                begun = time.perf_counter()
                assert read(folder, names) == len(names)
                best[way] = min(best[way], time.perf_counter() - begun)
    print(f"{options.pictures} JPEG photos of {options.side} × {options.side * 3 // 4} pixels to {SIDE}, {cores} cores")
    for way, seconds in best.items():
        label = f"Pillow, {way}" if way in ("plain", "draft") else f"load_pictures, {way}"
        print(
            f"{label:28} {len(names) / seconds:8.0f} pictures/s   {best['plain'] / seconds:5.2f} × plain"
            f"   {best['draft'] / seconds:5.2f} × draft"
        )


if __name__ == "__main__":
    main()
