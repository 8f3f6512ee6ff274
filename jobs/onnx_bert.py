"""BERTs as ONNX graphs, in float32 or in int8: the parts that the graphs of small models here are put together from.

Standard operators only. There is no padding and so no mask. In int8, weights have a scale a row of the linear map,
the table of pieces a scale a piece, and activations a scale a piece of the text, found while running: so a text's
result does not depend on the texts beside it, as it would with one scale for a whole batch.

It knows numpy arrays by their names in BERT, not torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["OPSET", "WEIGHT_LEVELS", "Encoder", "Graph", "finished"]

OPSET, _IR = 20, 10
# Processors without VNNI add pairs of products of a byte and a weight in 16 bits: 2 · 255 · 63 still fits, so that a
# model computes the same everywhere.
WEIGHT_LEVELS = 63.0
_LEVELS = 127.0  # of a signed byte
_MIDDLE = 128  # zero of an unsigned one
Array = NDArray[Any]


class Graph:
    """Nodes and constants as they are made."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def const(self, value: Array) -> str:
        """The name of a constant."""
        from onnx import numpy_helper

        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(value, order="C"), name))
        return name

    def op(self, kind: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        """The name of what a node gives."""
        from onnx import helper

        name = out or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name


def finished(graph: Graph, name: str, inputs: Sequence[Any], outputs: Sequence[Any], also: str = "") -> Any:
    """The checked ModelProto of a graph; `also` is another domain that its operators come from."""
    from onnx import checker, helper

    made = helper.make_model(
        helper.make_graph(graph.nodes, name, inputs, outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET), *([helper.make_opsetid(also, 3)] if also else [])],
        ir_version=_IR,
        producer_name="lore-mm",
    )
    checker.check_model(made, full_check=True)
    return made


class Encoder:
    """The parts of a BERT, put into a graph. Its tensors are named "body. …" as transformers names them."""

    def __init__(self, graph: Graph, tensors: Mapping[str, Array], levels: float | None) -> None:
        self.graph, self.tensors, self.levels = graph, tensors, levels

    @property
    def layers(self) -> int:
        """How many layers the tensors have."""
        return 1 + max(int(key.split(".layer.")[1].split(".")[0]) for key in self.tensors if ".layer." in key)

    def pieces(self) -> str:
        """The vectors of the pieces of "ids"."""
        graph, table = self.graph, self.tensors["body.embeddings.word_embeddings.weight"]
        if self.levels is None:
            return graph.op("Gather", graph.const(table), "ids")
        whole, scale = _quantised(table, _LEVELS)
        rows = self._float(graph.op("Gather", graph.const(whole), "ids"))
        return graph.op("Mul", rows, graph.op("Gather", graph.const(scale[:, None]), "ids"))

    def placed(self, x: str, most: int, epsilon: float, types: str = "") -> str:
        """The vectors x with positions and types added, normalised.

        `types`: the name of an input of zeros and ones; all are 0 unless given.
        """
        graph, tensors = self.graph, self.tensors
        positions = tensors["body.embeddings.position_embeddings.weight"][:most]
        kinds = tensors["body.embeddings.token_type_embeddings.weight"]
        if types:
            x = graph.op("Add", x, graph.op("Gather", graph.const(kinds), types))
        else:
            positions = positions + kinds[0]
        zero, one, two = (graph.const(np.array([i], dtype=np.int64)) for i in range(3))
        length = graph.op("Slice", graph.op("Shape", "ids"), one, two)
        x = graph.op("Add", x, graph.op("Slice", graph.const(positions), zero, length, zero))
        return self.norm(x, "body.embeddings.LayerNorm", epsilon)

    def layer(self, x: str, name: str, heads: int, epsilon: float, *, first_only: bool = False) -> str:
        """Attention and the two maps behind it, each added to what came in and normalised.

        `first_only`: for the last layer where the first piece alone is read; of the others only what it attends to.
        """
        graph = self.graph
        asking = self._first(x) if first_only else x
        query, key, value = self._heads(asking, x, name, heads)
        scores = graph.op("MatMul", query, graph.op("Transpose", key, perm=[0, 1, 3, 2]))
        seen = graph.op("Transpose", graph.op("MatMul", graph.op("Softmax", scores, axis=-1), value), perm=[0, 2, 1, 3])
        width = self.tensors[f"{name}attention.self.query.weight"].shape[0]
        seen = graph.op("Reshape", seen, graph.const(np.array([0, 0, width], dtype=np.int64)))
        y = self.named(seen, f"{name}attention.output.dense")
        x = self.norm(graph.op("Add", asking, y), f"{name}attention.output.LayerNorm", epsilon)
        y = graph.op("Gelu", self.named(x, f"{name}intermediate.dense"))
        y = self.named(y, f"{name}output.dense")
        return self.norm(graph.op("Add", x, y), f"{name}output.LayerNorm", epsilon)

    def _heads(self, asking: str, x: str, name: str, heads: int) -> list[str]:
        """Query, key and value, each (texts, heads, pieces, width of a head); the query over its root already."""
        parts = [f"{name}attention.self.{part}" for part in ("query", "key", "value")]
        weights = [self.tensors[f"{part}.weight"] for part in parts]
        biases = [self.tensors[f"{part}.bias"] for part in parts]
        root = np.float32(np.sqrt(weights[0].shape[0] // heads))
        weights[0], biases[0] = weights[0] / root, biases[0] / root
        if asking == x:
            return self._split(self.linear(x, np.concatenate(weights), np.concatenate(biases)), weights, heads)
        query = self._split(self.linear(asking, weights[0], biases[0]), weights[:1], heads)
        rest = self.linear(x, np.concatenate(weights[1:]), np.concatenate(biases[1:]))
        return query + self._split(rest, weights[1:], heads)

    def _split(self, x: str, weights: Sequence[Array], heads: int) -> list[str]:
        """What several maps of one width made together, apart again and by heads."""
        graph, width = self.graph, weights[0].shape[0]
        shape = graph.const(np.array([0, 0, len(weights), heads, width // heads], dtype=np.int64))
        x = graph.op("Transpose", graph.op("Reshape", x, shape), perm=[2, 0, 3, 1, 4])
        return [graph.op("Gather", x, graph.const(np.array(i)), axis=0) for i in range(len(weights))]

    def _first(self, x: str) -> str:
        """The first piece of every text, (texts, 1, width)."""
        zero, one = (self.graph.const(np.array([i], dtype=np.int64)) for i in range(2))
        return self.graph.op("Slice", x, zero, one, one)

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
