"""A student as an ONNX graph: the pieces of n pairs of as many pieces, and the pairs' features → four logits a pair.

The encoder reads query and item together; its first piece, joined to a small map of the features, is what the levels
are told from. How the encoder is put into int8, and why a pair's logits do not depend on the pairs beside it:
`jobs.onnx_bert`. What stands on the encoder is small and stays in float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.onnx_bert import WEIGHT_LEVELS, Encoder, Graph, finished

__all__ = ["MOST_DEVIATIONS", "student_graph"]

MOST_DEVIATIONS = 5.0  # a feature counts as at most so many scales from its mean


def student_graph(
    tensors: Mapping[str, NDArray[Any]],
    *,
    heads: int,
    epsilon: float,
    pieces: int,
    weight_levels: float | None = WEIGHT_LEVELS,
) -> Any:
    """The ModelProto of a student's tensors.

    It reads ids and types (pairs, pieces), int64, and features (pairs, F), float32, and gives logits (pairs, 4).

    With h the encoder's first piece and f the features, x̂ = clip((f − features_mean) / features_scale, ±5):
    logits = out(gelu(joined([h, gelu(features(x̂))]))), gelu by the error function.

    Args:
        tensors: body.* (a BERT without its pooler), features.weight (width, F), joined.weight (H, hidden + width),
            out.weight (4, H), each with its .bias; features_mean and features_scale (F,). Without features.weight
            it reads the texts alone, and joined.weight is (H, hidden).
        heads: of attention.
        epsilon: of layer normalisation.
        pieces: positions kept, the most that a pair may have.
        weight_levels: largest absolute value of an int8 weight, at most 127; None writes float32.
    """
    from onnx import TensorProto, helper

    graph = Graph()
    encoder = Encoder(graph, tensors, weight_levels)
    hidden = encoder.placed(encoder.pieces(), pieces, epsilon, types="types")
    last = encoder.layers - 1
    for layer in range(last + 1):
        name = f"body.encoder.layer.{layer}."
        hidden = encoder.layer(hidden, name, heads, epsilon, first_only=layer == last)
    first = graph.op("Squeeze", hidden, graph.const(np.array([1], dtype=np.int64)))
    reads_features = "features.weight" in tensors
    joined = graph.op("Concat", first, _features(graph, encoder, tensors), axis=-1) if reads_features else first
    joined = graph.op("Gelu", encoder.linear(joined, tensors["joined.weight"], tensors["joined.bias"], exact=True))
    encoder.linear(joined, tensors["out.weight"], tensors["out.bias"], out="logits", exact=True)
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["pairs", "pieces"]) for name in ("ids", "types")]
    if reads_features:
        width = tensors["features.weight"].shape[1]
        inputs.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, ["pairs", width]))
    levels = tensors["out.bias"].shape[0]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["pairs", levels])]
    return finished(graph, "student", inputs, outputs)


def _features(graph: Graph, encoder: Encoder, tensors: Mapping[str, NDArray[Any]]) -> str:
    """The features as they are read: by their scales, cut, through one map."""
    mean, scale = (graph.const(tensors[f"features_{part}"]) for part in ("mean", "scale"))
    least, most = (graph.const(np.array(sign * MOST_DEVIATIONS, dtype=np.float32)) for sign in (-1, 1))
    x = graph.op("Div", graph.op("Sub", "features", mean), scale)
    x = graph.op("Clip", x, least, most)
    return graph.op("Gelu", encoder.linear(x, tensors["features.weight"], tensors["features.bias"], exact=True))
