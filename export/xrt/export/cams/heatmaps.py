"""Heatmaps of the CAM family inside the graph: for all classes, for some, or for each image's highest.

The gradient of the explained logits is taken with respect to every target activation in one backward pass; each
method then makes its maps from the activation and its gradient (see `methods`). Where the gradient does not
depend on the image (global average pooling and a linear head), it is known at export time, and all maps together are
one 1×1 convolution of the activation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.tape import Tape

from xrt.export.autodiff import backward
from xrt.export.cams.explained_logits import ExplainedLogits
from xrt.export.cams.methods import METHODS
from xrt.export.ir.emitter import Emitter, Tensor
from xrt.export.ir.names import CAM_CLASSES
from xrt.export.targets.layer_names import nearest_module
from xrt.export.targets.target import Target
from xrt.runtime.bundle.manifest import CamMethod, CamSpec, GraphSpec


def describe_heatmaps(
    model: ir.Model, targets: Sequence[Target], explained: ExplainedLogits, methods: Sequence[CamMethod] = ("gradcam",)
) -> GraphSpec:
    """Describe the graph that will have the maps of every method at each target.

    The first target's maps by the first method are the output `cams`; further ones are `cams.<layer>`,
    `cams.<method>` or `cams.<layer>.<method>`.
    """
    graph = model.graph
    specs = []
    for target in targets:
        for method in methods:
            parts = [target.layer] * (target is not targets[0]) + [method] * (method != methods[0])
            specs.append(
                CamSpec(
                    output=".".join(["cams", *parts]),
                    layer=target.layer,
                    tensor=str(target.value.name),
                    module=nearest_module(target.value),
                    channels=target.layout.channels,
                    height=target.layout.height,
                    width=target.layout.width,
                    method=method,
                )
            )
    return GraphSpec(
        image=str(graph.inputs[0].name),
        logits=str(graph.outputs[0].name),
        cams=tuple(specs),
        explained=explained.classes,
        top_k=explained.top_k,
        cam_classes=CAM_CLASSES if explained.top_k else None,
        opset=model.graph.opset_imports[""],
    )


def add_heatmaps(
    model: ir.Model, targets: Sequence[Target], explained: ExplainedLogits, cams: Sequence[CamSpec]
) -> int:
    """Append gradients and maps to the model's graph, in place, as `describe_heatmaps` describes them.

    Returns how many numbers they compute for one image. Raises ModelError when an operator has no rule or a target does
    not reach the logits.
    """
    graph = model.graph
    logits = graph.outputs[0]
    emit = Emitter(graph)
    seed = seed_of(emit, logits, explained)
    gradients = backward(emit, logits, [target.value for target in targets], seed)
    for target, gradient in zip(targets, gradients, strict=True):
        activation = target.layout.as_map(emit, emit.of(target.value))
        gradient = target.layout.as_map(emit, gradient)
        for cam in cams:
            if cam.tensor == target.value.name:
                _add_output(emit, METHODS[cam.method](emit, activation, gradient), cam.output)
    return emit.elements


def seed_of(emit: Emitter, logits: ir.Value, explained: ExplainedLogits) -> Tensor:
    """The cotangent of the logits, [C, n or 1, logits]: one row of the signed identity for each explained class."""
    count = len(explained.signs)
    identity = np.diag(np.asarray(explained.signs, dtype=np.float32))
    if explained.top_k is None:
        # Constant over the batch, until a rule lets it depend on the image.
        return emit.constant(identity[list(explained.classes or ()), None, :])
    scores = emit.of(logits)
    batch, k = scores.shape[0], explained.top_k
    top = _top(emit, scores, k)
    columns = emit.reshape(emit.transpose(top, [1, 0]), (k, batch, 1))
    is_top = emit("Equal", columns, emit.constant(np.arange(count)[None, None, :]))
    signs = emit.constant(np.asarray(explained.signs, dtype=np.float32)[None, None, :])
    return emit("Where", is_top, signs, emit.constant(0.0, "float32"))


def _top(emit: Emitter, scores: Tensor, k: int) -> Tensor:
    """The indices of the k highest logits of each image, [n, k], which become the output `cam_classes`."""
    graph = emit.graph
    values, indices = ir.Value(name="explain/top_values"), ir.Value(name=CAM_CLASSES)
    size = emit.materialise(emit.constant([k], "int64"))
    Tape(graph).op_multi_out(
        "TopK", [scores.value, size], {"axis": 1, "largest": 1, "sorted": 1}, outputs=[values, indices]
    )
    indices.shape, indices.dtype = ir.Shape([str(scores.shape[0]), k]), ir.DataType.INT64
    graph.outputs.append(indices)
    return Tensor((scores.shape[0], k), value=indices)


def _add_output(emit: Emitter, maps: Tensor, name: str) -> None:
    """Make maps [n, classes, h, w] an output of that name."""
    value = emit.materialise(maps)
    value.name = name
    value.shape = ir.Shape([dim if isinstance(dim, int) else str(dim) for dim in maps.shape])
    value.dtype = ir.DataType.FLOAT
    emit.graph.outputs.append(value)
