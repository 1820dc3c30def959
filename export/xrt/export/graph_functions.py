"""ONNX in, ONNX out: gradients and heatmaps of any classifier's graph, without bundles, certificates or PyTorch models.

Both functions resolve the graph first: operator set 18, constants for everything that does not depend on the image, and
the batch as the only dynamic size. No PyTorch model is needed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir

from xrt.export.autodiff import backward
from xrt.export.cams.explained_logits import ExplainedLogits, parse_top_k
from xrt.export.cams.heatmaps import add_heatmaps, describe_heatmaps
from xrt.export.compile import find_targets
from xrt.export.ir.emitter import Emitter
from xrt.export.ir.serialisation import read_graph, serialise
from xrt.export.ir.shapes import Batch, Shape, fixed_size, shape_of
from xrt.export.ir.skeleton import Skeleton
from xrt.export.passes.base import run_passes
from xrt.export.passes.expose_logits import ExposeLogits
from xrt.export.passes.order import explained_passes, opset_passes, resolving_passes
from xrt.export.targets.layer_names import find_layer
from xrt.runtime._io import comma_list
from xrt.runtime.bundle.manifest import CamMethod
from xrt.runtime.errors import ModelError, UsageError

_LEAST_SIDE = 8
_INPUT_TYPES = {ir.DataType.FLOAT, ir.DataType.UINT8}


def gradients(model: onnx.ModelProto, of: str = "logits", wrt: Sequence[str] = ()) -> onnx.ModelProto:
    """The model with gradients of one of its tensors as further outputs.

    `of` names scores [n, classes], an output or any other tensor; `wrt` names tensors of the graph, the input, or torch
    module paths such as `layer4` (the module's output), where the exporter kept them. For each there is an
    output `grad.<name>`, float32 [classes, n, *shape]: entry [c, i] is the gradient of score c of image i. The
    model keeps its outputs; a fixed batch becomes dynamic. A uint8 input counts as a real number.

    Raises UsageError when `wrt` is empty, and ModelError, naming the tensor or node, when a tensor does not exist or
    does not reach `of`, an operator between them has no rule, or the graph cannot be resolved.
    """
    if not wrt:
        raise UsageError("name one tensor or more in wrt, such as wrt=['layer4']")
    graph_model = _read(model)
    graph = graph_model.graph
    outputs = [str(value.name) for value in graph.outputs]
    scores = _find(graph, of)
    names = {name: str(_find(graph, name).name) for name in wrt}
    # Passes look at the first output, and keep every output.
    graph.outputs[:] = [scores, *(value for value in graph.outputs if value is not scores)]
    run_passes(graph_model, resolving_passes())
    by_name = _values(graph)
    scores = by_name[str(scores.name)]
    emit = Emitter(graph, "gradient")
    seed = emit.constant(_identity(scores))
    targets = {name: by_name.get(tensor) for name, tensor in names.items()}
    if missing := [name for name, value in targets.items() if value is None]:
        raise ModelError(f"{missing[0]!r} does not reach {of!r}: choose another tensor")
    values = [value for value in targets.values() if value is not None]
    graph.outputs[:] = [by_name[name] for name in outputs]
    for name, value, gradient in zip(targets, values, backward(emit, scores, values, seed), strict=True):
        full: Shape = (seed.shape[0], *shape_of(value))
        gradient = emit.expand_axes(gradient, full, range(gradient.rank))
        # A node of its own: two tensors may have the same gradient.
        result = emit("Identity", gradient, shape=full).value
        if result is None:
            raise ModelError(f"the gradient at {name!r} does not depend on the batch: choose another tensor")
        result.name, result.dtype = f"grad.{name}", ir.DataType.FLOAT
        result.shape = ir.Shape([dim if isinstance(dim, int) else str(dim) for dim in full])
        graph.outputs.append(result)
    return onnx.load_from_string(serialise(graph_model))


def explain(
    model: onnx.ModelProto,
    *,
    method: CamMethod | Sequence[CamMethod] = "gradcam",
    layers: Sequence[str] = (),
    classes: str | Sequence[int] = "all",
) -> onnx.ModelProto:
    """The model with heatmaps: outputs `logits` [n, classes] and `cams`, float32 [n, maps, h, w], zero or more.

    `method` is one or more of gradcam, hirescam, gradcam++, xgradcam and layercam; `layers` names target layers, by
    default the last spatial one on every path to the logits. Further layers and methods give the outputs
    `cams.<layer>`, `cams.<method>` and `cams.<layer>.<method>`. `classes` is `all`, `top:K` (the K highest logits of
    each image, which are then the output `cam_classes`, int64 [n, K]), or indices of logits.

    A final softmax or sigmoid is removed, because heatmaps explain logits. Of several outputs, `logits` is used. Raises
    UsageError when `classes` selects nothing or `method` is unknown, ModelError when the model cannot be explained.
    """
    graph_model = _read(model)
    graph = graph_model.graph
    if len(graph.outputs) > 1:
        graph.outputs[:] = [_find(graph, "logits")]
    run_passes(graph_model, [*resolving_passes(), ExposeLogits()])
    sides = [fixed_size(dim) for dim in shape_of(graph.inputs[0])[2:]]
    if len(sides) != 2 or min(sides) < _LEAST_SIDE:
        size = " × ".join(map(str, sides))
        raise ModelError(f"the model takes images of {size}; heatmaps need {_LEAST_SIDE} pixels or more a side")
    explained = _explained_logits(fixed_size(shape_of(graph.outputs[0])[1]), classes)
    targets = find_targets(graph_model, layers)
    methods = (method,) if isinstance(method, str) else tuple(dict.fromkeys(method))
    spec = describe_heatmaps(graph_model, targets, explained, methods)
    add_heatmaps(graph_model, targets, explained, spec.cams)
    run_passes(graph_model, explained_passes())
    return onnx.load_from_string(serialise(graph_model))


def _read(model: onnx.ModelProto) -> ir.Model:
    """A copy of the model as a graph of opset 18. Raises ModelError."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model)
    graph_model = read_graph(Skeleton.taken_from(proto))
    image = graph_model.graph.inputs[0]
    if image.dtype not in _INPUT_TYPES:
        kind = "of no type" if image.dtype is None else image.dtype.name.lower()
        raise ModelError(f"input {image.name!r} is {kind}: images are float32 or uint8")
    run_passes(graph_model, opset_passes())
    return graph_model


def _values(graph: ir.Graph) -> dict[str, ir.Value]:
    """The input and everything that is computed, by name."""
    return {str(value.name): value for value in (*graph.inputs, *(v for node in graph for v in node.outputs))}


def _find(graph: ir.Graph, name: str) -> ir.Value:
    """The tensor of that name, or the output of the torch module of that path. Raises ModelError."""
    values = _values(graph)
    if name in values:
        return values[name]
    if name in graph.initializers:
        raise ModelError(f"{name!r} is a weight: gradients are taken at tensors that depend on the image")
    try:
        return find_layer(graph, name)
    except ModelError as error:
        outputs = comma_list([str(value.name) for value in graph.outputs])
        raise ModelError(f"the graph has no tensor {name!r}; its outputs are {outputs}; {error}") from None


def _identity(scores: ir.Value) -> np.ndarray:
    """One row for each class, float32 [classes, 1, *shape without the batch]. Raises ModelError for other shapes."""
    shape = shape_of(scores)
    if not shape or shape[0] != Batch() or any(isinstance(dim, Batch) for dim in shape[1:]):
        raise ModelError(f"{scores.name!r} has the shape [{', '.join(map(str, shape))}], not [n, classes]")
    sizes = [fixed_size(dim) for dim in shape[1:]]
    if sum(size != 1 for size in sizes) > 1:
        raise ModelError(f"{scores.name!r} has the shape [{', '.join(map(str, shape))}], not [n, classes]")
    classes = int(np.prod(sizes))
    return np.eye(classes, dtype=np.float32).reshape(classes, 1, *sizes)


def _explained_logits(logits: int, classes: str | Sequence[int]) -> ExplainedLogits:
    signs = (1.0,) * logits
    if classes == "all":
        return ExplainedLogits(signs, tuple(range(logits)))
    if isinstance(classes, str):
        if (top_k := parse_top_k(classes, logits)) is None:
            raise UsageError(f"classes is 'all', 'top:K' or indices of logits; given {classes!r}")
        return ExplainedLogits(signs, top_k=top_k)
    indices = tuple(dict.fromkeys(classes))
    if not indices or not all(0 <= index < logits for index in indices):
        raise UsageError(f"classes are indices from 0 to {logits - 1}; given {list(classes)}")
    return ExplainedLogits(signs, indices)
