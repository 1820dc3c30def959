"""The layout of an activation: which axis holds its channels, and where its positions are on the image.

Convolutions put channels at axis 1; window attention has them last; a vision transformer flattens the grid into
tokens, with class or register tokens beside it. `channel_axes` follows the channels from operator to operator, and
`activation_layout` reads the grid from the sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, prod

import onnx_ir as ir

from xrt.export.ir.attributes import permutation
from xrt.export.ir.constants import array_of
from xrt.export.ir.emitter import Emitter, Tensor
from xrt.export.ir.operators import RESHAPING
from xrt.export.ir.shapes import Batch, Shape, fixed_size, shape_of
from xrt.runtime.errors import ModelError

MAX_EXTRA_TOKENS = 16
"""Class, distillation and register tokens beside the grid."""

_CHANNELS_SECOND = {
    "BatchNormalization", "Conv", "ConvTranspose", "GroupNormalization", "InstanceNormalization",
}  # fmt: skip


@dataclass(frozen=True)
class ActivationLayout:
    """An activation [n, …] of `channels` on a grid of `height` by `width`.

    `channel_axis` is its axis of channels. Of rank 4 the other two axes are the grid; of rank 3 the other axis holds
    tokens: `offset` extra ones, the grid row by row, then any other extra tokens.
    """

    shape: Shape
    channel_axis: int
    height: int
    width: int
    offset: int = 0

    @property
    def channels(self) -> int:
        """The number of channels."""
        return fixed_size(self.shape[self.channel_axis])

    @property
    def map_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return self.channels, self.height, self.width

    @property
    def is_flattened_map(self) -> bool:
        """Whether it is [n, channels, h·w]: a map whose positions were joined for a pooling."""
        return len(self.shape) == 3 and self.channel_axis == 1

    @property
    def spatial_axes(self) -> frozenset[int]:
        """The axes that hold positions, by the layout; `spatial_axes.py` follows them through the graph."""
        return frozenset(range(1, len(self.shape))) - {self.channel_axis}

    def as_map(self, emit: Emitter, tensor: Tensor) -> Tensor:
        """The tensor [.., n, …] as a map [.., n, channels, height, width]; axes before the batch stay.

        Extra tokens are left out. Constant axes, which have size 1 in cotangents, stay constant.
        """
        lead = tensor.rank - len(self.shape)
        rest = [i for i in range(1, len(self.shape)) if i != self.channel_axis]
        order = [*range(lead + 1), lead + self.channel_axis, *(lead + i for i in rest)]
        tensor = emit.transpose(tensor, order)
        if len(rest) == 2:
            return tensor
        axis, cells, tokens = tensor.rank - 1, self.height * self.width, tensor.shape[-1]
        if tokens not in (1, cells):
            bounds = [emit.constant([v], "int64") for v in (self.offset, self.offset + cells, axis)]
            tensor = emit("Slice", tensor, *bounds, shape=(*tensor.shape[:-1], cells))
        grid = (1, 1) if tokens == 1 else (self.height, self.width)
        return emit.reshape(tensor, (*tensor.shape[:-1], *grid))


def find_layout(value: ir.Value, graph: ir.Graph, channel_axis: int | None) -> ActivationLayout | None:
    """The layout of an activation; None where it is not a map of the image, which is the first input of the graph."""
    try:
        shape, image = shape_of(value), shape_of(graph.inputs[0])
    except ModelError:
        return None
    rank = len(shape)
    if rank not in (3, 4) or shape[0] != Batch() or any(isinstance(d, Batch) for d in shape[1:]):
        return None
    axis = channel_axis or (1 if rank == 4 else 2)
    height, width = (int(d) for d in image[2:])  # type: ignore[arg-type]
    sizes = [d for i, d in enumerate(shape) if i not in (0, axis) and isinstance(d, int)]
    if rank == 4:
        return ActivationLayout(shape, axis, *sizes) if _fits(sizes[0], sizes[1], height, width) else None
    for extra_tokens in range(min(MAX_EXTRA_TOKENS, sizes[0] - 1) + 1):
        if grid := _grid(sizes[0] - extra_tokens, height, width):
            return ActivationLayout(shape, axis, *grid, _offset(graph, value, rank - axis, sizes[0], extra_tokens))
    return None


def channel_axes(graph: ir.Graph) -> dict[ir.Value, int]:
    """The channel axis of every value of the graph for which it is known."""
    axes = {graph.inputs[0]: 1}
    for node in graph:
        axis = _channel_axis(node, axes)
        if axis is not None:
            axes.update((output, axis) for output in node.outputs)
    return axes


def _channel_axis(node: ir.Node, axes: dict[ir.Value, int]) -> int | None:
    try:
        shape = shape_of(node.outputs[0])
        data = next((v for v in node.inputs if v in axes and len(shape_of(v)) == len(shape)), None)
    except ModelError:
        return None
    if node.op_type in _CHANNELS_SECOND:
        return 1
    if node.op_type == "Gemm":
        return len(shape) - 1
    if node.op_type == "MatMul":
        # Of two computed operands the right one gives the columns: the values that attention mixes.
        right = node.inputs[1]
        if right is None:
            return None
        columns = array_of(right) is not None or axes.get(right) == len(shape_of(right)) - 1
        return len(shape) - 1 if columns else None
    if node.op_type == "LayerNormalization":
        return len(shape) - 1 if node.attributes.get_int("axis", -1) in (-1, len(shape) - 1) else None
    source = node.inputs[0] if node.inputs else None
    if node.op_type in RESHAPING:
        if source is None or source not in axes:
            return None
        return _axis_after_reshape(shape_of(source), shape, axes[source])
    if node.op_type == "Transpose" and source in axes:
        return permutation(node, len(shape)).index(axes[source])
    return None if data is None else axes[data]


def _axis_after_reshape(before: Shape, after: Shape, axis: int) -> int | None:
    """The position of an axis after a reshape that does not split or merge it."""
    # With a prime for the batch, sizes can be compared as numbers.
    old, new = ([d.multiple * 10007 if isinstance(d, Batch) else d for d in s] for s in (before, after))
    for i, size in enumerate(new):
        if size == old[axis] and prod(new[:i]) == prod(old[:axis]) and (size != 1 or i == axis):
            return i
    return None


def _fits(rows: int, columns: int, height: int, width: int) -> bool:
    """Whether a grid has the image's proportions. Convolutions without padding lose one or two cells at the borders."""
    return rows <= height and columns <= width and abs(rows * width / height - columns) <= (2 if height != width else 0)


def _grid(cells: int, height: int, width: int) -> tuple[int, int] | None:
    """Rows and columns of a grid of `cells` cells in the image's proportions; None where there is none."""
    for rows in range(1, min(cells, height) + 1):
        if cells % rows == 0 and cells // rows in {floor(rows * width / height), ceil(rows * width / height)}:
            return rows, cells // rows
    return None


def _offset(graph: ir.Graph, value: ir.Value, axis: int, tokens: int, extra_tokens: int) -> int:
    """The number of extra tokens before the grid, from the concatenation that adds them."""
    offset = extra_tokens
    for node in graph:
        if node.op_type == "Concat" and extra_tokens:
            sizes = [v.shape[axis] for v in node.inputs if v is not None and v.shape is not None and len(v.shape) == 3]
            if (
                len(sizes) == len(node.inputs)
                and tokens - extra_tokens in sizes
                and sum(s for s in sizes if isinstance(s, int)) == tokens
            ):
                offset = sum(int(s) for s in sizes[: sizes.index(tokens - extra_tokens)])  # type: ignore[arg-type]
        if value in node.outputs:
            break
    return offset
