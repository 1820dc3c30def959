"""Matrix products and convolutions: the cotangent is multiplied by the transposed weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xrt.export.autodiff.emitter import Batch, Shape, Tensor, merged
from xrt.export.autodiff.rules.broadcasting import reduce_to
from xrt.export.autodiff.table import Call, vjp
from xrt.runtime.errors import ModelError


@vjp("MatMul")
def _matmul(call: Call) -> Sequence[Tensor | None]:
    """dA = g Bᵀ and dB = Aᵀ g, summed over the batch axes that were broadcast."""
    emit, a, b, full = call.emit, call.x(0), call.x(1), call.outputs[0].shape
    if a.rank < 2 or b.rank < 2:
        raise ModelError(f"node {call.node.name!r}: MatMul with a vector operand")
    g = emit.expand_axes(call.g, (call.g.shape[0], *full), [call.g.rank - 2, call.g.rank - 1])
    results: list[Tensor | None] = [None, None]
    if call.needed[0]:
        results[0] = _operand(call, _product(call, g, _swap(call, b)), a.shape)
    if call.needed[1]:
        results[1] = _operand(call, _product(call, _swap(call, a), g), b.shape)
    return results


@vjp("Gemm")
def _gemm(call: Call) -> Sequence[Tensor | None]:
    """y = alpha A' B' + beta C with A' = A or Aᵀ; only A may carry gradients (B is the weight)."""
    if any(call.needed[1:]) or call.attribute("transA", 0):
        raise ModelError(f"node {call.node.name!r}: Gemm with a computed weight or a transposed input")
    emit, weight = call.emit, call.x(1)
    weight = weight if call.attribute("transB", 0) else emit.transpose(weight, [1, 0])
    g = emit.expand_axes(call.g, (call.g.shape[0], *call.outputs[0].shape), [2])
    result = emit("MatMul", g, weight, shape=(*g.shape[:-1], weight.shape[-1]))
    alpha = call.attribute("alpha", 1.0)
    return [result if alpha == 1.0 else emit("Mul", result, emit.constant(alpha, "float32"))]


@vjp("Conv")
def _conv(call: Call) -> Sequence[Tensor | None]:
    """The cotangent convolved with flipped, transposed weights; class and batch are one axis meanwhile.

    A stride needs ConvTranspose, and so does padding beyond the kernel. A 1×1 kernel mixes no positions, so a
    cotangent that is constant over them stays so.
    """
    if any(call.needed[1:]):
        raise ModelError(f"node {call.node.name!r}: a convolution whose weights are computed")
    emit, geometry = call.emit, _geometry(call)
    weight = call.x(1)
    if weight.array is None:
        raise ModelError(f"node {call.node.name!r}: a convolution whose weights are computed")
    full = (call.g.shape[0], *call.outputs[0].shape)
    pointwise = geometry.pointwise and all(d == 1 for d in call.g.shape[3:])
    spatial = [] if pointwise else list(range(3, call.g.rank))
    g = emit.expand_axes(call.g, full, [2, *spatial])
    lead: Shape = g.shape[:2]
    folded = emit.reshape(g, (merged(lead), *g.shape[2:]))
    target = (1,) * len(spatial or geometry.kernel) if pointwise else call.input_shape()[2:]
    shape = (folded.shape[0], weight.shape[1] * geometry.groups, *target)  # type: ignore[operator]
    if geometry.plain:
        pads = [
            d * (k - 1) - p for d, k, p in zip(geometry.dilations * 2, geometry.kernel * 2, geometry.pads, strict=True)
        ]
        flipped = emit.constant(_flip(weight.array, geometry.groups))
        result = emit(
            "Conv", folded, flipped, shape=shape, group=geometry.groups, dilations=geometry.dilations, pads=pads,
            kernel_shape=geometry.kernel, strides=[1] * len(geometry.kernel),
        )  # fmt: skip
    else:
        result = emit(
            "ConvTranspose", folded, weight, shape=shape, group=geometry.groups, dilations=geometry.dilations,
            pads=geometry.pads, kernel_shape=geometry.kernel, strides=geometry.strides,
            output_padding=geometry.remainder,
        )  # fmt: skip
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
    kernel = [int(d) for d in call.x(1).shape[2:]]
    axes = len(kernel)
    strides = list(call.attribute("strides") or [1] * axes)
    dilations = list(call.attribute("dilations") or [1] * axes)
    sizes, results = call.input_shape()[2:], call.outputs[0].shape[2:]
    if any(isinstance(d, Batch) for d in (*sizes, *results)):
        raise ModelError(f"node {call.node.name!r} has dynamic spatial sizes: export with fixed ones")
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    pads = explicit_pads(call, reach, strides)
    remainder = [
        int(size) - ((int(result) - 1) * stride + r - pads[i] - pads[i + axes])
        for i, (size, result, stride, r) in enumerate(zip(sizes, results, strides, reach, strict=True))
    ]
    return _Geometry(kernel, strides, dilations, pads, remainder, call.attribute("group", 1))


def explicit_pads(call: Call, reach: list[int], strides: list[int]) -> list[int]:
    """The padding of a convolution or pooling, all begins then all ends, with `auto_pad` resolved."""
    mode = call.attribute("auto_pad", "NOTSET")
    if mode == "VALID":
        return [0] * (2 * len(reach))
    if mode == "NOTSET":
        return list(call.attribute("pads") or [0] * (2 * len(reach)))
    begins, ends = [], []
    for size, r, stride in zip(call.input_shape()[2:], reach, strides, strict=True):
        total = max(0, (-(-int(size) // stride) - 1) * stride + r - int(size))
        small, large = total // 2, total - total // 2
        begins.append(small if mode == "SAME_UPPER" else large)
        ends.append(large if mode == "SAME_UPPER" else small)
    return begins + ends


def _flip(weight: np.ndarray, groups: int) -> np.ndarray:
    """[out, in/g, …] → [in, out/g, …] with every kernel reversed."""
    out, per_group, *kernel = weight.shape
    grouped = weight.reshape(groups, out // groups, per_group, *kernel).swapaxes(1, 2)
    reverse = (slice(None), slice(None), *(slice(None, None, -1) for _ in kernel))
    return np.ascontiguousarray(grouped.reshape(groups * per_group, out // groups, *kernel)[reverse])


def _swap(call: Call, tensor: Tensor) -> Tensor:
    order = list(range(tensor.rank))
    order[-2:] = order[:-3:-1]
    return call.emit.transpose(tensor, order)


def _product(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """MatMul with numpy's broadcasting of the axes before the last two."""
    rank = max(a.rank, b.rank)
    lead = tuple(
        max(x, y, key=lambda d: d != 1)
        for x, y in zip(((1,) * (rank - a.rank) + a.shape)[:-2], ((1,) * (rank - b.rank) + b.shape)[:-2], strict=True)
    )
    return call.emit("MatMul", a, b, shape=(*lead, a.shape[-2], b.shape[-1]))


def _operand(call: Call, product: Tensor, operand: Shape) -> Tensor:
    """Sum a product over the batch axes along which the operand was broadcast."""
    full = (*call.outputs[0].shape[:-2], *operand[-2:])
    return reduce_to(call.emit, product, full, operand)
