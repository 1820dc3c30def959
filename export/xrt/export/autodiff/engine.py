"""The backward pass: visit the nodes between the targets and the output in reverse, and sum the cotangents."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from xrt.export.autodiff import rules as _rules  # noqa: F401  (fills the table)
from xrt.export.autodiff.table import VJPS, Call
from xrt.export.ir.emitter import Emitter, Tensor
from xrt.export.passes.detached import DETACHED
from xrt.runtime.errors import ModelError


def backward(emit: Emitter, output: ir.Value, targets: Sequence[ir.Value], seed: Tensor) -> list[Tensor]:
    """The gradient of `output` with respect to each target, contracted with `seed`.

    `seed` has shape [C, *output.shape] with 1 for constant axes; so do the results, [C, *target.shape]. The emitted
    nodes are appended to the emitter's graph. Raises ModelError when an operator between them has no rule, or when a
    target does not reach the output.
    """
    nodes = list(emit.graph)
    dependent = _downstream(nodes, targets)
    cotangents: dict[ir.Value, Tensor] = {output: seed}
    for node in reversed(nodes):
        output_cotangents = [cotangents.get(value) for value in node.outputs]
        needed = tuple(value is not None and value in dependent for value in node.inputs)
        if not any(needed) or all(g is None for g in output_cotangents):
            continue
        for value, g in zip(node.inputs, _apply(node, emit, output_cotangents, needed), strict=False):
            if value is None or g is None or value not in dependent:
                continue
            cotangents[value] = emit("Add", cotangents[value], g) if value in cotangents else g
    for target in targets:
        if target not in cotangents:
            raise ModelError(
                f"target layer {target.name!r} does not reach the {output.name}: choose another with --target-layer"
            )
    return [cotangents[target] for target in targets]


_WITHOUT_GRADIENT = {"ArgMax", "ArgMin", "NonZero", "Shape", "Size"}
"""Operators whose results are whole numbers, of a shape or of positions: no gradient flows through them."""


def _downstream(nodes: Sequence[ir.Node], targets: Sequence[ir.Value]) -> set[ir.Value]:
    """The targets and every value that depends on the numbers of one of them."""
    dependent = set(targets)
    for node in nodes:
        if node.op_type in _WITHOUT_GRADIENT or DETACHED in node.metadata_props:
            continue
        if any(value in dependent for value in node.inputs if value is not None):
            dependent.update(node.outputs)
    return dependent


def _apply(
    node: ir.Node, emit: Emitter, output_cotangents: Sequence[Tensor | None], needed: tuple[bool, ...]
) -> Sequence[Tensor | None]:
    rule = VJPS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if rule is None:
        operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        raise ModelError(
            f"no gradient rule for operator {operator} (node {node.name!r}, output {node.outputs[0].name!r}) between "
            "the target layer and the logits: choose a later --target-layer, or replace the operator in the model"
        )
    return rule(
        Call(
            node=node,
            emit=emit,
            inputs=tuple(None if value is None else emit.of(value) for value in node.inputs),
            outputs=tuple(emit.of(value) for value in node.outputs),
            cotangents=tuple(output_cotangents),
            needed=needed,
        )
    )
