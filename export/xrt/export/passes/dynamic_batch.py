"""Making the batch dynamic: by default, exporters fix the batch of an ONNX file at one.

The batch is one of many axes of size 1, so it is followed from the image: a reshape leaves as many elements before it
as there were, though it may merge it with the axis before or after. Reshapes to a constant shape then get -1 there, and
what is concatenated to the images' values without depending on them, such as a class token, is expanded over the batch.
Whether images then stay independent of each other is checked when shapes are resolved.
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
    """Make the batch dynamic where the file fixes it; removes the shapes in the file."""

    def requires(self, model: ir.Model) -> None:
        """The input has a shape. Raises ModelError."""
        if not model.graph.inputs[0].shape:
            raise ModelError(f"input {model.graph.inputs[0].name!r} has no shape: export the model with one")

    def call(self, model: ir.Model) -> PassResult:  # noqa: D102
        graph = model.graph
        image = graph.inputs[0]
        batch, *sides = list(image.shape or ())
        if isinstance(batch, int):
            _make_nodes_dynamic(model, batch)
        image.shape = ir.Shape(["n", *sides])
        for value in (v for node in graph for v in node.outputs):
            value.shape = None
        return PassResult(model, True)


def _make_nodes_dynamic(model: ir.Model, batch: int) -> None:
    """Rewrite the nodes that contain the fixed batch of the file."""
    graph = model.graph
    shapes = observed_shapes(model, batch)
    positions: dict[str, _BatchPosition] = {str(graph.inputs[0].name): _BatchPosition(0)}
    for node in list(graph):
        position = _batch_position(node, positions, shapes)
        if position is None:
            continue
        positions.update((str(output.name), position) for output in node.outputs)
        axis = position.axis
        result = shapes[str(node.outputs[0].name)]
        if node.op_type == "Reshape" and result[axis] % batch == 0:
            _make_reshape_dynamic(graph, node, result, axis)
        elif node.op_type == "Concat" and result[axis] == batch == 1:
            _make_concat_dynamic(graph, node, shapes, axis)


@dataclass(frozen=True)
class _BatchPosition:
    """The axis that holds the batch, and how many elements of that axis are before it."""

    axis: int
    elements_before: int = 1


def _batch_position(
    node: ir.Node, positions: Mapping[str, _BatchPosition], shapes: Mapping[str, Sizes]
) -> _BatchPosition | None:
    """The position of the batch in a node's first output; None where it is not known."""
    source = next((str(v.name) for v in node.inputs if v is not None and v.name in positions), None)
    result = shapes.get(str(node.outputs[0].name))
    if source is None or source not in shapes or not result:
        return None
    before, position = shapes[source], positions[source]
    if node.op_type in RESHAPING:
        return _position_after_reshape(before, result, position)
    axis = position.axis
    if node.op_type == "Transpose":
        return _BatchPosition(permutation(node, len(result)).index(axis), position.elements_before)
    if len(result) < len(before):
        axes = removed_axes(node, len(before))
        if axis in axes:
            return None
        return _BatchPosition(axis - sum(i < axis for i in axes), position.elements_before)
    return _BatchPosition(axis + len(result) - len(before), position.elements_before)


def _position_after_reshape(before: Sizes, result: Sizes, position: _BatchPosition) -> _BatchPosition | None:
    count_before = prod(before[: position.axis]) * position.elements_before
    starts = [i for i in range(len(result) + 1) if prod(result[:i]) == count_before]
    if not starts:
        return None
    unit_axes = [i for i in starts if i < len(result) and result[i] == 1]
    if unit_axes:
        return _BatchPosition(unit_axes[0])
    unchanged_sizes = {prod(before[position.axis + 1 : end]) for end in range(position.axis + 2, len(before) + 1)}
    # [tokens, batch, heads, depth] → [tokens · batch, heads · depth]: axes that stay unchanged do not take the batch.
    merges_with_previous = starts[0] > 0 and (starts[0] == len(result) or result[starts[0]] in unchanged_sizes)
    if merges_with_previous:
        return _BatchPosition(starts[0] - 1, count_before // prod(result[: starts[0] - 1]))
    return _BatchPosition(starts[0])


def _make_reshape_dynamic(graph: ir.Graph, node: ir.Node, result: Sizes, axis: int) -> None:
    """Leave the batch to be inferred. Sizes that are computed, as from the sizes of a padded image, become numbers."""
    sizes = array_of(node.inputs[1])
    if sizes is not None and (len(sizes) != len(result) or sizes[axis] in (0, -1)):
        return
    dynamic_sizes = np.array(result, dtype=np.int64)
    dynamic_sizes[axis] = -1
    node.replace_input_with(1, initializer(graph, f"freed/{node.outputs[0].name}", dynamic_sizes))


def _make_concat_dynamic(graph: ir.Graph, node: ir.Node, shapes: Mapping[str, Sizes], axis: int) -> None:
    """Expand operands that do not depend on the image over the batch, if they are concatenated along another axis."""
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
        expansion = tape.op("Expand", [value, sizes])
        graph.insert_before(node, tape.nodes)
        node.replace_input_with(index, expansion)
