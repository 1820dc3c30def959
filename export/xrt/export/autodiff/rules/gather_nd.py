"""Operators that select by index in several axes, or by rank: advanced indexing, assignment to a part, top-k."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from xrt.export.autodiff.rules.scatter_adjoint import scatter_axis
from xrt.export.autodiff.table import Call, vjp
from xrt.export.ir.emitter import Tensor
from xrt.export.ir.shapes import Batch, broadcast
from xrt.runtime.errors import ModelError


@vjp("GatherND")
def _gather_nd(call: Call) -> Sequence[Tensor | None]:
    """The indexed axes are merged into one, and the cotangent of each selected element goes back to its position."""
    if call.attribute("batch_dims", 0):
        raise ModelError(f"node {call.node.name!r}: no gradient rule for GatherND with batch_dims: index one axis")
    emit, positions, sizes = call.emit, *_flat_indices(call)
    axes = call.x(1).rank - 1
    g = emit.expand_axes(call.g, (call.g.shape[0], *call.outputs[0].shape), range(1, 1 + axes))
    rest = g.shape[1 + axes :]
    g = scatter_axis(emit, emit.reshape(g, (g.shape[0], len(positions), *rest)), 1, positions, prod(sizes))
    return [emit.reshape(g, (g.shape[0], *(sizes if g.shape[1] != 1 else [1] * len(sizes)), *rest))]


@vjp("ScatterND")
def _scatter_nd(call: Call) -> Sequence[Tensor | None]:
    """The update gets the cotangent of its positions, and the overwritten elements get none."""
    emit, positions, sizes = call.emit, *_flat_indices(call)
    reduction, depth = call.attribute("reduction", "none"), len(sizes)
    if reduction not in ("none", "add"):
        raise ModelError(f"node {call.node.name!r}: no gradient rule for ScatterND with reduction {reduction!r}")
    if reduction == "none" and len(set(positions.tolist())) < len(positions):
        raise ModelError(f"node {call.node.name!r}: ScatterND writes to one position twice, in undefined order")
    g = call.g
    results: list[Tensor | None] = [None, None, None]
    if call.needed[0]:
        mask = np.ones(prod(sizes), dtype=np.float32)
        mask[positions] = 0.0 if reduction == "none" else 1.0
        weights = emit.constant(mask.reshape(*sizes, *(1 for _ in call.outputs[0].shape[depth:])))
        results[0] = g if reduction == "add" else emit("Mul", g, weights)
    if call.needed[2]:
        g = emit.expand_axes(g, (g.shape[0], *call.outputs[0].shape), range(1, 1 + depth))
        rest = g.shape[1 + depth :]
        g = emit.reshape(g, (g.shape[0], prod(sizes), *rest))
        g = emit("Gather", g, emit.constant(positions), shape=(g.shape[0], len(positions), *rest), axis=1)
        results[2] = emit.reshape(g, (g.shape[0], *call.x(1).shape[:-1], *rest))
    return results


def _flat_indices(call: Call) -> tuple[np.ndarray, list[int]]:
    """The positions of constant indices [.., m], numbered over the first m axes of the data, and these axes' sizes."""
    indices = call.x(1).array
    if indices is None:
        raise ModelError(
            f"node {call.node.name!r} selects at indices computed at run time: choose a later --target-layer"
        )
    sizes = call.input_shape()[: indices.shape[-1]]
    if any(isinstance(size, Batch) for size in sizes):
        raise ModelError(
            f"node {call.node.name!r}: {call.node.op_type} along the batch: keep images apart in the model"
        )
    extents = [int(size) for size in sizes]  # type: ignore[arg-type]
    columns = [indices[..., i].reshape(-1) % extent for i, extent in enumerate(extents)]
    return np.ravel_multi_index(columns, extents).astype(np.int64), extents


@vjp("TopK")
def _top_k(call: Call) -> Sequence[Tensor | None]:
    """The cotangent of each of the k goes back to its element: a product with the one-hot [k, size]."""
    emit, g, rank = call.emit, call.g, call.x().rank
    axis = call.attribute("axis", -1) % rank
    size = call.input_shape()[axis]
    if isinstance(size, Batch):
        raise ModelError(f"node {call.node.name!r}: TopK along the batch: keep images apart in the model")
    last = [*(i for i in range(rank) if i != axis), axis]
    indices = emit.transpose(call.outputs[1], last)
    columns = emit.reshape(indices, (*indices.shape, 1))
    is_index = emit("Equal", columns, emit.constant(np.arange(size)))
    one_hot = emit("Cast", is_index, to=1)
    g = emit.transpose(g, [0, *(1 + i for i in last)])
    rows = emit.reshape(g, (*g.shape[:-1], 1, g.shape[-1]))
    if rows.shape[-1] == 1:
        g = emit("Mul", rows, emit.reduce("ReduceSum", one_hot, [rank - 1]))
    else:
        lead = broadcast(rows.shape[:-2], one_hot.shape[:-2])
        g = emit("MatMul", rows, one_hot, shape=(*lead, 1, size))
    g = emit.reshape(g, (*g.shape[:-2], size))
    return [emit.transpose(g, [0, *(1 + last.index(i) for i in range(rank))])]
