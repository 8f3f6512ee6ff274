"""Embedding through the project against the bare open_clip loop, on the same model, pictures and texts, in one run.

The bare loop is what open_clip's own README does: one batch of 64, its wrapper of the tokenizer with padding to the
full length. Prints JSON lines; a ratio above 1 means that the project is faster. How good the vectors are is printed
by `python -m jobs.train_clip --evaluate`.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from lore_mm.models import DEFAULT_EMBEDDER, open_embedder
from lore_mm.models.weights import get_weights

PICTURES, TEXTS, ROUNDS, BATCH = 64, 256, 3, 64
WORDS = "red blue running shoe wooden table lamp garden chair camera lens tripod cotton shirt for women size 38".split()


def seconds(call: Callable[[], Any]) -> float:
    """CPU-independent enough: the median of a few rounds of wall time."""
    call()
    taken = []
    for _ in range(ROUNDS):
        before = time.perf_counter()
        call()
        taken.append(time.perf_counter() - before)
    return statistics.median(taken)


def main() -> None:
    """Print one row for pictures and one for texts."""
    embedder = open_embedder(DEFAULT_EMBEDDER)
    import open_clip
    import torch

    from lore_mm.models.clip_tiny import open_clip_tiny, prepare_picture

    model = open_clip_tiny()[0].eval()
    tokenizer = open_clip.tokenizer.HFTokenizer(str(get_weights("all-minilm-l6-v2")), context_length=77)
    chance = np.random.default_rng(0)
    noise = chance.integers(0, 256, (PICTURES, 320, 240, 3), dtype=np.uint8)
    pictures = [Image.fromarray(one) for one in noise]
    texts = [" ".join(chance.choice(WORDS, chance.integers(1, 12))) for _ in range(TEXTS)]

    def bare_pictures() -> Any:
        with torch.inference_mode():
            parts = [
                model.encode_image(torch.stack([prepare_picture(p) for p in pictures[i : i + BATCH]]), normalize=True)
                for i in range(0, PICTURES, BATCH)
            ]
        return torch.cat(parts).numpy()

    def bare_texts() -> Any:
        with torch.inference_mode():
            parts = [model.encode_text(tokenizer(texts[i : i + BATCH]), normalize=True) for i in range(0, TEXTS, BATCH)]
        return torch.cat(parts).numpy()

    for what, count, ours, bare in (
        ("pictures", PICTURES, lambda: embedder.embed_images(pictures), bare_pictures),
        ("texts", TEXTS, lambda: embedder.embed_texts(texts), bare_texts),
    ):
        difference = float(np.abs(ours() - bare()).max())
        ours_s, bare_s = seconds(ours), seconds(bare)
        row = {
            "what": what,
            "rows": count,
            "project_rows_per_s": round(count / ours_s, 1),
            "bare_open_clip_rows_per_s": round(count / bare_s, 1),
            "ratio": round(bare_s / ours_s, 2),
            "largest_difference": float(f"{difference:.1e}"),
            "threads": torch.get_num_threads(),
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
