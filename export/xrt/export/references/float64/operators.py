"""Operators that ONNX's reference evaluator (1.23) gets wrong, or computes in float32 for every input.

The tests of the gradient rules compare ONNX Runtime's forward results with these as well.
"""

# OpRun passes every attribute of the operator's schema: the defaults None in the signatures are not used.
# pyright: reportArgumentType=false, reportCallIssue=false, reportOptionalOperand=false, reportOperatorIssue=false

from __future__ import annotations

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from onnx.reference.op_run import OpRun


class ConvTranspose(OpRun):
    """torch's, since that of ONNX's reference evaluator rejects groups of more than one channel."""

    op_domain = ""

    def _run(
        self, x, w, b=None, auto_pad=None, dilations=None, group=None, kernel_shape=None, output_padding=None,
        output_shape=None, pads=None, strides=None,
    ):  # fmt: skip
        axes = x.ndim - 2
        strides, dilations = strides or [1] * axes, dilations or [1] * axes
        extra, pads = output_padding or [0] * axes, pads or [0] * (2 * axes)
        convolve = [torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d][axes - 1]
        full = convolve(torch.tensor(x), torch.tensor(w), None, strides, groups=group, dilation=dilations)
        # torch has one padding for both sides, so the result is cut here; output_padding extends the end.
        full = torch.nn.functional.pad(full, [n for e in reversed(extra) for n in (0, e)])
        if output_shape or auto_pad not in (None, "NOTSET", "VALID"):
            sizes = output_shape or [s * d for s, d in zip(strides, x.shape[2:], strict=True)]
            totals = [n - o for n, o in zip(full.shape[2:], sizes, strict=True)]
            small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
            pads = small + large if auto_pad == "SAME_UPPER" else large + small
        inside = tuple(slice(pads[i], full.shape[2 + i] - pads[i + axes]) for i in range(axes))
        result = full.numpy()[(..., *inside)]
        return (result if b is None else result + b.reshape((-1,) + (1,) * axes),)


class Erf(OpRun):
    """torch's, since that of ONNX's reference evaluator rounds to float32."""

    op_domain = ""

    def _run(self, x):
        return (torch.special.erf(torch.tensor(x)).numpy(),)


class GatherElements(OpRun):
    """torch's, since that of ONNX's reference evaluator takes no indices of a smaller extent than the data."""

    op_domain = ""

    def _run(self, x, indices, axis=None):
        axis = (axis or 0) % x.ndim
        places = torch.tensor(np.where(indices < 0, indices + x.shape[axis], indices))
        return (torch.gather(torch.tensor(x), axis, places).numpy(),)


class GlobalLpPool(OpRun):
    """From the definition: ONNX's reference evaluator has none."""

    op_domain = ""

    def _run(self, x, p=None):
        axes = tuple(range(2, x.ndim))
        return ((np.abs(x) ** p).sum(axes, keepdims=True) ** (1 / p),)


class Gelu(OpRun):
    """torch's, since ONNX's reference evaluator expands it into Erf or float32 constants."""

    op_domain = ""

    def _run(self, x, approximate=None):
        return (torch.nn.functional.gelu(torch.tensor(x), approximate=approximate or "none").numpy(),)


class LpNormalization(OpRun):
    """torch's, since ONNX's reference evaluator takes no absolute values for p = 1."""

    op_domain = ""

    def _run(self, x, axis=None, p=None):
        return (torch.nn.functional.normalize(torch.tensor(x), p=p or 2, dim=-1 if axis is None else axis).numpy(),)


class MeanVarianceNormalization(OpRun):
    """From the definition, since ONNX's reference evaluator expands it with float32 constants."""

    op_domain = ""

    def _run(self, x, axes=None):
        axes = tuple(axes or (0, 2, 3))
        return ((x - x.mean(axes, keepdims=True)) / x.std(axes, keepdims=True),)


class Pad(OpRun):
    """numpy's, after cutting, since ONNX's reference evaluator rejects negative padding."""

    op_domain = ""

    def _run(self, x, pads, value=None, axes=None, mode=None):
        axes = list(range(x.ndim)) if axes is None else [axis % x.ndim for axis in axes]
        widths = [(0, 0)] * x.ndim
        for i, axis in enumerate(axes):
            widths[axis] = (int(pads[i]), int(pads[i + len(axes)]))
        part = x[tuple(slice(max(0, -a), d + min(0, b)) for (a, b), d in zip(widths, x.shape, strict=True))]
        additions = [(max(0, a), max(0, b)) for a, b in widths]
        options = {"constant_values": 0 if value is None else value.item()} if mode in (None, "constant") else {}
        return (np.pad(part, additions, mode=mode or "constant", **options),)


class Mean(OpRun):
    """Not in place, so that a later operand may have the larger shape."""

    op_domain = ""

    def _run(self, *xs):
        return (sum(xs[1:], start=xs[0]) / len(xs),)


