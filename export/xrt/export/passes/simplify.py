"""Making a graph small without losing a tensor that a user could name: passes of onnx-ir and onnxscript."""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common as common
import onnxscript.optimizer
from onnx_ir.passes import PassResult

from xrt.export.passes.base import GraphPass


class Simplify(GraphPass):
    """Inline functions, fold small constants, and remove unused and duplicate nodes.

    Batch normalisation is not merged into its convolution: a user may name the tensor between them.
    """

    def call(self, model: ir.Model) -> PassResult:  # noqa: D102
        common.InlinePass()(model)
        onnxscript.optimizer.fold_constants(model, onnx_shape_inference=True)
        for graph_pass in (
            common.RemoveUnusedNodesPass(),
            common.RemoveUnusedFunctionsPass(),
            common.RemoveUnusedOpsetsPass(),
            common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
            common.DeduplicateInitializersPass(),
            common.CommonSubexpressionEliminationPass(),
            common.OutputFixPass(),
            common.NameFixPass(),
        ):
            graph_pass(model)
        return PassResult(model, True)

    def ensures(self, model: ir.Model) -> None:
        """No function is left."""
        if model.functions:
            raise ValueError(f"functions are left: {', '.join(name for _, name, _ in model.functions)}")
