"""A student of random weights on a tiny BERT: what the graph must equal, and its files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jobs.student.forest import LEAST, Growing, grown, joined, levels_of
from lore_mm.fingerprint import sha_of_bytes
from lore_mm.models.cross_encoder import EncoderSettings
from tests.tiny_tagger import tiny_bert

__all__ = ["Student", "tiny_student"]


class Student:
    """A reader of random weights and trees grown on random levels: what the graph must equal."""

    def __init__(self, body: Path, features: int, seed: int = 0) -> None:
        import torch
        from torch import nn

        from jobs.student.learner import PairModel

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.reader = PairModel.of_body(body).eval()
            for part in (self.reader.joined, self.reader.out):
                nn.init.normal_(part.weight, std=2.0)
        chance = np.random.default_rng(seed)
        read = chance.dirichlet(np.ones(4), 400)
        numbers = chance.random((400, features))
        levels = 1 + (read.argmax(axis=1) + (numbers.sum(axis=1) > features / 2)) % 4
        self.trees = grown(joined(numbers, read), levels, Growing(trees=12, least_pairs=3))

    def __call__(self, ids: Any, types: Any, numbers: Any) -> Any:
        import torch

        with torch.no_grad():
            read = self.reader(ids, types, torch.ones_like(ids)).softmax(-1).numpy()
        made = levels_of(self.trees, joined(numbers.numpy(), read))
        return torch.from_numpy(np.log(np.maximum(made, LEAST)).astype(np.float32))


def tiny_student(
    folder: Path, features: Sequence[str], features_sha: str = "0", *, int8: bool = True, **settings: Any
) -> tuple[Path, Any]:
    """Write model.onnx, tokenizer.json and config.json; the folder, and the student they are of."""
    from jobs.onnx_bert import WEIGHT_LEVELS
    from jobs.student.graph import student_graph

    body = tiny_bert(folder / "body")
    module = Student(body, len(features))
    config = module.reader.body.config
    tensors = {key: value.detach().numpy().astype(np.float32) for key, value in module.reader.state_dict().items()}
    model = student_graph(
        tensors,
        module.trees,
        features=len(features),
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
