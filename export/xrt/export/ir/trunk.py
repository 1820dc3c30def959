"""The part of an explained graph that is made faster: from the normalised image to the last explained activation.

What lies behind it, the head and the gradient subgraph, stays in float32 in every variant: it is small, and logits
and heatmaps are read from it directly.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes

from xrt.export.graphs.face import FACE
from xrt.export.graphs.settling import dependents
from xrt.runtime.bundle.manifest import GraphSpec
from xrt.runtime.errors import ModelError


def opened(data: bytes) -> ir.Model:
    """The graph of a file, every node with a name of its own and every value with a type."""
    model = ir.from_proto(onnx.shape_inference.infer_shapes(onnx.load_from_string(data)))
    passes.NameFixPass()(model)
    return model


def trunk_of(model: ir.Model, spec: GraphSpec) -> list[ir.Node]:
    """The nodes between the normalised image and the last explained activation, in order.

    Raises ModelError when the graph lacks an activation that its description names.
    """
    graph = model.graph
    _, pixels = dependents(graph)
    wanted = _named(graph, {cam.tensor for cam in spec.cams})
    found: list[ir.Node] = []
    for node in reversed(list(graph)):
        if wanted.intersection(node.outputs):
            wanted.update(v for v in node.inputs if v is not None)
            if pixels.intersection(node.outputs) and not str(node.outputs[0].name).startswith(FACE):
                found.append(node)
    return found[::-1]


def _named(graph: ir.Graph, names: Collection[str]) -> set[ir.Value]:
    values = {value.name: value for node in graph for value in node.outputs}
    if missing := [name for name in names if name not in values]:
        raise ModelError(f"the graph has no tensor {missing[0]!r}, which its heatmaps explain")
    return {values[name] for name in names}
