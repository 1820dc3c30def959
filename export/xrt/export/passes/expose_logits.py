"""The end of a graph: logits as [n, classes], with a final softmax or sigmoid removed.

A heatmap explains a logit. After a saturated sigmoid or a softmax the gradient vanishes or mixes classes, so the
operators after the logits are removed from the graph; the runtime applies the activation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import PassResult
from onnx_ir.tape import Tape

from xrt.export.ir.bounds import bounds
from xrt.export.ir.constants import initializer
from xrt.export.ir.names import LOGITS
from xrt.export.ir.operators import MIXING, VALUE_KEEPING
from xrt.export.ir.shapes import Batch, Dim, shape_of
from xrt.export.passes.base import GraphPass
from xrt.export.passes.resolve_shapes import observed_output
from xrt.runtime.errors import ModelError

Activation = Literal["softmax", "sigmoid"]
_ACTIVATIONS: dict[str, Activation] = {"LogSoftmax": "softmax", "Sigmoid": "sigmoid", "Softmax": "softmax"}


def final_activation(graph: ir.Graph) -> tuple[ir.Value, Activation | None]:
    """The first output's logits and the activation after them, or the output itself and None."""
    value = graph.outputs[0]
    while (node := value.producer()) is not None and node.inputs and node.inputs[0] is not None:
        if node.op_type in _ACTIVATIONS:
            return node.inputs[0], _ACTIVATIONS[node.op_type]
        if node.op_type not in VALUE_KEEPING:
            break
        value = node.inputs[0]
    return graph.outputs[0], None


class ExposeLogits(GraphPass):
    """Make the logits [n, classes] the only output, called `logits`.

    Afterwards `name` is what the logits were called before, and `activation` what was after them, or None.
    """

    def __init__(self) -> None:
        self.name = LOGITS
        self.activation: Activation | None = None

    def requires(self, model: ir.Model) -> None:
        """The output has a shape, and holds no probabilities but those of a softmax or sigmoid. Raises ModelError."""
        graph = model.graph
        value, activation = final_activation(graph)
        shape_of(value)
        if activation is None and (hint := _probability_hint(graph, observed_output(model))):
            raise ModelError(
                f"output {graph.outputs[0].name!r} holds probabilities ({hint}), but does not end in a softmax or "
                "sigmoid that can be removed: heatmaps explain logits, so export a model that returns those"
            )

    def call(self, model: ir.Model) -> PassResult:
        """Raises ModelError when the output is not one logit for each class."""
        graph = model.graph
        value, self.activation = final_activation(graph)
        self.name, shape = str(value.name), shape_of(value)
        sizes = [d for d in shape[1:] if isinstance(d, int) and d != 1]
        is_batch_repeated = any(isinstance(d, Batch) for d in shape[1:])
        if not shape or shape[0] != Batch() or is_batch_repeated or len(sizes) > 1 or 0 in sizes:
            raise ModelError(
                f"output {graph.outputs[0].name!r} has the shape [{', '.join(map(str, shape))}], not one logit for "
                "each class, [n, classes]: name the logits with --output, or wrap the model"
            )
        if value.dtype is None:
            value.dtype = ir.DataType.FLOAT
        if (kind := value.dtype) != ir.DataType.FLOAT:
            raise ModelError(
                f"the logits {self.name!r} are {ir.DataType(kind).name.lower()}: export the model in float32"
            )
        if self.activation == "softmax" and not _over_classes(value, sizes):
            raise ModelError(
                f"the softmax after {self.name!r}, [{', '.join(map(str, shape))}], is not over its classes: export "
                "without it"
            )
        if len(shape) != 2:
            columns = initializer(graph, f"{LOGITS}/columns", np.array([-1, *(sizes or [1])], dtype=np.int64))
            value = Tape(graph).op("Reshape", [value, columns])
            value.dtype, value.shape = ir.DataType.FLOAT, ir.Shape([str(shape[0]), *(sizes or [1])])
        graph.outputs[:] = [value]
        for node in graph:
            for output in node.outputs:
                if output.name == LOGITS and output is not value:
                    output.name = f"{LOGITS}/activated"
        value.name = LOGITS
        return PassResult(model, True)

    def ensures(self, model: ir.Model) -> None:
        """One output, `logits`, [n, classes]."""
        (logits,) = model.graph.outputs
        if logits.name != LOGITS or logits.shape is None or len(logits.shape) != 2:
            raise ValueError(f"the output is {logits}")


def _probability_hint(graph: ir.Graph, output: np.ndarray) -> str | None:
    """Why a few outputs seem to be probabilities or their logarithms; None where they do not."""
    rows = output.reshape(len(output), -1).astype(np.float64)
    probabilities = rows if (rows >= 0).all() else np.exp(rows) if (rows <= 0).all() else np.zeros_like(rows)
    if rows.shape[1] > 1 and np.allclose(probabilities.sum(1), 1, atol=1e-4):
        return "those of an image sum to one"
    low, high = bounds(graph.outputs[0])
    if low >= 0 and high <= 1:
        return "they cannot leave 0 to 1, by the operators at the end"
    if (
        (rows >= 0).all()
        and (rows <= 1).all()
        and (activations := _operators_after_last_weights(graph) & set(_ACTIVATIONS))
    ):
        return f"they are between 0 and 1, after a {min(activations)}"
    return None


def _operators_after_last_weights(graph: ir.Graph) -> set[str]:
    """The operators on the way from the last products with weights to the output."""
    operators: set[str] = set()
    queue, visited = [graph.outputs[0]], set[ir.Value]()
    while queue:
        node = (value := queue.pop()).producer()
        if node is not None and node.op_type not in MIXING and value not in visited:
            operators.add(node.op_type)
            queue.extend(v for v in node.inputs if v is not None)
        visited.add(value)
    return operators


def _over_classes(logits: ir.Value, sizes: Sequence[Dim]) -> bool:
    """Whether the softmax that reads these logits normalises the one axis that is longer than 1."""
    shape = shape_of(logits)
    axes = [
        node.attributes.get_int("axis", -1) for node, _ in logits.uses() if _ACTIVATIONS.get(node.op_type) == "softmax"
    ]
    return not sizes or all(shape[axis] == sizes[0] for axis in axes)
