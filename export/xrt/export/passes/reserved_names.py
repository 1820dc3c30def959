"""Freeing the names that a bundle's graph gives to its own inputs and outputs."""

from __future__ import annotations

import re

import onnx_ir as ir
from onnx_ir.passes import PassResult

from xrt.export.ir.names import CAM_CLASSES, IMAGE
from xrt.export.passes.base import GraphPass

_RESERVED = rf"{IMAGE}|cams(\..*)?|{CAM_CLASSES}"


class FreeReservedNames(GraphPass):
    """Rename the tensors of a file that have a name of the bundle's inputs and outputs."""

    def call(self, model: ir.Model) -> PassResult:  # noqa: D102
        graph, changed = model.graph, False
        for value in [*graph.initializers.values(), *(output for node in graph for output in node.outputs)]:
            if value.name and value not in graph.outputs and re.fullmatch(_RESERVED, value.name):
                value.name = f"file/{value.name}"
                changed = True
        return PassResult(model, changed)
