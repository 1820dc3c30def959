"""Taking out the batch of one that exporters build into an ONNX file unless they are told otherwise.

The batch is one of many axes of size 1, so it is followed from the image: a reshape leaves as many elements in front of
it as there were, though it may join it with the axis before or behind. Reshapes to a constant shape are then given -1
there, and what is joined to the images' values without depending on them, such as a class token, is expanded over the
batch. Whether images then stay independent of each other is checked when the graph is settled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_ir as ir

from xrt.export.autodiff.emitter import array_of
from xrt.export.graphs.settling import observed_shapes

Sizes = tuple[int, ...]
_SAME_ELEMENTS = {"Flatten", "Reshape", "Squeeze", "Unsqueeze"}


def free_batch(model: ir.Model) -> None:
    """Make the batch dynamic where the file has one built in, in place; forgets the shapes that are recorded."""
    graph = model.graph
    image = graph.inputs[0]
    assert image.shape is not None
    batch = image.shape[0]
    if isinstance(batch, int):
        shapes = observed_shapes(model, batch)
        places: dict[str, _Place] = {str(image.name): _Place(0)}
        for node in list(graph):
            place = _place(node, places, shapes)
            if place is None:
                continue
            places.update((str(output.name), place) for output in node.outputs)
            axis = place.axis
            result = shapes[str(node.outputs[0].name)]
            if node.op_type == "Reshape" and result[axis] % batch == 0:
                _free_reshape(graph, node, result, axis)
            elif node.op_type == "Concat" and result[axis] == batch == 1:
                _free_concat(graph, node, shapes, axis)
    image.shape = ir.Shape(["n", *image.shape[1:]])
    for value in (v for node in graph for v in node.outputs):
        value.shape = None


@dataclass(frozen=True)
class _Place:
    """The axis that holds the batch, and how many of that axis's elements stand in front of it."""

    axis: int
    within: int = 1


def _place(node: ir.Node, places: Mapping[str, _Place], shapes: Mapping[str, Sizes]) -> _Place | None:
    """Where the batch is in a node's first output; None where that is not known."""
    source = next((str(v.name) for v in node.inputs if v is not None and v.name in places), None)
    result = shapes.get(str(node.outputs[0].name))
    if source is None or source not in shapes or not result:
        return None
    before, place = shapes[source], places[source]
    if node.op_type in _SAME_ELEMENTS:
        return _reshaped(before, result, place)
    axis = place.axis
    if node.op_type == "Transpose":
        order = node.attributes["perm"].value if "perm" in node.attributes else range(len(result))[::-1]
        return _Place(list(order).index(axis), place.within)
    if len(result) < len(before):
        gone = _removed_axes(node, len(before))
        return None if axis in gone else _Place(axis - sum(i < axis for i in gone), place.within)
    return _Place(axis + len(result) - len(before), place.within)


def _reshaped(before: Sizes, result: Sizes, place: _Place) -> _Place | None:
    in_front = prod(before[: place.axis]) * place.within
    found = [i for i in range(len(result) + 1) if prod(result[:i]) == in_front]
    if not found:
        return None
    alone = [i for i in found if i < len(result) and result[i] == 1]
    if alone:
        return _Place(alone[0])
    whole = {prod(before[place.axis + 1 : end]) for end in range(place.axis + 2, len(before) + 1)}
    # [tokens, batch, heads, depth] → [tokens · batch, heads · depth]: axes that stay whole take no batch.
    joins_front = found[0] > 0 and (found[0] == len(result) or result[found[0]] in whole)
    if joins_front:
        return _Place(found[0] - 1, in_front // prod(result[: found[0] - 1]))
    return _Place(found[0])


def _removed_axes(node: ir.Node, rank: int) -> set[int]:
    """The axes that a reduction or the choice of one index takes away."""
    if node.op_type == "Gather":
        return {node.attributes["axis"].value % rank if "axis" in node.attributes else 0}
    given = node.attributes["axes"].value if "axes" in node.attributes else None
    if given is None and len(node.inputs) > 1 and node.inputs[1] is not None:
        array = array_of(node.inputs[1])
        given = None if array is None else array.tolist()
    return {axis % rank for axis in given} if given is not None else set(range(rank))


def _free_reshape(graph: ir.Graph, node: ir.Node, result: Sizes, axis: int) -> None:
    sizes = array_of(node.inputs[1])  # type: ignore[arg-type]
    if sizes is None or len(sizes) != len(result) or sizes[axis] in (0, -1):
        return
    freed = np.array(result, dtype=np.int64)
    freed[axis] = -1
    node.replace_input_with(1, _constant(graph, f"freed/{node.outputs[0].name}", freed))


def _free_concat(graph: ir.Graph, node: ir.Node, shapes: Mapping[str, Sizes], axis: int) -> None:
    """Expand operands that do not depend on the image over the batch, where they are joined along another axis."""
    rank = len(shapes[str(node.outputs[0].name)])
    if node.attributes["axis"].value % rank == axis:
        return
    for index, value in enumerate(node.inputs):
        if value is None or value.name in shapes:
            continue
        batch = ir.node("Shape", [graph.inputs[0]], {"start": 0, "end": 1})
        name = f"freed/{node.outputs[0].name}_{index}"
        parts = [
            batch.outputs[0] if i == axis else _constant(graph, f"{name}_{i}", np.ones(1, dtype=np.int64))
            for i in range(rank)
        ]
        sizes = ir.node("Concat", parts, {"axis": 0})
        expanded = ir.node("Expand", [value, sizes.outputs[0]])
        graph.insert_before(node, [batch, sizes, expanded])
        node.replace_input_with(index, expanded.outputs[0])


def _constant(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name), shape=ir.Shape(array.shape))
    value.dtype = ir.DataType.from_numpy(array.dtype)
    graph.register_initializer(value)
    return value
