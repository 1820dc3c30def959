"""Settling a graph: whatever does not depend on the pixels becomes a number.

Exporters leave arithmetic on shapes behind, and files of others often state no shapes at all. Instead of inferring
either, the graph is run at two batch sizes and looked at: a size that stays is a constant, one that grows in step is
a multiple of the batch; a value that reads no pixels and stays is a constant; an index that counts 0, 1, 2, … picks
nothing and is a reshape. What is left is a graph of pixels, weights, and one dynamic size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common

from xrt.export.autodiff.emitter import Batch
from xrt.export.graphs.plain_graph import PlainGraph
from xrt.runtime.errors import BackendError, ModelError

BATCHES = (2, 3)
_SIZE_OPERATORS = {"Shape", "Size"}
_INDEPENDENT = 1e-3
"""Relative to the largest logit. Rounding between batch sizes is about 1e-6; a batch statistic moves far more."""


def settle(model: ir.Model) -> np.ndarray:
    """Settle a model with one float input [n, C, H, W], in place: constants, shapes of all values, reshapes.

    Returns the output for a few images of noise. Raises ModelError when ONNX Runtime cannot run it, or when an image's
    output depends on its neighbours.
    """
    graph = model.graph
    sizes, pixels = dependents(graph)
    wanted = [v for v in _computed(graph) if v not in pixels and _feeds(v, pixels)]
    if graph.outputs[0] not in pixels:
        raise ModelError(f"output {graph.outputs[0].name!r} does not depend on the image")
    try:
        seen = _observe(model, BATCHES, wanted, pixels | sizes)
    except BackendError as error:
        raise ModelError(
            f"the graph does not run on {BATCHES[0]} and {BATCHES[1]} images at once ({error}): export it with a "
            "dynamic batch and for this image size"
        ) from error
    _check_independence([logits for _, _, logits in seen])
    for value in pixels | sizes:
        value.shape = _shape([shapes[str(value.name)] for shapes, _, _ in seen])
    _name_squeezed_axes(graph)
    for value in wanted:
        first, second = (values[str(value.name)] for _, values, _ in seen)
        if np.array_equal(first, second, equal_nan=True):
            value.replace_all_uses_with(_constant(graph, value, first))
        elif value in sizes:
            for user, index in list(value.uses()):
                _settle_sizes(graph, user, index, (first, second))
    onnx_ir.passes.common.RemoveUnusedNodesPass()(model)
    return seen[-1][2]


def observed_shapes(model: ir.Model, batch: int) -> dict[str, tuple[int, ...]]:
    """The shapes of all values that depend on the pixels, by name, as the graph has them at one batch size."""
    _, pixels = dependents(model.graph)
    ((shapes, _, _),) = _observe(model, [batch], [], pixels)
    return {name: tuple(shape.tolist()) for name, shape in shapes.items()}


def dependents(graph: ir.Graph) -> tuple[set[ir.Value], set[ir.Value]]:
    """The values that depend on the image's shape alone, and those that depend on its pixels."""
    sizes: set[ir.Value] = set()
    pixels = {graph.inputs[0]}
    for node in graph:
        reads = set(_reads(node))
        if reads & pixels:
            (sizes if node.op_type in _SIZE_OPERATORS else pixels).update(node.outputs)
        elif reads & sizes:
            sizes.update(node.outputs)
    return sizes, pixels


def _reads(node: ir.Node) -> Iterable[ir.Value]:
    """What a node reads, the values that its branches capture included."""
    yield from (v for v in node.inputs if v is not None)
    for attribute in node.attributes.values():
        for body in [attribute.value] if attribute.type == ir.AttributeType.GRAPH else []:
            for inner in body:
                yield from _reads(inner)


def _computed(graph: ir.Graph) -> list[ir.Value]:
    return [v for node in graph for v in node.outputs if v.name]


def _feeds(value: ir.Value, pixels: set[ir.Value]) -> bool:
    return any(output in pixels for user, _ in value.uses() for output in user.outputs)


def _observe(
    model: ir.Model, batches: Sequence[int], wanted: Sequence[ir.Value], shaped: set[ir.Value]
) -> list[tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]]:
    """Run at some batch sizes: for each the shapes of `shaped`, the numbers of `wanted`, and the output."""
    proto, image = ir.to_proto(model), model.graph.inputs[0]
    logits = proto.graph.output[0].name
    del proto.graph.output[:]
    del proto.graph.value_info[:]
    shapes = {f"shape of {v.name}": str(v.name) for v in shaped if v.name}
    for name, source in shapes.items():
        proto.graph.node.add(op_type="Shape", input=[source], output=[name])
    names = [*shapes, *{str(v.name) for v in wanted}, logits]
    proto.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    graph = PlainGraph(proto.SerializeToString())
    images = np.random.default_rng(0).normal(size=(max(batches), *_fixed_sizes(image))).astype(np.float32)
    found = [graph.run({str(image.name): images[:batch]}, names) for batch in batches]
    return [({source: f[name] for name, source in shapes.items()}, f, f[logits]) for f in found]


