"""Reductions: the cotangent is constant along what was reduced, so nothing is expanded."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import onnx_ir as ir

from xrt.export.autodiff.emitter import Batch, Tensor
from xrt.export.autodiff.table import Call, vjp
from xrt.runtime.errors import ModelError


@vjp("ReduceSum")
def _reduce_sum(call: Call) -> Sequence[Tensor | None]:
    return [_kept(call)]


@vjp("ReduceMean")
def _reduce_mean(call: Call) -> Sequence[Tensor | None]:
    extents = [call.input_shape()[axis] for axis in _axes(call)]
    if any(isinstance(extent, Batch) for extent in extents):
        raise ModelError(f"node {call.node.name!r} averages over a dynamic size: export with static spatial sizes")
    count = float(prod(e for e in extents if isinstance(e, int)))
    return [call.emit("Div", _kept(call), call.emit.constant(count, "float32"))]


@vjp("ReduceMax")
def _reduce_max(call: Call) -> Sequence[Tensor | None]:
    """Shared equally between the elements that are the maximum, as torch's amax has it."""
    emit, axes = call.emit, _axes(call)
    rank = len(call.input_shape())
    kept = tuple(1 if i in axes else d for i, d in enumerate(call.input_shape()))
    peak = emit.reshape(call.outputs[0], kept)
    hit = emit("Cast", emit("Equal", call.x(), peak), to=int(ir.DataType.FLOAT))
    count = emit.reduce("ReduceSum", hit, [axis % rank for axis in axes])
    return [emit("Mul", _kept(call), emit("Div", hit, count))]


@vjp("GlobalAveragePool")
def _global_average_pool(call: Call) -> Sequence[Tensor | None]:
    count = float(prod(call.spatial_sizes()))
    return [call.emit("Div", call.g, call.emit.constant(count, "float32"))]


def _axes(call: Call) -> list[int]:
    """The reduced axes of the forward input; an attribute up to opset 17, an input from 18 on."""
    rank = len(call.input_shape())
    given = call.attribute("axes")
    if given is None and len(call.inputs) > 1 and call.inputs[1] is not None:
        array = call.x(1).array
        if array is None:
            raise ModelError(f"node {call.node.name!r} reduces over axes computed at run time")
        given = array.tolist()
    if not given:
        return [] if call.attribute("noop_with_empty_axes", 0) else list(range(rank))
    return sorted(axis % rank for axis in given)


def _kept(call: Call) -> Tensor:
    """The cotangent with the reduced axes put back as size 1."""
    if call.attribute("keepdims", 1):
        return call.g
    axes = set(_axes(call))
    dims = iter(call.g.shape[1:])
    shape = (call.g.shape[0], *(1 if axis in axes else next(dims) for axis in range(len(call.input_shape()))))
    return call.emit.reshape(call.g, shape)
