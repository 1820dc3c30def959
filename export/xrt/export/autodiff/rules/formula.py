"""Arithmetic on tensors, so that a rule reads as its formula: `g * y * (1 - y)` emits the nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps

import onnx_ir as ir

from xrt.export.autodiff.table import Call, vjp
from xrt.export.ir.emitter import Emitter, Tensor
from xrt.export.ir.shapes import Shape


class Term:
    """A tensor in a formula. Numbers become float32 constants; multiplying by one and adding zero emit nothing."""

    def __init__(self, emit: Emitter, tensor: Tensor) -> None:
        self.emit = emit
        self.tensor = tensor

    @property
    def shape(self) -> Shape:
        """The shape of the tensor, with 1 for constant axes."""
        return self.tensor.shape

    def apply(self, operator: str, *others: Term | float) -> Term:
        """An elementwise operator on this term and others."""
        tensors = [self._of(other) for other in others]
        return Term(self.emit, self.emit(operator, self.tensor, *tensors))

    def mean(self, axes: Sequence[int]) -> Term:
        """The mean over `axes`, which stay as size 1; along a constant axis it is the value itself."""
        return Term(self.emit, self.emit.reduce("ReduceMean", self.tensor, [i for i in axes if self.shape[i] != 1]))

    def reduce_sum(self, full: Shape, axes: Sequence[int]) -> Term:
        """The sum over `axes`, which stay as size 1; a constant axis counts with its extent in `full`."""
        return Term(self.emit, self.emit.reduce_sum(self.tensor, full, axes))

    def cast(self) -> Term:
        """Booleans as 0.0 and 1.0."""
        return Term(self.emit, self.emit("Cast", self.tensor, to=int(ir.DataType.FLOAT)))

    def equals(self, other: Term | float) -> Term:
        """Elementwise equality."""
        return self.apply("Equal", other)

    def _of(self, other: Term | float) -> Tensor:
        return other.tensor if isinstance(other, Term) else self.emit.constant(float(other), "float32")

    def _apply_reversed(self, operator: str, other: float) -> Term:
        return Term(self.emit, self.emit(operator, self._of(other), self.tensor))

    def __add__(self, other: Term | float) -> Term:
        return self if _is_number(other, 0) else self.apply("Add", other)

    def __sub__(self, other: Term | float) -> Term:
        return self if _is_number(other, 0) else self.apply("Sub", other)

    def __mul__(self, other: Term | float) -> Term:
        return self if _is_number(other, 1) else self.apply("Mul", other)

    def __truediv__(self, other: Term | float) -> Term:
        return self if _is_number(other, 1) else self.apply("Div", other)

    __radd__ = __add__
    __rmul__ = __mul__

    def __rsub__(self, other: float) -> Term:
        return self._apply_reversed("Sub", other)

    def __rtruediv__(self, other: float) -> Term:
        return self._apply_reversed("Div", other)

    def __pow__(self, exponent: int) -> Term:
        power = self
        for _ in range(exponent - 1):
            power = power * self
        return power

    def __neg__(self) -> Term:
        return self.apply("Neg")

    def __gt__(self, other: Term | float) -> Term:
        return self.apply("Greater", other)

    def __lt__(self, other: Term | float) -> Term:
        return self.apply("Less", other)


def where(condition: Term, yes: Term | float, no: Term | float) -> Term:
    """Elementwise choice. The operand that is not chosen may be infinite or NaN."""
    return condition.apply("Where", yes, no)


def of_input(call: Call, index: int = 0) -> Term:
    """A forward input as a term."""
    return Term(call.emit, call.x(index))


def of_output(call: Call) -> Term:
    """The first forward output as a term."""
    return Term(call.emit, call.outputs[0])


def of_cotangent(call: Call) -> Term:
    """The cotangent of the first output as a term."""
    return Term(call.emit, call.g)


Derivative = Callable[[Call, Term, Term], "Term | float"]


def derivative(*operators: str) -> Callable[[Derivative], Derivative]:
    """Register the rule of an elementwise function from its derivative in terms of its input and its output.

    A forward tensor of rank r broadcasts against a cotangent of rank r + 1 directly, because the class axis is first.
    """

    def register(slope: Derivative) -> Derivative:
        @wraps(slope)
        def rule(call: Call) -> Sequence[Tensor | None]:
            return [(of_cotangent(call) * slope(call, of_input(call), of_output(call))).tensor]

        rule.__annotations__ = {}
        vjp(*operators)(rule)
        return slope

    return register


def _is_number(other: Term | float, number: float) -> bool:
    return not isinstance(other, Term) and other == number
