"""Which values depend on the image: on its pixels, or on its shape alone."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

_SIZE_OPERATORS = {"Shape", "Size"}


def dependents(graph: ir.Graph) -> tuple[set[ir.Value], set[ir.Value]]:
    """The values that depend on the image's shape alone, and those that depend on its pixels."""
    sizes: set[ir.Value] = set()
    pixels = {graph.inputs[0]}
    for node in graph:
        reads = set(_reads(node))
        if reads & pixels:
            (sizes if node.op_type in _SIZE_OPERATORS else pixels).update(node.outputs)
        elif reads & sizes:
            sizes.update(node.outputs)
    return sizes, pixels


def _reads(node: ir.Node) -> Iterable[ir.Value]:
    """The inputs of a node, and the values that its subgraphs read."""
    yield from (v for v in node.inputs if v is not None)
    for attribute in node.attributes.values():
        for body in [attribute.value] if attribute.type == ir.AttributeType.GRAPH else []:
            for inner in body:
                yield from _reads(inner)


def nodes_before(graph: ir.Graph, values: Iterable[ir.Value]) -> list[ir.Node]:
    """The nodes on which values depend, in order."""
    needed = set(values)
    nodes: list[ir.Node] = []
    for node in reversed(list(graph)):
        if needed.intersection(node.outputs):
            needed.update(_reads(node))
            nodes.append(node)
    return nodes[::-1]
