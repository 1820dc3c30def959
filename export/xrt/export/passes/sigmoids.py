"""Sigmoids of parts that are joined afterwards become one sigmoid of the whole.

σ is elementwise, so f(σ(x)) = σ(f(x)) for every f that only rearranges, chooses or joins numbers. A network with a head
for each class and a sigmoid behind each then has one tensor of logits. Files are rewritten before anything else, so
that their reference has that tensor too.
"""

from __future__ import annotations

import onnx

_REARRANGING = {
    "Cast",
    "Flatten",
    "Gather",
    "Identity",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
}


def join_sigmoids(proto: onnx.ModelProto) -> bool:
    """Move sigmoids behind what rearranges and joins their results, in place. Whether there were any."""
    arguments: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    changed = False
    for node in proto.graph.node:
        if node.op_type == "Sigmoid" and not node.domain:
            arguments[node.output[0]] = node.input[0]
            nodes.append(node)
        elif _may_precede(node, arguments):
            changed = True
            nodes.extend(_before_sigmoid(node, arguments))
        else:
            nodes.append(node)
    if changed:
        del proto.graph.node[:]
        proto.graph.node.extend(nodes)
    return changed


def _may_precede(node: onnx.NodeProto, arguments: dict[str, str]) -> bool:
    if node.domain or not node.input:
        return False
    if node.op_type == "Concat":
        return len(node.input) > 1 and all(name in arguments for name in node.input)
    if node.op_type == "Cast" and next(a.i for a in node.attribute if a.name == "to") != onnx.TensorProto.FLOAT:
        return False
    return node.op_type in _REARRANGING and node.input[0] in arguments


def _before_sigmoid(node: onnx.NodeProto, arguments: dict[str, str]) -> list[onnx.NodeProto]:
    """The node on the sigmoids' own arguments, and a sigmoid of each of its results, which keep their names."""
    moved = onnx.NodeProto()
    moved.CopyFrom(node)
    joined = range(len(node.input)) if node.op_type == "Concat" else range(1)
    for i in joined:
        moved.input[i] = arguments[node.input[i]]
    sigmoids = []
    for i, name in enumerate(node.output):
        moved.output[i] = f"{name}/argument"
        arguments[name] = moved.output[i]
        sigmoids.append(onnx.helper.make_node("Sigmoid", [moved.output[i]], [name], name=f"{name}/sigmoid"))
    return [moved, *sigmoids]
