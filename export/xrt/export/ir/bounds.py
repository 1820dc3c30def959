"""Between which numbers a value lies by construction, whatever the weights and the image."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from xrt.export.ir.constants import array_of

Interval = tuple[float, float]
EVERYTHING: Interval = (-math.inf, math.inf)
_FIXED: dict[str, Interval] = {
    "Cos": (-1, 1), "Erf": (-1, 1), "HardSigmoid": (0, 1), "LogSoftmax": (-math.inf, 0), "Sigmoid": (0, 1),
    "Sin": (-1, 1), "Softmax": (0, 1), "Softplus": (0, math.inf), "Softsign": (-1, 1), "Tanh": (-1, 1),
}  # fmt: skip
_HULL = {
    "AveragePool", "Cast", "Concat", "Dropout", "Expand", "Flatten", "Gather", "GatherElements", "GatherND",
    "GlobalAveragePool", "GlobalMaxPool", "Identity", "MaxPool", "Mean", "ReduceMax", "ReduceMean",
    "ReduceMin", "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
}  # fmt: skip
"""Operators whose results lie within the hull of their (floating-point) operands."""
_DEPTH = 200


def bounds(value: ir.Value | None, depth: int = 0) -> Interval:
    """The interval of a value's numbers, as far as operators and constants show it."""
    if value is None or depth > _DEPTH:
        return EVERYTHING
    if (array := array_of(value)) is not None:
        if not array.size or array.dtype.kind not in "fiu":
            return EVERYTHING
        return float(array.min()), float(array.max())
    node = value.producer()
    if node is None:
        return EVERYTHING
    if node.op_type in _FIXED:
        return _FIXED[node.op_type]

    def of(index: int) -> Interval:
        return bounds(node.inputs[index] if index < len(node.inputs) else None, depth + 1)

    if node.op_type in _HULL:
        operands = range(len(node.inputs)) if node.op_type in ("Concat", "Mean") else range(1)
        intervals = [of(i) for i in operands]
        return min(low for low, _ in intervals), max(high for _, high in intervals)
    arithmetic: dict[str, Callable[[], Interval]] = {
        "Abs": lambda: _magnitude(of(0)),
        "Add": lambda: _sum(of(0), of(1)),
        "Clip": lambda: _clipped(of(0), of(1), of(2), node),
        "Div": lambda: _quotient(of(0), of(1)),
        "Exp": lambda: tuple(_exp(v) for v in of(0)),  # type: ignore[return-value]
        "Max": lambda: _extreme(max, [of(i) for i in range(len(node.inputs))]),
        "Min": lambda: _extreme(min, [of(i) for i in range(len(node.inputs))]),
        "Mul": lambda: _product(of(0), of(1)),
        "Neg": lambda: (-of(0)[1], -of(0)[0]),
        "Relu": lambda: (max(of(0)[0], 0.0), max(of(0)[1], 0.0)),
        "Sub": lambda: _sum(of(0), (-of(1)[1], -of(1)[0])),
        "Where": lambda: (min(of(1)[0], of(2)[0]), max(of(1)[1], of(2)[1])),
    }
    return arithmetic[node.op_type]() if node.op_type in arithmetic else EVERYTHING


def _extreme(choose: Callable[[list[float]], float], intervals: list[Interval]) -> Interval:
    return choose([low for low, _ in intervals]), choose([high for _, high in intervals])


def _sum(a: Interval, b: Interval) -> Interval:
    return a[0] + b[0], a[1] + b[1]


def _product(a: Interval, b: Interval) -> Interval:
    products = [0.0 if 0 in (x, y) else x * y for x in a for y in b]
    return min(products), max(products)


def _quotient(a: Interval, b: Interval) -> Interval:
    return EVERYTHING if b[0] <= 0 <= b[1] else _product(a, (1 / b[1], 1 / b[0]))


def _magnitude(a: Interval) -> Interval:
    inside = a[0] <= 0 <= a[1]
    return 0.0 if inside else min(map(abs, a)), max(map(abs, a))


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0)) if value < 700 else math.inf


def _clipped(a: Interval, low: Interval, high: Interval, node: ir.Node) -> Interval:
    """The bounds of a Clip are inputs; without one there is none."""
    least = low[0] if len(node.inputs) > 1 and node.inputs[1] is not None else -math.inf
    most = high[1] if len(node.inputs) > 2 and node.inputs[2] is not None else math.inf
    return float(np.clip(a[0], least, most)), float(np.clip(a[1], least, most))
