"""A BERT tagger as an ONNX graph: ids (and hints) of n texts of as many pieces → logits of each piece.

How it is put into int8, and why a text's logits do not depend on the texts beside it: `jobs.onnx_bert`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from jobs.onnx_bert import Encoder, Graph, finished

__all__ = ["tagger_graph"]


def tagger_graph(
    tensors: Mapping[str, NDArray[Any]], *, heads: int, epsilon: float, pieces: int, weight_levels: float | None = 127.0
) -> Any:
    """The ModelProto of the tensors of a jobs.tagger.learner.TaggerModel.

    Args:
        tensors: by their names there ("body.embeddings.word_embeddings.weight" …).
        heads: of attention.
        epsilon: of layer normalisation.
        pieces: positions kept, the most that a text may have.
        weight_levels: largest absolute value of an int8 weight, at most 127; None writes float32.
    """
    from onnx import TensorProto, helper

    graph = Graph()
    encoder = Encoder(graph, tensors, weight_levels)
    hidden = encoder.pieces()
    if "hints.weight" in tensors:
        hidden = graph.op("Add", hidden, graph.op("MatMul", "hints", graph.const(tensors["hints.weight"].T)))
    hidden = encoder.placed(hidden, pieces, epsilon)
    for layer in range(encoder.layers):
        hidden = encoder.layer(hidden, f"body.encoder.layer.{layer}.", heads, epsilon)
    encoder.linear(hidden, tensors["out.weight"], tensors["out.bias"], out="logits", exact=True)
    inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, ["texts", "pieces"])]
    if "hints.weight" in tensors:
        width = tensors["hints.weight"].shape[1]
        inputs.append(helper.make_tensor_value_info("hints", TensorProto.FLOAT, ["texts", "pieces", width]))
    labels = tensors["out.bias"].shape[0]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["texts", "pieces", labels])]
    return finished(graph, "tagger", inputs, outputs)
