"""Operators that came after opset 18, written in those that it has; ONNX's own converter knows no way back for them.

Gelu(x) = x/2 · (1 + erf(x/√2)), or with `approximate="tanh"` x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³))): Hendrycks
and Gimpel 2016, arXiv 1606.08415. GroupNormalization of opset 21 is instance normalisation of the groups, then a scale
and a shift of each channel: Wu and He 2018, arXiv 1803.08494.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import pi, sqrt
from typing import Any

import onnx

from xrt.export.autodiff.emitter import OPSET


def lower(model: onnx.ModelProto) -> None:
    """Replace every Gelu and newer GroupNormalization of the graph, in place."""
    version = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)
    if version <= OPSET:
        return
    rules = {"Gelu": _gelu, "GroupNormalization": _group_norm if version >= 21 else None}
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        rule = None if node.domain else rules.get(node.op_type)
        model.graph.node.extend([node] if rule is None else _lowered(node, rule))


class _Body:
    """The nodes that take the place of one."""

    def __init__(self, node: onnx.NodeProto) -> None:
        self.made: list[onnx.NodeProto] = []
        self._node = node

    def __call__(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{self._node.output[0]}/{self._node.op_type.lower()}_{len(self.made)}"
        self.made.append(
            onnx.helper.make_node(op, inputs, [name], f"{self._node.name}/{op}_{len(self.made)}", **attributes)
        )
        return name

    def number(self, value: float) -> str:
        return self("Constant", value_float=value)

    def integers(self, values: Sequence[int]) -> str:
        return self("Constant", value_ints=list(values))


def _lowered(node: onnx.NodeProto, rule: Callable[[_Body, onnx.NodeProto], str]) -> list[onnx.NodeProto]:
    body = _Body(node)
    result = rule(body, node)
    return [*body.made, onnx.helper.make_node("Identity", [result], [node.output[0]], name=node.name)]


def _gelu(emit: _Body, node: onnx.NodeProto) -> str:
    x = node.input[0]
    if _attribute(node, "approximate", b"none") == b"tanh":
        cube = emit("Mul", emit("Mul", x, emit("Mul", x, x)), emit.number(0.044715))
        bend = emit("Tanh", emit("Mul", emit("Add", x, cube), emit.number(sqrt(2 / pi))))
    else:
        bend = emit("Erf", emit("Mul", x, emit.number(1 / sqrt(2))))
    return emit("Mul", emit("Mul", x, emit.number(0.5)), emit("Add", bend, emit.number(1.0)))


def _group_norm(emit: _Body, node: onnx.NodeProto) -> str:
    x, scale, shift = node.input
    groups, epsilon = _attribute(node, "num_groups", 1), _attribute(node, "epsilon", 1e-5)
    joined = emit("Reshape", x, emit.integers([0, groups, -1]))
    ones, zeros = (emit("Constant", value_floats=[value] * groups) for value in (1.0, 0.0))
    normal = emit("InstanceNormalization", joined, ones, zeros, epsilon=epsilon)
    apart = emit("Reshape", normal, emit("Shape", x))
    column = emit.integers([-1, 1, 1])
    return emit("Add", emit("Mul", apart, emit("Reshape", scale, column)), emit("Reshape", shift, column))


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)
