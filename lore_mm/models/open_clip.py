"""Embedders of the open_clip family: this project's own lore-clip-tiny, and any other open_clip model.

Batches, devices and the order of rows are settled here; what the network computes is open_clip's affair.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL.Image import Image

from lore_mm.errors import MissingExtraError, ModelError, nearest
from lore_mm.fingerprint import sha_of
from lore_mm.models.hub import offline_where_unreachable
from lore_mm.models.protocol import Vectors
from lore_mm.models.table import load_table
from lore_mm.models.weights import weights_sha

if TYPE_CHECKING:
    import torch

__all__ = ["OpenClipEmbedder", "open_embedder"]

_MAX_CHARACTERS = 4096  # far beyond the tokens that any text tower reads; spares the tokenizer a title of a megabyte
# Rows of one forward pass. On a CPU small batches are faster: activations stay in the cache (measured with
# benchmarks/bench_embed.py); on a GPU large ones.
_IMAGES = {"cpu": 8, "cuda": 128}
_TEXTS = {"cpu": 32, "cuda": 512}


def open_embedder(name: str, device: str | None = None) -> OpenClipEmbedder:
    """Open an embedder by the name behind `open_clip:`.

    `name` is lore-clip-tiny; MODEL/PRETRAINED of open_clip's list, or MODEL//path/to/weights; a folder with an
    open_clip_config.json; or hf-hub:ORGANISATION/REPOSITORY. `device`, unless given, is cuda where there is one, else
    cpu.

    Raises:
        ModelError: no such model, or its weights cannot be had.
        MissingExtraError: torch, open_clip or transformers is not installed.
    """
    try:
        import torch

        from lore_mm.models.torchvision_cpu import install

        install()
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return _open_own(name, device) if _is_own(name) else _open_other(name, device)
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "open_clip", "cpu") from None


class OpenClipEmbedder:
    """An open_clip model behind the Embedder protocol; `calibration` is what its card says of zero-shot use."""

    def __init__(
        self,
        name: str,
        model: torch.nn.Module,
        prepare: Callable[[Image], torch.Tensor],
        tokenize: Callable[[list[str]], torch.Tensor],
        *,
        temperature: float,
        sha: str,
        device: str = "cpu",
        calibration: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        self.name = f"open_clip:{name}"
        self.temperature = temperature
        self.sha = sha
        self.calibration = calibration or {}
        self._model = model.to(device).eval()
        self._prepare, self._tokenize, self._device = prepare, tokenize, device
        self._kind = "cpu" if device == "cpu" else "cuda"
        self.width = int(self.embed_texts(["width"]).shape[1])

    def embed_images(self, images: Sequence[Image]) -> Vectors:
        """RGB pictures → float32 (n, d), rows of length 1."""
        return self._embed(images, range(len(images)), _IMAGES[self._kind], self._images)

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Texts → float32 (n, d), rows of length 1. A text longer than the model reads is cut."""
        by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # little padding within a batch
        return self._embed(texts, by_length, _TEXTS[self._kind], self._texts)

    def _embed(
        self, rows: Sequence[Any], order: Sequence[int], size: int, forward: Callable[[list[Any]], torch.Tensor]
    ) -> Vectors:
        import torch

        if not rows:
            return np.zeros((0, self.width), dtype=np.float32)
        parts = []
        with torch.inference_mode():
            for start in range(0, len(order), size):
                out = forward([rows[i] for i in order[start : start + size]]).float()
                parts.append(torch.nn.functional.normalize(out, dim=-1).cpu().numpy())
        made = np.concatenate(parts)
        vectors: Vectors = np.empty_like(made)
        vectors[np.asarray(order)] = made
        if not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4):
            raise ModelError(f"{self.name} made vectors that are not of length 1: its weights are damaged")
        return vectors

    def _images(self, images: list[Image]) -> torch.Tensor:
        import torch

        pixels = torch.stack([self._prepare(image.convert("RGB")) for image in images]).to(self._device)
        out: torch.Tensor = self._model.encode_image(pixels.contiguous(memory_format=torch.channels_last))  # type: ignore[operator]
        return out

    def _texts(self, texts: list[str]) -> torch.Tensor:
        clean = [text[:_MAX_CHARACTERS].encode("utf-8", "replace").decode("utf-8") for text in texts]
        out: torch.Tensor = self._model.encode_text(self._tokenize(clean).to(self._device))  # type: ignore[operator]
        return out


def _is_own(name: str) -> bool:
    entry = load_table().get(name)
    return bool(entry and entry.shipped)


def _open_own(name: str, device: str) -> OpenClipEmbedder:
    from lore_mm.models import clip_tiny

    model, tokenizer, settings = clip_tiny.open_clip_tiny()
    return OpenClipEmbedder(
        name,
        model,
        clip_tiny.prepare_picture,
        tokenizer,
        temperature=settings["temperature"],
        sha=sha_of([weights_sha(name), settings]),
        device=device,
        calibration=settings.get("calibration"),
    )


def _open_other(name: str, device: str) -> OpenClipEmbedder:
    import open_clip

    model_name, pretrained = _split(name, open_clip.list_pretrained())
    with offline_where_unreachable() as fault:
        try:
            model, _, prepare = open_clip.create_model_and_transforms(model_name, pretrained, device=device)
            tokenizer = open_clip.get_tokenizer(model_name)
        except Exception as error:  # the loader and the hub's client raise whatever they meet
            said = (str(error).splitlines() or [""])[0][:200]
            hub = f"; model hub: {fault}" if fault else ""
            raise ModelError(f"open_clip:{name} cannot be opened ({type(error).__name__}: {said}{hub})") from None
    temperature = float(1 / model.logit_scale.detach().exp().cpu())
    return OpenClipEmbedder(
        name, model, prepare, tokenizer, temperature=temperature, sha=_sha_of_tensors(model), device=device
    )


def _split(name: str, known: Sequence[tuple[str, str]]) -> tuple[str, str | None]:
    """open_clip's own two words for a model: (name with its scheme, pretrained tag or path)."""
    if name.startswith(("hf-hub:", "local-dir:")):
        return name, None
    if Path(name).is_dir():
        return f"local-dir:{name}", None
    model, _, pretrained = name.partition("/")
    models = {m for m, _ in known}
    if model not in models:
        raise ModelError(
            f"no open_clip model {name!r}{nearest(model, models)}; legal: lore-clip-tiny, MODEL/PRETRAINED, a folder "
            "with an open_clip_config.json (`lore weights` lists good choices)"
        )
    tags = [tag for m, tag in known if m == model]
    if pretrained not in tags and not Path(pretrained).is_file():
        raise ModelError(
            f"open_clip:{name}: {model} has no weights {pretrained!r}{nearest(pretrained, tags)}; legal: "
            + ", ".join(f"{model}/{tag}" for tag in tags)
        )
    return model, pretrained


def _sha_of_tensors(model: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().float().contiguous().numpy().data)
    return digest.hexdigest()
