"""Running a graph in float64, where rounding is negligible: ONNX's reference evaluator on a widened copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import onnx
import onnx.numpy_helper
from onnx.reference import ReferenceEvaluator

from xrt.export.references.float64.operators import OPERATORS

__all__ = ["Float64Graph", "widen"]


class Float64Graph:
    """A graph of float32, run in float64. `weights` are those of its inputs that stay the same, as in a skeleton."""

    def __init__(self, model: onnx.ModelProto, weights: Mapping[str, np.ndarray] = MappingProxyType({})) -> None:
        self._evaluator = ReferenceEvaluator(widen(model), new_ops=OPERATORS)
        self._weights = _wide(weights)

    def run(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None) -> list[np.ndarray]:
        """The named outputs, or all; float32 inputs are widened as well."""
        given, names = {**self._weights, **_wide(inputs)}, None if outputs is None else list(outputs)
        return [np.asarray(value) for value in self._evaluator.run(names, given)]


def _wide(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: a.astype(np.float64) if a.dtype == np.float32 else a for name, a in arrays.items()}


def widen(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which every float32 is a float64, but for the scales of Resize, which must stay float32."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    del wide.graph.value_info[:]
    narrow = {name for node in wide.graph.node if node.op_type == "Resize" for name in list(node.input)[1:3]}
    for tensor in wide.graph.initializer:
        if tensor.name not in narrow:
            _widen_tensor(tensor)
    for value in (*wide.graph.input, *wide.graph.output):
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    for node in wide.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == onnx.TensorProto.FLOAT:
                attribute.i = onnx.TensorProto.DOUBLE
            if attribute.type == onnx.AttributeProto.TENSOR and not narrow & set(node.output):
                _widen_tensor(attribute.t)
    return wide


def _widen_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == onnx.TensorProto.FLOAT:
        array = onnx.numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
