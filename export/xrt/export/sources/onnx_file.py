"""An ONNX file alone, of any exporter and age, as a graph that can be explained."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import onnx
import onnx.version_converter
import onnx_ir as ir
import onnx_ir.passes.common

from xrt.export.autodiff.emitter import OPSET, array_of
from xrt.export.heads import expose_logits, final_activation
from xrt.export.settling import observed_shapes, settle
from xrt.export.sources.described import describe
from xrt.export.sources.source import Description, OnnxFile, Source
from xrt.export.tracing import MAX_BYTES, TracedModel
from xrt.runtime.bundle.manifest import Task
from xrt.runtime.errors import ModelError, UsageError

_TASKS: dict[str, Task] = {"softmax": "multiclass", "sigmoid": "multilabel"}


def from_onnx(path: Path, description: Description) -> Source:
    """A classifier from an ONNX file: float NCHW in, logits or probabilities out.

    Raises ModelError when it cannot be read or is no such classifier.
    """
    proto = _read(path)
    file = OnnxFile(proto.SerializeToString(), description.output)
    model = open_graph(file)
    image = model.graph.inputs[0]
    dims = list(image.shape or ())
    height, width = dims[2:]
    size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
    if size is not None and description.input_size not in (None, size):
        raise UsageError(f"{path.name} takes images of {size[0]} × {size[1]} only: --input-size cannot change that")
    _, activation = final_activation(model.graph)
    return describe(
        description,
        name=path.stem,
        origin=str(path),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        onnx_file=file,
        channels=int(dims[1]),  # type: ignore[arg-type]
        logits=_count_logits(model, size or description.input_size),
        size=size,
        task=_TASKS.get(activation or ""),
    )


def open_graph(file: OnnxFile) -> ir.Model:
    """The graph of a file with the opset that xrt emits, one float input, one output.

    Initialisers listed as inputs (as before IR version 4) are no longer inputs. Raises ModelError or UsageError.
    """
    proto = onnx.load_from_string(file.data)
    held = {tensor.name for tensor in proto.graph.initializer}
    images = [value for value in proto.graph.input if value.name not in held]
    if len(images) != 1:
        names = ", ".join(value.name for value in images) or "none"
        raise ModelError(f"the model must have one image input, it has {len(images)} ({names})")
    del proto.graph.input[:]
    proto.graph.input.append(images[0])
    _choose_output(proto, file.output)
    _check_image(images[0])
    if bad := [t.name for t in proto.graph.initializer if not _finite(t)]:
        raise ModelError(f"weights are not finite: {', '.join(bad[:3])}{' …' if len(bad) > 3 else ''}")
    model = ir.from_proto(_at_opset(proto))
    onnx_ir.passes.common.InlinePass()(model)
    return model


def load_graph(file: OnnxFile, height: int, width: int) -> TracedModel:
    """The settled graph of a file at one image size: the batch dynamic, a final softmax or sigmoid peeled off.

    Raises ModelError when the batch or the graph cannot be settled.
    """
    model = open_graph(file)
    name = str(final_activation(model.graph)[0].name)
    fix_size(model, height, width)
    free_batch(model)
    settle(model)
    _, activation = expose_logits(model)
    return TracedModel(model, logits_name=name, activation=activation)


def free_batch(model: ir.Model) -> None:
    """Make the batch dynamic where the file has one built in, in place.

    Reshapes to a constant shape that begins with the batch are given -1 there. Whether images then stay independent
    of each other is checked when the graph is settled.
    """
    graph = model.graph
    image = graph.inputs[0]
    assert image.shape is not None
    batch = image.shape[0]
    if isinstance(batch, int):
        shapes = observed_shapes(model, batch)
        for node in graph:
            if node.op_type == "Reshape" and node.inputs[1] is not None:
                _free_reshape(graph, node, shapes, batch)
    image.shape = ir.Shape(["n", *image.shape[1:]])
    for value in (v for node in graph for v in node.outputs):
        value.shape = None


def fix_size(model: ir.Model, height: int, width: int) -> None:
    """Give a model with dynamic spatial sizes the sizes that its user names, in place."""
    image = model.graph.inputs[0]
    assert image.shape is not None
    image.shape = ir.Shape([image.shape[0], image.shape[1], height, width])


def _free_reshape(graph: ir.Graph, node: ir.Node, shapes: dict[str, tuple[int, ...]], batch: int) -> None:
    sizes = array_of(node.inputs[1])  # type: ignore[arg-type]
    result = shapes.get(str(node.outputs[0].name))
    if sizes is None or result is None or not len(sizes) or sizes[0] in (0, -1) or result[0] % batch:
        return
    freed = np.array([-1, *result[1:]], dtype=np.int64)
    name = f"freed/{node.outputs[0].name}"
    value = ir.Value(name=name, const_value=ir.tensor(freed, name=name), shape=ir.Shape(freed.shape))
    value.dtype = ir.DataType.INT64
    graph.register_initializer(value)
    node.replace_input_with(1, value)


def _read(path: Path) -> onnx.ModelProto:
    try:
        proto = onnx.load(str(path))
    except FileNotFoundError as error:
        raise ModelError(f"{path}: {error.filename or 'a file with its weights'} is not there") from error
    except Exception as error:  # protobuf's errors have no common base
        raise ModelError(f"{path} is no ONNX file: {str(error).splitlines()[0]}") from error
    if not proto.graph.node:
        raise ModelError(f"{path} is no ONNX file: it has no graph")
    size = sum(len(t.raw_data) for t in proto.graph.initializer)
    if size >= MAX_BYTES:
        raise ModelError(f"the weights of {path} take {size / 2**30:.1f} GiB; one ONNX file holds 2 GiB")
    return proto


def _choose_output(proto: onnx.ModelProto, name: str | None) -> None:
    names = [value.name for value in proto.graph.output]
    if name is None and len(names) != 1:
        raise UsageError(
            f"the model has {len(names)} outputs: say which are the logits with --output {'|'.join(names)}"
        )
    if name is not None and name not in names:
        raise UsageError(f"the model has no output {name!r}: it has {', '.join(names)}")
    chosen = next(value for value in proto.graph.output if name in (None, value.name))
    del proto.graph.output[:]
    proto.graph.output.append(chosen)


def _check_image(value: onnx.ValueInfoProto) -> None:
    tensor = value.type.tensor_type
    dims = [d.dim_value or d.dim_param or "?" for d in tensor.shape.dim]
    if tensor.elem_type != onnx.TensorProto.FLOAT:
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
        raise ModelError(
            f"input {value.name!r} is {kind}; export the model with a float32 input, normalisation outside"
        )
    if len(dims) != 4 or not isinstance(dims[1], int):
        remedy = " (n, H, W, C: export it with channels first)" if len(dims) == 4 and dims[3] in (1, 3) else ""
        raise ModelError(f"input {value.name!r} has the shape {dims}, not [n, channels, height, width]{remedy}")
    if dims[1] not in (1, 3) and dims[3] in (1, 3):
        raise ModelError(f"input {value.name!r} has the shape {dims}, channels last: export it with channels first")


def _finite(tensor: onnx.TensorProto) -> bool:
    if tensor.data_type not in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16):
        return True
    return bool(np.isfinite(onnx.numpy_helper.to_array(tensor)).all())


def _at_opset(proto: onnx.ModelProto) -> onnx.ModelProto:
    version = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 1)
    if version == OPSET:
        return proto
    if proto.ir_version < 4:
        proto.ir_version = 8
    del proto.graph.value_info[:]
    try:
        return onnx.version_converter.convert_version(proto, OPSET)
    except Exception as error:  # the converter raises RuntimeError and its own
        reason = re.sub(r"^.*?:\d+:\s*\S+:\s*", "", str(error).splitlines()[0])
        raise ModelError(
            f"the graph is of opset {version} and cannot be converted to {OPSET}: {reason}; export it anew with {OPSET}"
        ) from error


def _count_logits(model: ir.Model, size: tuple[int, int] | None) -> int:
    if size is None:
        raise UsageError("the model takes images of any size: say which with --input-size")
    fix_size(model, *size)
    shape = observed_shapes(model, 1)[str(model.graph.outputs[0].name)]
    return shape[1] if len(shape) > 1 else 1
