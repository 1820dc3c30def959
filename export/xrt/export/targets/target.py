"""Which activation the heatmaps explain.

The default target is the last spatial tensor that is on every path from the image to the logits, whose positions
reach the logits, and which is not itself the map of class scores.

Whether its positions reach the logits, and whether its channels are already the classes, its gradient shows:
after the last block of a vision transformer the gradient of every grid token is zero, and a map of class scores has a
gradient in the class's own channel alone.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from xrt.export.autodiff import backward
from xrt.export.ir.constants import array_of, initializer
from xrt.export.ir.emitter import Emitter
from xrt.export.ir.operators import MIXING, REARRANGING
from xrt.export.ir.plain_graph import PlainGraph
from xrt.export.ir.shapes import fixed_size, shape_of
from xrt.export.ir.skeleton import Skeleton
from xrt.export.targets.activation_layout import ActivationLayout, channel_axes, find_layout
from xrt.export.targets.cut_vertices import cut_vertices, values_on_paths
from xrt.export.targets.layer_names import find_layer, layer_name, scopes, unambiguous_name
from xrt.export.targets.spatial_axes import spatial_axes
from xrt.runtime.bundle.manifest import Preprocessing
from xrt.runtime.errors import ModelError
from xrt.runtime.phantoms import phantom_images

_PROBED_CLASSES = 8
_PROBE_IMAGES = 3
_SUGGESTED, _TRIES, _LOOKED_AT = 5, 10, 40
"""How many layers a message suggests, how many are tried for that, and among how many of the last they are chosen."""


@dataclass(frozen=True)
class Target:
    """A target activation: the graph's value, its name in the source, and its layout."""

    value: ir.Value
    layer: str
    layout: ActivationLayout


def default_target(model: ir.Model, tensors: Collection[str] | None = None) -> Target:
    """The default target layer of a model with the uint8 input and logits as its first output.

    `tensors` are the names among which it is chosen, where not all can be compared with the source.

    Raises ModelError when no spatial tensor qualifies.
    """
    graph = model.graph
    minimum, axes, after_weights = minimum_side(graph), channel_axes(graph), _values_after_weights(graph)
    positions = spatial_axes(graph)
    for value in reversed(cut_vertices(graph)):
        if tensors is not None and value.name not in tensors:
            continue
        layout = find_layout(value, graph, axes.get(value)) if value in after_weights else None
        if (
            layout is None
            or min(layout.height, layout.width) < minimum
            or not layout.spatial_axes <= positions.get(value, frozenset())
        ):
            continue
        if _is_step(value, layout, graph, axes):
            continue
        has_gradient, is_class_map = probe(model, value, layout)
        if has_gradient and not is_class_map:
            return Target(value, unambiguous_name(graph, value), layout)
    raise ModelError(
        f"no spatial layer (at least {minimum} × {minimum}) is on every path from the image to the logits: "
        f"name one with --target-layer{_suggestions(model, axes, minimum, tensors)}"
    )


def named_target(model: ir.Model, name: str) -> Target:
    """The target called `name`: a tensor of the graph, or a torch module path, meaning that module's output.

    Raises ModelError when there is none, when it is not a map, or when its positions do not reach the logits.
    """
    graph = model.graph
    value = find_layer(graph, name)
    layout = find_layout(value, graph, channel_axes(graph).get(value))
    if layout is None:
        raise ModelError(
            f"layer {name!r} gives {value.shape}, which is no map of the image: neither [n, channels, height, width] "
            "nor tokens on a grid; choose another --target-layer"
        )
    if value not in values_on_paths(graph):
        raise ModelError(f"target layer {name!r} does not reach the logits: choose another with --target-layer")
    has_gradient, _ = probe(model, value, layout)
    if not has_gradient:
        raise ModelError(
            f"target layer {name!r} reaches the logits at none of its positions (only a class token is read after it, "
            "or nothing): its heatmaps would be empty; choose an earlier --target-layer"
        )
    return Target(value, unambiguous_name(graph, value), layout)


def probe(model: ir.Model, value: ir.Value, layout: ActivationLayout) -> tuple[bool, bool]:
    """Whether a gradient reaches the positions of a value, and whether its channels are already the classes.

    Computed for a few phantoms and classes. Weights that are all zero, such as an untrained head, would hide the
    structure; they are random in the copy that is computed. Raises ModelError when an operator has no rule.
    """
    copy = model.clone()
    graph = copy.graph
    _fill_zero_weights(graph)
    target = next(v for node in graph for v in node.outputs if v.name == value.name)
    classes = fixed_size(shape_of(graph.outputs[0])[1])
    count = min(classes, _PROBED_CLASSES)
    emit = Emitter(graph, "probe")
    seed = emit.constant(np.eye(classes, dtype=np.float32)[:count, None, :])
    (gradient,) = backward(emit, graph.outputs[0], [target], seed)
    strength = emit.reduce("ReduceMax", emit("Abs", layout.as_map(emit, gradient)), [1])
    strengths = strength.array if strength.array is not None else _run(copy, emit.materialise(strength))
    strengths = np.broadcast_to(strengths[:, 0], (count, *layout.map_shape))
    by_channel = strengths.max(axis=(2, 3))
    # A gradient at a single position is like that of a class token: it is where a recurrence ends.
    has_gradient = bool(np.count_nonzero(strengths.max(axis=(0, 1))) > 1)
    own = np.eye(classes, dtype=bool)[:count]
    is_class_map = has_gradient and layout.channels == classes and not bool(by_channel[~own].any())
    return has_gradient, is_class_map


