"""A student as an ONNX graph: the pieces of n pairs of as many pieces, and the pairs' features → four logits a pair.

The reader reads query and item together and tells the levels from its first piece; trees then vote on what it tells and
the features. How the reader is put into int8, and why a pair's logits do not depend on the pairs beside it:
`jobs.onnx_bert`. What stands on the body stays in float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.onnx_bert import WEIGHT_LEVELS, Encoder, Graph, finished
from jobs.student.forest import LEAST, tree_attributes

__all__ = ["reader_graph", "student_graph"]

_TREES = "ai.onnx.ml"


def student_graph(
    tensors: Mapping[str, NDArray[Any]],
    trees: Any,
    *,
    features: int,
    heads: int,
    epsilon: float,
    pieces: int,
    weight_levels: float | None = WEIGHT_LEVELS,
) -> Any:
    """The ModelProto of a reader's tensors and the trees grown on it.

    It reads ids and types (pairs, pieces), int64, and features (pairs, F), float32, and gives logits (pairs, 4): the
    logarithms of the trees' probabilities.

    Args:
        tensors: of a jobs.student.learner.PairModel: body.* (a BERT without its pooler), joined.*, out.*
        trees: scikit-learn's, grown on `jobs.student.forest.joined`.
        features: F.
        heads: of attention.
        epsilon: of layer normalisation.
        pieces: positions kept, the most that a pair may have.
        weight_levels: largest absolute value of an int8 weight, at most 127; None writes float32.
    """
    from onnx import TensorProto, helper

    graph = Graph()
    read = _read(graph, tensors, heads, epsilon, pieces, weight_levels)
    least = graph.const(np.array(LEAST, dtype=np.float32))
    told = graph.op("Log", graph.op("Max", read, least))
    seen = graph.op("Concat", "features", told, axis=-1)
    votes = graph.op("TreeEnsembleRegressor", seen, domain=_TREES, **tree_attributes(trees))
    graph.op("Log", graph.op("Max", votes, least), out="logits")
    wide = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["pairs", features])
    return finished(graph, "student", [*_inputs(), wide], [_levels("logits")], _TREES)


def reader_graph(
    tensors: Mapping[str, NDArray[Any]],
    *,
    heads: int,
    epsilon: float,
    pieces: int,
    weight_levels: float | None = WEIGHT_LEVELS,
) -> Any:
    """The reader alone: ids and types → P(L1) … P(L4). Trees are grown on what it tells in int8, as they see it."""
    graph = Graph()
    graph.op("Identity", _read(graph, tensors, heads, epsilon, pieces, weight_levels), out="levels")
    return finished(graph, "reader", _inputs(), [_levels("levels")])


def _read(
    graph: Graph,
    tensors: Mapping[str, NDArray[Any]],
    heads: int,
    epsilon: float,
    pieces: int,
    weight_levels: float | None,
) -> str:
    """P(L1) … P(L4) as the reader tells them: softmax(out(gelu(joined(first piece)))), gelu by the error function."""
    encoder = Encoder(graph, tensors, weight_levels)
    hidden = encoder.placed(encoder.pieces(), pieces, epsilon, types="types")
    last = encoder.layers - 1
    for layer in range(last + 1):
        name = f"body.encoder.layer.{layer}."
        hidden = encoder.layer(hidden, name, heads, epsilon, first_only=layer == last)
    first = graph.op("Squeeze", hidden, graph.const(np.array([1], dtype=np.int64)))
    between = graph.op("Gelu", encoder.linear(first, tensors["joined.weight"], tensors["joined.bias"], exact=True))
    logits = encoder.linear(between, tensors["out.weight"], tensors["out.bias"], exact=True)
    return graph.op("Softmax", logits, axis=-1)


def _inputs() -> list[Any]:
    from onnx import TensorProto, helper

    return [helper.make_tensor_value_info(name, TensorProto.INT64, ["pairs", "pieces"]) for name in ("ids", "types")]


def _levels(name: str) -> Any:
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["pairs", 4])
