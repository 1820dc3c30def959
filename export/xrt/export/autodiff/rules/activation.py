"""Activations. At a kink the derivative is that of torch."""

from __future__ import annotations

from collections.abc import Sequence
from math import pi, sqrt

from xrt.export.autodiff.rules.broadcasting import to_operands
from xrt.export.autodiff.rules.formula import Term, derivative, of_cotangent, of_input, of_output, where
from xrt.export.autodiff.table import Call, vjp
from xrt.export.ir.emitter import Tensor


@vjp("Relu")
def _relu(call: Call) -> Sequence[Tensor | None]:
    return [where(of_output(call) > 0, of_cotangent(call), 0.0).tensor]


@vjp("ThresholdedRelu")
def _thresholded_relu(call: Call) -> Sequence[Tensor | None]:
    return [where(of_input(call) > call.attribute("alpha", 1.0), of_cotangent(call), 0.0).tensor]


@vjp("LeakyRelu")
def _leaky_relu(call: Call) -> Sequence[Tensor | None]:
    g = of_cotangent(call)
    return [where(of_input(call) > 0, g, g * call.attribute("alpha", 0.01)).tensor]


@vjp("PRelu")
def _prelu(call: Call) -> Sequence[Tensor | None]:
    g, x, slope = of_cotangent(call), of_input(call), of_input(call, 1)
    return to_operands(
        call,
        (g * where(x > 0, 1.0, slope)).tensor if call.needed[0] else None,
        (g * where(x > 0, 0.0, x)).tensor if call.needed[1] else None,
    )


@vjp("Clip")
def _clip(call: Call) -> Sequence[Tensor | None]:
    """Strictly between the bounds: at a bound, the derivative of torch's clamp, hardtanh and relu6 is 0."""
    x, g = of_input(call), of_cotangent(call)
    if len(call.inputs) > 1 and call.inputs[1] is not None:
        g = where(x > of_input(call, 1), g, 0.0)
    if len(call.inputs) > 2 and call.inputs[2] is not None:
        g = where(x < of_input(call, 2), g, 0.0)
    return [g.tensor]


@derivative("Sigmoid")
def _sigmoid(call: Call, x: Term, y: Term) -> Term:
    return y * (1 - y)


@vjp("HardSigmoid")
def _hard_sigmoid(call: Call) -> Sequence[Tensor | None]:
    """alpha where 0 < y < 1, else 0."""
    y = of_output(call)
    inside = (y > 0).apply("And", y < 1)
    return [where(inside, of_cotangent(call) * call.attribute("alpha", 0.2), 0.0).tensor]


@derivative("HardSwish")
def _hard_swish(call: Call, x: Term, y: Term) -> Term:
    """x · clip(x/6 + 1/2, 0, 1): x/3 + 1/2 between -3 and 3."""
    return where(x > -3, where(x < 3, x / 3 + 0.5, 1.0), 0.0)


@derivative("Tanh")
def _tanh(call: Call, x: Term, y: Term) -> Term:
    return 1 - y * y


@derivative("Erf")
def _erf(call: Call, x: Term, y: Term) -> Term:
    return (-(x * x)).apply("Exp") * (2 / sqrt(pi))


@derivative("Gelu")
def _gelu(call: Call, x: Term, y: Term) -> Term:
    """Φ(x) + x φ(x), or the derivative of the approximation x (1 + tanh(c (x + 0.044715 x³))) / 2."""
    square = x * x
    if call.attribute("approximate", "none") == "tanh":
        scale, cubic = sqrt(2 / pi), 0.044715
        t = (x * (square * (scale * cubic) + scale)).apply("Tanh")
        inner = square * (3 * scale * cubic) + scale
        return (t + 1) * 0.5 + x * 0.5 * (1 - t * t) * inner
    return ((x * sqrt(0.5)).apply("Erf") + 1) * 0.5 + x * (square * -0.5).apply("Exp") * (1 / sqrt(2 * pi))


@derivative("Elu")
def _elu(call: Call, x: Term, y: Term) -> Term:
    """alpha eˣ = y + alpha below zero."""
    return where(x > 0, 1.0, y + call.attribute("alpha", 1.0))


@derivative("Selu")
def _selu(call: Call, x: Term, y: Term) -> Term:
    alpha, gamma = (
        call.attribute("alpha", 1.67326319217681884765625),
        call.attribute("gamma", 1.05070102214813232421875),
    )
    return where(x > 0, gamma, y + alpha * gamma)


@derivative("Celu")
def _celu(call: Call, x: Term, y: Term) -> Term:
    """exp(x / alpha) = y / alpha + 1 below zero."""
    return where(x > 0, 1.0, y / call.attribute("alpha", 1.0) + 1)


@derivative("Softplus")
def _softplus(call: Call, x: Term, y: Term) -> Term:
    return x.apply("Sigmoid")


@derivative("Softsign")
def _softsign(call: Call, x: Term, y: Term) -> Term:
    """1 / (1 + |x|)²."""
    reciprocal = 1 / (x.apply("Abs") + 1)
    return reciprocal * reciprocal


@derivative("Mish")
def _mish(call: Call, x: Term, y: Term) -> Term:
    """With t = tanh(softplus(x)): t + x (1 - t²) σ(x)."""
    t = x.apply("Softplus").apply("Tanh")
    return t + x * (1 - t * t) * x.apply("Sigmoid")


@vjp("Softmax")
def _softmax(call: Call) -> Sequence[Tensor | None]:
    """y (g - Σ g y)."""
    g, y, axis = of_cotangent(call), of_output(call), _axis(call)
    product = g * y
    return [(product - y * product.reduce_sum((g.shape[0], *y.shape), [axis])).tensor]


@vjp("LogSoftmax")
def _log_softmax(call: Call) -> Sequence[Tensor | None]:
    """g - softmax(x) Σ g."""
    g, y, axis = of_cotangent(call), of_output(call), _axis(call)
    return [(g - y.apply("Exp") * g.reduce_sum((g.shape[0], *y.shape), [axis])).tensor]


def _axis(call: Call) -> int:
    """The axis along which probabilities sum to one, in the cotangent."""
    return 1 + call.attribute("axis", -1) % len(call.input_shape())
