"""The part of an explained graph that is made faster: from the normalised image to the last explained activation.

What lies behind it, the head and the gradient subgraph, stays in float32 in every variant: it is small, and logits
and heatmaps are read from it directly.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from xrt.export.ir.dependence import dependents
from xrt.export.ir.names import NORMALISE
from xrt.runtime.bundle.manifest import GraphSpec
from xrt.runtime.errors import ModelError


def trunk_of(model: ir.Model, spec: GraphSpec) -> list[ir.Node]:
    """The nodes between the normalised image and the last explained activation, in order.

    Raises ModelError when the graph lacks an activation that its description names.
    """
    graph = model.graph
    _, pixels = dependents(graph)
    needed = _tensors(graph, {cam.tensor for cam in spec.cams})
    nodes: list[ir.Node] = []
    for node in reversed(list(graph)):
        if needed.intersection(node.outputs):
            needed.update(v for v in node.inputs if v is not None)
            if pixels.intersection(node.outputs) and not str(node.outputs[0].name).startswith(NORMALISE):
                nodes.append(node)
    return nodes[::-1]


def _tensors(graph: ir.Graph, names: Collection[str]) -> set[ir.Value]:
    values = {value.name: value for node in graph for value in node.outputs}
    if missing := [name for name in names if name not in values]:
        raise ModelError(f"the graph has no tensor {missing[0]!r}, which its heatmaps explain")
    return {values[name] for name in names}
