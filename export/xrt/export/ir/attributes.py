"""Settings of nodes: attributes or, in newer operator sets, constant inputs."""

from __future__ import annotations

import onnx_ir as ir

from xrt.export.ir.constants import array_of


def permutation(node: ir.Node, rank: int) -> list[int]:
    """The order of axes of a Transpose; by default they are reversed."""
    return list(node.attributes.get_ints("perm", tuple(reversed(range(rank)))))


def removed_axes(node: ir.Node, rank: int) -> set[int]:
    """The axes that a reduction, or the choice of one index, removes from its input of that rank."""
    if node.op_type == "Gather":
        return {node.attributes.get_int("axis", 0) % rank}
    axes = node.attributes.get_ints("axes", None)
    if axes is None and len(node.inputs) > 1 and (array := array_of(node.inputs[1])) is not None:
        axes = array.tolist()
    return set(range(rank)) if axes is None else {axis % rank for axis in axes}
