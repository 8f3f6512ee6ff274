"""A trained tagger as the files that lore_mm.models.query_tagger opens. It knows no training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jobs.onnx_bert import WEIGHT_LEVELS
from jobs.tagger.graph import tagger_graph
from jobs.tagger.learner import TaggerModel
from lore_mm.fingerprint import sha_of_bytes
from lore_mm.models.query_tagger import TaggerSettings
from lore_mm.models.query_words import HINTS, MOST_PIECES

__all__ = ["NAME", "export"]

NAME, _VERSION = "lore-tagger-tiny", 1


def export(
    model: TaggerModel, tokenizer: bytes, names: Sequence[str], folder: Path, *, int8: bool = True
) -> TaggerSettings:
    """Write model.onnx, tokenizer.json and config.json; in float32 where not in int8."""
    tensors = {key: value.detach().cpu().numpy().astype(np.float32) for key, value in model.state_dict().items()}
    config = model.body.config
    graph = tagger_graph(
        tensors,
        heads=config.num_attention_heads,
        epsilon=config.layer_norm_eps,
        pieces=min(MOST_PIECES, config.max_position_embeddings),
        weight_levels=WEIGHT_LEVELS if int8 else None,
    )
    data = graph.SerializeToString()
    settings = TaggerSettings(
        name=NAME,
        version=_VERSION,
        labels=tuple(names),
        hints=HINTS if model.hints is not None else (),
        model_sha256=sha_of_bytes(data),
        tokenizer_sha256=sha_of_bytes(tokenizer),
    )
    folder.mkdir(parents=True, exist_ok=True)
    written = json.dumps(settings.model_dump(mode="json"), indent=1) + "\n"
    files = {"model.onnx": data, "tokenizer.json": tokenizer, "config.json": written.encode()}
    for name, content in files.items():
        scratch = folder / f"{name}.partial"
        scratch.write_bytes(content)
        scratch.replace(folder / name)
    return settings
