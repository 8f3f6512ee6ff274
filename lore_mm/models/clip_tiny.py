"""lore-clip-tiny: two frozen towers and the two small heads between them, built as an open_clip model.

The picture tower is EfficientNet-Lite0 with its own ImageNet classifier, the text tower MiniLM-L6 with mean pooling.
The picture head is a bridge over the classifier: the probabilities of the 1000 classes weigh 1000 class vectors in
the text space (convex combination of semantic embeddings, Norouzi et al. 2014, arXiv 1312.5650, with the class
vectors trained on), and a linear map of the 1280 features adds what the classes have no word for. The text head is a
linear map near the identity, less the mean text, so that words never seen with a picture keep their place among the
others.

Opening reads only the weights cache and this package. How the heads were trained: jobs.train_clip. It knows nothing
of batches or devices: lore_mm.models.open_clip does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import normalize

from lore_mm.errors import ModelError
from lore_mm.models.torchvision_cpu import install
from lore_mm.models.weights import get_weights

if TYPE_CHECKING:
    from open_clip.model import CustomTextCLIP

__all__ = [
    "FOLDER",
    "ImageHead",
    "TextHead",
    "build_towers",
    "load_heads",
    "load_own_heads",
    "open_clip_tiny",
    "open_tokenizer",
    "prepare_picture",
    "read_settings",
]

FOLDER = Path(__file__).parent / "lore-clip-tiny"
FEATURES, CLASSES, WIDTH, SIDE = 1280, 1000, 384, 224


class ImageHead(nn.Module):
    """Picture features to the shared space: (n, 1280) → (n, 384), not yet of length 1."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(FEATURES, CLASSES).requires_grad_(False)  # the tower's own
        self.class_vectors = nn.Parameter(torch.zeros(CLASSES, WIDTH), requires_grad=False)
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.beyond = nn.Linear(FEATURES, WIDTH, bias=False)  # what the classes have no word for

    def forward(self, features: Tensor) -> Tensor:
        """Pooled features of one picture a row."""
        out: Tensor = self.by_class(features) + self.beyond(self.centred(features))
        return out

    def by_class(self, features: Tensor) -> Tensor:
        """What the classifier alone makes of the features, (n, 384)."""
        out: Tensor = self.classifier(features).softmax(dim=-1) @ self.class_vectors
        return out

    def centred(self, features: Tensor) -> Tensor:
        """The features less the mean ones, length 1, (n, 1280)."""
        return normalize(features - self.mean, dim=-1)


class TextHead(nn.Module):
    """Text features to the shared space: (n, 384) → (n, 384), not yet of length 1."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)
        nn.init.eye_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Mean-pooled features of one text a row."""
        out: Tensor = self.linear(normalize(features, dim=-1))
        return out


def read_settings(folder: Path = FOLDER) -> dict[str, Any]:
    """The model's configuration: open_clip's `model_cfg` and `preprocess_cfg`, temperature and calibration."""
    settings: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return settings


def build_towers(settings: Mapping[str, Any]) -> CustomTextCLIP:
    """The open_clip model of this configuration with the towers' weights and untrained heads.

    Raises:
        ModelError: the towers cannot be had, or are of another shape.
    """
    install()
    from open_clip.model import CustomTextCLIP

    text_folder = get_weights("all-minilm-l6-v2")
    config = dict(settings["model_cfg"])
    text_config = {**config["text_cfg"], "hf_model_name": str(text_folder), "hf_tokenizer_name": str(text_folder)}
    model = CustomTextCLIP(config["embed_dim"], config["vision_cfg"], text_config)
    model.visual.head, model.text.proj = ImageHead(), TextHead()
    _load_image_tower(
        model.visual.trunk, model.visual.head.classifier, next(get_weights("efficientnet-lite0").glob("*.safetensors"))
    )
    missing, _ = model.text.transformer.load_state_dict(load_file(text_folder / "model.safetensors"), strict=False)
    if missing:
        raise ModelError(f"{text_folder}: tensors are missing, first {missing[0]!r}")
    return model.eval()


def load_heads(model: CustomTextCLIP, path: Path) -> None:
    """Load trained heads (all but the classifier, which is the tower's own) into the model."""
    tensors = load_file(path)
    image = {k.removeprefix("image."): v for k, v in tensors.items() if k.startswith("image.")}
    text = {k.removeprefix("text."): v for k, v in tensors.items() if k.startswith("text.")}
    try:
        missing, unexpected = model.visual.head.load_state_dict(image, strict=False)
        model.text.proj.load_state_dict(text)
    except RuntimeError as error:
        raise ModelError(f"{path}: not the heads of this model ({str(error).splitlines()[0]})") from None
    if unexpected or any(not key.startswith("classifier.") for key in missing):
        raise ModelError(f"{path}: not the heads of this model")


def load_own_heads(folder: Path = FOLDER) -> tuple[ImageHead, TextHead]:
    """The trained heads with the tower's classifier, on the towers' features."""
    model = build_towers(read_settings(folder))
    load_heads(model, folder / "heads.safetensors")
    return model.visual.head, model.text.proj


def open_clip_tiny(folder: Path = FOLDER) -> tuple[CustomTextCLIP, Callable[[list[str]], Tensor], dict[str, Any]]:
    """The trained model, its tokenizer and its settings."""
    settings = read_settings(folder)
    model = build_towers(settings)
    load_heads(model, folder / "heads.safetensors")
    return model, open_tokenizer(settings), settings


def open_tokenizer(settings: Mapping[str, Any]) -> Callable[[list[str]], Tensor]:
    """Texts to token ids (n, longest of them): open_clip's own wrapper would pad every text to the full length."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(get_weights("all-minilm-l6-v2")))
    length = settings["model_cfg"]["text_cfg"]["context_length"]

    def tokenize(texts: list[str]) -> Tensor:
        ids: Tensor = tokenizer(texts, padding=True, truncation=True, max_length=length, return_tensors="pt").input_ids
        return ids

    return tokenize


def prepare_picture(image: Image.Image) -> Tensor:
    """An RGB picture as the tower wants it: float32 (3, 224, 224) in [-1, 1], squashed to a square.

    Squashed, not cropped: a shop's picture has its product from edge to edge.
    """
    pixels = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.float32)
    return torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)


def _load_image_tower(trunk: nn.Module, classifier: nn.Linear, path: Path) -> None:
    """Pair the published tensors with timm's names by their order; the shapes must agree one by one."""
    with safe_open(path, framework="pt") as file:
        tensors = [file.get_tensor(key) for key in file.metadata()["order"].split("\n")]
    wanted = [*trunk.state_dict().items(), *classifier.state_dict().items()]
    if [tensor.shape for tensor in tensors] != [tensor.shape for _, tensor in wanted]:
        raise ModelError(f"{path}: not the tensors of EfficientNet-Lite0")
    pairs = [(key, tensor) for (key, _), tensor in zip(wanted, tensors, strict=True)]
    trunk.load_state_dict(dict(pairs[:-2]))
    classifier.load_state_dict(dict(pairs[-2:]))  # its weight and bias come last
