"""Arithmetic with broadcasting: each operand's cotangent is summed over the axes along which it was repeated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from xrt.export.autodiff.rules.broadcasting import to_operands
from xrt.export.autodiff.rules.formula import Term, derivative, of_cotangent, of_input, of_output, where
from xrt.export.autodiff.table import Call, vjp
from xrt.export.ir.emitter import Tensor
from xrt.runtime.errors import ModelError


@vjp("Identity", "Dropout")
def _identity(call: Call) -> Sequence[Tensor | None]:
    return [call.g]


@vjp("Cast", "CastLike")
def _cast(call: Call) -> Sequence[Tensor | None]:
    """Between floating types only; integers and booleans have no gradient. Raises ModelError for double."""
    if call.node.attributes.get_int("to", 0) == ir.DataType.DOUBLE:
        raise ModelError(
            f"{call.node.outputs[0].name!r} is double, between the target layer and the logits, where gradients are "
            "float32: compute there in float32"
        )
    values = (call.node.inputs[0], call.node.outputs[0])
    discrete = any(v is not None and v.dtype is not None and not v.dtype.is_floating_point() for v in values)
    return [None if discrete else call.g]


@vjp("Add")
def _add(call: Call) -> Sequence[Tensor | None]:
    return to_operands(call, call.g, call.g)


@vjp("Sub")
def _sub(call: Call) -> Sequence[Tensor | None]:
    return to_operands(call, call.g, call.emit("Neg", call.g) if call.needed[1] else None)


@vjp("Mul")
def _mul(call: Call) -> Sequence[Tensor | None]:
    a, b = call.x(0), call.x(1)
    return to_operands(
        call,
        call.emit("Mul", call.g, b) if call.needed[0] else None,
        call.emit("Mul", call.g, a) if call.needed[1] else None,
    )


@vjp("Div")
def _div(call: Call) -> Sequence[Tensor | None]:
    """d(a/b) = da / b - (a/b) db / b."""
    quotient = of_cotangent(call) / of_input(call, 1)
    divisor_cotangent = (-(quotient * of_output(call))).tensor if call.needed[1] else None
    return to_operands(call, quotient.tensor if call.needed[0] else None, divisor_cotangent)


@vjp("Sum")
def _sum(call: Call) -> Sequence[Tensor | None]:
    return to_operands(call, *[call.g] * len(call.inputs))


@vjp("Mean")
def _mean(call: Call) -> Sequence[Tensor | None]:
    return to_operands(call, *[(of_cotangent(call) / len(call.inputs)).tensor] * len(call.inputs))


@vjp("Max", "Min")
def _extremum(call: Call) -> Sequence[Tensor | None]:
    """Shared equally between equal operands, as torch.maximum does."""
    if len(call.inputs) == 1:
        return [call.g]
    masks = [of_input(call, i).equals(of_output(call)).cast() for i in range(len(call.inputs))]
    fraction = of_cotangent(call) / sum(masks[1:], start=masks[0])
    return to_operands(call, *[(fraction * mask).tensor if call.needed[i] else None for i, mask in enumerate(masks)])


@vjp("Where")
def _where(call: Call) -> Sequence[Tensor | None]:
    condition, g = of_input(call), of_cotangent(call)
    return to_operands(
        call,
        None,
        where(condition, g, 0.0).tensor if call.needed[1] else None,
        where(condition, 0.0, g).tensor if call.needed[2] else None,
    )


@vjp("Pow")
def _pow(call: Call) -> Sequence[Tensor | None]:
    """d(x^p) = p x^(p-1) dx + x^p log(x) dp; the second is 0 where the logarithm does not exist, as in torch."""
    g, x, y = of_cotangent(call), of_input(call), of_output(call)
    base_cotangent = power_cotangent = None
    if call.needed[0]:
        base_cotangent = (g * _power_slope(call, x, y)).tensor
    if call.needed[1]:
        power_cotangent = (g * (y * where(x > 0, x, 1.0).apply("Log"))).tensor
    return to_operands(call, base_cotangent, power_cotangent)


def _power_slope(call: Call, x: Term, y: Term) -> Term | float:
    """p x^(p-1). Small powers are products: runtimes differ in the power of a negative base."""
    exponent = call.x(1).array
    if exponent is None:
        return of_input(call, 1) * x.apply("Pow", of_input(call, 1) - 1)
    p = exponent.astype(np.float32)
    if p.size == 1 and p.item() in _POWERS:
        return _POWERS[p.item()](x, y)
    lower = Term(call.emit, call.emit.constant(np.where(p == 0, 1, p - 1), "float32"))
    slope = x.apply("Pow", lower) * Term(call.emit, call.emit.constant(p))
    # Infinite at 0, where a later multiplication by 0 would make it NaN.
    return where(x.equals(0.0), 0.0, slope) if ((p > 0) & (p < 1)).any() else slope


_POWERS = {
    -1.0: lambda x, y: -(y * y),
    0.0: lambda x, y: 0.0,
    0.5: lambda x, y: _root_slope(y),
    1.0: lambda x, y: 1.0,
    2.0: lambda x, y: x * 2.0,
    3.0: lambda x, y: x * x * 3.0,
}


def _root_slope(root: Term) -> Term:
    """1 / (2 √x), and 0 at 0, where the true derivative is infinite and would make NaN of a zero cotangent."""
    return where(root > 0, 0.5 / root, 0.0)


@derivative("Sqrt")
def _sqrt(call: Call, x: Term, y: Term) -> Term:
    return _root_slope(y)


@vjp("Neg")
def _neg(call: Call) -> Sequence[Tensor | None]:
    return [call.emit("Neg", call.g)]


@derivative("Abs")
def _abs(call: Call, x: Term, y: Term) -> Term:
    return x.apply("Sign")


@vjp("Ceil", "Floor", "Round", "Sign")
def _steps(call: Call) -> Sequence[Tensor | None]:
    """Constant except at jumps, where torch has no derivative either."""
    return [None]


@derivative("Reciprocal")
def _reciprocal(call: Call, x: Term, y: Term) -> Term:
    return -(y * y)


@derivative("Exp")
def _exp(call: Call, x: Term, y: Term) -> Term:
    return y


@vjp("Log")
def _log(call: Call) -> Sequence[Tensor | None]:
    return [call.emit("Div", call.g, call.x())]


@derivative("Sin")
def _sin(call: Call, x: Term, y: Term) -> Term:
    return x.apply("Cos")


@derivative("Cos")
def _cos(call: Call, x: Term, y: Term) -> Term:
    return -x.apply("Sin")
