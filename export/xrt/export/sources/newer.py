"""Operators that came after opset 18, written in those that it has; ONNX's own converter knows no way back for them.

Gelu(x) = x/2 · (1 + erf(x/√2)), or with `approximate="tanh"` x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³))): Hendrycks
and Gimpel 2016, arXiv 1606.08415.
"""

from __future__ import annotations

from math import pi, sqrt

import onnx


def lower(model: onnx.ModelProto) -> None:
    """Replace every Gelu of the graph, in place."""
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        model.graph.node.extend(_gelu(node) if node.op_type == "Gelu" and not node.domain else [node])


def _gelu(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    x, y = node.input[0], node.output[0]
    made: list[onnx.NodeProto] = []

    def emit(op: str, *inputs: str, name: str = "") -> str:
        name = name or f"{y}/gelu_{len(made)}"
        made.append(onnx.helper.make_node(op, list(inputs), [name], name=f"{node.name}/{op}_{len(made)}"))
        return name

    def number(value: float) -> str:
        name = f"{y}/gelu_{len(made)}"
        made.append(onnx.helper.make_node("Constant", [], [name], value_float=value))
        return name

    approximate = next((a.s for a in node.attribute if a.name == "approximate"), b"none")
    if approximate == b"tanh":
        cube = emit("Mul", emit("Mul", x, emit("Mul", x, x)), number(0.044715))
        bend = emit("Tanh", emit("Mul", emit("Add", x, cube), number(sqrt(2 / pi))))
    else:
        bend = emit("Erf", emit("Mul", x, number(1 / sqrt(2))))
    emit("Mul", emit("Mul", x, number(0.5)), emit("Add", bend, number(1.0)), name=y)
    return made
