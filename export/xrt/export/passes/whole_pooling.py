"""The mean over one window that holds the whole map is the mean of the map.

Networks pool with windows larger than any map (`AvgPool2d(1280, ceil_mode=True)`); OpenVINO (2026.4) refuses a window
that is larger than its input.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import PassResult

from xrt.export.passes.base import GraphPass


class PoolWhole(GraphPass):
    """Replaces an AveragePool without padding whose window is larger than its map."""

    def call(self, model: ir.Model) -> PassResult:  # noqa: D102
        nodes = [node for node in model.graph if node.op_type == "AveragePool" and _holds_everything(node)]
        for node in nodes:
            node.op_type = "GlobalAveragePool"
            node.attributes.clear()
        return PassResult(model, bool(nodes))


def _holds_everything(node: ir.Node) -> bool:
    source = node.inputs[0]
    sizes = list(source.shape or ())[2:] if source is not None else []
    kernel, pads = (list(node.attributes.get_ints(name, ())) for name in ("kernel_shape", "pads"))
    if not sizes or any(pads) or len(kernel) != len(sizes):
        return False
    fits = [(int(size), width) for size, width in zip(sizes, kernel, strict=True) if isinstance(size, int)]
    # A window of just the map's size is left as it is: every back end takes it.
    return len(fits) == len(sizes) and all(w >= s for s, w in fits) and any(w > s for s, w in fits)