def minimum_side(graph: ir.Graph) -> int:
    """The minimum side of a useful map: 4 cells for an image of 64 pixels or more, 2 for smaller ones."""
    shape = graph.inputs[0].shape
    sides = [d for d in (shape or ())[2:] if isinstance(d, int)]
    return 4 if not sides or min(sides) >= 64 else 2


def _is_step(value: ir.Value, layout: ActivationLayout, graph: ir.Graph, axes: dict[ir.Value, int]) -> bool:
    """Whether a map is only a step from the map before it to a pooling.

    Either the same map rearranged or without its extra tokens, or with a border that is not of the image, or an
    intermediate result of the pooling's arithmetic: r·x and exp(r·x) of a log-sum-exp, x^p of a power mean. The output
    of a torch module is never a step, unless the module pads, or only flattens positions, [n, K, h, w] to [n, K, h·w].
    """
    node = value.producer()
    if node is None:
        return False
    source, is_module_output = node.inputs[0], layer_name(value) in scopes(node)
    if node.op_type == "Pad" and source is not None and (before := find_layout(source, graph, axes.get(source))):
        return before.map_shape != layout.map_shape or not is_module_output
    if (
        node.op_type in REARRANGING | {"Pad", "Slice"}
        and source is not None
        and not (is_module_output and not layout.is_flattened_map)
    ):
        before = find_layout(source, graph, axes.get(source))
        return before is not None and before.map_shape == layout.map_shape
    if is_module_output:
        return False
    constants = [array for v in node.inputs[1:] if v is not None and (array := array_of(v)) is not None]
    if node.op_type in ("Add", "Div", "Mul", "Sub"):
        return any(array.size == 1 for array in constants)
    if node.op_type in ("Clip", "Max"):
        return len(constants) == 1 and constants[0].size == 1 and bool(constants[0] > 0)
    return node.op_type in ("Exp", "Pow")


def _values_after_weights(graph: ir.Graph) -> set[ir.Value]:
    """The values with a convolution or matrix product before them: the image itself is no explanation."""
    values: set[ir.Value] = set()
    for node in graph:
        if node.op_type in MIXING or any(v in values for v in node.inputs if v is not None):
            values.update(node.outputs)
    return values


def _fill_zero_weights(graph: ir.Graph) -> None:
    rng = np.random.default_rng(0)
    for node in graph:
        for index, value in enumerate(node.inputs if node.op_type in MIXING else ()):
            array = None if value is None else array_of(value)
            if array is not None and array.ndim >= 2 and array.dtype == np.float32 and not array.any():
                random = rng.normal(size=array.shape).astype(np.float32)
                node.replace_input_with(index, initializer(graph, f"probe/filled_{node.name}_{index}", random))


def _run(model: ir.Model, output: ir.Value) -> np.ndarray:
    image = model.graph.inputs[0]
    height, width = (fixed_size(side) for side in shape_of(image)[2:])
    images = phantom_images(_PROBE_IMAGES, 0, Preprocessing(height=height, width=width))
    if image.dtype == ir.DataType.FLOAT:
        images = np.repeat(images.astype(np.float32) / 255, fixed_size(shape_of(image)[1]), axis=1)
    name = str(output.name)
    output.dtype = ir.DataType.FLOAT
    model.graph.outputs[:] = [output]
    return PlainGraph(Skeleton.of(model)).run({str(image.name): images}, [name])[name]


def _suggestions(model: ir.Model, axes: dict[ir.Value, int], minimum: int, tensors: Collection[str] | None) -> str:
    """A few layers that are no default but can be explained: whole blocks before their parts, the last ones first.

    Each was tried.
    """
    graph, candidates = model.graph, list[str]()
    for node in reversed(list(graph)):
        value = node.outputs[0]
        layout = find_layout(value, graph, axes.get(value)) if layer_name(value) in scopes(node) else None
        if not layout or min(layout.height, layout.width) < minimum:
            continue
        if tensors is not None and value.name not in tensors:
            continue
        name = _name_to_give(graph, value)
        if name not in candidates:
            candidates.append(name)
        if len(candidates) == _LOOKED_AT:
            break
    names = list[str]()
    for name in sorted(candidates, key=lambda name: name.count("."))[:_TRIES]:
        with suppress(ModelError):
            named_target(model, name)
            names.append(name)
        if len(names) == _SUGGESTED:
            break
    return f"; of its layers can be explained {', '.join(names)}" if names else ""


def _name_to_give(graph: ir.Graph, value: ir.Value) -> str:
    """The module's path where it means this value; the tensor's name where the module is called more than once."""
    name = layer_name(value)
    try:
        return name if find_layer(graph, name) is value else str(value.name)
    except ModelError:
        return str(value.name)
