"""Proving a gradient of a graph: along random directions, the logits change as it says.

The change is a central difference through the tail of the graph in float64. A wrong gradient agrees with random
directions only with probability zero. A right one may disagree where a kink lies within the step, or where rounding to
fp32 puts a unit on the other side of one, so several images and directions are asked and most of them decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from jaxtyping import Float, Float32, Int

from xrt.export.ir.skeleton import Skeleton
from xrt.export.references.float64 import Float64Graph
from xrt.runtime.errors import ModelError

IMAGES = 7
DIRECTIONS = 2
ENOUGH = 4
"""So many tries that all agree end the search; free: two images of two directions each."""
STEPS = (1e-6, 1e-8, 1e-10)
"""Relative to the activation's largest value; a smaller one is taken where a kink lies within. Float64 leaves
nine, seven or five digits of the difference."""
KINK = 1e-4
"""A kink is within the step where the differences to both sides disagree by so much, relative to the largest."""
TOLERANCE = 1e-3
"""Relative to the largest directional derivative. The gradient is fp32: rounding is 1e-6 to 1e-4 of it."""


class Tail:
    """The part of a graph after a tensor, in float64; `sources` are the other computed values that it reads."""

    def __init__(self, model: Skeleton, tensor: str) -> None:
        self.tensor = tensor
        tail, self.sources = _after(model, tensor)
        self._graph = Float64Graph(tail.proto, tail.weights)

    def logits(
        self, activation: Float[np.ndarray, "1 ..."], others: Mapping[str, np.ndarray]
    ) -> Float[np.ndarray, " logits"]:
        """The logits of one image, when the tensor is `activation` and the sources are `others`."""
        return self._graph.run({**others, self.tensor: activation})[0].reshape(-1)


@dataclass(frozen=True)
class Point:
    """One image: the activation, what else the tail reads, and the gradient, a map for each of the logits `columns`."""

    activation: Float[np.ndarray, "1 ..."]
    others: Mapping[str, np.ndarray]
    gradients: Float32[np.ndarray, "maps 1 ..."]
    columns: Int[np.ndarray, " maps"]


def prove_gradient(tail: Tail, points: Iterable[Point], signs: Float[np.ndarray, " logits"]) -> None:
    """Compare gradients with directional derivatives, image by image, until enough agree.

    `signs` are what each logit is multiplied by. Raises ModelError when most of the tries disagree.
    """
    rng, errors = np.random.default_rng(0), []
    for point in points:
        x = point.activation.astype(np.float64)
        start = tail.logits(x, point.others)
        for _ in range(DIRECTIONS):
            direction = rng.normal(size=x.shape) * _smooth(x)
            expected = (_slope(tail, point, start, direction) * signs)[point.columns]
            gradients = np.broadcast_to(point.gradients, (len(point.gradients), *x.shape)).astype(np.float64)
            actual = (gradients * direction).reshape(len(gradients), -1).sum(axis=1)
            errors.append(np.abs(actual - expected).max() / max(np.abs(expected).max(), 1e-12))
        if len(errors) >= ENOUGH and max(errors) <= TOLERANCE:
            return
    # Of an even number, the worse of the two in the middle: most must agree, not half.
    error = float(np.quantile(errors, 0.5, method="higher"))
    if not error <= TOLERANCE:
        raise ModelError(
            f"the gradient at {tail.tensor!r} differs from a float64 directional derivative by {error:.2g} of its "
            f"largest value, the limit is {TOLERANCE:g}: choose another --target-layer"
        )


def _slope(
    tail: Tail, point: Point, start: Float[np.ndarray, " logits"], direction: Float[np.ndarray, "1 ..."]
) -> Float[np.ndarray, " logits"]:
    """The derivative of the logits along a direction, by the largest step within which there is no kink."""
    x, slope = point.activation.astype(np.float64), np.zeros_like(start)
    for relative in STEPS:
        step = relative * max(np.abs(x).max(), 1e-3)
        after = (tail.logits(x + step * direction, point.others) - start) / step
        before = (start - tail.logits(x - step * direction, point.others)) / step
        slope = (after + before) / 2
        if np.abs(after - before).max() <= KINK * np.abs(slope).max():
            break
    return slope


def _smooth(activation: Float[np.ndarray, "1 ..."]) -> np.ndarray:
    """Where an activation may be changed: not where its value occurs more than once, as the zeros after a ReLU do.

    At equal values a maximum has no derivative, only one-sided ones. Where nearly all are equal, all are changed.
    """
    _, inverse, counts = np.unique(activation, return_inverse=True, return_counts=True)
    unique = (counts == 1)[inverse].reshape(activation.shape)
    return unique if unique.mean() > 0.01 else np.ones_like(unique)


def _after(model: Skeleton, tensor: str) -> tuple[Skeleton, Sequence[str]]:
    """The part of a graph after a tensor, and the other computed values that it reads."""
    whole = model.proto.graph
    dependents, nodes = {tensor}, []
    for node in whole.node:
        if any(name in dependents for name in node.input):
            dependents.update(node.output)
            nodes.append(node)
    constants = {*model.weights, *(t.name for t in whole.initializer)}
    outputs = {name for node in nodes for name in node.output}
    inputs = dict.fromkeys(name for node in nodes for name in node.input if name)
    sources = [name for name in inputs if name not in outputs and name not in constants]
    weights = {name: weight for name, weight in model.weights.items() if name in inputs}
    types = {v.name: v.type.tensor_type.elem_type for v in (*whole.value_info, *whole.input)}
    tail = onnx.ModelProto(ir_version=model.proto.ir_version, opset_import=model.proto.opset_import)
    tail.graph.name = whole.name
    tail.graph.node.extend(nodes)
    tail.graph.output.extend(whole.output)
    tail.graph.initializer.extend(t for t in whole.initializer if t.name in inputs)
    tail.graph.input.extend(
        onnx.helper.make_tensor_value_info(name, types.get(name, onnx.TensorProto.FLOAT), None)
        for name in (*sources, *weights)
    )
    return Skeleton(tail, weights), [name for name in sources if name != tensor]
