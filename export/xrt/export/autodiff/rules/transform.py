"""Linear maps of whole axes: sums of overlapping blocks, and the discrete Fourier transform."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from xrt.export.autodiff.rules.scatter_adjoint import contract_axis, pad, slice_axis
from xrt.export.autodiff.table import Call, vjp
from xrt.export.ir.emitter import Tensor
from xrt.export.ir.shapes import Batch
from xrt.runtime.errors import ModelError


@vjp("Col2Im")
def _col2im(call: Call) -> Sequence[Tensor | None]:
    """Every block reads the cotangent where it was added; a block's element in the padding reads a zero."""
    emit = call.emit
    image, block = call.integers("image_shape", 1) or [], call.integers("block_shape", 2) or []
    axes = len(image)
    strides, dilations = (list(call.attribute(name) or [1] * axes) for name in ("strides", "dilations"))
    pads = list(call.attribute("pads") or [0] * (2 * axes))
    counts = [
        (image[i] + pads[i] + pads[i + axes] - dilations[i] * (block[i] - 1) - 1) // strides[i] + 1 for i in range(axes)
    ]
    # Positions [offset within the block, block], one axis after the other, then numbered over the whole image.
    grids = [
        np.arange(block[i])[:, None] * dilations[i] + np.arange(counts[i]) * strides[i] - pads[i] for i in range(axes)
    ]
    positions, inside = np.zeros((1, 1), dtype=np.int64), np.ones((1, 1), dtype=bool)
    for i, grid in enumerate(grids):
        cross = positions[:, None, :, None] * image[i] + grid[None, :, None, :]
        fits = inside[:, None, :, None] & ((grid >= 0) & (grid < image[i]))[None, :, None, :]
        shape = (cross.shape[0] * cross.shape[1], cross.shape[2] * cross.shape[3])
        positions, inside = cross.reshape(shape), fits.reshape(shape)
    size = prod(image)
    g = emit.expand_axes(call.g, (call.g.shape[0], *call.outputs[0].shape), range(3, call.g.rank))
    g = pad(emit, emit.reshape(g, (*g.shape[:3], size)), {3: (0, 1)})
    sources = np.where(inside, positions, size)
    g = emit("Gather", g, emit.constant(sources), shape=(*g.shape[:3], *sources.shape), axis=3)
    channels = g.shape[2]
    if isinstance(channels, Batch):
        raise ModelError(f"node {call.node.name!r}: Col2Im with a dynamic number of channels: export with fixed ones")
    if channels == 1 and call.outputs[0].shape[1] != 1:
        g = emit.expand_axes(g, (*g.shape[:2], call.outputs[0].shape[1], *g.shape[3:]), [2])
    return [emit.reshape(g, (*g.shape[:2], call.input_shape()[1], sources.shape[1]))]


@vjp("DFT")
def _dft(call: Call) -> Sequence[Tensor | None]:
    """The transposed matrices of the transform's real and imaginary parts."""
    emit, shape = call.emit, call.input_shape()
    axis = call.attribute("axis", 1) % len(shape)
    size, onesided, inverse = shape[axis], call.attribute("onesided", 0), call.attribute("inverse", 0)
    if isinstance(size, Batch):
        raise ModelError(f"node {call.node.name!r}: DFT along the batch: keep images apart in the model")
    if onesided and inverse:
        raise ModelError(f"node {call.node.name!r}: no gradient rule for a one-sided inverse DFT")
    length = (call.integers("dft_length", 1) or [size])[0]
    rows = length // 2 + 1 if onesided else length
    angle = 2 * np.pi * np.outer(np.arange(rows), np.arange(size)) / length
    used = (np.arange(size) < length) / (length if inverse else 1)
    real, imaginary = np.cos(angle) * used, (1 if inverse else -1) * np.sin(angle) * used
    last = len(shape)  # of the cotangent, which has the class axis in front
    g_real, g_imaginary = (slice_axis(emit, call.g, last, i, i + 1) for i in (0, 1))
    full = (call.g.shape[0], *shape[:-1], 1)

    def contracted(of_real: np.ndarray, of_imaginary: np.ndarray) -> Tensor:
        parts = (contract_axis(emit, g, 1 + axis, m) for g, m in ((g_real, of_real), (g_imaginary, of_imaginary)))
        return emit.expand_axes(emit("Add", *parts), full, [1 + axis])

    result = contracted(real, imaginary)
    if shape[-1] == 1:
        return [result]
    other = contracted(-imaginary, real)
    return [emit("Concat", result, other, shape=(*result.shape[:-1], 2), axis=last)]
