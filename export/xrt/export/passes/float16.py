"""fp16 as a cast graph.

Convolutions, products and what moves their numbers about compute in fp16; what sums or divides many numbers
(normalisations, softmax, reductions) stays in float, as do head and gradients. A batch normalisation becomes the scale
γ/√(σ²+ε) and the shift β - μγ/√(σ²+ε), computed in float64: fp16 could not hold a small variance. Casts stand where
the two worlds meet, one for each value.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from xrt.export.autodiff.emitter import array_of
from xrt.export.precision.trunk import opened, trunk_of
from xrt.runtime.bundle.manifest import GraphSpec

HALF = {
    "Abs", "Add", "AveragePool", "Clip", "Concat", "Conv", "ConvTranspose", "DepthToSpace", "Einsum", "Elu", "Erf",
    "Expand", "Flatten", "Gather", "Gelu", "Gemm", "GlobalMaxPool", "HardSigmoid", "HardSwish", "Identity",
    "LeakyRelu", "MatMul", "Max", "MaxPool", "Min", "Mul", "Neg", "PRelu", "Pad", "Relu", "Reshape", "Sigmoid",
    "Slice", "SpaceToDepth", "Split", "Squeeze", "Sub", "Tanh", "Tile", "Transpose", "Unsqueeze", "Where",
}  # fmt: skip
"""Operators that compute in fp16. Each takes and gives one floating-point type throughout."""


def with_scaled_norms(data: bytes, spec: GraphSpec) -> ir.Model:
    """The graph with the trunk's batch normalisations as scale and shift, still in float32."""
    model = opened(data)
    for node in trunk_of(model, spec):
        arrays = [array_of(v) if v is not None else None for v in node.inputs[1:]]
        if node.op_type == "BatchNormalization" and all(array is not None for array in arrays):
            _scale_and_shift(model.graph, node, [np.asarray(array, np.float64) for array in arrays])
    return model


MOVING = {
    "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
}  # fmt: skip
"""Operators that move numbers about: they do so in the type in which these come. A cast in front of them instead of
behind them gains nothing, and ONNX Runtime 1.31 dies of an fp16 Transpose that reads a cast."""


def half_nodes(model: ir.Model, spec: GraphSpec) -> list[ir.Node]:
    """The nodes that are to compute in fp16."""
    found: dict[ir.Node, None] = {}
    for node in trunk_of(model, spec):
        moves_floats = node.op_type in MOVING and node.inputs[0] is not None and node.inputs[0].producer() not in found
        if node.op_type in HALF and not moves_floats and any(v.dtype == ir.DataType.FLOAT for v in node.outputs):
            found[node] = None
    return list(found)


def to_half(model: ir.Model, spec: GraphSpec) -> bytes:
    """A graph from `with_scaled_norms` with its half nodes in fp16."""
    model = model.clone()
    graph, nodes = model.graph, half_nodes(model, spec)
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
            readers = [(user, i) for user, i in value.uses() if user not in half]
            if not readers:
                continue
            cast = ir.node("Cast", [value], {"to": ir.DataType.FLOAT.value}, name=f"{value.name}/to_float")
            cast.outputs[0].name, cast.outputs[0].dtype = f"{value.name}/float", ir.DataType.FLOAT
            cast.outputs[0].shape = value.shape
            graph.insert_after(node, cast)
            for user, i in readers:
                user.replace_input_with(i, cast.outputs[0])
    for node in nodes:
        for value in node.outputs:
            value.type = ir.TensorType(ir.DataType.FLOAT16)  # a clone shares the type object
    passes.RemoveUnusedNodesPass()(model)  # the weights that are now in fp16
    return ir.to_proto(model).SerializeToString()


def _lowered(graph: ir.Graph, value: ir.Value, before: ir.Node) -> ir.Value:
    """A float value in fp16: a weight converted here and now, anything else behind a cast."""
    array = array_of(value)
    if array is not None:
        # An overflow becomes an infinity, which the range scan has seen before.
        with np.errstate(over="ignore"):
            half = ir.tensor(array.astype(np.float16), name=f"{value.name}/half")
        result = ir.Value(name=half.name, const_value=half, shape=ir.Shape(array.shape))
        result.dtype = ir.DataType.FLOAT16
        graph.register_initializer(result)
        return result
    cast = ir.node("Cast", [value], {"to": ir.DataType.FLOAT16.value}, name=f"{value.name}/to_half")
    result = cast.outputs[0]
    result.name, result.dtype, result.shape = f"{value.name}/half", ir.DataType.FLOAT16, value.shape
    producer = value.producer()
    if producer is None:
        graph.insert_before(before, cast)
    else:
        graph.insert_after(producer, cast)
    return result


def _scale_and_shift(graph: ir.Graph, node: ir.Node, statistics: list[np.ndarray]) -> None:
    gamma, beta, mean, variance = statistics
    source, output = node.inputs[0], node.outputs[0]
    assert source is not None and source.shape is not None
    epsilon = node.attributes["epsilon"].value if "epsilon" in node.attributes else 1e-5
    scale = gamma / np.sqrt(variance + epsilon)
    column = (-1,) + (1,) * (len(source.shape) - 2)
    operands = []
    for name, array in (("scale", scale), ("shift", beta - mean * scale)):
        array = array.astype(np.float32).reshape(column)
        tensor = ir.tensor(array, name=f"{output.name}/{name}")
        value = ir.Value(name=tensor.name, const_value=tensor, shape=ir.Shape(array.shape))
        value.dtype = ir.DataType.FLOAT
        graph.register_initializer(value)
        operands.append(value)
    scaled = ir.node("Mul", [source, operands[0]], name=f"{node.name}/scale")
    scaled.outputs[0].name = f"{output.name}/scaled"
    shifted = ir.node("Add", [scaled.outputs[0], operands[1]], name=f"{node.name}/shift")
    for value in (scaled.outputs[0], shifted.outputs[0]):
        value.dtype, value.shape = ir.DataType.FLOAT, output.shape
    shifted.outputs[0].name = output.name
    ir.convenience.replace_nodes_and_values(graph, node, [node], [scaled, shifted], [output], [shifted.outputs[0]])
