"""Spatial pooling over windows. Window o covers position p of the input at kernel offset k where
p = o · stride + k · dilation - padding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xrt.export.autodiff.rules.convolution import explicit_pads
from xrt.export.autodiff.rules.formula import Term, of_cotangent, of_input, of_output, where
from xrt.export.autodiff.rules.scatter_adjoint import contract_axis, pad, scatter_axis, slice_axis
from xrt.export.autodiff.table import Call, vjp
from xrt.export.ir.emitter import Tensor
from xrt.export.ir.shapes import Batch
from xrt.runtime.errors import ModelError


@vjp("AveragePool")
def _average_pool(call: Call) -> Sequence[Tensor | None]:
    """A mean over a window is a product of means along each axis, and so a matrix for each axis.

    Where every position has the same total weight, as without overlap, a constant axis stays constant.
    """
    windows, g = _Windows(call), call.g
    for i in range(windows.axes):
        g = contract_axis(call.emit, g, 3 + i, windows.means(i))
    return [g]


@vjp("LpPool")
def _lp_pool(call: Call) -> Sequence[Tensor | None]:
    """(Σ|x|^p)^(1/p) over a window: g · y^(1-p) summed over the windows of each position, times |x|^(p-1) · sign(x)."""
    windows, power = _Windows(call), int(call.attribute("p", 2))
    share = of_cotangent(call) * _norm_share(of_output(call), power)
    g = call.emit.expand_axes(share.tensor, (call.g.shape[0], *call.outputs[0].shape), range(3, call.g.rank))
    for i in range(windows.axes):
        g = contract_axis(call.emit, g, 3 + i, windows.sums(i))
    return [(Term(call.emit, g) * _norm_slope(of_input(call), power)).tensor]


@vjp("GlobalLpPool")
def _global_lp_pool(call: Call) -> Sequence[Tensor | None]:
    """The same over all positions."""
    power = int(call.attribute("p", 2))
    share = of_cotangent(call) * _norm_share(of_output(call), power)
    return [(share * _norm_slope(of_input(call), power)).tensor]


def _norm_share(norm: Term, power: int) -> Term | float:
    """y^(1-p), and 0 for a norm of 0, of which every element is 0."""
    if power == 1:
        return 1.0
    positive = norm > 0.0
    return where(positive, 1.0 / where(positive, norm, 1.0) ** (power - 1), 0.0)


def _norm_slope(x: Term, power: int) -> Term:
    """|x|^(p-1) · sign(x)."""
    if power == 2:
        return x
    return x.apply("Sign") * x.apply("Abs") ** (power - 1) if power > 1 else x.apply("Sign")


@vjp("MaxPool")
def _max_pool(call: Call) -> Sequence[Tensor | None]:
    """To the first maximum of each window, as torch does; found by comparison, because TensorRT has no pooling indices.

    The input is cut into one shifted, strided view for each kernel position; the views are visited in order, and
    the first that equals the window's maximum gets the cotangent.
    """
    windows = _Windows(call)
    emit, g = call.emit, windows.expand(call.g)
    peak = Term(emit, call.outputs[0])
    padded_input = windows.pad_input(call.x())
    remaining: Term | None = None
    parts = []
    for offset in np.ndindex(*windows.kernel):
        is_peak = Term(emit, windows.view(padded_input, offset)).equals(peak)
        is_first = is_peak if remaining is None else is_peak.apply("And", remaining)
        remaining = is_peak.apply("Not") if remaining is None else remaining.apply("And", is_peak.apply("Not"))
        parts.append(where(is_first, Term(emit, g), 0.0).tensor)
    return [windows.collect(parts)]


class _Windows:
    """The geometry of a pooling node."""

    def __init__(self, call: Call) -> None:
        self.call, self.emit = call, call.emit
        self.kernel: list[int] = list(call.attribute("kernel_shape"))
        self.axes = len(self.kernel)
        self.strides: list[int] = list(call.attribute("strides") or [1] * self.axes)
        self.dilations: list[int] = list(call.attribute("dilations") or [1] * self.axes)
        self.reach = [d * (k - 1) + 1 for d, k in zip(self.dilations, self.kernel, strict=True)]
        self.pads = explicit_pads(call, self.reach, self.strides)
        self.sizes = call.spatial_sizes()
        results = call.outputs[0].shape[2:]
        if any(isinstance(d, Batch) for d in results):
            raise ModelError(f"node {call.node.name!r} has dynamic spatial sizes: export with fixed ones")
        self.results = [d for d in results if isinstance(d, int)]

    def positions(self, i: int, offset: int) -> np.ndarray:
        """The input position of every window at a kernel offset along spatial axis i; out of range in the padding."""
        return np.arange(self.results[i]) * self.strides[i] + offset * self.dilations[i] - self.pads[i]

    def sums(self, i: int) -> np.ndarray:
        """The matrix [windows, positions] of the sum along spatial axis i."""
        matrix = np.zeros((self.results[i], self.sizes[i]))
        for k in range(self.kernel[i]):
            positions = self.positions(i, k)
            inside = (positions >= 0) & (positions < self.sizes[i])
            matrix[np.flatnonzero(inside), positions[inside]] += 1
        return matrix

    def means(self, i: int) -> np.ndarray:
        """The matrix [windows, positions] of the mean along spatial axis i."""
        counts = np.zeros(self.results[i])
        # Positions beyond the declared padding, which ceil_mode adds, never count.
        margin = (self.pads[i], self.pads[i + self.axes]) if self.call.attribute("count_include_pad", 0) else (0, 0)
        for k in range(self.kernel[i]):
            positions = self.positions(i, k)
            counts += (positions >= -margin[0]) & (positions < self.sizes[i] + margin[1])
        return self.sums(i) / counts[:, None]

    def expand(self, g: Tensor) -> Tensor:
        """The cotangent expanded to every window: windows differ in the element that gets it."""
        full = (g.shape[0], *self.call.outputs[0].shape)
        return self.emit.expand_axes(g, full, range(3, g.rank))

    def pad_input(self, x: Tensor) -> Tensor:
        """The forward input with its padding, filled with a value below any maximum."""
        widths = {}
        for i, (size, result) in enumerate(zip(self.sizes, self.results, strict=True)):
            # With ceil_mode the last window may reach beyond the declared padding.
            last = (result - 1) * self.strides[i] + self.reach[i] - self.pads[i]
            widths[2 + i] = (self.pads[i], max(0, last - size))
        return pad(self.emit, x, widths, float(np.finfo(np.float32).min))

    def view(self, padded_input: Tensor, offset: tuple[int, ...]) -> Tensor:
        """The element of every window at one kernel offset, [n, K, windows…]."""
        starts = [k * d for k, d in zip(offset, self.dilations, strict=True)]
        ends = [s + (r - 1) * t + 1 for s, r, t in zip(starts, self.results, self.strides, strict=True)]
        bounds = [self.emit.constant(b, "int64") for b in (starts, ends, range(2, padded_input.rank), self.strides)]
        return self.emit("Slice", padded_input, *bounds, shape=(*padded_input.shape[:2], *self.results))

    def collect(self, parts: Sequence[Tensor]) -> Tensor:
        """Put each kernel offset's part [C, n, K, windows…] back at its positions, and sum.

        The last axis first: its offsets are summed before those of the axis before it.
        """
        for i in reversed(range(self.axes)):
            width = self.kernel[i]
            terms = [self._place(part, i, k % width) for k, part in enumerate(parts)]
            parts = [self._sum(terms[k : k + width]) for k in range(0, len(terms), width)]
        return parts[0]

    def _place(self, part: Tensor, i: int, offset: int) -> Tensor | None:
        """A part at its positions along spatial axis i; None where all of them are padding."""
        positions = self.positions(i, offset)
        inside = np.flatnonzero((positions >= 0) & (positions < self.sizes[i]))
        if not len(inside):
            return None
        part = slice_axis(self.emit, part, 3 + i, int(inside[0]), int(inside[-1]) + 1)
        return scatter_axis(self.emit, part, 3 + i, positions[inside], self.sizes[i])

    def _sum(self, parts: Sequence[Tensor | None]) -> Tensor:
        terms = [part for part in parts if part is not None]
        total = terms[0]
        for part in terms[1:]:
            total = self.emit("Add", total, part)
        return total
