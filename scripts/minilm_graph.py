"""The BERT encoder of all-MiniLM-L6-v2 as an ONNX graph, written node by node.

The nodes are onnxruntime's own fused CPU kernels (domain `com.microsoft`), so the file needs
no graph optimisation at load and is the same for every CPU. Matrices are stored as float16
and cast to float32, which onnxruntime does once, at load; vectors (biases, layer norms) stay
float32.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

LAYERS = 6
HEADS = 12
HIDDEN = 384
LAYER_NORM_EPSILON = 1e-12

# Fixed, so that the same weights give the same bytes with every version of onnx.
_IR_VERSION = 8
_OPSET = 17
_FUSED = "com.microsoft"

Tensors = Mapping[str, NDArray[np.float32]]


class _Graph:
    """Collects nodes and initialisers; every method returns the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers: list[onnx.TensorProto] = []

    def add(
        self,
        operator: str,
        inputs: Sequence[str],
        output: str,
        domain: str = "",
        **attributes: Any,
    ) -> str:
        self.nodes.append(
            helper.make_node(operator, inputs, [output], output, domain=domain, **attributes)
        )
        return output

    def constant(self, name: str, value: NDArray[np.float32] | NDArray[np.int64]) -> str:
        self.initialisers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def half(self, name: str, value: NDArray[np.float32]) -> str:
        """Store a matrix as float16 as it is."""
        rounded = np.ascontiguousarray(value.astype(np.float16))
        self.initialisers.append(numpy_helper.from_array(rounded, name))
        return name

    def matrix(self, name: str, value: NDArray[np.float32]) -> str:
        """Store a matrix as float16 and give it as float32."""
        stored = self.half(f"{name}.float16", value)
        return self.add("Cast", [stored], name, to=TensorProto.FLOAT)


def _embeddings(graph: _Graph, tensors: Tensors) -> str:
    """Word + position + token type 0, layer-normalised: float32 (batch, sequence, hidden)."""
    # The table stays float16 in memory: only the rows that are looked up are cast.
    table = graph.half("words", tensors["embeddings.word_embeddings.weight"])
    rows = graph.add("Gather", [table, "input_ids"], "words.rows", axis=0)
    words = graph.add("Cast", [rows], "words.float32", to=TensorProto.FLOAT)

    # Recollect embeds one text at a time, never a pair, so the token type is always 0.
    types = tensors["embeddings.token_type_embeddings.weight"]
    positions = tensors["embeddings.position_embeddings.weight"] + types[0]
    table = graph.matrix("positions", positions)
    length = graph.add("Shape", ["input_ids"], "length", start=1, end=2)
    zero = graph.constant("zero", np.array([0], np.int64))
    places = graph.add("Slice", [table, zero, length, zero], "positions.rows")

    return _add_and_normalise(graph, tensors, words, places, "embeddings.LayerNorm", bias=None)


def _add_and_normalise(
    graph: _Graph, tensors: Tensors, left: str, right: str, norm: str, bias: str | None
) -> str:
    """LayerNorm(left + right + bias)."""
    inputs = [left, right]
    inputs.append(graph.constant(f"{norm}.weight", tensors[f"{norm}.weight"]))
    inputs.append(graph.constant(f"{norm}.bias", tensors[f"{norm}.bias"]))
    if bias is not None:
        inputs.append(graph.constant(bias, tensors[bias]))
    return graph.add("SkipLayerNormalization", inputs, norm, _FUSED, epsilon=LAYER_NORM_EPSILON)


def _layer(graph: _Graph, tensors: Tensors, hidden: str, mask: str, number: int) -> str:
    """One post-norm transformer layer: self-attention, then the feed-forward part."""
    layer = f"encoder.layer.{number}"
    projections = [f"{layer}.attention.self.{name}" for name in ("query", "key", "value")]
    weight = np.concatenate([tensors[f"{p}.weight"].T for p in projections], axis=1)
    bias = np.concatenate([tensors[f"{p}.bias"] for p in projections])
    attended = graph.add(
        "Attention",
        [
            hidden,
            graph.matrix(f"{layer}.attention.self.weight", weight),
            graph.constant(f"{layer}.attention.self.bias", bias),
            mask,
        ],
        f"{layer}.attention.self",
        _FUSED,
        num_heads=HEADS,
    )
    mixed = _matmul(graph, tensors, attended, f"{layer}.attention.output.dense")
    hidden = _add_and_normalise(
        graph,
        tensors,
        mixed,
        hidden,
        f"{layer}.attention.output.LayerNorm",
        f"{layer}.attention.output.dense.bias",
    )
    wide = _matmul(graph, tensors, hidden, f"{layer}.intermediate.dense")
    name = f"{layer}.intermediate.dense.bias"
    # BiasGelu is the exact gelu, with erf; FastGelu is the tanh approximation.
    wide = graph.add(
        "BiasGelu", [wide, graph.constant(name, tensors[name])], f"{layer}.intermediate", _FUSED
    )
    narrow = _matmul(graph, tensors, wide, f"{layer}.output.dense")
    return _add_and_normalise(
        graph, tensors, narrow, hidden, f"{layer}.output.LayerNorm", f"{layer}.output.dense.bias"
    )


def _matmul(graph: _Graph, tensors: Tensors, hidden: str, dense: str) -> str:
    weight = graph.matrix(f"{dense}.weight", tensors[f"{dense}.weight"].T)
    return graph.add("MatMul", [hidden, weight], dense)


def _pool(graph: _Graph, hidden: str) -> None:
    """Mean over the tokens that are not padding, scaled to unit length: `embedding`."""
    one = graph.constant("one", np.array([1], np.int64))
    weights = graph.add("Cast", ["attention_mask"], "mask.float32", to=TensorProto.FLOAT)
    row = graph.add("Unsqueeze", [weights, one], "mask.row")
    total = graph.add("MatMul", [row, hidden], "total.row")
    total = graph.add("Squeeze", [total, one], "total")
    count = graph.add("ReduceSum", [weights, one], "count", keepdims=1)
    mean = graph.add("Div", [total, count], "mean")
    graph.add("LpNormalization", [mean], "embedding", axis=1, p=2)


def build(tensors: Tensors) -> onnx.ModelProto:
    """Return the model.

    Inputs `input_ids` and `attention_mask`: int64 (batch, sequence), sequence at most 512.
    Output `embedding`: float32 (batch, 384), rows of unit length.

    Args:
        tensors: the weights of a BERT encoder by their Hugging Face names, float32.
    """
    graph = _Graph()
    hidden = _embeddings(graph, tensors)
    mask = graph.add("Cast", ["attention_mask"], "mask.int32", to=TensorProto.INT32)
    for number in range(LAYERS):
        hidden = _layer(graph, tensors, hidden, mask, number)
    _pool(graph, hidden)

    shape = ["batch", "sequence"]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "all-MiniLM-L6-v2",
            [
                helper.make_tensor_value_info("input_ids", TensorProto.INT64, shape),
                helper.make_tensor_value_info("attention_mask", TensorProto.INT64, shape),
            ],
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", HIDDEN])],
            graph.initialisers,
        ),
        opset_imports=[helper.make_opsetid("", _OPSET), helper.make_opsetid(_FUSED, 1)],
        ir_version=_IR_VERSION,
        producer_name="recollect",
    )
    onnx.checker.check_model(model)
    return model
