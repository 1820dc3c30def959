"""Batch normalisation y = γ (x - μ) / √(σ² + ε) + β as arithmetic on weights, or as a scale and a shift.

After a convolution W x + b it is the convolution with W γ/√(σ²+ε) and (b - μ) γ/√(σ²+ε) + β. Elsewhere it is the
scale γ/√(σ²+ε) and the shift β - μ γ/√(σ²+ε), computed here in float64: fp16 could not hold a small variance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import PassResult
from onnx_ir.tape import Tape
from onnxscript import rewriter
from onnxscript.rewriter.rules import common

from xrt.export.ir.constants import array_of, initializer
from xrt.export.ir.trunk import trunk_of
from xrt.export.passes.base import GraphPass
from xrt.runtime.bundle.manifest import GraphSpec

Selector = Callable[[ir.Graph], Sequence[ir.Value]]
"""A function that selects values of a graph."""


class FuseBatchNorms(GraphPass):
    """Merge batch normalisations into the convolutions before them, but never over a value that `keep` selects.

    Tensors keep their names; the value objects of the graph are replaced.
    """

    def __init__(self, keep: Selector = lambda graph: ()) -> None:
        self._keep = keep

    def call(self, model: ir.Model) -> PassResult:  # noqa: D102
        with _as_outputs(model.graph, self._keep(model.graph)):
            rewriter.rewrite(
                model,
                [
                    common.fuse_batchnorm_into_conv_rule,
                    common.fuse_batchnorm_into_conv_transpose_rule,
                    common.fuse_batchnorm_into_gemm_rule,
                ],
            )
        return PassResult(model, True)


@contextmanager
def _as_outputs(graph: ir.Graph, values: Sequence[ir.Value]) -> Iterator[None]:
    """Make values outputs for a while: no rewriting removes an output."""
    names, count = [value.name for value in values], len(graph.outputs)
    graph.outputs.extend(values)
    try:
        yield
    finally:
        new_names = [value.name for value in graph.outputs[count:]]
        del graph.outputs[count:]
    if new_names != names:
        raise ValueError(f"the tensors {names} became {new_names}")


class ScaleBatchNorms(GraphPass):
    """Write the batch normalisations of the trunk as a scale and a shift; `spec` describes the explained graph."""

    def __init__(self, spec: GraphSpec) -> None:
        self._spec = spec

    def call(self, model: ir.Model) -> PassResult:  # noqa: D102
        changed = False
        for node in trunk_of(model, self._spec):
            source = node.inputs[0] if node.op_type == "BatchNormalization" else None
            if source is None or source.shape is None:
                continue
            statistics = [array for value in node.inputs[1:] if (array := array_of(value)) is not None]
            if len(statistics) == 4:
                _scale_and_shift(model.graph, node, source, len(source.shape), statistics)
                changed = True
        return PassResult(model, changed)


def _scale_and_shift(
    graph: ir.Graph, node: ir.Node, source: ir.Value, rank: int, statistics: Sequence[np.ndarray]
) -> None:
    gamma, beta, mean, variance = (np.asarray(array, np.float64) for array in statistics)
    output = node.outputs[0]
    scale = gamma / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
    column = (-1,) + (1,) * (rank - 2)
    factor, shift = (
        initializer(graph, f"{output.name}/{name}", array.astype(np.float32).reshape(column))
        for name, array in (("scale", scale), ("shift", beta - mean * scale))
    )
    tape = Tape()
    product = tape.op("Mul", [source, factor], name=f"{node.name}/scale")
    total = tape.op("Add", [product, shift], name=f"{node.name}/shift")
    for value in (product, total):
        value.dtype, value.shape = ir.DataType.FLOAT, output.shape
    product.name, total.name = f"{output.name}/scaled", output.name
    ir.convenience.replace_nodes_and_values(graph, node, [node], tape.nodes, [output], [total])
