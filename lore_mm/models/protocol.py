"""What an embedder is to the rest of the house. Synchronous outside; batching and threads are the model's own affair.

The other protocol, of models that answer, is `lore_mm.models.chat`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

__all__ = ["Embedder", "Vectors"]

Vectors = NDArray[np.float32]


@runtime_checkable
class Embedder(Protocol):
    """Pictures and texts to unit vectors of one shared space.

    Same length, same order as the input. Pictures are decoded already (`lore_mm.images`), so nothing here fails for one
    row alone; a dead engine raises ModelError.
    """

    name: str  # the address it was opened by, e.g. open_clip:lore-clip-tiny
    width: int  # d
    temperature: float  # logits for zero-shot choices are cosine similarity / temperature
    sha: str  # identifies the weights

    def embed_images(self, images: Sequence[Image]) -> Vectors:
        """RGB pictures → float32 (n, d), rows of length 1."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Texts → float32 (n, d), rows of length 1. A text longer than the model reads is cut."""
        ...
