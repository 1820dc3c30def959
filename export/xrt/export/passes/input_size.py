"""Spatial sizes that a file leaves open."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import PassResult

from xrt.export.passes.base import GraphPass
from xrt.runtime.errors import ModelError


class FixInputSize(GraphPass):
    """Give the input [n, C, ?, ?] the height and width that its user names."""

    def __init__(self, height: int, width: int) -> None:
        self._height, self._width = height, width

    def requires(self, model: ir.Model) -> None:
        """The input has four axes. Raises ModelError."""
        shape = model.graph.inputs[0].shape
        if shape is None or len(shape) != 4:
            raise ModelError(f"input {model.graph.inputs[0].name!r} has the shape {shape}, not [n, channels, H, W]")

    def call(self, model: ir.Model) -> PassResult:  # noqa: D102
        image = model.graph.inputs[0]
        image.shape = ir.Shape([*list(image.shape or ())[:2], self._height, self._width])
        return PassResult(model, True)
