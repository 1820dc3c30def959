"""Files whose images have their channels last, as TensorFlow and Keras write them, take images with channels first.

A Transpose is put before the graph; exporters put its inverse before the first convolution. It is done to the file
before anything else, so that its reference takes the same input.
"""

from __future__ import annotations

import onnx


def is_channels_last(image: onnx.ValueInfoProto) -> bool:
    """Whether an input is [n, H, W, channels]: its last axis can be channels, and its second cannot."""
    dims = [d.dim_value for d in image.type.tensor_type.shape.dim]
    return len(dims) == 4 and dims[3] in (1, 3) and dims[1] not in (1, 3)


def take_channels_first(proto: onnx.ModelProto, image: onnx.ValueInfoProto) -> None:
    """Make an input [n, H, W, channels] of a file [n, channels, H, W], in place. The input keeps its name."""
    inner = f"{image.name}/channels_last"
    for node in proto.graph.node:
        for index, name in enumerate(node.input):
            if name == image.name:
                node.input[index] = inner
    for output in proto.graph.output:
        if output.name == image.name:
            output.name = inner
    dims = list(image.type.tensor_type.shape.dim)
    channels_first = [dims[0], dims[3], dims[1], dims[2]]
    shape = onnx.TensorShapeProto()
    shape.dim.extend(channels_first)
    image.type.tensor_type.shape.CopyFrom(shape)
    transpose = onnx.helper.make_node("Transpose", [image.name], [inner], name=f"{inner}/transpose", perm=[0, 2, 3, 1])
    proto.graph.node.insert(0, transpose)
