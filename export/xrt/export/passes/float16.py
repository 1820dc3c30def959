"""fp16 as a cast graph.

Convolutions, products and what moves their numbers about compute in fp16; what sums or divides many numbers
(normalisations, softmax, reductions) stays in float32, as do head and gradients. A cast is put where float32 and fp16
meet, one for each value.
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
"""Operators that compute in fp16. Each takes and gives one floating-point type throughout."""

MOVING = {
    "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
}  # fmt: skip
"""Operators that move numbers about: they do so in the type in which these come. A cast in front of them instead of
behind them gains nothing, and ONNX Runtime 1.31 dies of an fp16 Transpose that reads a cast."""


def half_nodes(model: ir.Model, spec: GraphSpec) -> list[ir.Node]:
    """The nodes of an explained float32 graph that are to compute in fp16."""
    chosen: dict[ir.Node, None] = {}
    for node in trunk_of(model, spec):
        moves_floats = node.op_type in MOVING and node.inputs[0] is not None and node.inputs[0].producer() not in chosen
        if node.op_type in HALF and not moves_floats and any(v.dtype == ir.DataType.FLOAT for v in node.outputs):
            chosen[node] = None
    return list(chosen)


class CastToFloat16(GraphPass):
    """Compute the half nodes in fp16. Every value needs its type, as `ir.serialisation.parse` gives it.

    Batch normalisations should be a scale and a shift (`ScaleBatchNorms`), or they stay in float32.
    """

    def __init__(self, spec: GraphSpec) -> None:
        self._spec = spec

    def call(self, model: ir.Model) -> PassResult:  # noqa: D102
        graph, nodes = model.graph, half_nodes(model, self._spec)
        half = set(nodes)
        lowered: dict[ir.Value, ir.Value] = {}
        for node in nodes:
            for index, value in enumerate(node.inputs):
                if value is None or value.dtype != ir.DataType.FLOAT or value.producer() in half:
                    continue
                if value not in lowered:
                    lowered[value] = _lowered(graph, value, node)
                node.replace_input_with(index, lowered[value])
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
        """Inputs and outputs are what they were."""
        if any(value.dtype == ir.DataType.FLOAT16 for value in (*model.graph.inputs, *model.graph.outputs)):
            raise ValueError("an input or output became fp16")


def _lowered(graph: ir.Graph, value: ir.Value, before: ir.Node) -> ir.Value:
    """A float value in fp16: a weight converted here and now, anything else behind a cast."""
    array = array_of(value)
    if array is not None:
        # An overflow becomes an infinity, which the range scan sees.
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
