"""What all rules of broadcasting operators share."""

from __future__ import annotations

from collections.abc import Sequence

from xrt.export.autodiff.table import Call
from xrt.export.ir.emitter import Emitter, Tensor
from xrt.export.ir.shapes import Shape


def reduce_to(emit: Emitter, g: Tensor, full: Shape, operand: Shape) -> Tensor:
    """Sum a cotangent of a broadcast result of shape `full` down to the operand that was broadcast.

    `g` has shape [C, *full] with 1 for constant axes; the result has [C, *operand] likewise. Where `g` is constant
    along an axis that the operand lacks, the sum is a multiplication by the axis's extent.
    """
    lead = len(full) - len(operand)
    operand_sizes = (1,) * lead + operand
    axes = [
        i + 1 for i, (size, extent) in enumerate(zip(operand_sizes, full, strict=True)) if size == 1 and extent != 1
    ]
    g = emit.reduce_sum(g, (g.shape[0], *full), axes)
    return emit.reshape(g, (g.shape[0], *g.shape[1 + lead :])) if lead else g


def to_operands(call: Call, *cotangents: Tensor | None) -> Sequence[Tensor | None]:
    """Bring the cotangent of each operand, given for the broadcast result, to the operand's shape."""
    full = call.outputs[0].shape
    return [
        reduce_to(call.emit, g, full, call.input_shape(i)) if g is not None and call.needed[i] else None
        for i, g in enumerate(cotangents)
    ]