class GroupNormalization(OpRun):
    """From the definition: from opset 21 on ONNX's reference evaluator expands it with casts to float32."""

    op_domain = ""

    def _run(self, x, scale, bias, epsilon=None, num_groups=None, stash_type=None):
        groups = x.reshape(x.shape[0], num_groups, -1)
        difference = groups - groups.mean(axis=2, keepdims=True)
        normal = (difference / np.sqrt(difference.var(axis=2, keepdims=True) + epsilon)).reshape(x.shape)
        scale, bias = (
            np.repeat(v, x.shape[1] // len(v)).reshape((-1,) + (1,) * (x.ndim - 2)) for v in (scale, bias)
        )  # fmt: skip
        return (normal * scale + bias,)


class LRN(OpRun):
    """With a window for each channel: ONNX's reference evaluator takes their number from the batch size."""

    op_domain = ""

    def _run(self, x, alpha=None, beta=None, bias=None, size=None):
        before, after = (size - 1) // 2, size // 2
        windows = [(x[:, max(0, c - before) : c + after + 1] ** 2).sum(axis=1) for c in range(x.shape[1])]
        return (x / (bias + alpha / size * np.stack(windows, axis=1)) ** beta,)


class GlobalMaxPool(OpRun):
    """Over all spatial axes: ONNX's reference evaluator is right for two of them only."""

    op_domain = ""

    def _run(self, x):
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


def padding(x, auto_pad, pads, kernel, strides):
    """The padding of a pooling without dilation, `auto_pad` resolved."""
    if auto_pad in (None, "NOTSET", "VALID"):
        return pads or [0] * (2 * len(kernel))
    totals = [
        max(0, (-(-d // s) - 1) * s + k - d)
        for d, k, s in zip(x.shape[2:], kernel, strides or [1] * len(kernel), strict=True)
    ]
    small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return small + large if auto_pad == "SAME_UPPER" else large + small


def reduce_windows(x, reduce, fill, kernel, strides, dilations, pads, ceil_mode):
    """Reduce every window of a padded input.

    With ceil_mode ONNX's reference evaluator also pads at the start, which moves the windows, and with a stride of one
    it pads MaxPool wrongly.
    """
    axes = len(kernel)
    strides, dilations, pads = strides or [1] * axes, dilations or [1] * axes, pads or [0] * (2 * axes)
    widths, counts = [(0, 0), (0, 0)], []
    for i in range(axes):
        reach, size = dilations[i] * (kernel[i] - 1) + 1, x.shape[2 + i]
        free = size + pads[i] + pads[i + axes] - reach
        count = (-(-free // strides[i]) if ceil_mode else free // strides[i]) + 1
        counts.append(count)
        widths.append((pads[i], max(0, (count - 1) * strides[i] + reach - size - pads[i])))
    result = np.pad(x, widths, constant_values=fill)
    for i in range(axes):
        reach = dilations[i] * (kernel[i] - 1) + 1
        view = sliding_window_view(result, reach, axis=2 + i)[..., :: dilations[i]]
        result = reduce(np.take(view, np.arange(counts[i]) * strides[i], axis=2 + i), axis=-1)
    return result


class MaxPool(OpRun):
    """See `reduce_windows`."""

    op_domain = ""

    def _run(
        self, x, auto_pad=None, ceil_mode=None, dilations=None, kernel_shape=None, pads=None, storage_order=None,
        strides=None,
    ):  # fmt: skip
        pads = padding(x, auto_pad, pads, kernel_shape, strides)
        return (reduce_windows(x, np.max, -np.inf, kernel_shape, strides, dilations, pads, ceil_mode),)


class AveragePool(OpRun):
    """See `reduce_windows`. The declared padding may count; what ceil_mode adds to it never does."""

    op_domain = ""

    def _run(
        self, x, auto_pad=None, ceil_mode=None, count_include_pad=None, dilations=None, kernel_shape=None, pads=None,
        strides=None,
    ):  # fmt: skip
        axes = len(kernel_shape)
        pads = padding(x, auto_pad, pads, kernel_shape, strides)
        borders = [(0, 0), (0, 0), *((pads[i], pads[i + axes]) for i in range(axes))]
        weights = np.pad(np.ones_like(x), borders, constant_values=float(count_include_pad or 0))
        x, no_pads = np.pad(x, borders), [0] * (2 * axes)
        total, count = (
            reduce_windows(part, np.sum, 0.0, kernel_shape, strides, dilations, no_pads, ceil_mode)
            for part in (x, weights)
        )
        return (total / count,)


class LpPool(OpRun):
    """See `reduce_windows`: of |x|^p, then the root."""

    op_domain = ""

    def _run(
        self, x, auto_pad=None, ceil_mode=None, dilations=None, kernel_shape=None, p=None, pads=None, strides=None
    ):
        pads = padding(x, auto_pad, pads, kernel_shape, strides)
        total = reduce_windows(np.abs(x) ** p, np.sum, 0.0, kernel_shape, strides, dilations, pads, ceil_mode)
        return (total ** (1 / p),)


OPERATORS: list[type[OpRun]] = [
    AveragePool, ConvTranspose, Erf, GatherElements, Gelu, GlobalLpPool, GlobalMaxPool, GroupNormalization, LRN,
    LpNormalization, LpPool, MaxPool, Mean,
    MeanVarianceNormalization, Pad,
]  # fmt: skip
