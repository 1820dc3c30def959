"""Extracting the trunk of a graph for a quantiser, and inserting the quantised trunk again.

A quantiser observes every tensor of the graph that it gets. The gradients of a transformer's attention, for
fourteen classes, would take gigabytes, and none of them is quantised.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx

from xrt.runtime.errors import ModelError


def extract(model: onnx.ModelProto, trunk: Collection[str]) -> onnx.ModelProto:
    """The nodes called `trunk` and all that they need; their outputs that others read are its outputs."""
    inside = _with_ancestors(model.graph, trunk)
    nodes = [node for node in model.graph.node if node.name in inside]
    computed = {name for node in nodes for name in node.output}
    outside = [node for node in model.graph.node if node.name not in inside]
    ends = dict.fromkeys(name for node in outside for name in node.input if name in computed)
    kinds = {value.name: value for value in model.graph.value_info}
    alone = onnx.ModelProto()
    alone.CopyFrom(model)
    graph = alone.graph
    del graph.node[:], graph.output[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.output.extend(kinds[name] for name in ends)
    read = {name for node in nodes for name in node.input}
    graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in read)
    del graph.value_info[:]
    graph.value_info.extend(value for name, value in kinds.items() if name in computed and name not in ends)
    return alone


def insert(model: onnx.ModelProto, trunk: Collection[str], quantised: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with what a quantiser made of `extract(model, trunk)` in its place.

    Raises ModelError when a tensor that the rest reads is gone.
    """
    inside = _with_ancestors(model.graph, trunk)
    rest = [node for node in model.graph.node if node.name not in inside]
    whole = onnx.ModelProto()
    whole.CopyFrom(quantised)
    graph = whole.graph
    graph.name = model.graph.name
    del graph.output[:], graph.value_info[:]
    graph.output.extend(model.graph.output)
    weights = {tensor.name: tensor for tensor in graph.initializer}
    before = {tensor.name: tensor for tensor in model.graph.initializer}
    computed = {name for node in graph.node for name in node.output} | {value.name for value in graph.input}
    for node in rest:
        copy = graph.node.add()
        copy.CopyFrom(node)
        for index, name in enumerate(copy.input):
            if name in before:
                copy.input[index] = _kept(before[name], weights, graph)
            elif name and name not in computed:
                raise ModelError(f"the quantiser lost the tensor {name!r}, which the heatmaps read: choose another")
        computed.update(copy.output)
    return whole


def _with_ancestors(graph: onnx.GraphProto, trunk: Collection[str]) -> set[str]:
    needed = {name for node in graph.node if node.name in trunk for name in node.output}
    inside: set[str] = set()
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            inside.add(node.name)
            needed.update(node.input)
    return inside


def _kept(tensor: onnx.TensorProto, weights: dict[str, onnx.TensorProto], graph: onnx.GraphProto) -> str:
    """The name that a weight has in the whole graph: its own, unless the quantiser has changed that one."""
    name = tensor.name
    while name in weights and weights[name].SerializeToString() != _renamed(tensor, name).SerializeToString():
        name = f"{name}/float"
    if name not in weights:
        weights[name] = _renamed(tensor, name)
        graph.initializer.append(weights[name])
    return name


def _renamed(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    copy = onnx.TensorProto()
    copy.CopyFrom(tensor)
    copy.name = name
    return copy
