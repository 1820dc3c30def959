"""Writing a graph of a newer operator set in opset 18.

Most operators of newer sets take more types and are otherwise the same, so they keep their place. What newer sets added
is written with older operators: by its own definition, which ONNX has for most, or as below. GroupNormalization of
opset 21 is instance normalisation of the groups, then a scale and a shift of each channel: Wu and He 2018, arXiv
1803.08494. Gelu(x) = x/2 · (1 + erf(x/√2)), or with `approximate="tanh"` x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³))):
Hendrycks and Gimpel 2016, arXiv 1606.08415.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import pi, sqrt
from typing import Any

import onnx
import onnx.inliner

from xrt.export.ir.limits import OPSET
from xrt.runtime.errors import ModelError

_GRID_MODES = {b"linear": b"bilinear", b"cubic": b"bicubic"}


def lower_opset(proto: onnx.ModelProto, version: int) -> onnx.ModelProto:
    """The same graph, of opset `version`, in opset 18.

    Raises ModelError with the name of an operator that opset 18 cannot express.
    """
    _rewrite(proto.graph, version)
    if functions := sorted(_added_functions(proto.graph)):
        proto = onnx.inliner.inline_selected_functions(
            proto, [("", name) for name in functions], inline_schema_functions=True
        )
    constants = {t.name: t for t in proto.graph.initializer}
    for node in _nodes(proto.graph):
        if node.domain in ("", "ai.onnx"):
            _lower(node, version, constants)
    for opset in proto.opset_import:
        if opset.domain in ("", "ai.onnx"):
            opset.version = OPSET
    return proto


def _added_functions(graph: onnx.GraphProto) -> set[str]:
    """The operators of a graph that came after opset 18 and are defined by others."""
    names = {node.op_type for node in _nodes(graph) if not node.domain}
    return {name for name in names if not onnx.defs.has(name, OPSET) and _is_function(name)}


def _is_function(name: str) -> bool:
    if not onnx.defs.has(name):
        return False
    schema = onnx.defs.get_schema(name)
    return schema.has_function or schema.has_context_dependent_function  # pyright: ignore[reportAttributeAccessIssue]


def _lower(node: onnx.NodeProto, version: int, constants: dict[str, onnx.TensorProto]) -> None:
    """Change one node to the form of opset 18, in place. Raises ModelError when it has none."""
    try:
        older = onnx.defs.get_schema(node.op_type, OPSET)
        newer = onnx.defs.get_schema(node.op_type, version)
    except onnx.defs.SchemaError as error:
        raise _no_older_form(node, version) from error
    if node.op_type == "DFT" and len(node.input) > 2:
        axis = constants.get(node.input[2])
        if axis is None:
            raise _no_older_form(node, version)
        node.attribute.append(onnx.helper.make_attribute("axis", int(onnx.numpy_helper.to_array(axis))))
        del node.input[2:]
    elif node.op_type == "DFT" and version >= 20:
        node.attribute.append(onnx.helper.make_attribute("axis", -2))
    for attribute in list(node.attribute):
        if node.op_type == "GridSample" and attribute.name == "mode":
            attribute.s = _GRID_MODES.get(attribute.s, attribute.s)
        if attribute.name in older.attributes:
            continue
        default = newer.attributes[attribute.name].default_value if attribute.name in newer.attributes else None
        value = onnx.helper.get_attribute_value(attribute)
        is_default = default is not None and default.type and value == onnx.helper.get_attribute_value(default)
        if not is_default and not (attribute.name == "dilations" and set(value) == {1}):
            raise _no_older_form(node, version, f" with {attribute.name}")
        node.attribute.remove(attribute)
    if len(node.input) > older.max_input:
        raise _no_older_form(node, version, f" with {len(node.input)} inputs")


def _no_older_form(node: onnx.NodeProto, version: int, detail: str = "") -> ModelError:
    return ModelError(
        f"{node.op_type}{detail} at {node.name or node.output[0]!r} is of opset {version} and cannot be written in "
        f"opset {OPSET}, in which every bundle is: export the model again with opset {OPSET}, without this operator"
    )


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph and of the graphs within."""
    for node in graph.node:
        yield node
        for inner in _inner_graphs(node):
            yield from _nodes(inner)


def _inner_graphs(node: onnx.NodeProto) -> Iterable[onnx.GraphProto]:
    return (a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH)


def _rewrite(graph: onnx.GraphProto, version: int) -> None:
    """Replace every Gelu and newer GroupNormalization, in place: they become fewer nodes than by their definition."""
    rules = {"Gelu": _gelu, "GroupNormalization": _group_norm if version >= 21 else None}
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        for inner in _inner_graphs(node):
            _rewrite(inner, version)
        rule = None if node.domain else rules.get(node.op_type)
        graph.node.extend([node] if rule is None else _replacement(node, rule))


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
