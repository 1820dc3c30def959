"""Graphs that are not ready to be used: random, still in training, or quantised already.

Each would fail later for a reason that is only a consequence, such as an output that changes with its batch.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
import onnx.numpy_helper
import onnx_ir as ir
from onnx_ir.passes import PassResult

from xrt.export.ir.constants import array_of
from xrt.export.ir.dependence import dependents, nodes_before
from xrt.export.passes.base import GraphPass
from xrt.runtime.errors import ModelError

_RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
_INTEGER = {"ConvInteger", "DynamicQuantizeLinear", "MatMulInteger", "QLinearAdd", "QLinearConv", "QLinearMatMul"}
"""Operators that compute with integers."""
_MICROSOFT = "com.microsoft"


class RequireEvaluationMode(GraphPass):
    """Changes nothing."""

    def requires(self, model: ir.Model) -> None:
        """The graph is deterministic, in evaluation mode, and computes in floating point. Raises ModelError."""
        _, pixels = dependents(model.graph)
        for node in nodes_before(model.graph, model.graph.outputs):
            if (reason := _reason(node, pixels)) is not None:
                raise ModelError(reason)

    def call(self, model: ir.Model) -> PassResult:  # noqa: D102
        return PassResult(model, False)


def leave_training(proto: onnx.ModelProto) -> list[str]:
    """Set inputs that switch to training, such as `training` or `keras_learning_phase`, to false, in place.

    Returns their names. An input with a default keeps it.
    """
    weights = {tensor.name for tensor in proto.graph.initializer}
    switches = [v.name for v in proto.graph.input if v.name not in weights and _is_training_switch(v)]
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(np.array(False), name) for name in switches)
    return switches


def _is_training_switch(value: onnx.ValueInfoProto) -> bool:
    tensor = value.type.tensor_type
    name = value.name.lower()
    is_flag = tensor.elem_type == onnx.TensorProto.BOOL and not tensor.shape.dim
    return is_flag and ("train" in name or "learning_phase" in name)


def _reason(node: ir.Node, pixels: Collection[ir.Value]) -> str | None:
    name = node.name or node.outputs[0].name
    if node.op_type in _RANDOM or (node.op_type == "Dropout" and _is_true(node, 2)):
        return (
            f"the model is random: {node.op_type} at {name!r} draws new numbers in every run; export it in evaluation "
            "mode, and give a functional dropout `training=self.training`"
        )
    if node.op_type == "BatchNormalization" and node.attributes.get_int("training_mode", 0):
        return (
            f"the batch normalisation {name!r} is in training mode: it normalises over the batch; export the model in "
            "evaluation mode, with running statistics"
        )
    if node.op_type in _INTEGER or (node.domain == _MICROSOFT and node.op_type.startswith("QLinear")):
        return (
            f"the model is quantised already: {node.op_type} at {name!r} computes with integers and has no gradient; "
            "export the float model, and let --precision int8 quantise it"
        )
    if node.op_type == "QuantizeLinear" and node.outputs[0] in pixels:
        return (
            f"the model is quantised already: QuantizeLinear at {name!r} rounds what is computed and has no gradient; "
            "export the float model, and let --precision int8 quantise it"
        )
    return None


def _is_true(node: ir.Node, index: int) -> bool:
    value = node.inputs[index] if index < len(node.inputs) else None
    array = None if value is None else array_of(value)
    return array is not None and bool(array.all())
