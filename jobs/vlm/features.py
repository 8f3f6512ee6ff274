"""What lore-vlm-tiny's picture tower makes of photos, made once and kept: training then never runs the tower.

Kept in pieces named by the sha of what they were made from, each written whole; a run that was killed goes on at the
piece it died in. This module knows nothing of captions, questions or the language model.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lore_mm.console import progress
from lore_mm.fingerprint import sha_of, sha_of_bytes
from lore_mm.images import decode_picture

__all__ = ["FEATURES", "PictureFeatures", "Tower"]

PictureFeatures = NDArray[np.float16]  # (n, picture tokens, FEATURES)
FEATURES = 384 * 16  # four by four patches side by side
_PIECE = 64  # photos kept in one file
_BATCH = 8


class Tower:
    """The frozen picture tower and pixel shuffle of a model, with a folder in which its features are kept."""

    def __init__(self, model: Any, processor: Any, folder: Path) -> None:
        self._model, self._processor, self._folder = model, processor, folder
        tower = model.model.vision_model.state_dict()
        self._sha = sha_of(
            {
                "tower": sha_of_bytes(b"".join(t.numpy().tobytes() for t in tower.values())),
                "pictures": processor.image_processor.to_json_string(),
            }
        )

    def pictures(self, name: str, pictures: Sequence[bytes], backwards: bool = False) -> PictureFeatures:
        """Features of picture files, float16 (n, picture tokens, 6144).

        `backwards` lets a second process meet the first.
        """
        starts = list(range(0, len(pictures), _PIECE))
        parts: dict[int, PictureFeatures] = {}
        with progress(f"features of {name}", len(pictures)) as advance:
            for start in reversed(starts) if backwards else starts:
                piece = pictures[start : start + _PIECE]
                parts[start] = self._kept(piece)
                advance(len(piece))
        return np.concatenate([parts[start] for start in starts])

    def _kept(self, piece: Sequence[bytes]) -> PictureFeatures:
        path = self._folder / f"{sha_of([self._sha, [sha_of_bytes(p) for p in piece]])[:32]}.npy"
        try:
            kept: PictureFeatures = np.load(path, allow_pickle=False)
            return kept
        except (OSError, ValueError, EOFError):
            pass
        made = self._make(piece)
        self._folder.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(f".{os.getpid()}.partial")
        with scratch.open("wb") as file:
            np.save(file, made, allow_pickle=False)
        scratch.replace(path)
        return made

    def _make(self, piece: Sequence[bytes]) -> PictureFeatures:
        device = next(self._model.parameters()).device
        rows = []
        for start in range(0, len(piece), _BATCH):
            images = [[decode_picture(data).image] for data in piece[start : start + _BATCH]]
            pixels = self._processor.image_processor(images, return_tensors="pt")["pixel_values"].flatten(0, 1)
            side = pixels.shape[-1] // self._model.config.vision_config.patch_size
            whole = torch.ones(len(pixels), side, side, dtype=torch.bool, device=device)
            with torch.inference_mode():
                seen = self._model.model.vision_model(pixels.to(device), patch_attention_mask=whole).last_hidden_state
                connector = self._model.model.connector
                rows.append(connector.pixel_shuffle(seen, connector.scale_factor).cpu().numpy().astype(np.float16))
        return np.concatenate(rows)
