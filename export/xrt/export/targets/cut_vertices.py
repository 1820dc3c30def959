"""Cut vertices: the values through which everything passes.

A value lies on every path exactly when, at some point of a topological walk, it is the only value on the way from
image to logits that is still to be read.
"""

from __future__ import annotations

import onnx_ir as ir

from xrt.export.ir.dependence import dependents


def cut_vertices(graph: ir.Graph) -> list[ir.Value]:
    """The values through which every path from the image to the logits runs, in order."""
    nodes = list(graph)
    on_path = on_the_way(graph)
    waiting = {v: sum(1 for user, _ in v.uses() if any(o in on_path for o in user.outputs)) for v in on_path}
    unread = {graph.inputs[0]}
    passed: list[ir.Value] = []
    for node in nodes:
        if not any(v in on_path for v in node.outputs):
            continue
        for value in node.inputs:
            if value in unread:
                waiting[value] -= 1
                if waiting[value] == 0:
                    unread.discard(value)
        unread.update(v for v in node.outputs if v in on_path)
        if len(unread) == 1:
            passed.extend(unread)
    return passed


def on_the_way(graph: ir.Graph) -> set[ir.Value]:
    """The values that depend on the pixels and on which the logits depend."""
    _, from_image = dependents(graph)
    to_logits = {graph.outputs[0]}
    for node in reversed(list(graph)):
        if any(v in to_logits for v in node.outputs):
            to_logits.update(v for v in node.inputs if v is not None)
    return from_image & to_logits
