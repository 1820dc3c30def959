"""An ONNX file alone, of any exporter and age, as a graph that can be explained."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
import onnx.version_converter
import onnx_ir as ir

from xrt.export.autodiff.emitter import OPSET
from xrt.export.graphs.heads import SHAPING, expose_logits, final_activation
from xrt.export.graphs.limits import MAX_IR_VERSION, check_weights
from xrt.export.graphs.settling import observed_shapes, settle
from xrt.export.graphs.tracing import TracedModel
from xrt.export.sources import newer
from xrt.export.sources.batch import free_batch
from xrt.export.sources.described import describe
from xrt.export.sources.source import Description, OnnxFile, Source
from xrt.runtime.bundle.manifest import Task
from xrt.runtime.errors import ModelError, UsageError

_IR_VERSIONS = (4, MAX_IR_VERSION)
"""Below 4 initialisers must be listed as inputs; above, older runtimes refuse the file."""
_FACE = r"image|cams(\..*)?|cam_classes"
_TASKS: dict[str, Task] = {"softmax": "multiclass", "sigmoid": "multilabel"}


def from_onnx(path: Path, description: Description) -> Source:
    """A classifier from an ONNX file: float NCHW in, logits or probabilities out.

    Raises ModelError when it cannot be read or is no such classifier.
    """
    if description.weights is not None:
        raise UsageError(f"{path.name} holds its own weights: leave out --weights")
    proto = _read(path)
    file = OnnxFile(proto.SerializeToString(), description.output)
    model = open_graph(file)
    image = model.graph.inputs[0]
    dims = list(image.shape or ())
    size = _size(path, dims[2:], description.input_size)
    _, activation = final_activation(model.graph)
    return describe(
        description,
        name=path.stem,
        origin=str(path),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        onnx_file=file,
        channels=int(dims[1]),  # type: ignore[arg-type]
        logits=_count_logits(model, size),
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
    proto.ir_version = min(max(proto.ir_version, _IR_VERSIONS[0]), _IR_VERSIONS[1])
    if proto.functions:
        proto = onnx.inliner.inline_local_functions(proto)
    newer.lower(proto)
    proto = _at_opset(proto)
    _check_precision(proto)
    try:
        model = ir.from_proto(proto)
    except Exception as error:  # onnx-ir's errors have no common base
        raise ModelError(f"the graph is invalid: {str(error.__cause__ or error).splitlines()[0]}") from error
    _free_names(model)
    return model


def load_graph(file: OnnxFile, height: int, width: int) -> TracedModel:
    """The settled graph of a file at one image size: the batch dynamic, a final softmax or sigmoid peeled off.

    Raises ModelError when the batch or the graph cannot be settled.
    """
    model = open_graph(file)
    name = _name_in(file, final_activation(model.graph)[0])
    fix_size(model, height, width)
    free_batch(model)
    _, activation = expose_logits(model, settle(model))
    return TracedModel(model, logits_name=name, activation=activation)


def _free_names(model: ir.Model) -> None:
    """Rename what a file happens to call as the bundle calls its inputs and outputs, in place."""
    graph = model.graph
    held = [*graph.initializers.values(), *(output for node in graph for output in node.outputs)]
    for value in held:
        if value.name and value not in graph.outputs and re.fullmatch(_FACE, value.name):
            value.name = f"file/{value.name}"


def _name_in(file: OnnxFile, logits: ir.Value) -> str:
    """What the logits are called in the file itself: conversion may have put a reshape of its own behind them."""
    known = {name for node in onnx.load_from_string(file.data).graph.node for name in node.output}
    value: ir.Value | None = logits
    while value is not None and value.name not in known:
        node = value.producer()
        value = node.inputs[0] if node is not None and node.op_type in SHAPING else None
    return str((value or logits).name)


def fix_size(model: ir.Model, height: int, width: int) -> None:
    """Give a model with dynamic spatial sizes the sizes that its user names, in place."""
    image = model.graph.inputs[0]
    assert image.shape is not None
    image.shape = ir.Shape([image.shape[0], image.shape[1], height, width])


def _read(path: Path) -> onnx.ModelProto:
    try:
        proto = onnx.load(str(path))
    except Exception as error:  # protobuf's errors have no common base
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        if not path.exists():
            raise ModelError(f"{path} is not there") from error
        if isinstance(error, (FileNotFoundError, onnx.checker.ValidationError)):
            raise ModelError(f"the weights beside {path} cannot be read: {reason}; put them where it says") from error
        raise ModelError(f"{path} is no ONNX file: {reason}") from error
    if not proto.graph.node:
        raise ModelError(f"{path} is no ONNX file: it has no graph")
    check_weights(proto.ByteSize(), str(path))
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


def _check_precision(proto: onnx.ModelProto) -> None:
    """Gradients are emitted in float32. Raises ModelError for a graph that computes in half precision."""
    half: dict[int, str] = {onnx.TensorProto.FLOAT16: "float16", onnx.TensorProto.BFLOAT16: "bfloat16"}
    kinds = [(tensor.name, tensor.data_type) for tensor in proto.graph.initializer]
    kinds += [(node.output[0], a.i) for node in proto.graph.node for a in node.attribute if node.op_type == "Cast"]
    found = next(((name, half[kind]) for name, kind in kinds if kind in half), None)
    if found is not None:
        raise ModelError(f"{found[0]!r} is {found[1]}: export the model in float32")


def _finite(tensor: onnx.TensorProto) -> bool:
    if tensor.data_type not in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16):
        return True
    return bool(np.isfinite(onnx.numpy_helper.to_array(tensor)).all())


def _at_opset(proto: onnx.ModelProto) -> onnx.ModelProto:
    version = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 1)
    del proto.graph.value_info[:]
    try:
        if version == OPSET:
            return onnx.shape_inference.infer_shapes(proto)
        return onnx.version_converter.convert_version(proto, OPSET)
    except Exception as error:  # the converter raises RuntimeError and its own
        reason = re.sub(r"^.*?:\d+:\s*\S+:\s*", "", str(error).splitlines()[0])
        raise ModelError(
            f"the graph is of opset {version} and cannot be converted to {OPSET}: {reason}; export it anew with {OPSET}"
        ) from error


def _size(path: Path, fixed: Sequence[object], wanted: tuple[int, int] | None) -> tuple[int, int]:
    """The size of the image, from what the file fixes and what its user wants."""
    if wanted is None and not all(isinstance(side, int) for side in fixed):
        raise UsageError(f"{path.name} takes images of any size: say which with --input-size")
    sides = wanted or tuple(int(str(side)) for side in fixed)
    if any(isinstance(have, int) and have != want for have, want in zip(fixed, sides, strict=True)):
        only = " × ".join(str(side) if isinstance(side, int) else "any" for side in fixed)
        raise UsageError(f"{path.name} takes images of {only} only: --input-size cannot change that")
    return sides[0], sides[1]


def _count_logits(model: ir.Model, size: tuple[int, int]) -> int:
    fix_size(model, *size)
    image, output = model.graph.inputs[0], model.graph.outputs[0]
    batch = image.shape[0] if image.shape is not None else 1
    shape = observed_shapes(model, batch if isinstance(batch, int) else 1).get(str(output.name))
    if shape is None:
        raise ModelError(f"output {output.name!r} does not depend on the image: name the logits with --output")
    # A squeeze without axes takes a batch of one away with the rest.
    return prod(shape) // (batch if isinstance(batch, int) else 1)
