"""Taking the branch that every image takes.

Exporters leave an If where a module asks for a shape, as torch's does for a squeeze. Its condition does not depend on
the pixels, so it is known when the image size is; the nodes of the branch then belong to the graph, where the rules for
layers and gradients see them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import PassResult
from onnx_ir.passes.common import NameFixPass

from xrt.export.ir.constants import array_of
from xrt.export.ir.dependence import dependents
from xrt.export.passes.base import GraphPass
from xrt.export.passes.resolve_shapes import BATCHES, observed_numbers
from xrt.runtime.errors import BackendError


class FoldBranches(GraphPass):
    """Replaces every If whose condition does not depend on the pixels or on the number of images."""

    def call(self, model: ir.Model) -> PassResult:  # noqa: D102
        changed = False
        while conditions := _known_conditions(model):
            for node, taken in conditions.items():
                _inline(model.graph, node, "then_branch" if taken else "else_branch")
            NameFixPass()(model)
            changed = True
        return PassResult(model, changed)


def _known_conditions(model: ir.Model) -> Mapping[ir.Node, bool]:
    """The Ifs of the graph by what their conditions are for every image, where that is known."""
    branches = [node for node in model.graph if node.op_type == "If" and node.inputs[0] is not None]
    if not branches:
        return {}
    _, pixels = dependents(model.graph)
    arrays = {node: array_of(node.inputs[0]) for node in branches}
    computed = [v for n in branches if arrays[n] is None and (v := n.inputs[0]) is not None and v not in pixels]
    batch = (list(model.graph.inputs[0].shape or ()) or [None])[0]
    try:
        runs = observed_numbers(model, computed, [batch] if isinstance(batch, int) else BATCHES) if computed else []
    except BackendError:  # the reason is told where shapes are resolved
        return {node: bool(array.all()) for node, array in arrays.items() if array is not None}
    known: dict[ir.Node, bool] = {}
    for node, array in arrays.items():
        name = str(node.inputs[0].name) if node.inputs[0] is not None else ""
        values = [array] if array is not None else [run[name] for run in runs if name in run]
        if values and all(np.array_equal(value, values[0]) for value in values):
            known[node] = bool(values[0].all())
    return known


def _inline(graph: ir.Graph, node: ir.Node, name: str) -> None:
    """Put the nodes of a branch in the place of its If."""
    branch = node.attributes[name].as_graph()
    nodes, results = list(branch), list(branch.outputs)
    for weight in list(branch.initializers.values()):
        branch.initializers.pop(str(weight.name))
        weight.name = f"{node.outputs[0].name}/{weight.name}"
        graph.register_initializer(weight)
    branch.outputs.clear()
    branch.remove(nodes)
    graph.insert_before(node, nodes)
    for output, result in zip(node.outputs, results, strict=True):
        if output in graph.outputs:
            (identity,) = copy = [ir.node("Identity", [result])]
            graph.insert_before(node, copy)
            result = identity.outputs[0]
        ir.convenience.replace_all_uses_with(output, result, replace_graph_outputs=True)
        if not any(result is v for v in node.inputs) and result.producer() in nodes:
            result.name = output.name
    graph.remove(node, safe=True)
