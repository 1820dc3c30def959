"""The trunk of an explained graph: from the normalised image to the last explained activation.

Variants make the trunk faster. The head and the gradient subgraph after it stay in float32 in every variant: they are
small, and logits and heatmaps are read from them directly.
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
    ancestors = _tensors(graph, {cam.tensor for cam in spec.cams})
    nodes: list[ir.Node] = []
    for node in reversed(list(graph)):
        if ancestors.intersection(node.outputs):
            ancestors.update(v for v in node.inputs if v is not None)
            if pixels.intersection(node.outputs) and not str(node.outputs[0].name).startswith(NORMALISE):
                nodes.append(node)
    return nodes[::-1]


def _tensors(graph: ir.Graph, names: Collection[str]) -> set[ir.Value]:
    values = {value.name: value for node in graph for value in node.outputs}
    if missing := [name for name in names if name not in values]:
        raise ModelError(f"the graph has no tensor {missing[0]!r}, which its heatmaps explain")
    return {values[name] for name in names}
