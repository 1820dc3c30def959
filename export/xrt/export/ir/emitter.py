"""Emitting nodes into a graph: shapes tracked, constants folded at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator
from onnx_ir.tape import Tape

from xrt.export.ir.constants import array_of
from xrt.export.ir.limits import OPSET
from xrt.export.ir.shapes import Batch, Dim, Shape, batch_input, broadcast, merge_axes, shape_of
from xrt.runtime.errors import ModelError

_FOLD_LIMIT = 2**26
"""Elements. A larger constant is computed by the runtime, which keeps the file small."""

_NOT_FOLDED = {"ConvTranspose"}
"""ONNX's reference evaluator rejects groups of more than one channel here; runtimes fold constants as well."""


@dataclass(frozen=True)
class Tensor:
    """A value of the graph, or a constant not yet in it."""

    shape: Shape
    value: ir.Value | None = None
    array: np.ndarray | None = None

    @property
    def constant(self) -> bool:
        """Whether the numbers are known at export time."""
        return self.array is not None

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.shape)


class Emitter:
    """Appends nodes to a graph and keeps track of shapes. Names of what it emits begin with `prefix`.

    `elements` counts the numbers that they compute for one image.
    """

    def __init__(self, graph: ir.Graph, prefix: str = "explain") -> None:
        self.graph = graph
        self.prefix = prefix
        self.elements = 0
        self._tape = Tape(graph)
        self._count = 0

    def __call__(self, op: str, *inputs: Tensor, shape: Shape | None = None, **attributes: Any) -> Tensor:
        """Emit `op`; without `shape` the result has the inputs' broadcast shape. Constants fold at once."""
        shape = broadcast(*(t.shape for t in inputs)) if shape is None else shape
        constants_only = all(t.constant for t in inputs) and op not in _NOT_FOLDED
        if constants_only and _elements(shape) <= _FOLD_LIMIT:
            return self.constant(_evaluate(op, [t.array for t in inputs if t.array is not None], attributes))
        self.elements += prod(d if isinstance(d, int) else d.multiple for d in shape)
        value = ir.Value(name=self._name(op))
        self._tape.op(op, [self.materialise(t) for t in inputs], attributes or None, output=value)
        return Tensor(shape, value=value)

    def of(self, value: ir.Value) -> Tensor:
        """A forward value as a tensor; an initialiser keeps its numbers."""
        array = array_of(value)
        return Tensor(array.shape if array is not None else shape_of(value), value=value, array=array)

    def constant(self, array: Any, dtype: Any = None) -> Tensor:
        """A constant that enters the graph only if a node uses it."""
        array = np.asarray(array, dtype=dtype)
        return Tensor(tuple(array.shape), array=array)

    def materialise(self, tensor: Tensor) -> ir.Value:
        """The graph's value for a tensor; a constant becomes an initialiser."""
        if tensor.value is not None:
            return tensor.value
        if tensor.array is None:
            raise ValueError("a tensor is either a value of the graph or a constant; this one is neither")
        name = self._name("constant")
        return self._tape.initializer(ir.tensor(np.asarray(tensor.array, order="C"), name=name), name)

    def reshape(self, tensor: Tensor, shape: Shape) -> Tensor:
        """Reshape; the batch is left to be inferred. Raises ModelError when more than one axis grows with it."""
        if shape == tensor.shape:
            return tensor
        merge_axes(shape)
        sizes = np.array([-1 if isinstance(d, Batch) else d for d in shape], dtype=np.int64)
        return self("Reshape", tensor, self.constant(sizes), shape=shape)

    def transpose(self, tensor: Tensor, order: Sequence[int]) -> Tensor:
        """Permute axes; emits nothing when the order stays."""
        if list(order) == list(range(tensor.rank)):
            return tensor
        return self("Transpose", tensor, shape=tuple(tensor.shape[i] for i in order), perm=list(order))

    def reduce(self, op: str, tensor: Tensor, axes: Sequence[int]) -> Tensor:
        """ReduceSum, ReduceMean or the like over `axes`, which stay as size 1. Opset 18 takes axes as an input."""
        if not axes:
            return tensor
        shape = tuple(1 if i in axes else d for i, d in enumerate(tensor.shape))
        return self(op, tensor, self.constant(np.array(axes, dtype=np.int64)), shape=shape, keepdims=1)

    def reduce_sum(self, tensor: Tensor, full: Shape, axes: Sequence[int]) -> Tensor:
        """Sum over `axes`, which stay as size 1; an axis of size 1 that is constant counts with its extent in `full`.

        Raises ModelError when the extent of a constant axis is the batch.
        """
        varying_axes = [i for i in axes if tensor.shape[i] != 1]
        constant_extents = [full[i] for i in axes if tensor.shape[i] == 1]
        if any(isinstance(d, Batch) for d in constant_extents):
            raise ModelError("a gradient that is constant over the batch is summed over it: this is not supported")
        tensor = self.reduce("ReduceSum", tensor, varying_axes)
        factor = prod(d for d in constant_extents if isinstance(d, int))
        return tensor if factor == 1 else self("Mul", tensor, self.constant(float(factor), "float32"))

    def expand_axes(self, tensor: Tensor, full: Shape, axes: Sequence[int]) -> Tensor:
        """Give constant axes their extent in `full`."""
        axes_to_expand = [i for i in axes if tensor.shape[i] == 1 and full[i] != 1]
        if not axes_to_expand:
            return tensor
        sizes = [full[i] if i in axes_to_expand else 1 for i in range(tensor.rank)]
        shape = tuple(full[i] if i in axes_to_expand else d for i, d in enumerate(tensor.shape))
        return self("Expand", tensor, self.sizes(sizes), shape=shape)

    def sizes(self, dims: Sequence[Dim]) -> Tensor:
        """Sizes as an int64 tensor; where the batch is among them it is read from the graph's input at run time."""
        if all(isinstance(d, int) for d in dims):
            return self.constant(np.array(dims, dtype=np.int64))
        parts = [
            self.constant([d], "int64")
            if isinstance(d, int)
            else self("Mul", self._batch(), self.constant([d.multiple], "int64"))
            for d in dims
        ]
        return self("Concat", *parts, shape=(len(dims),), axis=0) if len(parts) > 1 else parts[0]

    def _batch(self) -> Tensor:
        """The number of images, int64 [1]."""
        return self("Shape", self.of(batch_input(self.graph)), shape=(1,), start=0, end=1)

    def _name(self, op: str) -> str:
        self._count += 1
        return f"{self.prefix}/{op}_{self._count}"


def _elements(shape: Shape) -> float:
    return float(np.prod([d for d in shape if isinstance(d, int)], dtype=np.float64))


def _evaluate(op: str, arrays: list[np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    names = [f"i{k}" for k in range(len(arrays))]
    node = onnx.helper.make_node(op, names, ["o"], **attributes)
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [node],
            "fold",
            [
                onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
                for n, a in zip(names, arrays, strict=True)
            ],
            [onnx.helper.make_empty_tensor_value_info("o")],
        ),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
    )
    (result,) = ReferenceEvaluator(model).run(None, dict(zip(names, arrays, strict=True)))
    return np.asarray(result)
