"""The body of the small models that are trained here: a BERT of a folder, and how deep each parameter lies in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import nn

from lore_mm.errors import ModelError

__all__ = ["by_depth", "open_body"]


def open_body(folder: Path) -> Any:
    """The BERT of a folder (config.json, model.safetensors), without its pooler.

    Raises:
        ModelError: the folder holds no BERT.
    """
    from transformers import BertConfig, BertModel

    body = BertModel(BertConfig.from_pretrained(folder), add_pooling_layer=False)
    tensors = {k.removeprefix("bert."): v for k, v in load_file(folder / "model.safetensors").items()}
    missing, _ = body.load_state_dict(tensors, strict=False)
    if missing:
        raise ModelError(f"{folder}: tensors are missing, first {missing[0]!r}")
    return body


def by_depth(model: nn.Module, layers: int) -> Iterator[tuple[str, nn.Parameter, int | None]]:
    """Every parameter with its depth: layers above it in the part named "body", None for what stands on the body."""
    for name, parameter in model.named_parameters():
        if not name.startswith("body."):
            yield name, parameter, None
        elif ".layer." in name:
            yield name, parameter, layers - 1 - int(name.split(".layer.")[1].split(".")[0])
        else:
            yield name, parameter, layers
