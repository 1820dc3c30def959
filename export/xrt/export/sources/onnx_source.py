"""An ONNX file of any exporter and operator set as a source."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from xrt.export.cams.explained_logits import ExplainedLogits
from xrt.export.ir.constants import array_of
from xrt.export.ir.limits import check_weights
from xrt.export.ir.operators import VALUE_KEEPING
from xrt.export.ir.serialisation import image_input, read_graph
from xrt.export.ir.skeleton import Skeleton
from xrt.export.passes.base import run_passes
from xrt.export.passes.channels_first import is_channels_last, take_channels_first
from xrt.export.passes.evaluation_mode import leave_training
from xrt.export.passes.expose_logits import ExposeLogits, final_activation
from xrt.export.passes.input_size import FixInputSize
from xrt.export.passes.order import file_passes, onnx_passes
from xrt.export.passes.resolve_shapes import observed_shapes
from xrt.export.passes.sigmoids import join_sigmoids
from xrt.export.references.onnx_reference import OnnxReference
from xrt.export.references.reference import Reference
from xrt.export.sources.base import Description, Source, SourceGraph
from xrt.export.sources.description import ModelFacts, Size, describe
from xrt.export.sources.stated_preprocessing import (
    NOTHING_STATED,
    config_beside,
    normalisation_of,
)
from xrt.export.targets.target import Target
from xrt.runtime._io import first_line, sha256_of
from xrt.runtime.bundle.manifest import CamSpec, Task
from xrt.runtime.errors import ModelError, UsageError
from xrt.train.models import Normalisation

_TASKS: dict[str, Task] = {"softmax": "multiclass", "sigmoid": "multilabel"}


@dataclass(frozen=True, kw_only=True)
class OnnxSource(Source):
    """A classifier of which only the graph exists: the content of an ONNX file, and the same in opset 18."""

    file: Skeleton
    opened: ir.Model

    def graph(self) -> OnnxGraph:
        """The file's graph at the input size. Raises ModelError when batch or shapes cannot be resolved."""
        model = self.opened.clone()
        name = _name_in(self.file, final_activation(model.graph)[0])
        logits = ExposeLogits()
        run_passes(model, onnx_passes(self.preprocessing.height, self.preprocessing.width, logits))
        return OnnxGraph(model, name, logits.activation, self.file, self.normalisation)


@dataclass(frozen=True)
class OnnxGraph(SourceGraph):
    """The graph of a file, and the file."""

    file: Skeleton
    normalisation: Normalisation

    def reference(self, targets: Sequence[Target], cams: Sequence[CamSpec], explained: ExplainedLogits) -> Reference:
        """The file itself, and float64 derivatives."""
        return OnnxReference(self.file, self.logits_name, self.model, targets, cams, explained, self.normalisation)


def from_onnx(path: Path, description: Description) -> OnnxSource:
    """A classifier from an ONNX file: float images in, channels first or last, logits or probabilities out.

    Raises ModelError when it cannot be read or is no such classifier.
    """
    if description.weights is not None:
        raise UsageError(f"{path.name} holds its own weights: leave out --weights")
    proto = _read(path)
    notes = tuple(f"input {name!r} is set to false: the model is in evaluation mode" for name in leave_training(proto))
    if is_channels_last(image := image_input(proto)):
        notes += (
            f"input {image.name!r} has its channels last, [n, H, W, channels]: the bundle transposes images for it",
        )
        take_channels_first(proto, image)
    join_sigmoids(proto)
    file = Skeleton.taken_from(proto)
    del proto
    model = open_graph(file, description.output)
    _, channels, *sides = list(model.graph.inputs[0].shape or ())
    _, activation = final_activation(model.graph)
    config = config_beside(path)
    size = (config.size if config else None) if description.input_size is None else description.input_size
    facts = ModelFacts(
        name=path.stem,
        origin=str(path),
        sha256=sha256_of(path.read_bytes()),
        channels=int(str(channels)),
        size=_size(path, sides, size),
        normalisation=normalisation_of(config, int(str(channels))) if config else None,
        normalisation_is_known=config is not None,
        preprocessing=config.preprocessing if config else NOTHING_STATED,
        count_logits=lambda size: (_count_logits(model.clone(), size), None),
        task=_TASKS.get(activation or ""),
        notes=notes,
    )
    return OnnxSource(file=file, opened=model, output=description.output, **describe(description, facts))


