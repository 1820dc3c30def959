"""Writing graphs as ONNX files, and reading them."""

from __future__ import annotations

import copy
from collections.abc import Collection

import onnx
import onnx.inliner
import onnx_ir as ir
import onnx_ir.passes.common as passes

from xrt.export.ir.limits import MAX_IR_VERSION, check_weights
from xrt.export.ir.skeleton import Skeleton
from xrt.runtime._io import first_line
from xrt.runtime.errors import ModelError

_LEAST_SIDE = 8
_LEAST_IR_VERSION = 4
"""Before it, initialisers must be listed as inputs."""


def serialise(model: ir.Model) -> bytes:
    """The model as one self-contained, checked ONNX file. Raises ModelError over 2 GiB or when the check fails."""
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)
    check_weights(size, str(model.graph.name or "the model"))
    try:
        onnx.checker.check_model(Skeleton.of(model).proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"the emitted graph is invalid: {first_line(error)}") from error
    return ir.to_proto(model).SerializeToString()


def image_input(proto: onnx.ModelProto, weights: Collection[str] = ()) -> onnx.ValueInfoProto:
    """The one input of a file. Initialisers that are listed as inputs, as before IR version 4, are none.

    Nor are the `weights` of a skeleton. Raises ModelError when there is another number of inputs.
    """
    weights = {*weights, *(tensor.name for tensor in proto.graph.initializer)}
    images = [value for value in proto.graph.input if value.name not in weights]
    if len(images) != 1:
        names = ", ".join(value.name for value in images) or "none"
        constants = [value.name for value in images if not _may_be_image(value)]
        remedy = (
            f"; {constants[0]} is no image: where the exporter left a constant out of the file, as Keras's does with "
            "the mean of a Normalization layer, remove that layer and state --mean and --std"
            if constants and len(constants) == len(images) - 1
            else ""
        )
        raise ModelError(f"the model must have one image input, it has {len(images)} ({names}){remedy}")
    return images[0]


def _may_be_image(value: onnx.ValueInfoProto) -> bool:
    dims = [d.dim_value for d in value.type.tensor_type.shape.dim]
    return len(dims) == 4 and (0 in dims or max(dims) >= _LEAST_SIDE)


def read_graph(file: Skeleton) -> ir.Model:
    """Any file as a graph: its image the only input, its functions inlined, an IR version that runtimes read.

    Raises ModelError when the graph is invalid.
    """
    proto = copy.deepcopy(file.proto)
    image = image_input(proto, file.weights)
    inputs = [image, *(value for value in proto.graph.input if value.name in file.weights)]
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)
    proto.ir_version = min(max(proto.ir_version, _LEAST_IR_VERSION), MAX_IR_VERSION)
    for opset in proto.opset_import:
        if opset.domain == "ai.onnx":
            opset.domain = ""
    if proto.functions:
        proto = onnx.inliner.inline_local_functions(proto)
    try:
        model = Skeleton(proto, file.weights).graph()
    except Exception as error:  # onnx-ir's errors have no common base
        raise ModelError(f"the graph is invalid: {first_line(error.__cause__ or error)}") from error
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        for value in node.inputs:
            if value is not None and not (value.producer() or value.is_graph_input() or value.is_initializer()):
                raise ModelError(f"the graph is invalid: {node.op_type} reads {value.name!r}, which nothing gives")
    return model


def parse(data: bytes) -> ir.Model:
    """The graph of a file, every node with a name of its own and every value with a type."""
    model = ir.from_proto(onnx.shape_inference.infer_shapes(onnx.load_from_string(data)))
    passes.NameFixPass()(model)
    return model
