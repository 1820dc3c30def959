"""Values through which no gradient flows: `x.detach()` and `x.data`.

Torch's exporter takes `x.data` for a number of its own, so it is read as `x.detach()`. Its form of a detached value in
ONNX is an identity, which optimisers remove; until the gradients are there, it is a maximum of one value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
import torch

from xrt.export.passes.detached import DETACHED


class DataIsDetached(torch.overrides.TorchFunctionMode):
    """While it is active, `x.data` is `x.detach()`."""

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call the function, or detach."""
        if func == torch.Tensor.data.__get__:  # type: ignore[attr-defined]
            return args[0].detach()
        return func(*args, **(kwargs or {}))


def mark_detached(graph: ir.Graph, program: torch.export.ExportedProgram) -> None:
    """Mark the nodes of the graph that stand for a detached value of the program, in place."""
    detached = {n.name for n in program.graph.nodes if n.target is torch.ops.aten.detach.default}
    for node in graph:
        if node.op_type == "Identity" and node.outputs[0].name in detached:
            maximum = ir.node("Max", list(node.inputs), name=node.name)
            maximum.metadata_props.update(node.metadata_props)
            maximum.metadata_props[DETACHED] = "yes"
            output = node.outputs[0]
            maximum.outputs[0].name, maximum.outputs[0].type = output.name, output.type
            maximum.outputs[0].shape = output.shape
            ir.convenience.replace_nodes_and_values(graph, node, [node], [maximum], [output], [maximum.outputs[0]])
