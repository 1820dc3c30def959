"""fp16 as a cast graph.

Convolutions, products and operators that only move numbers compute in fp16; operators that sum or divide many numbers
(normalisations, softmax, reductions) stay in float32, as do head and gradients. Each value that is used in the other
type gets one cast.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import PassResult
from onnx_ir.passes.common import RemoveUnusedNodesPass

from xrt.export.ir.constants import array_of, initializer
from xrt.export.ir.trunk import trunk_of
from xrt.export.passes.base import GraphPass
from xrt.runtime.bundle.manifest import GraphSpec

HALF = {
    "Abs", "Add", "AveragePool", "Clip", "Concat", "Conv", "ConvTranspose", "DepthToSpace", "Einsum", "Elu", "Erf",
    "Expand", "Flatten", "Gather", "Gelu", "Gemm", "GlobalMaxPool", "HardSigmoid", "HardSwish", "Identity",
    "LeakyRelu", "MatMul", "Max", "MaxPool", "Min", "Mul", "Neg", "PRelu", "Pad", "Relu", "Reshape", "Sigmoid",
    "Slice", "SpaceToDepth", "Split", "Squeeze", "Sub", "Tanh", "Tile", "Transpose", "Unsqueeze", "Where",
}  # fmt: skip
"""Operators that compute in fp16. Each has one floating-point type for inputs and outputs."""

MOVING = {
    "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
}  # fmt: skip
"""Operators that only move numbers, in the type of their input. A cast before them instead of after them gains nothing,
and ONNX Runtime 1.31 crashes on an fp16 Transpose that reads a cast."""


def half_nodes(model: ir.Model, spec: GraphSpec) -> list[ir.Node]:
    """The nodes of an explained float32 graph that are to compute in fp16."""
    nodes: dict[ir.Node, None] = {}
    for node in trunk_of(model, spec):
        moves_float32 = node.op_type in MOVING and node.inputs[0] is not None and node.inputs[0].producer() not in nodes
        if node.op_type in HALF and not moves_float32 and any(v.dtype == ir.DataType.FLOAT for v in node.outputs):
            nodes[node] = None
    return list(nodes)


class CastToFloat16(GraphPass):
    """Compute the nodes of `half_nodes` in fp16. Every value needs its type, as `ir.serialisation.parse` gives it.

    Batch normalisations should be a scale and a shift (`ScaleBatchNorms`), or they stay in float32.
    """

    def __init__(self, spec: GraphSpec) -> None:
        self._spec = spec

    def call(self, model: ir.Model) -> PassResult:  # noqa: D102
        graph, nodes = model.graph, half_nodes(model, self._spec)
        half = set(nodes)
        half_values: dict[ir.Value, ir.Value] = {}
        for node in nodes:
            for index, value in enumerate(node.inputs):
                if value is None or value.dtype != ir.DataType.FLOAT or value.producer() in half:
                    continue
                if value not in half_values:
                    half_values[value] = _to_half(graph, value, node)
                node.replace_input_with(index, half_values[value])
        for node in nodes:
            for value in node.outputs:
                if readers := [(user, i) for user, i in value.uses() if user not in half]:
                    cast = _cast(value, ir.DataType.FLOAT, "float")
                    graph.insert_after(node, cast)
                    for user, i in readers:
                        user.replace_input_with(i, cast.outputs[0])
        for node in nodes:
            for value in node.outputs:
                value.type = ir.TensorType(ir.DataType.FLOAT16)  # a clone shares the type object
        RemoveUnusedNodesPass()(model)  # the weights that are now in fp16
        return PassResult(model, bool(nodes))

    def ensures(self, model: ir.Model) -> None:
        """Inputs and outputs keep their types."""
        if any(value.dtype == ir.DataType.FLOAT16 for value in (*model.graph.inputs, *model.graph.outputs)):
            raise ValueError("an input or output became fp16")


def _to_half(graph: ir.Graph, value: ir.Value, before: ir.Node) -> ir.Value:
    """A float value in fp16: a weight is converted now, anything else gets a cast."""
    array = array_of(value)
    if array is not None:
        # An overflow becomes an infinity, which the range scan reports.
        with np.errstate(over="ignore"):
            return initializer(graph, f"{value.name}/half", array.astype(np.float16))
    cast = _cast(value, ir.DataType.FLOAT16, "half")
    producer = value.producer()
    if producer is None:
        graph.insert_before(before, cast)
    else:
        graph.insert_after(producer, cast)
    return cast.outputs[0]


def _cast(value: ir.Value, kind: ir.DataType, suffix: str) -> ir.Node:
    cast = ir.node("Cast", [value], {"to": kind.value}, name=f"{value.name}/to_{suffix}")
    result = cast.outputs[0]
    result.name, result.dtype, result.shape = f"{value.name}/{suffix}", kind, value.shape
    return cast
