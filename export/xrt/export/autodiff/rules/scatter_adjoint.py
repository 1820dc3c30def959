"""Linear maps along one axis of a cotangent, and their adjoints."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial, reduce

import numpy as np

from xrt.export.ir.emitter import Emitter, Tensor
from xrt.export.ir.shapes import broadcast, merge_axes

_MAX_GATHERS = 4
"""Elements that are selected more often than this are summed by a matrix product."""


def scatter_axis(emit: Emitter, g: Tensor, axis: int, indices: np.ndarray, size: int) -> Tensor:
    """The adjoint of selecting `indices` along an axis of extent `size`: cotangents go back and add up.

    No scatter operator works on every runtime, and the indices are known. So it is a padding where they are contiguous,
    a weight for each position where the cotangent is constant, and otherwise a gather: position j reads the cotangent
    of the output that selected it, or a zero.
    """
    counts = np.bincount(indices, minlength=size)
    if g.shape[axis] == 1 and len(indices) != 1:
        return scale_axis(emit, g, axis, counts)
    first = int(indices[0])
    if np.array_equal(indices, np.arange(first, first + len(indices))):
        return pad(emit, g, {axis: (first, size - first - len(indices))})
    if counts.max() > _MAX_GATHERS:
        return contract_axis(emit, g, axis, np.eye(size, dtype=np.float32)[indices])
    order = np.argsort(indices, kind="stable")
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    if (counts == counts[0]).all():
        rounds = [order[starts + k] for k in range(counts[0])]
    else:
        g = pad(emit, g, {axis: (0, 1)})
        order = np.append(order, [len(indices)] * int(counts.max()))
        rounds = [np.where(counts > k, order[starts + k], len(indices)) for k in range(counts.max())]
    shape = (*g.shape[:axis], size, *g.shape[axis + 1 :])
    parts = [emit("Gather", g, emit.constant(sources, "int64"), shape=shape, axis=axis) for sources in rounds]
    return reduce(partial(emit, "Add"), parts)


def scatter_computed(emit: Emitter, g: Tensor, indices: Tensor, axis: int, size: int) -> Tensor:
    """The adjoint of taking, at every position, the element `indices` along an axis of extent `size`.

    The indices [like the forward output, without the class axis] may be computed at run time: a product with the
    one-hot [k, size] of each row.
    """
    rank = indices.rank
    last = [*(i for i in range(rank) if i != axis), axis]
    is_index = one_hot(emit, emit.transpose(indices, last), size)
    g = emit.transpose(g, [0, *(1 + i for i in last)])
    rows = emit.reshape(g, (*g.shape[:-1], 1, g.shape[-1]))
    if rows.shape[-1] == 1:
        g = emit("Mul", rows, emit.reduce("ReduceSum", is_index, [rank - 1]))
    else:
        lead = broadcast(rows.shape[:-2], is_index.shape[:-2])
        g = emit("MatMul", rows, is_index, shape=(*lead, 1, size))
    g = emit.reshape(g, (*g.shape[:-2], size))
    return emit.transpose(g, [0, *(1 + last.index(i) for i in range(rank))])


def one_hot(emit: Emitter, indices: Tensor, size: int) -> Tensor:
    """1.0 where a further last axis, of extent `size`, is at the index; negative indices count from the end."""
    columns = emit.reshape(indices, (*indices.shape, 1))
    if indices.array is None or (indices.array < 0).any():
        zero, end = (emit.constant(np.array(value, dtype=np.int64)) for value in (0, size))
        columns = emit("Where", emit("Less", columns, zero), emit("Add", columns, end), columns)
    return emit("Cast", emit("Equal", columns, emit.constant(np.arange(size))), to=1)


def scale_axis(emit: Emitter, g: Tensor, axis: int, weights: np.ndarray) -> Tensor:
    """Multiply by weights along an axis; equal weights keep a constant axis constant."""
    if (weights == weights.flat[0]).all():
        weights = weights[:1]
    if weights.size == 1 and weights.item() == 1:
        return g
    weights = weights.reshape((-1,) + (1,) * (g.rank - axis - 1))
    return emit("Mul", g, emit.constant(weights, "float32"))


def contract_axis(emit: Emitter, g: Tensor, axis: int, matrix: np.ndarray) -> Tensor:
    """Multiply by a matrix [o, i] along an axis, from extent o to i. A constant axis needs only the column sums."""
    rows, columns = matrix.shape
    if g.shape[axis] == 1:
        return scale_axis(emit, g, axis, _equalise(matrix.sum(axis=0)))
    if g.shape[axis] != rows:
        raise ValueError(f"a matrix of {rows} rows cannot contract an axis of {g.shape[axis]}")
    shape = (*g.shape[:axis], columns, *g.shape[axis + 1 :])
    if axis == g.rank - 1:
        return emit("MatMul", g, emit.constant(matrix, "float32"), shape=shape)
    # From the left, with all later axes merge_axes.
    rest = merge_axes(g.shape[axis + 1 :])
    flat = emit.reshape(g, (*g.shape[: axis + 1], rest))
    product = emit(
        "MatMul", emit.constant(np.ascontiguousarray(matrix.T), "float32"), flat, shape=(*g.shape[:axis], columns, rest)
    )
    return emit.reshape(product, shape)


def _equalise(sums: np.ndarray) -> np.ndarray:
    """Make column sums equal that differ only by rounding."""
    return np.full_like(sums, sums.mean()) if np.ptp(sums) < 1e-6 * np.abs(sums).max() else sums


def pad(emit: Emitter, x: Tensor, widths: Mapping[int, tuple[int, int]], value: float = 0.0) -> Tensor:
    """Put a constant before and after the elements of some axes."""
    if not any(any(width) for width in widths.values()):
        return x
    pairs = [widths.get(axis, (0, 0)) for axis in range(x.rank)]
    pads = emit.constant([before for before, _ in pairs] + [after for _, after in pairs], "int64")
    # A size that is not padded may be the batch.
    shape = tuple(int(d) + sum(pair) if any(pair) else d for d, pair in zip(x.shape, pairs, strict=True))  # type: ignore[arg-type]
    return emit("Pad", x, pads, emit.constant(value, "float32"), shape=shape, mode="constant")


def slice_axis(emit: Emitter, g: Tensor, axis: int, start: int, end: int) -> Tensor:
    """The part [start, end) along an axis; all of it where it is constant there."""
    if g.shape[axis] == 1 or (start == 0 and end == g.shape[axis]):
        return g
    bounds = [emit.constant([value], "int64") for value in (start, end, axis)]
    return emit("Slice", g, *bounds, shape=(*g.shape[:axis], end - start, *g.shape[axis + 1 :]))
