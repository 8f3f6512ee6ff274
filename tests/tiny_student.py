"""A student of random weights on a tiny BERT: the torch module that the graph must equal, and its files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lore_mm.fingerprint import sha_of_bytes
from lore_mm.models.cross_encoder import EncoderSettings
from tests.tiny_tagger import tiny_bert

__all__ = ["student_module", "tiny_student"]


def student_module(body: Path, features: int, seed: int = 0, hidden: int = 16, width: int = 8) -> Any:
    """The module, with weights large enough that its levels differ, and its forward pass as in training."""
    import torch
    from safetensors.torch import load_file
    from torch import nn
    from transformers import BertConfig, BertModel

    class Student(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            config = BertConfig.from_pretrained(body)
            self.body = BertModel(config, add_pooling_layer=False)
            self.body.load_state_dict(load_file(body / "model.safetensors"), strict=False)
            self.joined = nn.Linear(config.hidden_size + (width if features else 0), hidden)
            self.out = nn.Linear(hidden, 4)
            if features:
                self.features = nn.Linear(features, width)
                self.register_buffer("features_mean", torch.rand(features))
                self.register_buffer("features_scale", 0.05 + torch.rand(features))

        def forward(self, ids: Any, types: Any, numbers: Any) -> Any:
            x = self.body(input_ids=ids, token_type_ids=types).last_hidden_state[:, 0]
            if features:
                known = ((numbers - self.features_mean) / self.features_scale).clamp(-5, 5)
                x = torch.cat([x, nn.functional.gelu(self.features(known))], dim=-1)
            return self.out(nn.functional.gelu(self.joined(x)))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = Student()
        for part in (made.joined, made.out):
            nn.init.normal_(part.weight, std=0.4)
    return made.eval()


def tiny_student(
    folder: Path, features: Sequence[str], features_sha: str = "0", *, int8: bool = True, **settings: Any
) -> tuple[Path, Any]:
    """Write model.onnx, tokenizer.json and config.json; the folder, and the torch module they are of."""
    from jobs.onnx_bert import WEIGHT_LEVELS
    from jobs.student.graph import student_graph

    body = tiny_bert(folder / "body")
    module = student_module(body, len(features))
    config = module.body.config
    tensors = {key: value.detach().numpy().astype(np.float32) for key, value in module.state_dict().items()}
    model = student_graph(
        tensors,
        heads=config.num_attention_heads,
        epsilon=config.layer_norm_eps,
        pieces=config.max_position_embeddings,
        weight_levels=WEIGHT_LEVELS if int8 else None,
    ).SerializeToString()
    tokenizer = (body / "tokenizer.json").read_bytes()
    made = EncoderSettings(
        name="tiny",
        version=1,
        features=tuple(features),
        features_sha=features_sha,
        model_sha256=sha_of_bytes(model),
        tokenizer_sha256=sha_of_bytes(tokenizer),
        **settings,
    )
    (folder / "model.onnx").write_bytes(model)
    (folder / "tokenizer.json").write_bytes(tokenizer)
    (folder / "config.json").write_text(json.dumps(made.model_dump(mode="json")), encoding="utf-8")
    return folder, module
