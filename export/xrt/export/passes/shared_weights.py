"""Weights that a convolution and a transposed one share, each its own.

OpenVINO (2026.4) reads such weights the wrong way round in one of the two when they have as many inputs as outputs: the
logits are right and the heatmaps are not. The gradient of a convolution with a stride is such a pair.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import PassResult

from xrt.export.passes.base import GraphPass


class SeparateSharedWeights(GraphPass):
    """Gives transposed convolutions a copy of square weights that other nodes read as well."""

    def call(self, model: ir.Model) -> PassResult:  # noqa: D102
        copies: dict[str, ir.Value] = {}
        for node in list(model.graph):
            if node.op_type != "ConvTranspose" or (weight := node.inputs[1]) is None:
                continue
            if not _is_square(weight) or all(use.op_type == "ConvTranspose" for use, _ in weight.uses()):
                continue
            copy = copies.get(str(weight.name)) or _copied(model.graph, weight)
            copies[str(weight.name)] = copy
            node.replace_input_with(1, copy)
        return PassResult(model, modified=bool(copies))


def _is_square(weight: ir.Value) -> bool:
    return weight.const_value is not None and weight.const_value.shape[0] == weight.const_value.shape[1]


def _copied(graph: ir.Graph, weight: ir.Value) -> ir.Value:
    name = f"{weight.name}.transposed"
    if weight.const_value is None:
        raise ValueError(f"{weight.name} is no constant")
    tensor = ir.Tensor(weight.const_value.numpy(), name=name)
    copy = ir.Value(name=name, type=weight.type, shape=weight.shape, const_value=tensor)
    graph.register_initializer(copy)
    return copy
