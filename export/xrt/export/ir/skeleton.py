"""Graphs without their weights.

ONNX's checker, converter and shape inference, and ONNX Runtime, read a serialised graph. Weights that are serialised
with it are copied at every step: a model of 500 MB would take 10 GB. A skeleton has its large weights as inputs. What
needs the structure alone reads the skeleton, and what runs it is given the arrays themselves.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

LARGE = 1024
"""Bytes. Smaller weights stay: sizes, axes and scales are among them, which converters and shape inference read."""


@dataclass(frozen=True)
class Skeleton:
    """A graph as a message in which large weights are inputs, after all others, and these weights by name."""

    proto: onnx.ModelProto
    weights: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, model: ir.Model) -> Skeleton:
        """The skeleton of a graph, which stays as it is and shares its weights."""
        skeleton = model.clone()
        graph, weights = skeleton.graph, dict[str, np.ndarray]()
        for name, value in list(graph.initializers.items()):
            tensor = value.const_value
            if tensor is None or tensor.nbytes <= LARGE:
                continue
            weights[name] = tensor.numpy()
            value.shape, value.dtype, value.const_value = ir.Shape(weights[name].shape), tensor.dtype, None
            del graph.initializers[name]
            graph.inputs.append(value)
        return cls(ir.to_proto(skeleton), weights)

    @classmethod
    def taken_from(cls, proto: onnx.ModelProto) -> Skeleton:
        """The skeleton of a message, which loses its weights."""
        small, weights = list[onnx.TensorProto](), dict[str, np.ndarray]()
        inputs = {value.name for value in proto.graph.input}
        for tensor in proto.graph.initializer:
            content = ir.TensorProtoTensor(tensor)
            if content.nbytes <= LARGE:
                small.append(copy.deepcopy(tensor))
                continue
            weights[tensor.name] = content.numpy()
            if tensor.name not in inputs:
                proto.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        del proto.graph.initializer[:]
        # A copy, since a message gives its memory back as a whole.
        own = copy.deepcopy(proto)
        own.graph.initializer.extend(small)
        return cls(own, weights)

    def with_outputs(self, names: Sequence[str]) -> Skeleton:
        """The same graph with these tensors as its outputs."""
        proto = copy.deepcopy(self.proto)
        del proto.graph.output[:]
        proto.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
        return Skeleton(proto, self.weights)

    def graph(self) -> ir.Model:
        """The whole graph, which shares the weights. Raises what onnx-ir raises for an invalid one."""
        model = ir.from_proto(self.proto)
        graph = model.graph
        for value in [value for value in graph.inputs if value.name in self.weights]:
            graph.inputs.remove(value)
            value.const_value = ir.Tensor(self.weights[str(value.name)], name=value.name)
            graph.register_initializer(value)
        return model
