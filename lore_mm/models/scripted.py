"""The shipped test double of an embedder: `scripted:SEED`. Deterministic, instant, knows nothing.

A text's vector is made of the hashes of its words, a picture's of the hash of its pixels. A picture that carries a
word in its `info["word"]` gets that word's vector with some of its own mixed in, so that a test can expect it nearest
to its word. Nothing here reads a file or needs more than numpy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from lore_mm.errors import ModelError
from lore_mm.fingerprint import sha_of
from lore_mm.models.protocol import Vectors

__all__ = ["ScriptedEmbedder", "open_embedder"]

_WIDTH = 64


def open_embedder(name: str) -> ScriptedEmbedder:
    """Open `scripted:SEED`, SEED a whole number.

    Raises:
        ModelError: the seed is not a whole number.
    """
    try:
        return ScriptedEmbedder(int(name))
    except ValueError:
        raise ModelError(f"scripted:{name}: the seed must be a whole number, as in scripted:0") from None


class ScriptedEmbedder:
    """Vectors from content hashes. Texts that share words are near; everything else is nearly orthogonal."""

    def __init__(self, seed: int = 0) -> None:
        self.name = f"scripted:{seed}"
        self.width = _WIDTH
        self.temperature = 0.1
        self.sha = sha_of({"scripted": seed, "width": _WIDTH})
        self._seed = seed

    def embed_images(self, images: Sequence[Image]) -> Vectors:
        """RGB pictures → float32 (n, d), rows of length 1: by `info["word"]` where there is one, else by the pixels."""
        return self._rows([self._of_image(image) for image in images])

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Texts → float32 (n, d), rows of length 1: the sum of their words' vectors, whatever the order and case."""
        return self._rows([self._of_text(text) for text in texts])

    def _of_image(self, image: Image) -> NDArray[np.float64]:
        pixels = self._of_bytes(b"pixels" + repr(image.size).encode() + image.convert("RGB").tobytes())
        word = image.info.get("word")
        return pixels if word is None else self._of_text(str(word)) + 0.5 * pixels

    def _of_text(self, text: str) -> NDArray[np.float64]:
        words = sorted(set(text.casefold().split())) or [""]
        total: NDArray[np.float64] = np.sum([self._of_bytes(word.encode("utf-8", "replace")) for word in words], axis=0)
        return total / np.linalg.norm(total)

    def _of_bytes(self, data: bytes) -> NDArray[np.float64]:
        digest = hashlib.sha256(self._seed.to_bytes(16, "big", signed=True) + data).digest()
        row = np.random.default_rng(np.frombuffer(digest, np.uint32)).standard_normal(_WIDTH)
        return row / np.linalg.norm(row)

    def _rows(self, rows: list[NDArray[np.float64]]) -> Vectors:
        made = np.asarray(rows, dtype=np.float64).reshape(len(rows), _WIDTH)
        vectors: Vectors = (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)
        return vectors
