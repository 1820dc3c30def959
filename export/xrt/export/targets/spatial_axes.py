"""Which axes of a value still stand for positions on the image.

A grid cannot be told from its size: 256 hidden units, 18 queries or a covariance matrix make a square as well. So
positions are followed from the image through the graph. Convolutions and poolings keep them; a product with weights
loses those of the axis it mixes, a ranking those of the axis it ranks; attention takes its rows from the queries and
loses the columns; a reshape keeps them where it splits or joins positions alone, the batch included, as window
partitions do. A reshape that joins them with channels, as group normalisation is spelt, is remembered until one that
undoes it.
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
    """The axes of each value that stand for positions on the image, the graph's first input [n, C, H, W]."""
    known: dict[ir.Value, Axes] = {graph.inputs[0]: frozenset({2, 3})}
    joined: dict[ir.Value, tuple[Shape, Axes]] = {}
    for node in graph:
        sources = [v for v in node.inputs if v in known]
        if not sources:
            continue
        for output in node.outputs:
            try:
                shape = shape_of(output)
                axes = _of_node(node, known, shape)
            except ModelError:
                continue
            axes |= _remembered(node, output, shape, axes, known, joined)
            known[output] = frozenset(axis for axis in axes if axis < len(shape) and shape[axis] != 1)
    return known


def _remembered(
    node: ir.Node,
    output: ir.Value,
    shape: Shape,
    axes: Axes,
    known: dict[ir.Value, Axes],
    joined: dict[ir.Value, tuple[Shape, Axes]],
) -> Axes:
    """The axes that a reshape brings back; `joined` holds what earlier ones lost, by value, and is kept up."""
    source = node.inputs[0]
    if source is None or source not in known:
        return frozenset()
    if node.op_type in RESHAPING:
        before, spatial = joined.get(source, (shape_of(source), known[source]))
        if before == shape:
            return spatial
        if spatial and not axes:
            joined[output] = before, spatial
    elif source in joined and shape_of(source) == shape:
        joined[output] = joined[source]
    return frozenset()


def _of_node(node: ir.Node, known: dict[ir.Value, Axes], shape: Shape) -> Axes:
    source = node.inputs[0]
    spatial = known.get(source, frozenset()) if source is not None else frozenset()
    rank = len(shape)
    if node.op_type in _SPATIAL:
        return frozenset(range(2, rank)) if spatial else frozenset()
    if node.op_type == "Transpose":
        return frozenset(new for new, old in enumerate(permutation(node, rank)) if old in spatial)
    if node.op_type in RESHAPING and source is not None:
        return _reshaped(shape_of(source), shape, spatial)
    if node.op_type == "MatMul":
        return _product(node, known, rank)
    if node.op_type == "Gemm":
        return spatial & {0}
    if node.op_type == "Einsum":
        return _summed(node, known)
    if node.op_type == "TopK":
        return spatial - {node.attributes.get_int("axis", -1) % rank}
    if source is not None and source in known and len(shape_of(source)) > rank:
        return _removed(node, shape_of(source), shape, spatial)
    same = [known[v] for v in node.inputs if v in known and len(shape_of(v)) == rank]
    return frozenset().union(*same)


def _reshaped(before: Shape, after: Shape, spatial: Axes) -> Axes:
    kept: set[int] = set()
    for old, new in axis_groups(before, after):
        long = [axis for axis in old if before[axis] != 1]
        if any(axis in spatial for axis in long) and all(axis in spatial or axis == 0 for axis in long):
            kept.update(new)
    return frozenset(kept)


def _product(node: ir.Node, known: dict[ir.Value, Axes], rank: int) -> Axes:
    """Leading axes of either operand, rows of the left one, columns of the right one."""
    kept: set[int] = set()
    for value, own in zip(node.inputs, (rank - 2, rank - 1), strict=True):
        if value is None or value not in known or array_of(value) is not None:
            continue
        lead = rank - len(shape_of(value))
        axes = {axis + lead for axis in known[value]}
        kept.update(axis for axis in axes if axis < rank - 2 or axis == own)
    return frozenset(kept)


def _summed(node: ir.Node, known: dict[ir.Value, Axes]) -> Axes:
    """The letters of an Einstein sum that stand for positions in an operand and are left in the result."""
    terms, result = einsum_letters(node.attributes.get_string("equation", ""))
    if "." in result:
        return frozenset()
    spatial = {
        term[axis]
        for term, value in zip(terms, node.inputs, strict=True)
        if value is not None
        for axis in known.get(value, ())
        if axis < len(term)
    }
    return frozenset(axis for axis, letter in enumerate(result) if letter in spatial)


def _removed(node: ir.Node, before: Shape, after: Shape, spatial: Axes) -> Axes:
    """Behind a reduction or a choice of one index, which take axes away."""
    if not node.op_type.startswith(("Reduce", "Arg", "Gather")):
        return frozenset()
    gone = removed_axes(node, len(before))
    left = [axis for axis in range(len(before)) if axis not in gone]
    return frozenset(new for new, old in enumerate(left[: len(after)]) if old in spatial)
