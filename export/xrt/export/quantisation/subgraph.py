"""Extracting the trunk of a graph for a quantiser, and inserting the quantised trunk again.

A quantiser observes every tensor of the graph that it gets. The gradients of a transformer's attention, for
fourteen classes, would take gigabytes, and none of their tensors is quantised.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx

from xrt.runtime.errors import ModelError


def extract(model: onnx.ModelProto, trunk: Collection[str]) -> onnx.ModelProto:
    """A model of the nodes called `trunk` and all that they need; its outputs are the tensors that other nodes read."""
    trunk_names = _with_ancestors(model.graph, trunk)
    nodes = [node for node in model.graph.node if node.name in trunk_names]
    outputs = {name for node in nodes for name in node.output}
    other_nodes = [node for node in model.graph.node if node.name not in trunk_names]
    output_names = dict.fromkeys(name for node in other_nodes for name in node.input if name in outputs)
    infos = {value.name: value for value in model.graph.value_info}
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    del graph.node[:], graph.output[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.output.extend(infos[name] for name in output_names)
    input_names = {name for node in nodes for name in node.input}
    graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in input_names)
    del graph.value_info[:]
    graph.value_info.extend(value for name, value in infos.items() if name in outputs and name not in output_names)
    return result


def insert(model: onnx.ModelProto, trunk: Collection[str], quantised: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its trunk replaced by the quantised `extract(model, trunk)`.

    Raises ModelError when a tensor that the other nodes read is missing.
    """
    trunk_names = _with_ancestors(model.graph, trunk)
    other_nodes = [node for node in model.graph.node if node.name not in trunk_names]
    result = onnx.ModelProto()
    result.CopyFrom(quantised)
    graph = result.graph
    graph.name = model.graph.name
    del graph.output[:], graph.value_info[:]
    graph.output.extend(model.graph.output)
    weights = {tensor.name: tensor for tensor in graph.initializer}
    original_weights = {tensor.name: tensor for tensor in model.graph.initializer}
    tensors = {name for node in graph.node for name in node.output} | {value.name for value in graph.input}
    for node in other_nodes:
        copy = graph.node.add()
        copy.CopyFrom(node)
        for index, name in enumerate(copy.input):
            if name in original_weights:
                copy.input[index] = _add_weight(original_weights[name], weights, graph)
            elif name and name not in tensors:
                raise ModelError(f"the quantiser lost the tensor {name!r}, which the heatmaps read: choose another")
        tensors.update(copy.output)
    return result


def _with_ancestors(graph: onnx.GraphProto, trunk: Collection[str]) -> set[str]:
    tensors = {name for node in graph.node if node.name in trunk for name in node.output}
    names: set[str] = set()
    for node in reversed(graph.node):
        if tensors.intersection(node.output):
            names.add(node.name)
            tensors.update(node.input)
    return names


def _add_weight(tensor: onnx.TensorProto, weights: dict[str, onnx.TensorProto], graph: onnx.GraphProto) -> str:
    """Add a weight where it is missing; its name in the result: its own, unless the quantiser changed that weight."""
    name = tensor.name
    while name in weights and weights[name].SerializeToString() != _rename(tensor, name).SerializeToString():
        name = f"{name}/float"
    if name not in weights:
        weights[name] = _rename(tensor, name)
        graph.initializer.append(weights[name])
    return name


def _rename(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    copy = onnx.TensorProto()
    copy.CopyFrom(tensor)
    copy.name = name
    return copy
