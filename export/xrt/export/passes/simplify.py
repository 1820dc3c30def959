"""Passes of onnx-ir and onnxscript that make a graph small without losing a tensor that a user could name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import onnx_ir as ir
import onnx_ir.passes.common as passes
import onnxscript.optimizer
from onnxscript import rewriter
from onnxscript.rewriter.rules import common


def simplify(model: ir.Model) -> None:
    """Inline functions, fold small constants, and drop what is unused or double, in place.

    Batch normalisation stays apart from its convolution: a user may ask for the tensor between them.
    """
    passes.InlinePass()(model)
    onnxscript.optimizer.fold_constants(model, onnx_shape_inference=True)
    for tidy in (
        passes.RemoveUnusedNodesPass(),
        passes.RemoveUnusedFunctionsPass(),
        passes.RemoveUnusedOpsetsPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.OutputFixPass(),
        passes.NameFixPass(),
    ):
        tidy(model)


def fuse_batch_norms(model: ir.Model, keep: Sequence[ir.Value] = ()) -> None:
    """Merge batch normalisations into the convolutions before them, in place, but never over a value of `keep`.

    Names of tensors stay; values of the graph do not.
    """
    with _as_outputs(model.graph, keep):
        rewriter.rewrite(
            model,
            [
                common.fuse_batchnorm_into_conv_rule,
                common.fuse_batchnorm_into_conv_transpose_rule,
                common.fuse_batchnorm_into_gemm_rule,
            ],
        )


@contextlib.contextmanager
def _as_outputs(graph: ir.Graph, values: Sequence[ir.Value]) -> Iterator[None]:
    """No rewriting removes an output."""
    names, count = [value.name for value in values], len(graph.outputs)
    graph.outputs.extend(values)
    try:
        yield
    finally:
        assert [value.name for value in graph.outputs[count:]] == names
        del graph.outputs[count:]
