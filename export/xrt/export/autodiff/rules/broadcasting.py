"""What all rules of broadcasting operators share."""

from __future__ import annotations

from math import prod

from xrt.export.autodiff.emitter import Emitter, Shape, Tensor
from xrt.runtime.errors import ModelError


def reduce_to(emit: Emitter, g: Tensor, full: Shape, operand: Shape) -> Tensor:
    """Sum a cotangent of a broadcast result of shape `full` down to the operand that was broadcast.

    `g` has shape [C, *full] with 1 for constant axes; the result has [C, *operand] likewise. Where `g` is constant
    along an axis that the operand lacks, the sum is a multiplication by the axis's extent.
    """
    lead = len(full) - len(operand)
    padded = (1,) * lead + operand
    summed, factor = [], []
    for axis, (size, extent) in enumerate(zip(padded, full, strict=True)):
        if size != 1 or extent == 1:
            continue
        if g.shape[axis + 1] != 1:
            summed.append(axis + 1)
        elif isinstance(extent, str):
            raise ModelError("an operand that carries gradients is broadcast over the batch: this is not supported")
        else:
            factor.append(extent)
    g = emit.reduce("ReduceSum", g, summed)
    if factor:
        g = emit("Mul", g, emit.constant(float(prod(factor)), "float32"))
    if lead:
        g = emit.reshape(g, (g.shape[0], *g.shape[1 + lead :]))
    return g
