"""Reductions: the cotangent is constant along the reduced axes, so nothing is expanded."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from xrt.export.autodiff.rules.formula import Term, of_cotangent, of_input, where
from xrt.export.autodiff.table import Call, vjp
from xrt.export.ir.emitter import Tensor
from xrt.export.ir.shapes import Batch
from xrt.runtime.errors import ModelError


@vjp("ReduceSum")
def _reduce_sum(call: Call) -> Sequence[Tensor | None]:
    return [_cotangent(call).tensor]


@vjp("ReduceMean")
def _reduce_mean(call: Call) -> Sequence[Tensor | None]:
    extents = [call.input_shape()[axis] for axis in _axes(call)]
    if any(isinstance(extent, Batch) for extent in extents):
        raise ModelError(f"node {call.node.name!r} averages over a dynamic size: export with static spatial sizes")
    return [(_cotangent(call) / prod(e for e in extents if isinstance(e, int))).tensor]


@vjp("ReduceMax", "ReduceMin")
def _reduce_extremum(call: Call) -> Sequence[Tensor | None]:
    """Shared equally between the elements that are the extremum, as torch's amax does."""
    is_extremum = of_input(call).equals(_result(call)).cast()
    count = Term(call.emit, call.emit.reduce("ReduceSum", is_extremum.tensor, _axes(call)))
    return [(_cotangent(call) * (is_extremum / count)).tensor]


@vjp("ReduceL1")
def _reduce_l1(call: Call) -> Sequence[Tensor | None]:
    return [(_cotangent(call) * of_input(call).apply("Sign")).tensor]


@vjp("ReduceL2")
def _reduce_l2(call: Call) -> Sequence[Tensor | None]:
    """g x / ‖x‖, and 0 at the origin, as in torch."""
    norm = _result(call)
    return [(_cotangent(call) / where(norm > 0, norm, 1.0) * of_input(call)).tensor]


@vjp("ReduceSumSquare")
def _reduce_sum_square(call: Call) -> Sequence[Tensor | None]:
    return [(_cotangent(call) * 2.0 * of_input(call)).tensor]


@vjp("ReduceLogSum")
def _reduce_log_sum(call: Call) -> Sequence[Tensor | None]:
    """g / Σ x, where the sum is the exponential of the result."""
    return [(_cotangent(call) * (-_result(call)).apply("Exp")).tensor]


@vjp("ReduceLogSumExp")
def _reduce_log_sum_exp(call: Call) -> Sequence[Tensor | None]:
    """g exp(x - y), whose exponent is never positive."""
    return [(_cotangent(call) * (of_input(call) - _result(call)).apply("Exp")).tensor]


@vjp("ReduceProd")
def _reduce_prod(call: Call) -> Sequence[Tensor | None]:
    """The product of the other elements: that of all without zeros, divided; 0 where another element is zero."""
    emit, x, axes = call.emit, of_input(call), _axes(call)
    zero = x.equals(0.0)
    safe, ones = where(zero, 1.0, x), zero.cast()
    product = Term(emit, emit.reduce("ReduceProd", safe.tensor, axes))
    others = Term(emit, emit.reduce("ReduceSum", ones.tensor, axes)) - ones
    return [(_cotangent(call) * where(others > 0, 0.0, product / safe)).tensor]


@vjp("GlobalAveragePool")
def _global_average_pool(call: Call) -> Sequence[Tensor | None]:
    return [(of_cotangent(call) / prod(call.spatial_sizes())).tensor]


@vjp("GlobalMaxPool")
def _global_max_pool(call: Call) -> Sequence[Tensor | None]:
    """To the first maximum, as torch's adaptive_max_pool2d does.

    Runtimes differ in ArgMax at ties, so positions are numbered and the lowest number is used.
    """
    emit, sizes = call.emit, call.spatial_sizes()
    order = Term(emit, emit.constant(np.arange(prod(sizes), dtype=np.float32).reshape(sizes)))
    positions = where(of_input(call).equals(Term(emit, call.outputs[0])), order, float(prod(sizes)))
    first = Term(emit, emit.reduce("ReduceMin", positions.tensor, range(2, positions.tensor.rank)))
    return [where(positions.equals(first), of_cotangent(call), 0.0).tensor]


def _axes(call: Call) -> list[int]:
    """The reduced axes of the forward input; an attribute up to opset 17 (12 for ReduceSum), an input since."""
    rank = len(call.input_shape())
    axes = call.integers("axes", 1)
    if not axes:
        return [] if call.attribute("noop_with_empty_axes", 0) else list(range(rank))
    return sorted(axis % rank for axis in axes)


def _result(call: Call) -> Term:
    """The result with the reduced axes put back as size 1."""
    axes = _axes(call)
    shape = tuple(1 if i in axes else d for i, d in enumerate(call.input_shape()))
    return Term(call.emit, call.emit.reshape(call.outputs[0], shape))


def _cotangent(call: Call) -> Term:
    """The cotangent with the reduced axes put back as size 1."""
    if call.attribute("keepdims", 1):
        return of_cotangent(call)
    axes = set(_axes(call))
    dims = iter(call.g.shape[1:])
    shape = (call.g.shape[0], *(1 if axis in axes else next(dims) for axis in range(len(call.input_shape()))))
    return Term(call.emit, call.emit.reshape(call.g, shape))
