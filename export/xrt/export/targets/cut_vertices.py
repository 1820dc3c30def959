"""Cut vertices: the values that are on every path from the image to the logits.

A value is on every path exactly when, at some point of a walk in topological order, it is the only value between
image and logits that is still to be read.
"""

from __future__ import annotations

import onnx_ir as ir

from xrt.export.ir.dependence import dependents


def cut_vertices(graph: ir.Graph) -> list[ir.Value]:
    """The values through which every path from the image to the logits runs, in order."""
    nodes = list(graph)
    on_path = values_on_paths(graph)
    remaining_reads = {v: sum(1 for user, _ in v.uses() if any(o in on_path for o in user.outputs)) for v in on_path}
    open_values = {graph.inputs[0]}
    vertices: list[ir.Value] = []
    for node in nodes:
        if not any(v in on_path for v in node.outputs):
            continue
        for value in node.inputs:
            if value in open_values:
                remaining_reads[value] -= 1
                if remaining_reads[value] == 0:
                    open_values.discard(value)
        open_values.update(v for v in node.outputs if v in on_path)
        if len(open_values) == 1:
            vertices.extend(open_values)
    return vertices


def values_on_paths(graph: ir.Graph) -> set[ir.Value]:
    """The values that depend on the pixels and on which the logits depend."""
    _, from_image = dependents(graph)
    to_logits = {graph.outputs[0]}
    for node in reversed(list(graph)):
        if any(v in to_logits for v in node.outputs):
            to_logits.update(v for v in node.inputs if v is not None)
    return from_image & to_logits
