"""Grad-CAM for all classes inside the graph (Selvaraju et al. 2017, arXiv 1610.02391).

For a target activation A [n, K, h, w] and logit y_c: α_ck = mean over positions of ∂y_c/∂A_k, and
CAM_c = ReLU(Σ_k α_ck A_k). Where the gradient does not depend on the image (global average pooling and a linear head)
α is known at export time, and all maps together are one 1×1 convolution of A.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from xrt.export.autodiff import Emitter, Tensor, gradients
from xrt.export.target import Target, nearest_module
from xrt.runtime.bundle.manifest import CamSpec, GraphSpec


def explain(model: ir.Model, targets: Sequence[Target], explained: Sequence[int], signs: Sequence[float]) -> GraphSpec:
    """Append the maps of the logits `explained` at each target to the model's graph, in place.

    `signs` holds +1, or -1 where the map explains the absence of a logit (the negative class of a one-logit model).
    The first target's maps are the output `cams`, a further one's `cams.<layer>`. Returns the graph's description.
    Raises ModelError when an operator has no rule or a target does not reach the logits.
    """
    graph = model.graph
    logits = graph.outputs[0]
    modules = [nearest_module(target.value) for target in targets]
    emit = Emitter(graph)
    classes = int(logits.shape[1])  # type: ignore[index,arg-type]
    selection = np.eye(classes, dtype=np.float32)[list(explained)] * np.asarray(signs, dtype=np.float32)[:, None]
    # [C, 1, classes]: constant over the batch until a rule makes it otherwise.
    seed = emit.constant(selection[:, None, :])
    found = gradients(emit, logits, [target.value for target in targets], seed)
    specs = []
    for target, module, gradient in zip(targets, modules, found, strict=True):
        name = "cams" if not specs else f"cams.{target.layer}"
        cams = grad_cam(emit, emit.of(target.value), gradient)
        _output(graph, cams, name, logits)
        specs.append(
            CamSpec(
                output=name,
                layer=target.layer,
                tensor=str(target.value.name),
                module=module,
                channels=target.channels,
                height=target.height,
                width=target.width,
            )
        )
    return GraphSpec(
        image=str(graph.inputs[0].name),
        logits=str(logits.name),
        cams=tuple(specs),
        explained=tuple(explained),
        opset=model.graph.opset_imports[""],
    )


def grad_cam(emit: Emitter, activation: Tensor, gradient: Tensor) -> Tensor:
    """ReLU(Σ_k mean(∂y_c/∂A_k) A_k), [n, C, h, w], from A [n, K, h, w] and its gradient [C, n, K, h, w].

    Axes of the gradient that are constant have size 1.
    """
    batch, channels, height, width = activation.shape
    weights = emit.reduce("ReduceMean", gradient, [i for i in (3, 4) if gradient.shape[i] != 1])
    weights = emit.expand_axes(weights, (weights.shape[0], batch, channels, 1, 1), [2])
    classes = weights.shape[0]
    if weights.shape[1] == 1:
        kernel = emit.reshape(weights, (classes, channels, 1, 1))
        summed = emit("Conv", activation, kernel, shape=(batch, classes, height, width), kernel_shape=[1, 1])
    else:
        cells = int(height) * int(width)
        per_image = emit.transpose(emit.reshape(weights, (classes, batch, channels)), [1, 0, 2])
        flat = emit.reshape(activation, (batch, channels, cells))
        product = emit("MatMul", per_image, flat, shape=(batch, classes, cells))
        summed = emit.reshape(product, (batch, classes, height, width))
    return emit("Relu", summed)


def _output(graph: ir.Graph, tensor: Tensor, name: str, logits: ir.Value) -> None:
    value = tensor.value
    assert value is not None and logits.shape is not None
    value.name = name
    value.shape = ir.Shape([logits.shape[0], *tensor.shape[1:]])
    value.dtype = ir.DataType.FLOAT
    graph.outputs.append(value)
