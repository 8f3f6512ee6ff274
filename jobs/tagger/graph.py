"""A BERT tagger as an ONNX graph, in float32 or in int8: ids (and hints) of n texts of as many pieces → logits.

Standard operators only. There is no padding and so no mask. In int8, weights have a scale a row of the linear map,
the table of pieces a scale a piece, and activations a scale a piece of the text, found while running: so a text's
logits do not depend on the texts beside it, as they would with one scale for a whole batch.

It knows numpy arrays by their names in BERT, not torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["OPSET", "tagger_graph"]

OPSET, _IR = 20, 10
_LEVELS = 127.0  # of a signed byte
_MIDDLE = 128  # zero of an unsigned one
Array = NDArray[Any]


class _Graph:
    """Nodes and constants as they are made."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def const(self, value: Array) -> str:
        from onnx import numpy_helper

        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(value, order="C"), name))
        return name

    def op(self, kind: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        from onnx import helper

        name = out or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name


def tagger_graph(
    tensors: Mapping[str, Array], *, heads: int, epsilon: float, pieces: int, weight_levels: float | None = _LEVELS
) -> Any:
    """The ModelProto of the tensors of a jobs.tagger.learner.TaggerModel.

    Args:
        tensors: by their names there ("body.embeddings.word_embeddings.weight" …).
        heads: of attention.
        epsilon: of layer normalisation.
        pieces: positions kept, the most that a text may have.
        weight_levels: largest absolute value of an int8 weight, at most 127; None writes float32.
    """
    from onnx import TensorProto, checker, helper

    graph = _Graph()
    builder = _Builder(graph, tensors, weight_levels)
    hidden = builder.embedded(pieces, epsilon)
    layers = 1 + max(int(key.split(".layer.")[1].split(".")[0]) for key in tensors if ".layer." in key)
    for layer in range(layers):
        hidden = builder.layer(hidden, f"body.encoder.layer.{layer}.", heads, epsilon)
    builder.linear(hidden, tensors["out.weight"], tensors["out.bias"], out="logits", exact=True)
    inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, ["texts", "pieces"])]
    if "hints.weight" in tensors:
        width = tensors["hints.weight"].shape[1]
        inputs.append(helper.make_tensor_value_info("hints", TensorProto.FLOAT, ["texts", "pieces", width]))
    labels = tensors["out.bias"].shape[0]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["texts", "pieces", labels])]
    made = helper.make_model(
        helper.make_graph(graph.nodes, "tagger", inputs, outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_IR,
        producer_name="lore-mm",
    )
    checker.check_model(made, full_check=True)
    return made


class _Builder:
    """The parts of the encoder."""

    def __init__(self, graph: _Graph, tensors: Mapping[str, Array], levels: float | None) -> None:
        self.graph, self.tensors, self.levels = graph, tensors, levels

    def embedded(self, pieces: int, epsilon: float) -> str:
        """Piece, position and hints, normalised."""
        graph, tensors = self.graph, self.tensors
        table = tensors["body.embeddings.word_embeddings.weight"]
        if self.levels is None:
            made = graph.op("Gather", graph.const(table), "ids")
        else:
            whole, scale = _quantised(table, _LEVELS)
            rows = self._float(graph.op("Gather", graph.const(whole), "ids"))
            made = graph.op("Mul", rows, graph.op("Gather", graph.const(scale[:, None]), "ids"))
        if "hints.weight" in tensors:
            made = graph.op("Add", made, graph.op("MatMul", "hints", graph.const(tensors["hints.weight"].T)))
        positions = tensors["body.embeddings.position_embeddings.weight"][:pieces]
        positions = positions + tensors["body.embeddings.token_type_embeddings.weight"][0]
        zero, one, two = (graph.const(np.array([i], dtype=np.int64)) for i in range(3))
        length = graph.op("Slice", graph.op("Shape", "ids"), one, two)
        made = graph.op("Add", made, graph.op("Slice", graph.const(positions), zero, length, zero))
        return self.norm(made, "body.embeddings.LayerNorm", epsilon)

    def layer(self, x: str, name: str, heads: int, epsilon: float) -> str:
        """Attention and the two maps behind it, each added to what came in and normalised."""
        graph, tensors = self.graph, self.tensors
        parts = [f"{name}attention.self.{part}" for part in ("query", "key", "value")]
        weights = [tensors[f"{part}.weight"] for part in parts]
        biases = [tensors[f"{part}.bias"] for part in parts]
        width = weights[0].shape[0]
        root = np.float32(np.sqrt(width // heads))
        weights[0], biases[0] = weights[0] / root, biases[0] / root
        joined = self.linear(x, np.concatenate(weights), np.concatenate(biases))
        split = graph.const(np.array([0, 0, 3, heads, width // heads], dtype=np.int64))
        joined = graph.op("Transpose", graph.op("Reshape", joined, split), perm=[2, 0, 3, 1, 4])
        query, key, value = (graph.op("Gather", joined, graph.const(np.array(i)), axis=0) for i in range(3))
        scores = graph.op("MatMul", query, graph.op("Transpose", key, perm=[0, 1, 3, 2]))
        seen = graph.op("Transpose", graph.op("MatMul", graph.op("Softmax", scores, axis=-1), value), perm=[0, 2, 1, 3])
        seen = graph.op("Reshape", seen, graph.const(np.array([0, 0, width], dtype=np.int64)))
        y = self.named(seen, f"{name}attention.output.dense")
        x = self.norm(graph.op("Add", x, y), f"{name}attention.output.LayerNorm", epsilon)
        y = graph.op("Gelu", self.named(x, f"{name}intermediate.dense"))
        y = self.named(y, f"{name}output.dense")
        return self.norm(graph.op("Add", x, y), f"{name}output.LayerNorm", epsilon)

    def norm(self, x: str, name: str, epsilon: float) -> str:
        """Layer normalisation."""
        scale, bias = (self.graph.const(self.tensors[f"{name}.{part}"]) for part in ("weight", "bias"))
        return self.graph.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=epsilon)

    def named(self, x: str, name: str) -> str:
        """The linear map of that name."""
        return self.linear(x, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])

    def linear(self, x: str, weight: Array, bias: Array, *, out: str = "", exact: bool = False) -> str:
        """The map x · weightᵀ + bias. `exact`: in float32 in any case."""
        graph = self.graph
        if self.levels is None or exact:
            return graph.op("Add", graph.op("MatMul", x, graph.const(weight.T)), graph.const(bias), out=out)
        whole, scales = _quantised(weight, self.levels)
        last = graph.const(np.array([-1], dtype=np.int64))
        largest = graph.op("ReduceMax", graph.op("Abs", x), last, keepdims=1)
        scale = graph.op("Max", graph.op("Mul", largest, self._number(1 / _LEVELS)), self._number(1e-12))
        shifted = graph.op("Add", graph.op("Round", graph.op("Div", x, scale)), self._number(_MIDDLE))
        middle = graph.const(np.array(_MIDDLE, dtype=np.uint8))
        product = graph.op("MatMulInteger", self._cast(shifted, "UINT8"), graph.const(whole.T), middle)
        product = graph.op("Mul", graph.op("Mul", self._float(product), scale), graph.const(scales))
        return graph.op("Add", product, graph.const(bias), out=out)

    def _number(self, value: float) -> str:
        return self.graph.const(np.array(value, dtype=np.float32))

    def _float(self, x: str) -> str:
        return self._cast(x, "FLOAT")

    def _cast(self, x: str, kind: str) -> str:
        from onnx import TensorProto

        return self.graph.op("Cast", x, to=getattr(TensorProto, kind))


def _quantised(weight: Array, levels: float) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """int8 rows and a scale each, so that row · scale is the weight, about."""
    scale = np.maximum(np.abs(weight).max(axis=1) / levels, 1e-12).astype(np.float32)
    return np.round(weight / scale[:, None]).astype(np.int8), scale
