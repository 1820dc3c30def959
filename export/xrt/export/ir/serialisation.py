"""Writing graphs as ONNX files, and reading them."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes

from xrt.export.ir.limits import check_weights
from xrt.runtime._io import first_line
from xrt.runtime.errors import ModelError


def serialise(model: ir.Model) -> bytes:
    """The model as one self-contained, checked ONNX file. Raises ModelError over 2 GiB or when the check fails."""
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)
    check_weights(size, str(model.graph.name or "the model"))
    proto = ir.to_proto(model)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"the emitted graph is invalid: {first_line(error)}") from error
    return proto.SerializeToString()


def parse(data: bytes) -> ir.Model:
    """The graph of a file, every node with a name of its own and every value with a type."""
    model = ir.from_proto(onnx.shape_inference.infer_shapes(onnx.load_from_string(data)))
    passes.NameFixPass()(model)
    return model
