"""Which axes of a value are positions on the image.

A grid cannot be recognised by its size: 256 hidden units, 18 queries or a covariance matrix make a square as well. So
positions are followed from the image through the graph. Convolutions and poolings keep them; a product with weights
loses those of the axis it mixes, a ranking those of the axis it ranks; attention takes its rows from the queries and
loses the columns; a reshape keeps them where it splits or merges only positions and the batch, as window
partitions do. A reshape that merges them with channels, as in group normalisation, is remembered until another one
restores the shape.
"""

from __future__ import annotations

import onnx_ir as ir

from xrt.export.ir.attributes import permutation, removed_axes
from xrt.export.ir.axis_groups import axis_groups
from xrt.export.ir.constants import array_of
from xrt.export.ir.einsum import einsum_letters
from xrt.export.ir.operators import RESHAPING
from xrt.export.ir.shapes import Shape, shape_of
from xrt.runtime.errors import ModelError

_SPATIAL = {
    "AveragePool", "Conv", "ConvTranspose", "DepthToSpace", "GlobalAveragePool",
    "GlobalMaxPool", "MaxPool", "SpaceToDepth",
}  # fmt: skip

Axes = frozenset[int]


def spatial_axes(graph: ir.Graph) -> dict[ir.Value, Axes]:
    """The axes of each value that are positions on the image, the graph's first input [n, C, H, W]."""
    positions: dict[ir.Value, Axes] = {graph.inputs[0]: frozenset({2, 3})}
    merges: dict[ir.Value, tuple[Shape, Axes]] = {}
    for node in graph:
        sources = [v for v in node.inputs if v in positions]
        if not sources:
            continue
        for output in node.outputs:
            try:
                shape = shape_of(output)
                axes = _axes_after(node, positions, shape)
            except ModelError:
                continue
            axes |= _restored_axes(node, output, shape, axes, positions, merges)
            positions[output] = frozenset(axis for axis in axes if axis < len(shape) and shape[axis] != 1)
    return positions


def _restored_axes(
    node: ir.Node,
    output: ir.Value,
    shape: Shape,
    axes: Axes,
    positions: dict[ir.Value, Axes],
    merges: dict[ir.Value, tuple[Shape, Axes]],
) -> Axes:
    """The axes that a reshape restores.

    `merges` has, by value, the shape and axes before an earlier merge; it is updated.
    """
    source = node.inputs[0]
    if source is None or source not in positions:
        return frozenset()
    if node.op_type in RESHAPING:
        before, spatial = merges.get(source, (shape_of(source), positions[source]))
        if before == shape:
            return spatial
        if spatial and not axes:
            merges[output] = before, spatial
    elif source in merges and shape_of(source) == shape:
        merges[output] = merges[source]
    return frozenset()


def _axes_after(node: ir.Node, positions: dict[ir.Value, Axes], shape: Shape) -> Axes:
    source = node.inputs[0]
    spatial = positions.get(source, frozenset()) if source is not None else frozenset()
    rank = len(shape)
    if node.op_type in _SPATIAL:
        # Patches may be convolved one by one, with their places in the batch axis.
        return frozenset(range(2, rank)) | (spatial & {0}) if spatial else frozenset()
    if node.op_type == "Transpose":
        return frozenset(new for new, old in enumerate(permutation(node, rank)) if old in spatial)
    if node.op_type in RESHAPING and source is not None:
        return _axes_after_reshape(shape_of(source), shape, spatial)
    if node.op_type == "MatMul":
        return _axes_after_matmul(node, positions, rank)
    if node.op_type == "Gemm":
        return spatial & {0}
    if node.op_type == "Einsum":
        return _axes_after_einsum(node, positions)
    if node.op_type == "TopK":
        return spatial - {node.attributes.get_int("axis", -1) % rank}
    if node.op_type == "Gather" and source is not None and len(shape_of(source)) < rank:
        return _axes_after_gather(node, len(shape_of(source)), rank, spatial)
    if source is not None and source in positions and len(shape_of(source)) > rank:
        return _axes_after_reduction(node, shape_of(source), shape, spatial)
    operands = [positions[v] for v in node.inputs if v in positions and len(shape_of(v)) == rank]
    return frozenset().union(*operands)


def _axes_after_reshape(before: Shape, after: Shape, spatial: Axes) -> Axes:
    result: set[int] = set()
    for old, new in axis_groups(before, after):
        long_axes = [axis for axis in old if before[axis] != 1]
        if any(axis in spatial for axis in long_axes) and all(axis in spatial or axis == 0 for axis in long_axes):
            result.update(new)
    return frozenset(result)


def _axes_after_gather(node: ir.Node, before: int, rank: int, spatial: Axes) -> Axes:
    """Indices of several axes cut one axis of positions into several, as an unfolding does."""
    axis, added = node.attributes.get_int("axis", 0) % before, rank - before
    kept = {a if a < axis else a + added for a in spatial if a != axis}
    return frozenset(kept | (set(range(axis, axis + added + 1)) if axis in spatial else set()))


def _axes_after_matmul(node: ir.Node, positions: dict[ir.Value, Axes], rank: int) -> Axes:
    """Leading axes of either operand, rows of the left one, columns of the right one."""
    result: set[int] = set()
    for value, own in zip(node.inputs, (rank - 2, rank - 1), strict=True):
        if value is None or value not in positions or array_of(value) is not None:
            continue
        lead = rank - len(shape_of(value))
        axes = {axis + lead for axis in positions[value]}
        result.update(axis for axis in axes if axis < rank - 2 or axis == own)
    return frozenset(result)


def _axes_after_einsum(node: ir.Node, positions: dict[ir.Value, Axes]) -> Axes:
    """The axes of the result whose letters are positions in an operand."""
    terms, result = einsum_letters(node.attributes.get_string("equation", ""))
    if "." in result:
        return frozenset()
    spatial = {
        term[axis]
        for term, value in zip(terms, node.inputs, strict=True)
        if value is not None
        for axis in positions.get(value, ())
        if axis < len(term)
    }
    return frozenset(axis for axis, letter in enumerate(result) if letter in spatial)


def _axes_after_reduction(node: ir.Node, before: Shape, after: Shape, spatial: Axes) -> Axes:
    """After a reduction or the choice of one index, which remove axes."""
    if not node.op_type.startswith(("Reduce", "Arg", "Gather")):
        return frozenset()
    axes = removed_axes(node, len(before))
    remaining = [axis for axis in range(len(before)) if axis not in axes]
    return frozenset(new for new, old in enumerate(remaining[: len(after)]) if old in spatial)
