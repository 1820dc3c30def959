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
    """Make a file whose input is [n, H, W, channels] take [n, channels, H, W], in place.

    The old name is now that of the transposed image, for whatever reads it, in subgraphs too.
    """
    inner = image.name
    image.name = f"{inner}/channels_first"
    batch, height, width, channels = list(image.type.tensor_type.shape.dim)
    image.type.tensor_type.shape.CopyFrom(onnx.TensorShapeProto(dim=[batch, channels, height, width]))
    transpose = onnx.helper.make_node("Transpose", [image.name], [inner], name=f"{inner}/transpose", perm=[0, 2, 3, 1])
    proto.graph.node.insert(0, transpose)
