"""A distilled cross-encoder as the files that lore_mm.models.cross_encoder opens: `student:FOLDER` judges by it.

The graph is that of a student's reader (`jobs.student.graph`); no trees stand behind it, so that the features of the
path are an input that nothing reads. It trains nothing and knows no teacher.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.onnx_bert import WEIGHT_LEVELS
from jobs.student.graph import reader_graph
from lore_mm.errors import ModelError
from lore_mm.fingerprint import sha_of_bytes
from lore_mm.models.cross_encoder import EncoderSettings
from lore_mm.models.pair_pieces import MOST_PIECES
from relevance.path_features import FEATURES, FEATURES_SHA

__all__ = ["export_distilled"]

_LEAST = 1e-6  # probability, before its logarithm
# module of the cross-encoder → part of a student's reader
_PARTS = {"0.model.": "body.", "2.linear.": "joined.", "3.linear.": "out."}


def export_distilled(
    model: Any,
    folder: Path,
    *,
    training_queries: Sequence[str] = (),
    trained_on: Mapping[str, str] | None = None,
    weight_levels: float | None = WEIGHT_LEVELS,
) -> EncoderSettings:
    """Write model.onnx, tokenizer.json and config.json of a CrossEncoder of `relevance.training.distil_models`.

    Args:
        model: the CrossEncoder.
        folder: made if need be.
        training_queries: `query_mark` of each query it learnt from.
        trained_on: set → licence.
        weight_levels: as in `jobs.onnx_bert.Encoder`; None writes float32.

    Raises:
        ModelError: its body is no BERT.
    """
    config = model.model.config
    if config.model_type != "bert" or config.hidden_act != "gelu":
        raise ModelError(f"a body of type {config.model_type} ({config.hidden_act}) cannot be a student: legal is bert")
    graph = reader_graph(
        _tensors(model),
        heads=config.num_attention_heads,
        epsilon=config.layer_norm_eps,
        pieces=min(MOST_PIECES, config.max_position_embeddings),
        weight_levels=weight_levels,
    )
    data = _as_student(graph).SerializeToString()
    tokenizer = model.tokenizer.backend_tokenizer.to_str().encode()
    settings = EncoderSettings(
        name="distilled",
        version=1,
        features=FEATURES,
        features_sha=FEATURES_SHA,
        model_sha256=sha_of_bytes(data),
        tokenizer_sha256=sha_of_bytes(tokenizer),
        training_queries=tuple(sorted(set(training_queries))),
        trained_on=dict(trained_on or {}),
    )
    folder.mkdir(parents=True, exist_ok=True)
    written = json.dumps(settings.model_dump(mode="json"), indent=1) + "\n"
    for name, content in {"model.onnx": data, "tokenizer.json": tokenizer, "config.json": written.encode()}.items():
        scratch = folder / f"{name}.partial"
        scratch.write_bytes(content)
        scratch.replace(folder / name)
    return settings


def _tensors(model: Any) -> dict[str, NDArray[np.float32]]:
    found = {}
    for name, tensor in model.state_dict().items():
        for module, part in _PARTS.items():
            if name.startswith(module) and "pooler" not in name:
                found[part + name.removeprefix(module)] = tensor.detach().cpu().float().numpy()
    return found


def _as_student(model: Any) -> Any:
    """The reader's graph with the inputs and the output of a student's: logits, and features beside the pieces."""
    from onnx import TensorProto, checker, helper, numpy_helper

    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.array(_LEAST, dtype=np.float32), "least"))
    graph.node.append(helper.make_node("Max", ["levels", "least"], ["likely"]))
    graph.node.append(helper.make_node("Log", ["likely"], ["logits"]))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["pairs", 4]))
    graph.input.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, ["pairs", len(FEATURES)]))
    checker.check_model(model, full_check=True)
    return model
