"""Normalisation layers.

Means and deviations are computed again, because fused forward nodes do not output them. The rules contain means only,
because a mean along a constant axis needs no extent.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xrt.export.autodiff.rules.formula import Term, of_cotangent, of_input, where
from xrt.export.autodiff.rules.scatter_adjoint import contract_axis
from xrt.export.autodiff.table import Call, vjp
from xrt.export.ir.emitter import Tensor
from xrt.export.ir.shapes import Batch, fixed_size
from xrt.runtime.errors import ModelError


@vjp("BatchNormalization")
def _batch_normalization(call: Call) -> Sequence[Tensor | None]:
    """Inference form: a per-channel factor, scale / sqrt(variance + epsilon), known at export time."""
    scale, variance = call.x(1).array, call.x(4).array
    if scale is None or variance is None or call.attribute("training_mode", 0):
        raise ModelError(f"node {call.node.name!r}: batch normalisation must have constant statistics: export in eval")
    factor = scale / np.sqrt(variance + np.float32(call.attribute("epsilon", 1e-5)))
    return [call.emit("Mul", call.g, call.emit.constant(_per_channel(call, factor), scale.dtype))]


@vjp("LayerNormalization")
def _layer_normalization(call: Call) -> Sequence[Tensor | None]:
    _require_first_only(call)
    rank = len(call.input_shape())
    axes = list(range(call.attribute("axis", -1) % rank, rank))
    g = of_cotangent(call) * of_input(call, 1)
    return [_standardisation_cotangent(g, of_input(call), axes, call.attribute("epsilon", 1e-5)).tensor]


@vjp("InstanceNormalization")
def _instance_normalization(call: Call) -> Sequence[Tensor | None]:
    _require_first_only(call)
    g = of_cotangent(call) * Term(call.emit, call.emit.constant(_per_channel(call, _scale(call)), "float32"))
    axes = list(range(2, len(call.input_shape())))
    return [_standardisation_cotangent(g, of_input(call), axes, call.attribute("epsilon", 1e-5)).tensor]


@vjp("GroupNormalization")
def _group_normalization(call: Call) -> Sequence[Tensor | None]:
    """Channels of a group share their statistics. The scale is per group up to opset 20, then per channel."""
    _require_first_only(call)
    emit, groups, x = call.emit, call.attribute("num_groups"), call.x()
    n, channels, *sizes = call.input_shape()
    channels = fixed_size(channels)
    scale = _scale(call)
    if len(scale) != channels:
        scale = np.repeat(scale, channels // groups)
    g = emit("Mul", call.g, emit.constant(_per_channel(call, scale), "float32"))
    g_groups = emit.reshape(g, (*g.shape[:2], groups, channels // groups, *g.shape[3:]))
    x_groups = emit.reshape(x, (n, groups, channels // groups, *sizes))
    axes = list(range(2, x_groups.rank))
    dx = _standardisation_cotangent(
        Term(emit, g_groups), Term(emit, x_groups), axes, call.attribute("epsilon", 1e-5)
    ).tensor
    return [emit.reshape(dx, (*dx.shape[:2], *call.input_shape()[1:]))]


@vjp("MeanVarianceNormalization")
def _mean_variance_normalization(call: Call) -> Sequence[Tensor | None]:
    axes = [axis % len(call.input_shape()) for axis in call.attribute("axes", [0, 2, 3])]
    if any(isinstance(call.input_shape()[axis], Batch) for axis in axes):
        raise ModelError(f"node {call.node.name!r} normalises over the batch: remove axis 0 from its axes")
    # The operator adds 1e-9 to the deviation, not to the variance.
    return [_standardisation_cotangent(of_cotangent(call), of_input(call), axes, 1e-18).tensor]


@vjp("LpNormalization")
def _lp_normalization(call: Call) -> Sequence[Tensor | None]:
    """y = x / ‖x‖: (g - y Σ g y) / ‖x‖ for p = 2, (g - sign(x) Σ g y) / ‖x‖ for p = 1; 0 at the origin."""
    emit, g, x = call.emit, of_cotangent(call), of_input(call)
    axis = call.attribute("axis", -1) % len(call.input_shape())
    euclidean = call.attribute("p", 2) == 2
    norm = Term(emit, emit.reduce("ReduceL2" if euclidean else "ReduceL1", x.tensor, [axis]))
    reciprocal = where(norm > 0, 1 / norm, 0.0)
    y = x * reciprocal
    projection = (g * y).reduce_sum((g.shape[0], *call.input_shape()), [1 + axis])
    return [((g - (y if euclidean else x.apply("Sign")) * projection) * reciprocal).tensor]


@vjp("LRN")
def _lrn(call: Call) -> Sequence[Tensor | None]:
    """y = x D^(-β), D = bias + α/size · W x² with W the windows over channels.

    dx = g D^(-β) - 2 α β/size · x Wᵀ(g x D^(-β-1)).
    """
    emit, g, x = call.emit, of_cotangent(call), of_input(call)
    size, beta = call.attribute("size"), call.attribute("beta", 0.75)
    alpha = call.attribute("alpha", 1e-4) / size
    channels = fixed_size(call.input_shape()[1])
    offset = np.arange(channels)[:, None] - np.arange(channels)
    window = ((offset >= -((size - 1) // 2)) & (offset <= size // 2)).astype(np.float32)  # [from, to]
    squares = Term(emit, contract_axis(emit, (x * x).tensor, 1, window))
    base = squares * alpha + call.attribute("bias", 1.0)
    power = base.apply("Pow", -beta)
    adjoint = contract_axis(emit, (g * (x * power / base)).tensor, 2, np.ascontiguousarray(window.T))
    return [(g * power - x * (2 * alpha * beta) * Term(emit, adjoint)).tensor]


def _standardisation_cotangent(g: Term, x: Term, axes: Sequence[int], epsilon: float) -> Term:
    """The cotangent of x, where g is that of x̂ = (x - mean) / sqrt(variance + epsilon) over `axes`.

    It is s (g - mean(g) - x̂ mean(g x̂)) with s the reciprocal of the deviation.
    """
    difference = x - x.mean(axes)
    s = 1 / ((difference * difference).mean(axes) + epsilon).apply("Sqrt")
    x_hat = difference * s
    g_axes = [1 + axis for axis in axes]
    return (g - g.mean(g_axes) - x_hat * (g * x_hat).mean(g_axes)) * s


def _per_channel(call: Call, values: np.ndarray) -> np.ndarray:
    """A vector over channels, shaped to broadcast against the cotangent."""
    return values.reshape((-1,) + (1,) * (len(call.input_shape()) - 2))


def _scale(call: Call) -> np.ndarray:
    scale = call.x(1).array
    if scale is None:
        raise ModelError(f"node {call.node.name!r}: the scale of {call.node.op_type} must be constant")
    return scale


def _require_first_only(call: Call) -> None:
    """Raise ModelError when gradients are needed for another input, or come from another output, than the first."""
    if any(call.needed[1:]) or any(g is not None for g in call.cotangents[1:]):
        raise ModelError(
            f"node {call.node.name!r}: {call.node.op_type} with a computed scale, or whose statistics are used: choose "
            "a later --target-layer"
        )
