"""Convolutions: the cotangent is convolved with the flipped, transposed weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xrt.export.autodiff.rules.scatter_adjoint import slice_axis
from xrt.export.autodiff.table import Call, vjp
from xrt.export.ir.emitter import Tensor
from xrt.export.ir.shapes import Batch, Shape, merge_axes
from xrt.runtime.errors import ModelError


@vjp("Conv")
def _conv(call: Call) -> Sequence[Tensor | None]:
    """The cotangent convolved with flipped, transposed weights; class and batch are merge_axes into one axis for it.

    A stride needs ConvTranspose, and so does padding beyond the kernel. A 1×1 kernel mixes no positions, so a
    cotangent that is constant over them stays so.
    """
    emit, (weight, kernels), geometry = call.emit, _weight(call), _geometry(call)
    pointwise = geometry.pointwise and all(d == 1 for d in call.g.shape[3:])
    g, lead = _merge_class_and_batch(call, keep_positions=pointwise)
    target = (1,) * len(geometry.kernel) if pointwise else call.input_shape()[2:]
    shape = (g.shape[0], kernels.shape[1] * geometry.groups, *target)
    if geometry.plain:
        pads = [
            d * (k - 1) - p for d, k, p in zip(geometry.dilations * 2, geometry.kernel * 2, geometry.pads, strict=True)
        ]
        flipped_weight = emit.constant(_flip(kernels, geometry.groups))
        result = emit(
            "Conv", g, flipped_weight, shape=shape, group=geometry.groups, dilations=geometry.dilations, pads=pads,
            kernel_shape=geometry.kernel, strides=[1] * len(geometry.kernel),
        )  # fmt: skip
    else:
        result = emit(
            "ConvTranspose", g, weight, shape=shape, group=geometry.groups, dilations=geometry.dilations,
            pads=geometry.pads, kernel_shape=geometry.kernel, strides=geometry.strides,
            output_padding=geometry.remainder,
        )  # fmt: skip
    return [emit.reshape(result, (*lead, *result.shape[1:]))]


@vjp("ConvTranspose")
def _conv_transpose(call: Call) -> Sequence[Tensor | None]:
    """The adjoint of the adjoint: a convolution with the same weights, stride, dilation and padding."""
    emit, (weight, kernels) = call.emit, _weight(call)
    kernel, strides, dilations = _spacing(call)
    sizes, results = call.spatial_sizes(), _fixed_sizes(call, call.outputs[0].shape[2:])
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    pads = _transposed_pads(call, [(i - 1) * s + r for i, s, r in zip(sizes, strides, reach, strict=True)], results)
    g, lead = _merge_class_and_batch(call, keep_positions=False)
    axes = len(kernel)
    counts = [
        (o + pads[i] + pads[i + axes] - reach[i]) // strides[i] + 1 for i, o in enumerate(results)
    ]  # more than the input has where the output padding is a stride or more
    shape = (g.shape[0], kernels.shape[0], *counts)
    result = emit(
        "Conv", g, weight, shape=shape, group=call.attribute("group", 1), dilations=dilations, pads=pads,
        kernel_shape=kernel, strides=strides,
    )  # fmt: skip
    for i, size in enumerate(sizes):
        result = slice_axis(emit, result, 2 + i, 0, size)
    return [emit.reshape(result, (*lead, *result.shape[1:]))]


@dataclass(frozen=True)
class _Geometry:
    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    pads: list[int]
    remainder: list[int]
    groups: int

    @property
    def pointwise(self) -> bool:
        """Whether every output position depends on its own input position alone."""
        return all(k == 1 for k in self.kernel) and all(s == 1 for s in self.strides) and not any(self.pads)

    @property
    def plain(self) -> bool:
        """Whether the input gradient is itself an ordinary convolution."""
        reach = [d * (k - 1) for d, k in zip(self.dilations * 2, self.kernel * 2, strict=True)]
        return all(s == 1 for s in self.strides) and all(p <= r for p, r in zip(self.pads, reach, strict=True))


def _geometry(call: Call) -> _Geometry:
    kernel, strides, dilations = _spacing(call)
    axes = len(kernel)
    sizes, results = call.spatial_sizes(), _fixed_sizes(call, call.outputs[0].shape[2:])
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    pads = explicit_pads(call, reach, strides)
    remainder = [
        size - ((result - 1) * stride + r - pads[i] - pads[i + axes])
        for i, (size, result, stride, r) in enumerate(zip(sizes, results, strides, reach, strict=True))
    ]
    return _Geometry(kernel, strides, dilations, pads, remainder, call.attribute("group", 1))


def _spacing(call: Call) -> tuple[list[int], list[int], list[int]]:
    """Kernel, strides and dilations, one for each spatial axis."""
    kernel = [int(d) for d in call.x(1).shape[2:]]  # type: ignore[arg-type]
    ones = [1] * len(kernel)
    return kernel, list(call.attribute("strides") or ones), list(call.attribute("dilations") or ones)


def _fixed_sizes(call: Call, sizes: Shape) -> list[int]:
    if any(isinstance(d, Batch) for d in sizes):
        raise ModelError(f"node {call.node.name!r} has dynamic spatial sizes: export with fixed ones")
    return [d for d in sizes if isinstance(d, int)]


def _weight(call: Call) -> tuple[Tensor, np.ndarray]:
    """The weights, as a tensor and as numbers. Raises ModelError when they are computed."""
    weight = call.x(1)
    if any(call.needed[1:]) or weight.array is None:
        raise ModelError(
            f"node {call.node.name!r}: a convolution whose weights are computed: make them constant, or choose a later "
            "--target-layer"
        )
    return weight, weight.array


def _merge_class_and_batch(call: Call, keep_positions: bool) -> tuple[Tensor, Shape]:
    """The cotangent with class and batch merge_axes, expanded where the kernel mixes positions, and these two sizes."""
    emit, axes = call.emit, [2] if keep_positions else list(range(2, call.g.rank))
    g = emit.expand_axes(call.g, (call.g.shape[0], *call.outputs[0].shape), axes)
    return emit.reshape(g, (merge_axes(g.shape[:2]), *g.shape[2:])), g.shape[:2]


def explicit_pads(call: Call, reach: list[int], strides: list[int]) -> list[int]:
    """The padding of a convolution or pooling, all starts, then all ends, with `auto_pad` resolved."""
    mode = call.attribute("auto_pad", "NOTSET")
    if mode == "VALID":
        return [0] * (2 * len(reach))
    if mode == "NOTSET":
        return list(call.attribute("pads") or [0] * (2 * len(reach)))
    totals = [
        max(0, (-(-size // stride) - 1) * stride + r - size)
        for size, r, stride in zip(call.spatial_sizes(), reach, strides, strict=True)
    ]
    return _split_padding(totals, mode == "SAME_UPPER")


def _transposed_pads(call: Call, full_sizes: list[int], results: list[int]) -> list[int]:
    """The padding of a transposed convolution whose result has `full_sizes` without any padding."""
    mode = call.attribute("auto_pad", "NOTSET")
    if mode == "VALID" or (mode == "NOTSET" and not call.attribute("output_shape")):
        return list(call.attribute("pads") or [0] * (2 * len(full_sizes)))
    output_padding = call.attribute("output_padding") or [0] * len(full_sizes)
    totals = [max(0, u + e - o) for u, e, o in zip(full_sizes, output_padding, results, strict=True)]
    return _split_padding(totals, mode == "SAME_UPPER")


def _split_padding(totals: list[int], more_at_end: bool) -> list[int]:
    """Halve each padding; where it is odd, one side gets the larger half."""
    small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return small + large if more_at_end else large + small


def _flip(weight: np.ndarray, groups: int) -> np.ndarray:
    """[out, in/g, …] → [in, out/g, …] with every kernel reversed."""
    out, per_group, *kernel = weight.shape
    weight_groups = weight.reshape(groups, out // groups, per_group, *kernel).swapaxes(1, 2)
    reverse = (slice(None), slice(None), *(slice(None, None, -1) for _ in kernel))
    return np.ascontiguousarray(weight_groups.reshape(groups * per_group, out // groups, *kernel)[reverse])
