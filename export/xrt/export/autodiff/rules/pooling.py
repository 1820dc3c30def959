"""Spatial pooling."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from xrt.export.autodiff.emitter import Batch, Emitter, Tensor
from xrt.export.autodiff.rules.linear import explicit_pads
from xrt.export.autodiff.table import Call, vjp
from xrt.runtime.errors import ModelError


@vjp("AveragePool")
def _average_pool(call: Call) -> Sequence[Tensor | None]:
    """A depthwise spread: every window's share goes back to each of its elements."""
    window = _Windows(call)
    emit, g = call.emit, window.spread(call.g)
    share = emit.constant(window.shares(), "float32")
    return [window.collect([emit("Mul", g, share)] * len(window.offsets))]


@vjp("MaxPool")
def _max_pool(call: Call) -> Sequence[Tensor | None]:
    """To the first maximum of each window, as torch does; TensorRT has no pooling indices, so by comparison.

    The input is cut into one shifted, strided view for each kernel position; the views are visited in order, and
    the first that equals the window's maximum takes the cotangent.
    """
    window = _Windows(call)
    emit, g = call.emit, window.spread(call.g)
    zero = emit.constant(0.0, "float32")
    padded = window.pad_input(call.x())
    free: Tensor | None = None
    parts = []
    for offset in window.offsets:
        hit = emit("Equal", window.view(padded, offset), call.outputs[0])
        taken = hit if free is None else emit("And", hit, free)
        free = emit("Not", hit) if free is None else emit("And", free, emit("Not", hit))
        parts.append(emit("Where", taken, g, zero))
    return [window.collect(parts)]