def open_graph(file: Skeleton, output: str | None) -> ir.Model:
    """The graph of a file in opset 18, with one float input and one output.

    Initialisers listed as inputs (as before IR version 4) are no longer inputs. `output` names the logits where the
    file has several outputs. Raises ModelError or UsageError.
    """
    proto = copy.deepcopy(file.proto)
    _choose_output(proto, output)
    _check_image(image_input(proto, file.weights))
    model = read_graph(Skeleton(proto, file.weights))
    if bad := [name for name, value in model.graph.initializers.items() if not _has_no_nan(value)]:
        raise ModelError(f"weights are not finite: {', '.join(bad[:3])}{' …' if len(bad) > 3 else ''}")
    run_passes(model, file_passes())
    return model


def _name_in(file: Skeleton, logits: ir.Value) -> str:
    """The name of the logits in the file itself: conversion may have added a reshape after them."""
    names = {name for node in file.proto.graph.node for name in node.output}
    value: ir.Value | None = logits
    while value is not None and value.name not in names:
        node = value.producer()
        value = node.inputs[0] if node is not None and node.op_type in VALUE_KEEPING else None
    return str((value or logits).name)


def _read(path: Path) -> onnx.ModelProto:
    try:
        proto = onnx.load(str(path))
    except Exception as error:  # protobuf's errors have no common base
        reason = first_line(error)
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
    output = next(value for value in proto.graph.output if name in (None, value.name))
    del proto.graph.output[:]
    proto.graph.output.append(output)


def _check_image(value: onnx.ValueInfoProto) -> None:
    tensor = value.type.tensor_type
    dims = [d.dim_value or d.dim_param or "?" for d in tensor.shape.dim]
    if tensor.elem_type != onnx.TensorProto.FLOAT:
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
        raise ModelError(
            f"input {value.name!r} is {kind}; export the model with a float32 input, normalisation outside"
        )
    if len(dims) != 4 or not isinstance(dims[1], int):
        raise ModelError(
            f"input {value.name!r} has the shape {dims}, neither [n, channels, height, width] nor [n, height, width, "
            "channels] with 1 or 3 channels"
        )


def _has_no_nan(value: ir.Value) -> bool:
    """Infinities may be meant, as in the mask of causal attention; what they do is seen in the output."""
    array = array_of(value)
    return array is None or array.dtype.kind != "f" or not bool(np.isnan(array).any())


def _size(path: Path, sides: Sequence[object], choice: Size | None) -> Size:
    """The size of the image, from the file and the user's choice."""
    if choice is None and not all(isinstance(side, int) for side in sides):
        raise UsageError(f"{path.name} takes images of any size: say which with --input-size")
    height, width = choice or (int(str(side)) for side in sides)
    if any(isinstance(own, int) and own != side for own, side in zip(sides, (height, width), strict=True)):
        file_size = " × ".join(str(side) if isinstance(side, int) else "any" for side in sides)
        raise UsageError(f"{path.name} takes images of {file_size} only: --input-size cannot change that")
    return height, width


def _count_logits(model: ir.Model, size: Size) -> int:
    FixInputSize(*size)(model)
    image, output = model.graph.inputs[0], model.graph.outputs[0]
    batch = image.shape[0] if image.shape is not None else 1
    shape = observed_shapes(model, batch if isinstance(batch, int) else 1).get(str(output.name))
    if shape is None:
        raise ModelError(f"output {output.name!r} does not depend on the image: name the logits with --output")
    # A squeeze without axes also removes a batch of one.
    return prod(shape) // (batch if isinstance(batch, int) else 1)
