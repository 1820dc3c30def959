"""Operators that select by index in several axes, or by rank: advanced indexing, assignment to a part, top-k."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from xrt.export.autodiff.rules.scatter_adjoint import one_hot, pad, scatter_axis, scatter_computed
from xrt.export.autodiff.table import Call, vjp
from xrt.export.ir.emitter import Tensor
from xrt.export.ir.shapes import Batch, Shape, broadcast, merge_axes
from xrt.runtime.errors import ModelError


@vjp("GatherND")
def _gather_nd(call: Call) -> Sequence[Tensor | None]:
    """The indexed axes are merged into one, and the cotangent of each selected element goes back to its position."""
    if call.attribute("batch_dims", 0) or call.x(1).array is None:
        return [_gathered_at_run_time(call)]
    emit, positions, sizes = call.emit, *_flat_indices(call)
    axes = call.x(1).rank - 1
    g = emit.expand_axes(call.g, (call.g.shape[0], *call.outputs[0].shape), range(1, 1 + axes))
    rest = g.shape[1 + axes :]
    g = scatter_axis(emit, emit.reshape(g, (g.shape[0], len(positions), *rest)), 1, positions, prod(sizes))
    return [emit.reshape(g, (g.shape[0], *(sizes if g.shape[1] != 1 else [1] * len(sizes)), *rest))]


def _gathered_at_run_time(call: Call) -> Tensor:
    """The cotangents, multiplied by the one-hot of the indices over the indexed axes, which are merged into one."""
    emit, indices, lead = call.emit, call.x(1), call.attribute("batch_dims", 0)
    data, depth = call.input_shape(), int(indices.shape[-1])  # type: ignore[arg-type]
    sizes, rest = _fixed(call, data[lead : lead + depth]), data[lead + depth :]
    flat: Tensor | None = None
    for i, size in enumerate(sizes):
        column = emit("Gather", indices, emit.constant(np.array(i)), shape=indices.shape[:-1], axis=indices.rank - 1)
        part = column if flat is None else emit("Add", emit("Mul", flat, emit.constant(np.array(size))), column)
        flat = part
    if flat is None:
        raise ModelError(f"node {call.node.name!r}: GatherND without an indexed axis")
    selected = merge_axes(flat.shape[lead:])
    hot = one_hot(emit, emit.reshape(flat, (*flat.shape[:lead], selected)), prod(sizes))
    order = [*range(lead), lead + 1, lead]
    g = emit.expand_axes(call.g, (call.g.shape[0], *call.outputs[0].shape), range(1 + lead, call.g.rank))
    g = emit.reshape(g, (*g.shape[: 1 + lead], selected, merge_axes(rest)))
    transposed = emit.transpose(hot, order)
    lead_shape = broadcast(g.shape[:-2], transposed.shape[:-2])
    product = emit("MatMul", transposed, g, shape=(*lead_shape, prod(sizes), merge_axes(rest)))
    return emit.reshape(product, (*product.shape[:-2], *sizes, *rest))


def _fixed(call: Call, sizes: Shape) -> list[int]:
    """Sizes without the batch. Raises ModelError when it is among them."""
    if any(isinstance(size, Batch) for size in sizes):
        raise ModelError(
            f"node {call.node.name!r}: {call.node.op_type} along the batch: keep images apart in the model"
        )
    return [int(size) for size in sizes]  # type: ignore[arg-type]


@vjp("GatherElements")
def _gather_elements(call: Call) -> Sequence[Tensor | None]:
    """Each cotangent goes back to the element that was taken; elements beyond the indices' extent get none."""
    emit, data, indices = call.emit, call.input_shape(), call.x(1)
    axis = call.attribute("axis", 0) % len(data)
    (size,) = _fixed(call, data[axis : axis + 1])
    beyond = _beyond(call, data, indices.shape, axis)
    g = emit.expand_axes(call.g, (call.g.shape[0], *call.outputs[0].shape), [1 + i for i in beyond])
    g = scatter_computed(emit, g, indices, axis, size)
    return [pad(emit, g, {1 + i: (0, extent) for i, extent in beyond.items()})]


@vjp("ScatterElements")
def _scatter_elements(call: Call) -> Sequence[Tensor | None]:
    """The update gets the cotangent of its position; an element that was written over gets none."""
    emit, data, indices = call.emit, call.input_shape(), call.x(1)
    reduction = call.attribute("reduction", "none")
    if reduction not in ("none", "add"):
        raise ModelError(f"node {call.node.name!r}: no gradient rule for ScatterElements with reduction {reduction!r}")
    axis = call.attribute("axis", 0) % len(data)
    (size,) = _fixed(call, data[axis : axis + 1])
    g = call.g
    results: list[Tensor | None] = [None, None, None]
    if call.needed[0] and reduction == "add":
        results[0] = g
    elif call.needed[0]:
        last = [*(i for i in range(indices.rank) if i != axis), axis]
        hot = one_hot(emit, emit.transpose(indices, last), size)
        written = emit.reduce("ReduceMax", hot, [indices.rank - 1])
        written = emit.reshape(written, (*written.shape[:-2], size))
        written = emit.transpose(written, [last.index(i) for i in range(indices.rank)])
        written = pad(emit, written, {i: (0, extent) for i, extent in _beyond(call, data, indices.shape, axis).items()})
        results[0] = emit("Mul", g, emit("Sub", emit.constant(1.0, "float32"), written))
    if call.needed[2]:
        g = emit.expand_axes(g, (g.shape[0], *data), range(1, g.rank))
        places = emit.reshape(indices, (1, *indices.shape))
        places = emit.expand_axes(places, (g.shape[0], *indices.shape), [0])
        results[2] = emit("GatherElements", g, places, shape=places.shape, axis=1 + axis)
    return results


def _beyond(call: Call, data: Shape, indices: Shape, axis: int) -> dict[int, int]:
    """By axis, how much further the data reach than the indices."""
    differing = [i for i in range(len(data)) if i != axis and data[i] != indices[i]]
    return {
        i: size - other
        for i, size, other in zip(
            differing,
            _fixed(call, tuple(data[i] for i in differing)),
            _fixed(call, tuple(indices[i] for i in differing)),
            strict=True,
        )
    }


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
    extents = _fixed(call, call.input_shape()[: indices.shape[-1]])
    columns = [indices[..., i].reshape(-1) % extent for i, extent in enumerate(extents)]
    return np.ravel_multi_index(columns, extents).astype(np.int64), extents


@vjp("TopK")
def _top_k(call: Call) -> Sequence[Tensor | None]:
    """The cotangent of each of the k goes back to its element: a product with the one-hot [k, size]."""
    emit, rank = call.emit, call.x().rank
    axis = call.attribute("axis", -1) % rank
    size = call.input_shape()[axis]
    if isinstance(size, Batch):
        raise ModelError(f"node {call.node.name!r}: TopK along the batch: keep images apart in the model")
    return [scatter_computed(emit, call.g, call.outputs[1], axis, size)]
