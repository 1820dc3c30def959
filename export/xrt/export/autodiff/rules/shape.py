"""Operators that move elements without changing them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xrt.export.autodiff.rules.broadcasting import reduce_to
from xrt.export.autodiff.rules.scatter_adjoint import slice_axis
from xrt.export.autodiff.table import Call, vjp
from xrt.export.ir.axis_groups import axis_groups
from xrt.export.ir.emitter import Tensor
from xrt.export.ir.shapes import Batch, Dim, Shape
from xrt.runtime.errors import ModelError


@vjp("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def _reshape(call: Call) -> Sequence[Tensor | None]:
    """Axes form groups that map onto each other; a group along which the cotangent is constant stays constant."""
    before, after, g = call.input_shape(), call.outputs[0].shape, call.g
    shape: list[Dim] = [g.shape[0]]
    for old, new in axis_groups(before, after):
        sizes = [g.shape[1 + axis] for axis in new]
        if all(d == 1 for d in sizes):
            shape += [1] * len(old)
        else:
            g = call.emit.expand_axes(g, (g.shape[0], *after), [1 + axis for axis in new])
            shape += [before[axis] for axis in old]
    return [call.emit.reshape(g, tuple(shape))]


@vjp("Transpose")
def _transpose(call: Call) -> Sequence[Tensor | None]:
    order = call.attribute("perm") or list(reversed(range(len(call.input_shape()))))
    return [call.emit.transpose(call.g, [0, *(1 + int(i) for i in np.argsort(order))])]


@vjp("Concat")
def _concat(call: Call) -> Sequence[Tensor | None]:
    axis = call.attribute("axis") % len(call.outputs[0].shape)
    start = 0
    results: list[Tensor | None] = []
    for index, needed in enumerate(call.needed):
        size = call.input_shape(index)[axis]
        if isinstance(size, Batch):
            raise ModelError(f"node {call.node.name!r} concatenates along a dynamic size")
        results.append(slice_axis(call.emit, call.g, axis + 1, start, start + size) if needed else None)
        start += size
    return results


@vjp("Expand")
def _expand(call: Call) -> Sequence[Tensor | None]:
    return [reduce_to(call.emit, call.g, call.outputs[0].shape, call.input_shape())]


@vjp("DepthToSpace")
def _depth_to_space(call: Call) -> Sequence[Tensor | None]:
    """Channels hold [block, block, depth], or [depth, block, block] in the mode CRD; the latter is pixel shuffling."""
    b, (_, channels, h, w) = call.attribute("blocksize"), call.input_shape()
    order = [0, 1, 4, 6, 2, 3, 5] if call.attribute("mode", "DCR") == "DCR" else [0, 1, 2, 4, 6, 3, 5]
    return [_shuffle(call, (channels // b**2, h, b, w, b), order)]  # type: ignore[operator]


@vjp("SpaceToDepth")
def _space_to_depth(call: Call) -> Sequence[Tensor | None]:
    b, (_, channels, h, w) = call.attribute("blocksize"), call.input_shape()
    return [_shuffle(call, (b, b, channels, h // b, w // b), [0, 1, 4, 5, 2, 6, 3])]  # type: ignore[operator]


def _shuffle(call: Call, split: Shape, order: Sequence[int]) -> Tensor:
    """Split the axes after the batch, permute, and merge them to the input's shape."""
    emit = call.emit
    g = emit.expand_axes(call.g, (call.g.shape[0], *call.outputs[0].shape), [2, 3, 4])
    result = emit.transpose(emit.reshape(g, (*g.shape[:2], *split)), order)
    return emit.reshape(result, (*g.shape[:2], *call.input_shape()[1:]))