def _fixed_sizes(image: ir.Value) -> list[int]:
    sizes = list(image.shape or ())[1:]
    if len(sizes) != 3 or not all(isinstance(d, int) for d in sizes):
        raise ModelError(
            f"input {image.name!r} has the shape {image.shape}, not [n, C, H, W] with fixed C, H and W: "
            "give the height and width with --input-size"
        )
    return [int(d) for d in sizes]  # type: ignore[arg-type]


def _check_independence(logits: Sequence[np.ndarray]) -> None:
    first, second = logits
    common = min(len(first), len(second)) if first.ndim and second.ndim else 0
    if not common:
        raise ModelError("the output is a single number, not [n, classes]")
    if not all(np.isfinite(values).all() for values in logits):
        raise ModelError("the output is not finite: the weights overflow, or the graph divides by zero; train it anew")
    error = np.abs(first[:common] - second[:common]).max(initial=0)
    if not error <= _INDEPENDENT * (1 + np.abs(first).max(initial=0)):
        raise ModelError(
            f"the output for an image changes by {error:.2g} with the images beside it in the batch: "
            "the graph normalises over the batch, or has a batch size built in; export it in evaluation mode"
        )


def _shape(observed: Sequence[np.ndarray]) -> ir.Shape:
    dims: list[int | str | None] = []
    for first, second in zip(*(o.tolist() for o in observed), strict=True):
        grows = first * BATCHES[1] == second * BATCHES[0] and first % BATCHES[0] == 0
        dims.append(first if first == second else str(Batch(first // BATCHES[0])) if grows else None)
    return ir.Shape(dims)


def _name_squeezed_axes(graph: ir.Graph) -> None:
    """A squeeze without axes would take the batch away as well, were there but one image."""
    for node in list(graph):
        source = node.inputs[0] if node.inputs else None
        if node.op_type != "Squeeze" or source is None or source.shape is None:
            continue
        if len(node.inputs) < 2 or node.inputs[1] is None:
            axes = np.array([i for i, d in enumerate(source.shape) if d == 1], dtype=np.int64)
            node.resize_inputs(2)
            node.replace_input_with(1, _constant(graph, node.outputs[0], axes))


def _settle_sizes(graph: ir.Graph, user: ir.Node, index: int, observed: tuple[np.ndarray, np.ndarray]) -> None:
    """Take arithmetic on the batch size out of a node that needs none."""
    first, second = observed
    if user.op_type == "Reshape" and index == 1:
        # The sizes as they came out: those asked for may have a -1 besides the batch.
        sizes = np.array([d if isinstance(d, int) else -1 for d in user.outputs[0].shape or ()], dtype=np.int64)
        if np.count_nonzero(sizes == -1) == 1:
            user.replace_input_with(1, _constant(graph, user.inputs[1], sizes))
    elif user.op_type == "Gather" and index == 1 and _counts(first) and _counts(second):
        data, output = user.inputs[0], user.outputs[0]
        if output.shape is None or data is None or data.shape is None or len(data.shape) != 1:
            return
        sizes = np.array([d if isinstance(d, int) else -1 for d in output.shape], dtype=np.int64)
        reshape = ir.node("Reshape", [data, _constant(graph, user.inputs[1], sizes)], name=user.name)
        reshape.metadata_props.update(user.metadata_props)
        ir.convenience.replace_nodes_and_values(graph, user, [user], [reshape], [output], [reshape.outputs[0]])
        reshape.outputs[0].shape = output.shape
    elif user.op_type == "ScatterND" and index == 1 and _all_images(first, second):
        # Every image is written anew, as `x[:, …] = …` is spelt.
        written, output = user.inputs[2], user.outputs[0]
        if written is not None and written.shape == output.shape and output not in graph.outputs:
            output.replace_all_uses_with(written)


def _all_images(first: np.ndarray, second: np.ndarray) -> bool:
    return [first.shape, second.shape] == [(n, 1) for n in BATCHES] and _counts(first) and _counts(second)


def _counts(indices: np.ndarray) -> bool:
    return bool(np.array_equal(indices.ravel(), np.arange(indices.size)))


def _constant(graph: ir.Graph, like: Any, array: np.ndarray) -> ir.Value:
    """A new initialiser, named after the value whose place it takes."""
    name = base = f"settled/{like.name}"
    count = 1
    while name in graph.initializers:
        count += 1
        name = f"{base}_{count}"
    array = np.asarray(array, order="C")
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name), shape=ir.Shape(array.shape))
    value.dtype = ir.DataType.from_numpy(array.dtype)
    graph.register_initializer(value)
    return value
