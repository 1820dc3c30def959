"""Heatmaps of the CAM family inside the graph: for all classes, for some, or for each image's highest.

The gradient of the explained logits is taken with respect to every target activation in one backward pass; each
method then makes its maps from the activation and its gradient (see `methods`). Where the gradient does not
depend on the image (global average pooling and a linear head), it is known at export time, and all maps together
are one 1×1 convolution of the activation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from xrt.export.autodiff import Emitter, Tensor, gradients
from xrt.export.cams.methods import METHODS
from xrt.export.targets.layer_names import nearest_module
from xrt.export.targets.target import Target
from xrt.runtime.bundle.manifest import CamMethod, CamSpec, GraphSpec

CAM_CLASSES = "cam_classes"


@dataclass(frozen=True)
class Explained:
    """Which logits the maps explain: those listed, or the `top_k` highest of each image.

    `signs` holds +1 for every logit, or -1 where the map explains its absence (the negative class of a one-logit
    model).
    """

    signs: tuple[float, ...]
    classes: tuple[int, ...] | None = None
    top_k: int | None = None


def explain(
    model: ir.Model, targets: Sequence[Target], explained: Explained, methods: Sequence[CamMethod] = ("gradcam",)
) -> GraphSpec:
    """Append the maps of every method at each target to the model's graph, in place; returns its description.

    The first target's maps by the first method are the output `cams`; further ones are `cams.<layer>`,
    `cams.<method>` or `cams.<layer>.<method>`. Raises ModelError when an operator has no rule or a target does not
    reach the logits.
    """
    graph = model.graph
    logits = graph.outputs[0]
    modules = [nearest_module(target.value) for target in targets]
    emit = Emitter(graph)
    seed = seed_of(emit, logits, explained)
    found = gradients(emit, logits, [target.value for target in targets], seed)
    specs = []
    for target, module, gradient in zip(targets, modules, found, strict=True):
        layout = target.layout
        activation = layout.as_map(emit, emit.of(target.value))
        gradient = layout.as_map(emit, gradient)
        for method in methods:
            parts = [target.layer] * (target is not targets[0]) + [method] * (method != methods[0])
            name = ".".join(["cams", *parts])
            _output(graph, METHODS[method](emit, activation, gradient), name)
            specs.append(
                CamSpec(
                    output=name,
                    layer=target.layer,
                    tensor=str(target.value.name),
                    module=module,
                    channels=layout.channels,
                    height=layout.height,
                    width=layout.width,
                    method=method,
                )
            )
    return GraphSpec(
        image=str(graph.inputs[0].name),
        logits=str(logits.name),
        cams=tuple(specs),
        explained=explained.classes,
        top_k=explained.top_k,
        cam_classes=CAM_CLASSES if explained.top_k else None,
        opset=model.graph.opset_imports[""],
    )


def seed_of(emit: Emitter, logits: ir.Value, explained: Explained) -> Tensor:
    """The cotangent of the logits, [C, n or 1, logits]: one row of the signed identity for each explained class."""
    count = len(explained.signs)
    identity = np.diag(np.asarray(explained.signs, dtype=np.float32))
    if explained.top_k is None:
        # Constant over the batch until a rule makes it otherwise.
        return emit.constant(identity[list(explained.classes or ()), None, :])
    scores = emit.of(logits)
    batch, k = scores.shape[0], explained.top_k
    ranked = _top(emit, scores, k)
    columns = emit.reshape(emit.transpose(ranked, [1, 0]), (k, batch, 1))
    hit = emit("Equal", columns, emit.constant(np.arange(count)[None, None, :]))
    signs = emit.constant(np.asarray(explained.signs, dtype=np.float32)[None, None, :])
    return emit("Where", hit, signs, emit.constant(0.0, "float32"))


def _top(emit: Emitter, scores: Tensor, k: int) -> Tensor:
    """The indices of the k highest logits of each image, [n, k], which become the output `cam_classes`."""
    graph = emit.graph
    values, indices = ir.Value(name="explain/top_values"), ir.Value(name=CAM_CLASSES)
    size = emit.materialise(emit.constant([k], "int64"))
    graph.append(
        ir.node("TopK", [scores.value, size], {"axis": 1, "largest": 1, "sorted": 1}, outputs=[values, indices])
    )
    indices.shape, indices.dtype = ir.Shape([graph.outputs[0].shape[0], k]), ir.DataType.INT64  # type: ignore[index]
    graph.outputs.append(indices)
    return Tensor((scores.shape[0], k), value=indices)


def _output(graph: ir.Graph, tensor: Tensor, name: str) -> None:
    value = tensor.value
    assert value is not None
    value.name = name
    value.shape = ir.Shape([graph.outputs[0].shape[0], *tensor.shape[1:]])  # type: ignore[index,list-item]
    value.dtype = ir.DataType.FLOAT
    graph.outputs.append(value)
