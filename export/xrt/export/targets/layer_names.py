"""Names of layers: torch module paths where the exporter recorded them, else the names of tensors."""

from __future__ import annotations

import ast
from collections.abc import Sequence

import onnx_ir as ir

from xrt.export.targets.cut_vertices import cut_vertices
from xrt.runtime.errors import ModelError


def layer_name(value: ir.Value) -> str:
    """The outermost torch module that this value is the output of; the tensor's name where there is none."""
    node = value.producer()
    if node is not None:
        users = [scopes(user) for user, _ in value.uses()]
        for scope in scopes(node):
            if users and not any(scope in user for user in users):
                return scope
    return str(value.name)


def unambiguous_name(graph: ir.Graph, value: ir.Value) -> str:
    """As `layer_name`, but the tensor's name where the module is called more than once."""
    name = layer_name(value)
    inside = [node for node in graph if name in scopes(node)]
    return str(value.name) if len(_calls(graph, inside, name)) > 1 else name


def nearest_module(value: ir.Value) -> str | None:
    """The torch module whose output is this value, or the nearest before it: where a hook would be put."""
    step: ir.Value | None = value
    while step is not None and (node := step.producer()) is not None:
        name = layer_name(step)
        if name in scopes(node):
            return name
        step = node.inputs[0]
    return None


def scopes(node: ir.Node) -> Sequence[str]:
    """The torch module paths around a node, outermost first, without the root and without the operator itself."""
    text = node.metadata_props.get("pkg.torch.onnx.name_scopes")
    return [s for s in ast.literal_eval(text)[:-1] if s] if text else []


def find_layer(graph: ir.Graph, name: str) -> ir.Value:
    """The tensor of that name, or the output of the torch module of that path.

    Raises ModelError for neither, and for a module that is called more than once: its calls have a tensor each, and
    what one of them sees may be mirrored or another scale.
    """
    inside: list[ir.Node] = []
    for node in graph:
        for value in node.outputs:
            if value.name == name:
                return value
        if name in scopes(node):
            inside.append(node)
    calls = _calls(graph, inside, name)
    if len(calls) > 1:
        raise ModelError(
            f"layer {name!r} is called {len(calls)} times, perhaps on a flipped or resized image: name the tensor of "
            f"one call with --target-layer: {', '.join(str(value.name) for value in calls)}"
        )
    if not calls:
        names = sorted({s for node in graph for s in scopes(node) if s.count(".") <= 1})
        names = names or [str(v.name) for v in cut_vertices(graph)]
        examples = ", ".join(names[-24:]) or "none named"
        raise ModelError(
            f"there is no layer {name!r} on the way to the logits (a Dropout or Identity leaves no tensor: name the "
            f"layer before it); some of its layers: {examples}"
        )
    return calls[0]


def _calls(graph: ir.Graph, inside: Sequence[ir.Node], name: str) -> list[ir.Value]:
    """The last tensor that leaves a module, for each of its calls; for what is no repetition, of all its nodes.

    The nodes of a call are connected with each other, and two calls of a module have the same operators.
    """
    parts: list[list[ir.Node]] = []
    for node in inside:
        producers = {v.producer() for v in node.inputs if v is not None}
        joined = [part for part in parts if any(other in producers for other in part)]
        merged = [other for part in joined for other in part]
        parts = [part for part in parts if part not in joined]
        parts.append([*merged, node])
    outputs = [(part, value) for part in parts if (value := _last_leaving(graph, part, name)) is not None]
    signatures = [sorted(node.op_type for node in part) for part, _ in outputs]
    if len(outputs) > 1 and any(signature != signatures[0] for signature in signatures):
        order = {node: index for index, node in enumerate(graph)}
        return [max((value for _, value in outputs), key=lambda value: order.get(value.producer() or inside[0], 0))]
    return [value for _, value in outputs]


def _last_leaving(graph: ir.Graph, part: Sequence[ir.Node], name: str) -> ir.Value | None:
    """The first output of the last node of a part that something outside the module reads."""
    for node in reversed(part):
        if any(v in graph.outputs or any(name not in scopes(user) for user, _ in v.uses()) for v in node.outputs):
            return node.outputs[0]
    return None
