"""Embedders of texts alone: a transformer whose token vectors are averaged, `sentence:all-minilm-l6-v2`.

Mean pooling over the tokens and unit length, as the sentence-transformers models of this kind are trained (Reimers &
Gurevych, Sentence-BERT, 2019). It reads no pictures: `lore_mm.models.open_clip` has embedders for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from lore_mm.errors import MissingExtraError, ModelError, nearest
from lore_mm.fingerprint import sha_of, sha_of_file
from lore_mm.models.protocol import Vectors
from lore_mm.models.table import load_table
from lore_mm.models.weights import get_weights

__all__ = ["SentenceEmbedder", "open_embedder"]

_WEIGHTS = "model.safetensors"
_MOST_TOKENS = 256  # what all-MiniLM-L6-v2 was published with; longer texts are cut
_MOST_CHARACTERS = 4096
_AT_ONCE = {"cpu": 32, "cuda": 512}


def open_embedder(name: str, device: str | None = None) -> SentenceEmbedder:
    """Open an embedder by the name behind `sentence:`: all-minilm-l6-v2, or a folder with model.safetensors.

    Raises:
        ModelError: no such model, or its weights cannot be had or read.
        MissingExtraError: torch or transformers is not installed.
    """
    folder = Path(name)
    if not folder.is_dir():
        known = [entry for entry, one in load_table().items() if any(f.path == _WEIGHTS for f in one.files)]
        if name not in known:
            legal = ", ".join(known)
            raise ModelError(f"no sentence model {name!r}{nearest(name, known)}; legal: {legal}, or a folder")
        folder = get_weights(name)
    if not (folder / _WEIGHTS).is_file():
        raise ModelError(f"sentence:{name}: the folder holds no {_WEIGHTS}")
    try:
        import torch

        from lore_mm.models.torchvision_cpu import install

        install()
        from transformers import AutoModel, AutoTokenizer
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "transformers", "cpu") from None
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
        model = AutoModel.from_pretrained(str(folder), use_safetensors=True, trust_remote_code=False)
    except Exception as error:  # the loader raises whatever it meets in a folder
        said = (str(error).splitlines() or [""])[0][:200]
        raise ModelError(f"sentence:{name} cannot be opened ({type(error).__name__}: {said})") from None
    return SentenceEmbedder(name, model, tokenizer, sha=_sha(folder), device=device)


def _sha(folder: Path) -> str:
    names = (_WEIGHTS, "config.json", "tokenizer.json")
    return sha_of([_MOST_TOKENS, *(sha_of_file(folder / name) for name in names if (folder / name).is_file())])


class SentenceEmbedder:
    """A text transformer behind the Embedder protocol; it refuses pictures."""

    temperature = 0.05  # cosines of such models lie close together; nothing here was fitted

    def __init__(self, name: str, model: Any, tokenizer: Any, *, sha: str, device: str = "cpu") -> None:
        self.name = f"sentence:{name}"
        self.sha = sha
        self.width = int(model.config.hidden_size)
        self._model, self._tokenizer, self._device = model.to(device).eval(), tokenizer, device
        self._most = min(_MOST_TOKENS, int(model.config.max_position_embeddings))

    def embed_images(self, images: Sequence[Image]) -> Vectors:
        """Nothing for nothing.

        Raises:
            ModelError: it cannot see.
        """
        if len(images):
            raise ModelError(f"{self.name} reads texts only; open_clip:lore-clip-tiny sees pictures too")
        return np.zeros((0, self.width), dtype=np.float32)

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Texts → float32 (n, d), rows of length 1. A text longer than the model reads is cut."""
        import torch

        vectors: Vectors = np.zeros((len(texts), self.width), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # little padding within a batch
        size = _AT_ONCE["cpu" if self._device == "cpu" else "cuda"]
        with torch.inference_mode():
            for start in range(0, len(order), size):
                places = order[start : start + size]
                clean = [texts[i][:_MOST_CHARACTERS].encode("utf-8", "replace").decode("utf-8") for i in places]
                read = self._tokenizer(
                    clean, padding=True, truncation=True, max_length=self._most, return_tensors="pt"
                ).to(self._device)
                tokens = self._model(**read).last_hidden_state.float()
                mask = read["attention_mask"].unsqueeze(-1).float()
                mean = (tokens * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
                vectors[places] = torch.nn.functional.normalize(mean, dim=-1).cpu().numpy()
        return vectors
