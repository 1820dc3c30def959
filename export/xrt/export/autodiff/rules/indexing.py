"""Operators that select, repeat or resample elements along axes; all are linear maps known at export time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from xrt.export.autodiff.rules.scatter_adjoint import contract_axis, scatter_axis, slice_axis
from xrt.export.autodiff.table import Call, vjp
from xrt.export.ir.emitter import Tensor
from xrt.export.ir.limits import OPSET
from xrt.export.ir.shapes import Batch, Dim, Shape
from xrt.runtime.errors import ModelError


@vjp("Slice")
def _slice(call: Call) -> Sequence[Tensor | None]:
    g, rank = call.g, len(call.input_shape())
    starts, ends = call.integers("starts", 1) or [], call.integers("ends", 2) or []
    axes = call.integers("axes", 3) or list(range(len(starts)))
    steps = call.integers("steps", 4) or [1] * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        size = call.input_shape()[axis % rank]
        if isinstance(size, Batch):
            if size != call.outputs[0].shape[axis % rank] or step != 1:
                raise _batch_error(call)
        else:
            indices = np.arange(size)[start:end:step]
            g = scatter_axis(call.emit, g, 1 + axis % rank, indices, size)
    return [g]


@vjp("Gather")
def _gather(call: Call) -> Sequence[Tensor | None]:
    """The axes of the indices are merged into one, and the cotangent of each element goes back to its position."""
    emit, g = call.emit, call.g
    axis = call.attribute("axis", 0) % len(call.input_shape())
    size, indices = call.input_shape()[axis], call.x(1).array
    if indices is None:
        raise ModelError(
            f"node {call.node.name!r} gathers at indices computed at run time: export with static sizes, or choose a "
            "later --target-layer"
        )
    if isinstance(size, Batch):
        raise _batch_error(call)
    end = 1 + axis + indices.ndim
    if any(d != 1 for d in g.shape[1 + axis : end]):
        g = emit.expand_axes(g, (g.shape[0], *call.outputs[0].shape), range(1 + axis, end))
        extent = indices.size
    else:
        extent = 1
    g = emit.reshape(g, (*g.shape[: 1 + axis], extent, *g.shape[end:]))
    return [scatter_axis(emit, g, 1 + axis, indices.reshape(-1) % size, size)]


@vjp("Split")
def _split(call: Call) -> Sequence[Tensor | None]:
    """The parts concatenated again; an output on which nothing depends counts as zero."""
    emit, rank = call.emit, len(call.input_shape())
    axis = call.attribute("axis", 0) % rank
    size = call.input_shape()[axis]
    if isinstance(size, Batch):
        raise _batch_error(call)
    extents = [int(output.shape[axis]) for output in call.outputs]  # type: ignore[arg-type]
    starts = np.cumsum([0, *extents[:-1]])
    cotangents = [g for g in call.cotangents if g is not None]
    if len(cotangents) == len(extents) and len({_without_axis(g.shape, 1 + axis) for g in cotangents}) == 1:
        full_shapes = ((g.shape[0], *output.shape) for g, output in zip(cotangents, call.outputs, strict=True))
        parts = [
            emit.expand_axes(g, full_shape, [1 + axis]) for g, full_shape in zip(cotangents, full_shapes, strict=True)
        ]
        shape = (*cotangents[0].shape[: 1 + axis], size, *cotangents[0].shape[2 + axis :])
        return [emit("Concat", *parts, shape=shape, axis=1 + axis)]
    total: Tensor | None = None
    for g, start, extent in zip(call.cotangents, starts, extents, strict=True):
        if g is not None:
            part = scatter_axis(emit, g, 1 + axis, np.arange(start, start + extent), size)
            total = part if total is None else emit("Add", total, part)
    return [total]


def _without_axis(shape: Shape, axis: int) -> Shape:
    return (*shape[:axis], *shape[axis + 1 :])


@vjp("Pad")
def _pad(call: Call) -> Sequence[Tensor | None]:
    """The cotangent of a copied element goes back to its source; elements cut by negative padding get zero."""
    emit, g, rank = call.emit, call.g, len(call.input_shape())
    pads = call.integers("pads", 1) or []
    axes = call.integers("axes", 3) or list(range(rank))
    mode = call.attribute("mode", "constant")
    for axis, before, after in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        size = call.input_shape()[axis % rank]
        if not before and not after:
            continue
        if isinstance(size, Batch):
            raise _batch_error(call)
        source = np.arange(max(0, -before), size - max(0, -after))
        widths = (max(0, before), max(0, after))
        if mode == "constant":
            g = slice_axis(emit, g, 1 + axis % rank, widths[0], widths[0] + len(source))
        else:
            source = np.pad(source, widths, mode=mode)
        g = scatter_axis(emit, g, 1 + axis % rank, source, size)
    return [g]


@vjp("CumSum")
def _cumsum(call: Call) -> Sequence[Tensor | None]:
    """The sums are a product with a triangular matrix."""
    index = call.x(1).array
    if index is None:
        raise ModelError(f"node {call.node.name!r}: the axis of CumSum is computed at run time: export a constant")
    axis = int(index.reshape(-1)[0]) % len(call.input_shape())
    size = call.input_shape()[axis]
    if isinstance(size, Batch):
        raise _batch_error(call)
    matrix = np.tril(np.ones((size, size)), k=-1 if call.attribute("exclusive", 0) else 0)
    return [contract_axis(call.emit, call.g, 1 + axis, matrix.T if call.attribute("reverse", 0) else matrix)]


@vjp("Trilu")
def _trilu(call: Call) -> Sequence[Tensor | None]:
    """What was set to zero has no gradient."""
    *_, height, width = call.input_shape()
    diagonal = call.x(1).array if len(call.inputs) > 1 and call.inputs[1] is not None else np.zeros(1)
    if diagonal is None or isinstance(height, Batch) or isinstance(width, Batch):
        raise ModelError(f"node {call.node.name!r}: Trilu with a diagonal or sizes of run time: export with fixed ones")
    keep = np.triu if call.attribute("upper", 1) else np.tril
    mask = keep(np.ones((height, width), dtype=np.float32), k=int(diagonal.reshape(-1)[0]))
    return [call.emit("Mul", call.g, call.emit.constant(mask))]


@vjp("Tile")
def _tile(call: Call) -> Sequence[Tensor | None]:
    """Split each repeated axis into repetition and element, and sum over the first."""
    emit, g = call.emit, call.g
    for axis, (size, result) in enumerate(zip(call.input_shape(), call.outputs[0].shape, strict=True), start=1):
        repeats = _ratio(call, result, size)
        if repeats == 1:
            continue
        if g.shape[axis] == 1:
            g = emit("Mul", g, emit.constant(float(repeats), "float32"))
        else:
            split = emit.reshape(g, (*g.shape[:axis], repeats, size, *g.shape[axis + 1 :]))
            total = emit.reduce("ReduceSum", split, [axis])
            g = emit.reshape(total, (*total.shape[:axis], *total.shape[axis + 1 :]))
    return [g]


def _ratio(call: Call, result: Dim, size: Dim) -> int:
    if isinstance(result, Batch) != isinstance(size, Batch):
        raise _batch_error(call)
    return _multiple(result) // _multiple(size)


def _multiple(size: Dim) -> int:
    return size.multiple if isinstance(size, Batch) else size


@vjp("Resize")
def _resize(call: Call) -> Sequence[Tensor | None]:
    """Every mode is linear, one axis at a time: the node itself, run on an identity matrix, gives the axis's matrix."""
    if call.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise ModelError(f"node {call.node.name!r}: Resize that keeps the aspect ratio: give it sizes instead")
    rank = len(call.input_shape())
    axes = [axis % rank for axis in call.attribute("axes") or range(rank)]
    g = call.g
    for axis, (size, result) in enumerate(zip(call.input_shape(), call.outputs[0].shape, strict=True)):
        if size == result and call.attribute("coordinate_transformation_mode", "half_pixel") != "tf_crop_and_resize":
            continue
        if isinstance(size, Batch) or isinstance(result, Batch):
            raise _batch_error(call)
        g = contract_axis(call.emit, g, 1 + axis, _axis_matrix(call, axes.index(axis), size, result))
    return [g]


