"""Operators that move elements without changing them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xrt.export.autodiff.emitter import Batch, Dim, Shape, Tensor
from xrt.export.autodiff.rules.broadcasting import reduce_to
from xrt.export.autodiff.rules.placing import cut
from xrt.export.autodiff.table import Call, vjp
from xrt.runtime.errors import ModelError


@vjp("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def _reshape(call: Call) -> Sequence[Tensor | None]:
    """Axes fall into groups that map onto each other; a group along which the cotangent is constant stays so."""
    before, after, g = call.input_shape(), call.outputs[0].shape, call.g
    shape: list[Dim] = [g.shape[0]]
    for old, new in axis_groups(before, after):
        held = [g.shape[1 + axis] for axis in new]
        if all(d == 1 for d in held):
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
        results.append(cut(call.emit, call.g, axis + 1, start, start + size) if needed else None)
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
    """Split the axes behind the batch, permute, and merge them to the input's shape."""
    emit = call.emit
    g = emit.expand_axes(call.g, (call.g.shape[0], *call.outputs[0].shape), [2, 3, 4])
    moved = emit.transpose(emit.reshape(g, (*g.shape[:2], *split)), order)
    return emit.reshape(moved, (*g.shape[:2], *call.input_shape()[1:]))


def axis_groups(before: Shape, after: Shape) -> list[tuple[list[int], list[int]]]:
    """Split two shapes of equally many elements into the shortest runs of axes that hold equally many each."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        start = i, j
        old, new = before[i : i + 1], after[j : j + 1]
        if old == new:
            i, j = i + 1, j + 1
        elif old == (1,):
            i += 1
        elif new == (1,):
            j += 1
        else:
            i, j = _run(before, after, i, j)
        groups.append((list(range(start[0], i)), list(range(start[1], j))))
    return groups


def _run(before: Shape, after: Shape, i: int, j: int) -> tuple[int, int]:
    """Where the runs that start at axes i and j first hold equally many elements: the shorter one grows."""
    left, right = _count(before[i : i + 1]), _count(after[j : j + 1])
    i, j = i + 1, j + 1
    while left != right:
        if (left < right and i < len(before)) or j == len(after):
            left = _times(left, before[i])
            i += 1
        else:
            right = _times(right, after[j])
            j += 1
    return i, j


def _count(dims: Shape) -> tuple[int, int]:
    """How many elements: the power of the batch, and the factor before it."""
    count = (0, 1)
    for dim in dims:
        count = _times(count, dim)
    return count


def _times(count: tuple[int, int], dim: Dim) -> tuple[int, int]:
    power, factor = count
    return (power + 1, factor * dim.multiple) if isinstance(dim, Batch) else (power, factor * dim)
