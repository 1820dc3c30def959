"""Detached values, once the gradients are there: an identity, as in every other graph."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import PassResult

from xrt.export.passes.base import GraphPass

DETACHED = "xrt.detached"
"""The property of a node, a maximum of one value, through which no gradient flows."""


class AttachAgain(GraphPass):
    """Replaces the mark of a detached value."""

    def call(self, model: ir.Model) -> PassResult:  # noqa: D102
        marked = [node for node in model.graph if node.metadata_props.pop(DETACHED, None)]
        for node in marked:
            node.op_type = "Identity"
        return PassResult(model, bool(marked))
