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
    """The tensor of that name, or the output of the torch module of that path. Raises ModelError for neither."""
    match: ir.Value | None = None
    for node in graph:
        for value in node.outputs:
            if value.name == name:
                return value
        leaves = any(v in graph.outputs or any(name not in scopes(u) for u, _ in v.uses()) for v in node.outputs)
        if leaves and name in scopes(node):
            match = node.outputs[0]
    if match is None:
        names = sorted({s for node in graph for s in scopes(node) if s.count(".") <= 1})
        names = names or [str(v.name) for v in cut_vertices(graph)]
        examples = ", ".join(names[-24:]) or "none named"
        raise ModelError(
            f"there is no layer {name!r} on the way to the logits (a Dropout or Identity leaves no tensor: name the "
            f"layer before it); some of its layers: {examples}"
        )
    return match
