"""Which activation the heatmaps explain.

The default target is the last spatial tensor through which every path from the image to the logits runs and which
is not itself the map of class scores. A value lies on every path exactly when, at some point of a topological walk,
it is the only value on the way from image to logits that is still to be read.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from xrt.runtime.errors import ModelError

# Operators that turn a map into scores without mixing its channels: behind them, a channel is still a class.
_CHANNEL_PRESERVING = {
    "AveragePool", "Cast", "Clip", "Dropout", "Flatten", "GlobalAveragePool", "GlobalMaxPool", "Identity", "MaxPool",
    "ReduceMean", "ReduceMax", "ReduceSum", "Relu", "Reshape", "Sigmoid", "Softmax", "Squeeze", "Transpose",
}  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A target activation [n, channels, height, width]: the graph's value and the name its source knows it by."""

    value: ir.Value
    layer: str
    channels: int
    height: int
    width: int


def default_target(graph: ir.Graph) -> Target:
    """The default target layer of a graph with one image input and logits as its first output.

    Raises ModelError when no spatial tensor qualifies.
    """
    least = minimum_side(graph)
    for value in reversed(bottlenecks(graph)):
        sides = spatial_size(value)
        if sides is not None and min(sides[1:]) >= least and not _is_class_map(graph, value):
            return describe(value)
    raise ModelError(
        f"no spatial layer (at least {least} × {least}) lies on every path from the image to the logits: "
        "name one with --target-layer"
    )


def named_target(graph: ir.Graph, name: str) -> Target:
    """The target called `name`: a tensor of the graph, or a torch module path, meaning that module's output.

    Raises ModelError when there is none, or when it is not a map [n, K, h, w].
    """
    chosen: ir.Value | None = None
    for node in graph:
        for value in node.outputs:
            if value.name == name:
                chosen = value
        inside = name in scopes(node)
        leaves = any(name not in scopes(user) for value in node.outputs for user, _ in value.uses())
        if (inside and leaves and chosen is None) or (inside and leaves and chosen is not None and chosen.name != name):
            chosen = node.outputs[0]
    if chosen is None:
        known = sorted({s for node in graph for s in scopes(node) if s.count(".") <= 1})
        raise ModelError(f"there is no layer {name!r}; some that there are: {', '.join(known[:24]) or 'none named'}")
    if spatial_size(chosen) is None:
        raise ModelError(f"layer {name!r} gives {chosen.shape}, not a map [n, channels, height, width]")
    return describe(chosen)


def describe(value: ir.Value) -> Target:
    """A Target for a value that is known to be a map."""
    sizes = spatial_size(value)
    assert sizes is not None
    return Target(value, layer_name(value), *sizes)


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


def minimum_side(graph: ir.Graph) -> int:
    """The least side of a useful map: 4 cells for an image of 64 pixels or more, 2 for smaller ones."""
    shape = graph.inputs[0].shape
    sides = [d for d in (shape or ())[2:] if isinstance(d, int)]
    return 4 if not sides or min(sides) >= 64 else 2


def spatial_size(value: ir.Value) -> tuple[int, int, int] | None:
    """(channels, height, width) of a map [n, K, h, w] with fixed sizes; None for anything else."""
    shape = value.shape
    if shape is None or len(shape) != 4 or not all(isinstance(d, int) for d in shape[1:]):
        return None
    return int(shape[1]), int(shape[2]), int(shape[3])  # type: ignore[arg-type]


def bottlenecks(graph: ir.Graph) -> list[ir.Value]:
    """The values through which every path from the image to the logits runs, in order."""
    nodes = list(graph)
    from_image = {graph.inputs[0]}
    for node in nodes:
        if any(v in from_image for v in node.inputs if v is not None):
            from_image.update(node.outputs)
    to_logits = {graph.outputs[0]}
    for node in reversed(nodes):
        if any(v in to_logits for v in node.outputs):
            to_logits.update(v for v in node.inputs if v is not None)
    on_path = from_image & to_logits
    waiting = {v: sum(1 for user, _ in v.uses() if any(o in on_path for o in user.outputs)) for v in on_path}
    unread = {graph.inputs[0]}
    found: list[ir.Value] = []
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
            found.extend(unread)
    return found


def _is_class_map(graph: ir.Graph, value: ir.Value) -> bool:
    """Whether the channels of a map are the classes already: nothing behind it mixes channels."""
    classes = graph.outputs[0].shape[1] if graph.outputs[0].shape is not None else None
    if value.shape is None or value.shape[1] != classes:
        return False
    behind = {value}
    for node in graph:
        if any(v in behind for v in node.inputs if v is not None):
            behind.update(node.outputs)
            if node.op_type not in _CHANNEL_PRESERVING:
                return False
    return True
