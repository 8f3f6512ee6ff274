"""Tower features of pictures and texts, made once and kept: training then needs seconds, not hours.

Features are kept in pieces named by the sha of what they were made from, each written whole; a run that was killed
goes on at the piece it died in. This module knows nothing of captions, splits or heads.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from lore_mm.console import progress
from lore_mm.fingerprint import sha_of, sha_of_bytes
from lore_mm.images import decode_picture
from lore_mm.models.clip_tiny import build_towers, open_tokenizer, prepare_picture, read_settings
from lore_mm.models.weights import weights_sha

__all__ = ["VIEWS", "Towers"]

VIEWS = ("whole", "part")  # a training set gets both, a large or a measured one only the first
_PIECE = 128  # photos kept in one file
_BATCH = 8

Features = NDArray[np.float32]


class Towers:
    """The two frozen towers, with a folder in which their features are kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sha = sha_of([weights_sha("efficientnet-lite0"), weights_sha("all-minilm-l6-v2")])
        self._model: Any = None
        self._tokenize: Any = None

    def pictures(self, name: str, pictures: Sequence[bytes], views: Sequence[str]) -> Features:
        """Features of picture files: float32 (n, views, 1280)."""
        parts = []
        with progress(f"features of {name}", len(pictures)) as advance:
            for start in range(0, len(pictures), _PIECE):
                piece = pictures[start : start + _PIECE]
                key = sha_of([self._sha, list(views), [sha_of_bytes(p) for p in piece]])
                parts.append(self._kept(key, lambda piece=piece: self._of_pictures(piece, views)))
                advance(len(piece))
        return np.concatenate(parts).astype(np.float32)

    def texts(self, texts: Sequence[str]) -> Features:
        """Mean-pooled text features before the head: float32 (n, 384). Equal texts are computed once."""
        distinct = sorted(set(texts), key=lambda text: (len(text), text))
        key = sha_of([self._sha, distinct])
        rows = self._kept(key, lambda: self._of_texts(distinct)).astype(np.float32)
        place = {text: i for i, text in enumerate(distinct)}
        made: Features = rows[[place[text] for text in texts]]
        return made

    def class_names(self) -> list[tuple[str, ...]]:
        """The names of the picture tower's 1000 classes, each with its synonyms, as timm lists them."""
        from lore_mm.models.torchvision_cpu import install

        install()
        from timm.data.imagenet_info import ImageNetInfo

        info = ImageNetInfo()
        return [tuple(name.strip() for name in info.index_to_description(i).split(",")) for i in range(1000)]

    def classifier(self) -> tuple[Tensor, Tensor]:
        """The picture tower's classifier: weight (1000, 1280) and bias (1000,)."""
        layer = self._opened().visual.head.classifier
        return layer.weight.detach(), layer.bias.detach()

    def _kept(self, key: str, make: Any) -> NDArray[np.float16]:
        path = self._folder / f"{key[:32]}.npy"
        try:
            kept: NDArray[np.float16] = np.load(path, allow_pickle=False)
            return kept
        except (OSError, ValueError, EOFError):
            pass
        self._folder.mkdir(parents=True, exist_ok=True)
        made: NDArray[np.float16] = make().astype(np.float16)
        scratch = path.with_suffix(f".{os.getpid()}.partial")
        with scratch.open("wb") as file:
            np.save(file, made, allow_pickle=False)
        scratch.replace(path)
        return made

    def _opened(self) -> Any:
        if self._model is None:
            settings = read_settings()
            self._model, self._tokenize = build_towers(settings), open_tokenizer(settings)
        return self._model

    def _of_pictures(self, pictures: Sequence[bytes], views: Sequence[str]) -> Features:
        trunk = self._opened().visual.trunk
        tensors = [prepare_picture(view) for picture in pictures for view in _views(picture, views)]
        rows = []
        with torch.inference_mode():
            for start in range(0, len(tensors), _BATCH):
                batch = torch.stack(tensors[start : start + _BATCH]).contiguous(memory_format=torch.channels_last)
                rows.append(trunk(batch).numpy())
        made: Features = np.concatenate(rows).reshape(len(pictures), len(views), -1)
        return made

    def _of_texts(self, texts: Sequence[str]) -> Features:
        text = self._opened().text
        rows = []
        with torch.inference_mode():
            for start in range(0, len(texts), 64):
                ids = self._tokenize(list(texts[start : start + 64]))
                mask = (ids != text.config.pad_token_id).long()
                rows.append(text.pooler(text.transformer(input_ids=ids, attention_mask=mask), mask).numpy())
        made: Features = np.concatenate(rows) if rows else np.zeros((0, 384), np.float32)
        return made


def _views(data: bytes, views: Sequence[str]) -> list[Image.Image]:
    """Views of one picture; the part is chosen by the picture's own bytes, so that features can be made again."""
    image = decode_picture(data).image
    made = []
    for view in views:
        if view == "whole":
            made.append(image)
        else:
            chance = random.Random(sha_of_bytes(data))
            side = chance.uniform(0.6, 0.95)
            width, height = max(1, int(image.width * side)), max(1, int(image.height * side))
            x, y = chance.randint(0, image.width - width), chance.randint(0, image.height - height)
            part = image.crop((x, y, x + width, y + height))
            made.append(ImageOps.mirror(part) if chance.random() < 0.5 else part)
    return made
