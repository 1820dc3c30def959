"""Converting a file, up or down, to the operator set of every exported graph.

ONNX's converter raises the operator set. It cannot lower operators that newer sets added; these are first rewritten
with operators of opset 18. Gelu(x) = x/2 · (1 + erf(x/√2)), or with `approximate="tanh"` x/2 · (1 + tanh(√(2/π) · (x +
0.044715 x³))): Hendrycks and Gimpel 2016, arXiv 1606.08415. GroupNormalization of opset 21 is instance normalisation
of the groups, then a scale and a shift of each channel: Wu and He 2018, arXiv 1803.08494.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from math import pi, sqrt
from typing import Any

import onnx
import onnx.version_converter
import onnx_ir as ir
from onnx_ir.passes import PassResult

from xrt.export.ir.limits import OPSET
from xrt.export.passes.base import GraphPass
from xrt.runtime._io import first_line
from xrt.runtime.errors import ModelError


class ConvertOpset(GraphPass):
    """Write the graph in opset 18, with the shapes that ONNX infers."""

    def requires(self, model: ir.Model) -> None:
        """Nothing computes in half precision: gradients are emitted in float32. Raises ModelError."""
        half = {ir.DataType.FLOAT16: "float16", ir.DataType.BFLOAT16: "bfloat16"}
        kinds = [(name, value.dtype) for name, value in model.graph.initializers.items()]
        # Up to opset 5 the attribute is text, and ONNX cannot convert the node.
        kinds += [
            (node.outputs[0].name, ir.DataType(to.as_int()))
            for node in model.graph
            if node.op_type == "Cast" and (to := node.attributes.get("to")) and to.type == ir.AttributeType.INT
        ]
        for name, kind in kinds:
            if kind is not None and kind in half:
                raise ModelError(f"{name!r} is {half[kind]}: export the model in float32")

    def call(self, model: ir.Model) -> PassResult:
        """Raises ModelError when ONNX cannot convert the graph."""
        model.graph = ir.from_proto(_convert(ir.to_proto(model))).graph
        return PassResult(model, True)

    def ensures(self, model: ir.Model) -> None:
        """The operator set is that of every exported graph."""
        if model.opset_imports.get("") != OPSET:
            raise ValueError(f"the graph is of opset {model.opset_imports.get('')}")


def _convert(proto: onnx.ModelProto) -> onnx.ModelProto:
    version = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 1)
    if version > OPSET:
        _rewrite_newer_operators(proto, version)
    del proto.graph.value_info[:]
    try:
        if version == OPSET:
            return onnx.shape_inference.infer_shapes(proto)
        return onnx.version_converter.convert_version(proto, OPSET)
    except Exception as error:  # the converter raises RuntimeError and its own
        reason = re.sub(r"^.*?:\d+:\s*\S+:\s*", "", first_line(error))
        raise ModelError(
            f"the graph is of opset {version} and cannot be converted to {OPSET}: {reason}; export it again with "
            f"{OPSET}"
        ) from error


def _rewrite_newer_operators(proto: onnx.ModelProto, version: int) -> None:
    """Replace every Gelu and newer GroupNormalization of the graph, in place."""
    rules = {"Gelu": _gelu, "GroupNormalization": _group_norm if version >= 21 else None}
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    for node in nodes:
        rule = None if node.domain else rules.get(node.op_type)
        proto.graph.node.extend([node] if rule is None else _replacement(node, rule))


class _Body:
    """The nodes that replace one node."""

    def __init__(self, node: onnx.NodeProto) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._node = node

    def __call__(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{self._node.output[0]}/{self._node.op_type.lower()}_{len(self.nodes)}"
        self.nodes.append(
            onnx.helper.make_node(op, inputs, [name], f"{self._node.name}/{op}_{len(self.nodes)}", **attributes)
        )
        return name

    def number(self, value: float) -> str:
        return self("Constant", value_float=value)

    def integers(self, values: Sequence[int]) -> str:
        return self("Constant", value_ints=list(values))


def _replacement(node: onnx.NodeProto, rule: Callable[[_Body, onnx.NodeProto], str]) -> list[onnx.NodeProto]:
    body = _Body(node)
    result = rule(body, node)
    return [*body.nodes, onnx.helper.make_node("Identity", [result], [node.output[0]], name=node.name)]


def _gelu(emit: _Body, node: onnx.NodeProto) -> str:
    x = node.input[0]
    if _attribute(node, "approximate", b"none") == b"tanh":
        cube = emit("Mul", emit("Mul", x, emit("Mul", x, x)), emit.number(0.044715))
        curve = emit("Tanh", emit("Mul", emit("Add", x, cube), emit.number(sqrt(2 / pi))))
    else:
        curve = emit("Erf", emit("Mul", x, emit.number(1 / sqrt(2))))
    return emit("Mul", emit("Mul", x, emit.number(0.5)), emit("Add", curve, emit.number(1.0)))


def _group_norm(emit: _Body, node: onnx.NodeProto) -> str:
    x, scale, shift = node.input
    groups, epsilon = _attribute(node, "num_groups", 1), _attribute(node, "epsilon", 1e-5)
    channel_groups = emit("Reshape", x, emit.integers([0, groups, -1]))
    ones, zeros = (emit("Constant", value_floats=[value] * groups) for value in (1.0, 0.0))
    standard = emit("InstanceNormalization", channel_groups, ones, zeros, epsilon=epsilon)
    channels = emit("Reshape", standard, emit("Shape", x))
    column = emit.integers([-1, 1, 1])
    return emit("Add", emit("Mul", channels, emit("Reshape", scale, column)), emit("Reshape", shift, column))


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)
