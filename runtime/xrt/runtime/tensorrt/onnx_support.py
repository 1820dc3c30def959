"""What is refused in an ONNX file before TensorRT's parser sees it.

The parser reads uint8 zero points as int8 with a warning, which is wrong numbers instead of an error, and its message
about an int32 bias behind DequantizeLinear, as ONNX Runtime's quantiser writes it, does not say what to do. So the file
is read here first, with the package onnx that both extras bring.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xrt.runtime.bundle.manifest import Precision
from xrt.runtime.errors import BackendError

MAX_OPSET, MAX_IR = 20, 10
"""What the parser of TensorRT 10.3 reads."""
_OPERATOR_FORMAT = ("QLinear", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear")
_REMEDY = "TensorRT takes symmetric int8 with float biases: use the int8 variant made for the GPU"


def check_file(model: bytes) -> Precision:
    """Look for what TensorRT would misread or not read, and say in which precision the file computes.

    Returns `int8` for a file with QuantizeLinear, `fp16` for one with half-precision weights or casts, else `fp32`.
    Raises BackendError that names the node and the remedy.
    """
    import onnx
    from onnx import TensorProto

    try:
        parsed = onnx.load_from_string(model)
    except Exception as error:  # protobuf's exceptions have no common base with onnx's
        raise BackendError("the variant is not an ONNX file: export the bundle again") from error
    _check_versions(parsed)
    nodes = list(_nodes(parsed.graph))
    for node in nodes:
        if node.domain not in ("", "ai.onnx"):
            raise BackendError(
                f"{_named(node)} is an operator of {node.domain}, not of ONNX: TensorRT needs the plain file, "
                "as xrt export writes it"
            )
        if node.op_type.startswith(_OPERATOR_FORMAT):
            raise BackendError(f"{_named(node)} is quantised in operator format, not with Q/DQ pairs: {_REMEDY}")
    quantised = [node for node in nodes if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    if quantised:
        _check_quantised(quantised, _Values(parsed))
        return "int8"
    casts = (a.i for n in nodes if n.op_type == "Cast" for a in n.attribute if a.name == "to")
    weights = (tensor.data_type for tensor in parsed.graph.initializer)
    return "fp16" if TensorProto.FLOAT16 in {*casts, *weights} else "fp32"


def _check_versions(model: Any) -> None:
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if opset > MAX_OPSET or model.ir_version > MAX_IR:
        raise BackendError(
            f"the file has opset {opset} and IR version {model.ir_version}, TensorRT 10.3 reads up to {MAX_OPSET} and "
            f"{MAX_IR}: export the bundle again"
        )


class _Values:
    """Types of all tensors by name, and the constants among them."""

    def __init__(self, model: Any) -> None:
        import onnx

        self.types: dict[str, int] = {}
        self.constants: dict[str, Any] = {}
        inferred = onnx.shape_inference.infer_shapes(model).graph
        for value in (*inferred.input, *inferred.value_info, *inferred.output):
            self.types[value.name] = value.type.tensor_type.elem_type
        for tensor in inferred.initializer:
            self.constants[tensor.name] = tensor
        for node in inferred.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.constants[node.output[0]] = node.attribute[0].t
        self.types |= {name: tensor.data_type for name, tensor in self.constants.items()}


def _check_quantised(nodes: list[Any], values: _Values) -> None:
    import numpy as np
    from onnx import TensorProto, numpy_helper

    for node in nodes:
        if node.op_type == "DequantizeLinear" and values.types.get(node.input[0]) == TensorProto.INT32:
            raise BackendError(f"{_named(node)} carries an int32 bias, which TensorRT refuses: {_REMEDY}")
        zero = node.input[2] if len(node.input) > 2 else ""
        # Without a zero point QuantizeLinear makes uint8, and DequantizeLinear takes the type of its input.
        if zero:
            kind = values.types.get(zero, 0)
        elif node.op_type == "QuantizeLinear":
            kind = TensorProto.UINT8
        else:
            kind = values.types.get(node.input[0], 0)
        if kind != TensorProto.INT8:
            type_name = TensorProto.DataType.Name(kind).lower() if kind else "unknown"
            raise BackendError(
                f"{_named(node)} has a zero point of type {type_name}, which TensorRT would read as int8 and so "
                f"compute wrong numbers: {_REMEDY}"
            )
        if zero in values.constants and np.any(numpy_helper.to_array(values.constants[zero])):
            raise BackendError(f"{_named(node)} has a zero point other than 0: {_REMEDY}")


def _nodes(graph: Any) -> Iterator[Any]:
    """The nodes of a graph and of the branches and loops within."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _named(node: Any) -> str:
    return f"{node.op_type} {node.name or node.output[0]!r}"
