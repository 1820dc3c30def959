"""The end of a graph: logits as [n, classes], with a final softmax or sigmoid peeled off.

A heatmap explains a logit. Behind a saturated sigmoid or a softmax the gradient vanishes or mixes classes, so what
comes behind the logits is taken off the graph; the runtime applies it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import onnx_ir as ir

from xrt.export.autodiff.emitter import Batch, Dim, shape_of
from xrt.export.targets.layout import MIXING
from xrt.runtime.errors import ModelError

Activation = Literal["softmax", "sigmoid"]
_ACTIVATIONS: dict[str, Activation] = {"LogSoftmax": "softmax", "Sigmoid": "sigmoid", "Softmax": "softmax"}
SHAPING = {"Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"}
"""Operators that leave the numbers as they are."""


def final_activation(graph: ir.Graph) -> tuple[ir.Value, Activation | None]:
    """The first output's logits and the activation behind them, or the output itself and None."""
    value = graph.outputs[0]
    while (node := value.producer()) is not None and node.inputs and node.inputs[0] is not None:
        if node.op_type in _ACTIVATIONS:
            return node.inputs[0], _ACTIVATIONS[node.op_type]
        if node.op_type not in SHAPING:
            break
        value = node.inputs[0]
    return graph.outputs[0], None


def expose_logits(model: ir.Model, observed: np.ndarray) -> tuple[str, Activation | None]:
    """Make the logits [n, classes] the only output, called `logits`, in place.

    `observed` is its output for a few images. Returns the name that the logits had in the graph before, and the
    activation that was behind them. Raises ModelError when the output is no such thing, probabilities of another
    making included.
    """
    graph = model.graph
    value, activation = final_activation(graph)
    if activation is None and (sign := _sign_of_probabilities(graph, observed)):
        raise ModelError(
            f"output {graph.outputs[0].name!r} holds probabilities ({sign}), and no softmax or sigmoid alone makes "
            "them that could be taken off: heatmaps explain logits, so export a model that returns those"
        )
    name, shape = str(value.name), shape_of(value)
    sizes = [d for d in shape[1:] if isinstance(d, int) and d != 1]
    grown = any(isinstance(d, Batch) for d in shape[1:])
    if not shape or shape[0] != Batch() or grown or len(sizes) > 1 or 0 in sizes:
        raise ModelError(
            f"output {graph.outputs[0].name!r} has the shape [{', '.join(map(str, shape))}], not one logit for each "
            "class, [n, classes]: name the logits with --output, or wrap the model"
        )
    if value.dtype is None:
        value.dtype = ir.DataType.FLOAT
    if (kind := value.dtype) != ir.DataType.FLOAT:
        raise ModelError(f"the logits {name!r} are {ir.DataType(kind).name.lower()}: export the model in float32")
    if activation == "softmax" and not _over_classes(value, sizes):
        raise ModelError(
            f"the softmax behind {name!r}, [{', '.join(map(str, shape))}], is not over its classes: export without it"
        )
    if len(shape) != 2:
        columns = ir.Value(
            name="logits/columns", const_value=ir.tensor(np.array([-1, *(sizes or [1])], dtype=np.int64))
        )
        columns.shape, columns.dtype = ir.Shape([2]), ir.DataType.INT64
        graph.register_initializer(columns)
        flat = ir.node("Reshape", [value, columns])
        graph.append(flat)
        value = flat.outputs[0]
        value.dtype, value.shape = ir.DataType.FLOAT, ir.Shape([str(shape[0]), *(sizes or [1])])
    graph.outputs[:] = [value]
    for node in graph:
        for output in node.outputs:
            if output.name == "logits" and output is not value:
                output.name = "logits/activated"
    value.name = "logits"
    return name, activation


def _sign_of_probabilities(graph: ir.Graph, output: np.ndarray) -> str | None:
    """What betrays probabilities, or their logarithms, in a few outputs; None where nothing does."""
    rows = output.reshape(len(output), -1).astype(np.float64)
    shares = rows if (rows >= 0).all() else np.exp(rows) if (rows <= 0).all() else np.zeros_like(rows)
    if rows.shape[1] > 1 and np.allclose(shares.sum(1), 1, atol=1e-4):
        return "those of an image sum to one"
    if (rows >= 0).all() and (rows <= 1).all() and (behind := _behind_the_last_weights(graph) & set(_ACTIVATIONS)):
        return f"they lie between 0 and 1, behind a {min(behind)}"
    return None


def _behind_the_last_weights(graph: ir.Graph) -> set[str]:
    """The operators on the way from the last products with weights to the output."""
    operators: set[str] = set()
    waiting, seen = [graph.outputs[0]], set[ir.Value]()
    while waiting:
        node = (value := waiting.pop()).producer()
        if node is not None and node.op_type not in MIXING and value not in seen:
            operators.add(node.op_type)
            waiting.extend(v for v in node.inputs if v is not None)
        seen.add(value)
    return operators


def _over_classes(logits: ir.Value, sizes: Sequence[Dim]) -> bool:
    """Whether the softmax that reads these logits normalises the one axis that is longer than 1."""
    shape = shape_of(logits)
    axes = [
        node.attributes["axis"].value if "axis" in node.attributes else -1
        for node, _ in logits.uses()
        if _ACTIVATIONS.get(node.op_type) == "softmax"
    ]
    return not sizes or all(shape[axis] == sizes[0] for axis in axes)
