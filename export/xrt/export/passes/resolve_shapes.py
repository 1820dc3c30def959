"""Resolving shapes: whatever does not depend on the pixels becomes a number.

Exporters leave arithmetic on shapes in the graph, and many files state no shapes. Instead of inferring them, the
graph is run at two batch sizes: a size that stays is a constant, one that grows in proportion is a multiple of the
batch; a value that does not depend on the pixels and stays is a constant; an index 0, 1, 2, … selects everything and is
a reshape. What is left is a graph of pixels, weights, and one dynamic size.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes import PassResult
from onnx_ir.passes.common import RemoveUnusedNodesPass

from xrt.export.ir.constants import initializer
from xrt.export.ir.dependence import dependents
from xrt.export.ir.plain_graph import PlainGraph
from xrt.export.ir.shapes import Batch
from xrt.export.ir.skeleton import Skeleton
from xrt.export.passes.base import GraphPass
from xrt.runtime.errors import BackendError, ModelError

BATCHES = (2, 3)
_DOUBLE = int(ir.DataType.DOUBLE)
_INDEPENDENT = 1e-3
"""Relative to the largest logit. Rounding between batch sizes is about 1e-6; a batch statistic changes far more."""


class ResolveShapes(GraphPass):
    """Constants, shapes of all values and reshapes, for a model with one input of images [n, C, H, W]."""

    def requires(self, model: ir.Model) -> None:
        """The output depends on the image. Raises ModelError."""
        _, pixels = dependents(model.graph)
        if model.graph.outputs[0] not in pixels:
            raise ModelError(f"output {model.graph.outputs[0].name!r} does not depend on the image")

    def call(self, model: ir.Model) -> PassResult:
        """Raises ModelError when ONNX Runtime cannot run it, or when images of a batch affect each other."""
        graph = model.graph
        sizes, pixels = dependents(graph)
        constants = [v for v in _node_outputs(graph) if v not in pixels and _feeds(v, pixels)]
        try:
            observations = _observe(model, BATCHES, constants, pixels | sizes, fixed=set(constants) - sizes)
        except BackendError as error:
            raise _does_not_run(model, error) from error
        _check_independence([observation.output for observation in observations])
        for value in pixels | sizes:
            value.shape = _shape([observation.shapes[str(value.name)] for observation in observations])
        _name_squeezed_axes(graph)
        for value in constants:
            first, second = (o.numbers.get(str(value.name)) for o in observations)
            if first is None:
                continue
            if second is None or np.array_equal(first, second, equal_nan=True):
                value.replace_all_uses_with(_constant(graph, value, first))
            elif value in sizes:
                for user, index in list(value.uses()):
                    _resolve_sizes(graph, user, index, (first, second))
        RemoveUnusedNodesPass()(model)
        return PassResult(model, True)

    def ensures(self, model: ir.Model) -> None:
        """The output has a shape."""
        if model.graph.outputs[0].shape is None:
            raise ValueError(f"output {model.graph.outputs[0].name!r} has no shape")


@dataclass(frozen=True)
class _Observation:
    """The results of one run of the graph: shapes and numbers by name, and the output."""

    shapes: dict[str, np.ndarray]
    numbers: dict[str, np.ndarray]
    output: np.ndarray


def observed_shapes(model: ir.Model, batch: int) -> dict[str, tuple[int, ...]]:
    """The shapes of all values that depend on the pixels, by name, at one batch size.

    Raises ModelError when the graph does not run.
    """
    _, pixels = dependents(model.graph)
    try:
        (observation,) = _observe(model, [batch], [], pixels)
    except BackendError as error:
        raise _does_not_run(model, error) from error
    return {name: tuple(shape.tolist()) for name, shape in observation.shapes.items()}


def _node_outputs(graph: ir.Graph) -> list[ir.Value]:
    return [v for node in graph for v in node.outputs if v.name]


def _feeds(value: ir.Value, pixels: set[ir.Value]) -> bool:
    return any(output in pixels for user, _ in value.uses() for output in user.outputs)


def observed_output(model: ir.Model) -> np.ndarray:
    """The first output for a few images of noise."""
    (observation,) = _observe(model, BATCHES[-1:], [], set())
    return observation.output


def observed_numbers(
    model: ir.Model, values: Sequence[ir.Value], batches: Sequence[int]
) -> list[dict[str, np.ndarray]]:
    """The numbers of values, by name, at each batch size. Raises BackendError when the graph does not run."""
    return [observation.numbers for observation in _observe(model, batches, values, set())]


def _observe(
    model: ir.Model,
    batches: Sequence[int],
    constants: Sequence[ir.Value],
    shape_values: set[ir.Value],
    fixed: Collection[ir.Value] = (),
) -> list[_Observation]:
    """Run at some batch sizes: for each the shapes of `shape_values`, the numbers of `constants`, and the output.

    The numbers of `fixed`, which do not depend on the batch, are those of the first run alone: transposed weights are
    among them, which are as large as the weights.
    """
    skeleton, image = Skeleton.of(model), model.graph.inputs[0]
    proto = skeleton.proto
    output = proto.graph.output[0].name
    del proto.graph.output[:]
    del proto.graph.value_info[:]
    shapes = {f"shape of {v.name}": str(v.name) for v in shape_values if v.name}
    for name, source in shapes.items():
        proto.graph.node.add(op_type="Shape", input=[source], output=[name])
    names = [*shapes, *{str(v.name) for v in constants}, output]
    fixed_names = {str(v.name) for v in fixed}
    proto.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    graph = PlainGraph(skeleton)
    images = _noise(image, max(batches))
    wanted = [names, *([n for n in names if n not in fixed_names] for _ in batches[1:])]
    runs = [graph.run({str(image.name): images[:n]}, ask) for n, ask in zip(batches, wanted, strict=True)]
    return [_Observation({source: run[name] for name, source in shapes.items()}, run, run[output]) for run in runs]


def _noise(image: ir.Value, count: int) -> np.ndarray:
    """Images for an input: normal in float, uniform in uint8."""
    size, rng = (count, *_fixed_sizes(image)), np.random.default_rng(0)
    if image.dtype == ir.DataType.UINT8:
        return rng.integers(0, 256, size=size, dtype=np.uint8)
    return rng.normal(size=size).astype(np.float32)


def _fixed_sizes(image: ir.Value) -> list[int]:
    sizes = list(image.shape or ())[1:]
    if not sizes or not all(isinstance(d, int) for d in sizes):
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
        raise ModelError("the output is not finite: the weights overflow, or the graph divides by zero; train it again")
    error = np.abs(first[:common] - second[:common]).max(initial=0)
    if not error <= _INDEPENDENT * (1 + np.abs(first).max(initial=0)):
        raise ModelError(
            f"the output for an image changes by {error:.2g} with the images beside it in the batch: "
            "the graph normalises over the batch, or has a batch size built in; export it in evaluation mode"
        )


def _does_not_run(model: ir.Model, error: BackendError) -> ModelError:
    """Whether it is the batch that keeps the graph from running: with some number of images it then does."""
    double = next((n for n in model.graph if n.op_type == "Cast" and n.attributes.get_int("to", 0) == _DOUBLE), None)
    if double is not None:
        return ModelError(f"{double.outputs[0].name!r} is double, and {error}: export the model in float32")
    for batch in (1, *BATCHES, 4, 8):
        with suppress(BackendError):
            _observe(model, [batch], [], set())
            return ModelError(
                f"the graph does not run on {BATCHES[0]} and {BATCHES[1]} images at once ({error}): export it with a "
                "dynamic batch and for this image size"
            )
    return ModelError(f"the graph does not run with any number of images: {error}; correct it, or export it again")


def _shape(shapes: Sequence[np.ndarray]) -> ir.Shape:
    dims: list[int | str | None] = []
    for first, second in zip(*(shape.tolist() for shape in shapes), strict=True):
        grows = first * BATCHES[1] == second * BATCHES[0] and first % BATCHES[0] == 0
        dims.append(first if first == second else str(Batch(first // BATCHES[0])) if grows else None)
    return ir.Shape(dims)


def _name_squeezed_axes(graph: ir.Graph) -> None:
    """Give every squeeze its axes: without them it would also remove a batch of one image."""
    for node in list(graph):
        source = node.inputs[0] if node.inputs else None
        if node.op_type != "Squeeze" or source is None or source.shape is None:
            continue
        if len(node.inputs) < 2 or node.inputs[1] is None:
            axes = np.array([i for i, d in enumerate(source.shape) if d == 1], dtype=np.int64)
            node.resize_inputs(2)
            node.replace_input_with(1, _constant(graph, node.outputs[0], axes))


def _resolve_sizes(graph: ir.Graph, user: ir.Node, index: int, numbers: tuple[np.ndarray, np.ndarray]) -> None:
    """Remove arithmetic on the batch size from a node that does not need it."""
    first, second = numbers
    if user.op_type == "Reshape" and index == 1:
        # The sizes of the result: the requested sizes may have a -1 besides the batch.
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
        # Every image is overwritten: an exporter's form of `x[:, …] = …`.
        update, output = user.inputs[2], user.outputs[0]
        if update is not None and update.shape == output.shape and output not in graph.outputs:
            output.replace_all_uses_with(update)


def _all_images(first: np.ndarray, second: np.ndarray) -> bool:
    return [first.shape, second.shape] == [(n, 1) for n in BATCHES] and _counts(first) and _counts(second)


def _counts(indices: np.ndarray) -> bool:
    return bool(np.array_equal(indices.ravel(), np.arange(indices.size)))


def _constant(graph: ir.Graph, like: ir.Value | None, array: np.ndarray) -> ir.Value:
    """A new initialiser, named after the value that it replaces."""
    return initializer(graph, f"resolved/{like.name if like is not None else 'constant'}", array)