class _Windows:
    """The geometry of a pooling node, and moving between windows and positions.

    Position p of the padded input is reached from window o at kernel offset k as p = o·stride + k·dilation.
    """

    def __init__(self, call: Call) -> None:
        self.call, self.emit = call, call.emit
        self.kernel = list(call.attribute("kernel_shape"))
        axes = len(self.kernel)
        self.strides = list(call.attribute("strides") or [1] * axes)
        self.dilations = list(call.attribute("dilations") or [1] * axes)
        reach = [d * (k - 1) + 1 for d, k in zip(self.dilations, self.kernel, strict=True)]
        self.pads = explicit_pads(call, reach, self.strides)
        sizes, results = call.input_shape()[2:], call.outputs[0].shape[2:]
        if any(isinstance(d, Batch) for d in (*sizes, *results)):
            raise ModelError(f"node {call.node.name!r} has dynamic spatial sizes: export with fixed ones")
        self.sizes, self.results = [int(d) for d in sizes], [int(d) for d in results]
        # With ceil_mode the last window may reach beyond the declared padding.
        self.extents = [
            max(self.pads[i] + size + self.pads[i + axes], (result - 1) * self.strides[i] + reach[i])
            for i, (size, result) in enumerate(zip(self.sizes, self.results, strict=True))
        ]
        self.offsets = list(product(*(range(k) for k in self.kernel)))

    def spread(self, g: Tensor) -> Tensor:
        """The cotangent with its extent at every window: windows differ in what they share out."""
        full = (g.shape[0], *self.call.outputs[0].shape)
        return self.emit.expand_axes(g, full, range(3, g.rank))

    def shares(self) -> np.ndarray:
        """One over the number of elements that each window averages, [windows…]."""
        axes = len(self.kernel)
        if self.call.attribute("count_include_pad", 0):
            # Positions beyond the declared padding, which ceil_mode reaches, never count.
            low, high = [0] * axes, [self.pads[i] + self.sizes[i] + self.pads[i + axes] for i in range(axes)]
        else:
            low, high = self.pads[:axes], [self.pads[i] + self.sizes[i] for i in range(axes)]
        count = np.ones((1,) * axes)
        for i in range(axes):
            at = np.arange(self.results[i])[:, None] * self.strides[i] + np.arange(self.kernel[i]) * self.dilations[i]
            inside = ((at >= low[i]) & (at < high[i])).sum(axis=1)
            count = count * inside.reshape((1,) * i + (-1,) + (1,) * (axes - i - 1))
        return 1.0 / np.maximum(count, 1)

    def pad_input(self, x: Tensor) -> Tensor:
        """The forward input inside its padding, filled with a value below any maximum."""
        axes = len(self.kernel)
        begins = self.pads[:axes]
        ends = [self.extents[i] - begins[i] - self.sizes[i] for i in range(axes)]
        return _pad(self.emit, x, begins, ends, float(np.finfo(np.float32).min))

    def view(self, padded: Tensor, offset: tuple[int, ...]) -> Tensor:
        """The element of every window at one kernel offset, [n, K, windows…]."""
        starts = [k * d for k, d in zip(offset, self.dilations, strict=True)]
        ends = [s + (r - 1) * t + 1 for s, r, t in zip(starts, self.results, self.strides, strict=True)]
        axes = [padded.rank - len(starts) + i for i in range(len(starts))]
        bounds = [self.emit.constant(values, "int64") for values in (starts, ends, axes, self.strides)]
        return self.emit("Slice", padded, *bounds, shape=(*padded.shape[: -len(starts)], *self.results))

    def collect(self, parts: list[Tensor]) -> Tensor:
        """Put each kernel offset's parts [C, n, K, windows…] back at their positions, sum, and cut the padding."""
        total: Tensor | None = None
        for offset, part in zip(self.offsets, parts, strict=True):
            stretched = self._dilate(part)
            begins = [k * d for k, d in zip(offset, self.dilations, strict=True)]
            ends = [
                e - b - int(s) for e, b, s in zip(self.extents, begins, stretched.shape[-len(begins) :], strict=True)
            ]
            placed = _pad(self.emit, stretched, begins, ends, 0.0)
            total = placed if total is None else self.emit("Add", total, placed)
        assert total is not None
        axes = len(self.kernel)
        starts, sizes = self.pads[:axes], self.sizes
        if all(s == 0 for s in starts) and list(total.shape[-axes:]) == sizes:
            return total
        bounds = [
            starts,
            [s + n for s, n in zip(starts, sizes, strict=True)],
            [total.rank - axes + i for i in range(axes)],
        ]
        tensors = [self.emit.constant(values, "int64") for values in bounds]
        return self.emit("Slice", total, *tensors, shape=(*total.shape[:-axes], *sizes))

    def _dilate(self, part: Tensor) -> Tensor:
        """Put stride - 1 zeros behind every element of the spatial axes (none behind the last)."""
        emit = self.emit
        for i, stride in enumerate(self.strides):
            if stride == 1:
                continue
            axis = part.rank - len(self.strides) + i
            size = int(part.shape[axis])
            # [.., s, ..] → [.., s, 1, ..] → pad the new axis → [.., s·stride, ..] → drop the tail of zeros.
            split = emit.reshape(part, (*part.shape[: axis + 1], 1, *part.shape[axis + 1 :]))
            behind = [0] * (split.rank - axis - 1)
            filled = _pad(emit, split, behind, [stride - 1, *behind[1:]], 0.0)
            merged = emit.reshape(filled, (*part.shape[:axis], size * stride, *part.shape[axis + 1 :]))
            bounds = [emit.constant([value], "int64") for value in (0, (size - 1) * stride + 1, axis)]
            shape = (*part.shape[:axis], (size - 1) * stride + 1, *part.shape[axis + 1 :])
            part = emit("Slice", merged, *bounds, shape=shape)
        return part


def _pad(emit: Emitter, x: Tensor, begins: Sequence[int], ends: Sequence[int], value: float) -> Tensor:
    """Pad the last axes of a tensor with a constant."""
    if not any(begins) and not any(ends):
        return x
    lead = x.rank - len(begins)
    pads = emit.constant([0] * lead + list(begins) + [0] * lead + list(ends), "int64")
    sizes = [int(d) + b + e for d, b, e in zip(x.shape[lead:], begins, ends, strict=True)]
    return emit("Pad", x, pads, emit.constant(value, "float32"), shape=(*x.shape[:lead], *sizes), mode="constant")
