"""Operators that move elements without changing them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xrt.export.autodiff.emitter import Batch, Dim, Shape, Tensor
from xrt.export.autodiff.table import Call, vjp
from xrt.runtime.errors import ModelError


@vjp("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def _reshape(call: Call) -> Sequence[Tensor | None]:
    """Axes fall into groups that map onto each other; a group along which the cotangent is constant stays so."""
    before, after, g = call.input_shape(), call.outputs[0].shape, call.g
    shape: list[Dim] = [g.shape[0]]
    for old, new in _groups(before, after):
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
        results.append(_cut(call, axis + 1, start, start + size) if needed else None)
        start += size
    return results


def _cut(call: Call, axis: int, start: int, end: int) -> Tensor:
    """The part [start, end) of the cotangent; all of it where it is constant along the axis."""
    g, emit = call.g, call.emit
    if g.shape[axis] == 1:
        return g
    bounds = [emit.constant([value], "int64") for value in (start, end, axis)]
    shape = (*g.shape[:axis], end - start, *g.shape[axis + 1 :])
    return emit("Slice", g, *bounds, shape=shape)


def _groups(before: Shape, after: Shape) -> list[tuple[list[int], list[int]]]:
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
