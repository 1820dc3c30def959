"""Elementwise operators: the cotangent is multiplied by the derivative at each element.

A forward tensor of rank r broadcasts against a cotangent of rank r + 1 as it is, the class axis being in front.
"""

from __future__ import annotations

from collections.abc import Sequence

from xrt.export.autodiff.emitter import Tensor
from xrt.export.autodiff.rules.broadcasting import reduce_to
from xrt.export.autodiff.table import Call, vjp


@vjp("Identity", "Dropout", "Cast")
def _identity(call: Call) -> Sequence[Tensor | None]:
    return [call.g]


@vjp("Add")
def _add(call: Call) -> Sequence[Tensor | None]:
    return _operands(call, call.g, call.g)


@vjp("Sub")
def _sub(call: Call) -> Sequence[Tensor | None]:
    return _operands(call, call.g, call.emit("Neg", call.g) if call.needed[1] else None)


@vjp("Mul")
def _mul(call: Call) -> Sequence[Tensor | None]:
    a, b = call.x(0), call.x(1)
    return _operands(
        call,
        call.emit("Mul", call.g, b) if call.needed[0] else None,
        call.emit("Mul", call.g, a) if call.needed[1] else None,
    )


@vjp("Div")
def _div(call: Call) -> Sequence[Tensor | None]:
    """d(a/b) = da / b - (a/b) db / b."""
    over = call.emit("Div", call.g, call.x(1))
    down = call.emit("Neg", call.emit("Mul", over, call.outputs[0])) if call.needed[1] else None
    return _operands(call, over if call.needed[0] else None, down)


@vjp("Neg")
def _neg(call: Call) -> Sequence[Tensor | None]:
    return [call.emit("Neg", call.g)]


@vjp("Relu")
def _relu(call: Call) -> Sequence[Tensor | None]:
    emit = call.emit
    active = emit("Greater", call.outputs[0], emit.constant(0.0, "float32"))
    return [emit("Where", active, call.g, emit.constant(0.0, "float32"))]


@vjp("Clip")
def _clip(call: Call) -> Sequence[Tensor | None]:
    """Inside the bounds, borders included, as torch has it."""
    emit, x, g = call.emit, call.x(), call.g
    zero = emit.constant(0.0, "float32")
    for index, outside in ((1, "Less"), (2, "Greater")):
        if index < len(call.inputs) and call.inputs[index] is not None:
            g = emit("Where", emit(outside, x, call.x(index)), zero, g)
    return [g]


@vjp("Sigmoid")
def _sigmoid(call: Call) -> Sequence[Tensor | None]:
    emit, y = call.emit, call.outputs[0]
    return [emit("Mul", call.g, emit("Mul", y, emit("Sub", emit.constant(1.0, "float32"), y)))]


@vjp("HardSigmoid")
def _hard_sigmoid(call: Call) -> Sequence[Tensor | None]:
    """alpha where 0 < y < 1, else 0."""
    emit, y = call.emit, call.outputs[0]
    zero = emit.constant(0.0, "float32")
    inside = emit("And", emit("Greater", y, zero), emit("Less", y, emit.constant(1.0, "float32")))
    slope = emit.constant(call.attribute("alpha", 0.2), "float32")
    return [emit("Where", inside, emit("Mul", call.g, slope), zero)]


@vjp("Tanh")
def _tanh(call: Call) -> Sequence[Tensor | None]:
    emit, y = call.emit, call.outputs[0]
    return [emit("Mul", call.g, emit("Sub", emit.constant(1.0, "float32"), emit("Mul", y, y)))]


@vjp("Exp")
def _exp(call: Call) -> Sequence[Tensor | None]:
    return [call.emit("Mul", call.g, call.outputs[0])]


@vjp("Log")
def _log(call: Call) -> Sequence[Tensor | None]:
    return [call.emit("Div", call.g, call.x())]


@vjp("Sqrt")
def _sqrt(call: Call) -> Sequence[Tensor | None]:
    return [call.emit("Div", call.g, call.emit("Mul", call.outputs[0], call.emit.constant(2.0, "float32")))]


def _operands(call: Call, *cotangents: Tensor | None) -> Sequence[Tensor | None]:
    """Bring the cotangent of each operand, given for the broadcast result, to the operand's shape."""
    full = call.outputs[0].shape
    return [
        reduce_to(call.emit, g, full, call.input_shape(i)) if g is not None and call.needed[i] else None
        for i, g in enumerate(cotangents)
    ]
