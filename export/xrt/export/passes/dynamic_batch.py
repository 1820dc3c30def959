"""Making the batch dynamic: exporters build a batch of one into an ONNX file unless they are told otherwise.

The batch is one of many axes of size 1, so it is followed from the image: a reshape leaves as many elements in front of
it as there were, though it may join it with the axis before or behind. Reshapes to a constant shape are then given -1
there, and what is joined to the images' values without depending on them, such as a class token, is expanded over the
batch. Whether images then stay independent of each other is checked when shapes are resolved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import PassResult
from onnx_ir.tape import Tape

from xrt.export.ir.attributes import permutation, removed_axes
from xrt.export.ir.constants import array_of, initializer
from xrt.export.ir.operators import RESHAPING
from xrt.export.passes.base import GraphPass
from xrt.export.passes.resolve_shapes import observed_shapes
from xrt.runtime.errors import ModelError

Sizes = tuple[int, ...]


class DynamicBatch(GraphPass):
    """Make the batch dynamic where the file has one built in; forgets the shapes that are recorded."""

    def requires(self, model: ir.Model) -> None:
        """The input has a shape. Raises ModelError."""
        if not model.graph.inputs[0].shape:
            raise ModelError(f"input {model.graph.inputs[0].name!r} has no shape: export the model with one")

    def call(self, model: ir.Model) -> PassResult:  # noqa: D102
        graph = model.graph
        image = graph.inputs[0]
        batch, *sides = list(image.shape or ())
        if isinstance(batch, int):
            _free_nodes(model, batch)
        image.shape = ir.Shape(["n", *sides])
        for value in (v for node in graph for v in node.outputs):
            value.shape = None
        return PassResult(model, True)


def _free_nodes(model: ir.Model, batch: int) -> None:
    """Rewrite the nodes that have the batch of the file built in."""
    graph = model.graph
    shapes = observed_shapes(model, batch)
    places: dict[str, _Place] = {str(graph.inputs[0].name): _Place(0)}
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
    if node.op_type in RESHAPING:
        return _reshaped(before, result, place)
    axis = place.axis
    if node.op_type == "Transpose":
        return _Place(permutation(node, len(result)).index(axis), place.within)
    if len(result) < len(before):
        gone = removed_axes(node, len(before))
        return None if axis in gone else _Place(axis - sum(i < axis for i in gone), place.within)
    return _Place(axis + len(result) - len(before), place.within)


def _reshaped(before: Sizes, result: Sizes, place: _Place) -> _Place | None:
    in_front = prod(before[: place.axis]) * place.within
    places = [i for i in range(len(result) + 1) if prod(result[:i]) == in_front]
    if not places:
        return None
    alone = [i for i in places if i < len(result) and result[i] == 1]
    if alone:
        return _Place(alone[0])
    whole = {prod(before[place.axis + 1 : end]) for end in range(place.axis + 2, len(before) + 1)}
    # [tokens, batch, heads, depth] → [tokens · batch, heads · depth]: axes that stay whole take no batch.
    joins_front = places[0] > 0 and (places[0] == len(result) or result[places[0]] in whole)
    if joins_front:
        return _Place(places[0] - 1, in_front // prod(result[: places[0] - 1]))
    return _Place(places[0])


def _free_reshape(graph: ir.Graph, node: ir.Node, result: Sizes, axis: int) -> None:
    sizes = array_of(node.inputs[1])
    if sizes is None or len(sizes) != len(result) or sizes[axis] in (0, -1):
        return
    freed = np.array(result, dtype=np.int64)
    freed[axis] = -1
    node.replace_input_with(1, initializer(graph, f"freed/{node.outputs[0].name}", freed))


def _free_concat(graph: ir.Graph, node: ir.Node, shapes: Mapping[str, Sizes], axis: int) -> None:
    """Expand operands that do not depend on the image over the batch, where they are joined along another axis."""
    rank = len(shapes[str(node.outputs[0].name)])
    if node.attributes.get_int("axis", 0) % rank == axis:
        return
    for index, value in enumerate(node.inputs):
        if value is None or value.name in shapes:
            continue
        tape, name = Tape(), f"freed/{node.outputs[0].name}_{index}"
        batch = tape.op("Shape", [graph.inputs[0]], {"start": 0, "end": 1})
        parts = [
            batch if i == axis else initializer(graph, f"{name}_{i}", np.ones(1, dtype=np.int64)) for i in range(rank)
        ]
        sizes = tape.op("Concat", parts, {"axis": 0})
        expanded = tape.op("Expand", [value, sizes])
        graph.insert_before(node, tape.nodes)
        node.replace_input_with(index, expanded)