def _axis_matrix(call: Call, index: int, size: int, result: int) -> np.ndarray:
    """The matrix [result, size] from inputs to outputs along one axis; `index` counts the node's own axes."""
    mode = call.attribute("coordinate_transformation_mode", "half_pixel")
    if result == 1 and mode == "pytorch_half_pixel":
        # By definition the first element; ONNX's reference evaluator uses the position -1/2 instead of 0.
        return np.eye(size)[:1]
    arrays = [call.x(i).array if i < len(call.inputs) and call.inputs[i] is not None else None for i in (1, 2)]
    roi, scales = (np.zeros(0) if values is None else values.reshape(-1) for values in arrays)
    attributes = {
        name: attribute.value
        for name, attribute in call.node.attributes.items()
        if name not in ("axes", "keep_aspect_ratio_policy")
    }
    tensors: dict[str, np.ndarray] = {}
    if len(roi):
        tensors["roi"] = roi[[index, index + len(roi) // 2]].astype(np.float64)
    # Corners are aligned by sizes: a scale may give a fractional size, which runtimes round down first.
    if len(scales) and mode != "align_corners":
        tensors["scales"] = scales[[index]].astype(np.float32)
    else:
        tensors["sizes"] = np.array([result], dtype=np.int64)
    names = ["x", *(name if name in tensors else "" for name in ("roi", "scales", "sizes"))]
    node = onnx.helper.make_node("Resize", names, ["y"], **attributes)
    inputs = {"x": np.eye(size)[0], **tensors}
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in inputs.items()
    ]
    graph = onnx.helper.make_graph([node], "axis", values, [onnx.helper.make_empty_tensor_value_info("y")])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)])
    evaluator = ReferenceEvaluator(model)

    def resize(x: np.ndarray) -> np.ndarray:
        results: Any = evaluator.run(None, {**inputs, "x": x})
        return np.asarray(results[0])

    # Extrapolated values are constants, and add nothing to the derivative.
    offset = resize(np.zeros(size))
    return np.stack([resize(row) - offset for row in np.eye(size)], axis=1)


def _batch_error(call: Call) -> ModelError:
    return ModelError(f"node {call.node.name!r}: {call.node.op_type} along the batch: keep images apart in the model")
