"""The face that every graph shows: uint8 [n, 1, H, W] in, normalisation and grey-to-RGB inside.

With mean m_c and standard deviation s_c in units of full scale, channel c of the float model's input is
(x / 255 - m_c) / s_c = x · 1/(255 s_c) - m_c/s_c. Broadcasting [n, 1, H, W] against [1, C, 1, 1] repeats the grey
channel, so there is no Expand and no Concat.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from xrt.runtime.errors import ModelError

IMAGE, FACE = "image", "normalise/"
"""The input, and how the names of all that the face computes begin."""


def wrap_in_uint8(model: ir.Model, mean: Sequence[float], std: Sequence[float]) -> None:
    """Replace the float input [n, C, H, W] of `model` by the uint8 input `image`, in place.

    Raises ModelError when `mean` and `std` do not have C entries or the input is not such a tensor.
    """
    graph = model.graph
    pixels = graph.inputs[0]
    shape = list(pixels.shape or ())
    if len(shape) != 4 or not all(isinstance(d, int) for d in shape[1:]):
        raise ModelError(f"the model's input must be [n, C, H, W] with fixed C, H, W; it is {shape}")
    channels = int(shape[1])  # type: ignore[arg-type]
    if len(mean) != channels or len(std) != channels:
        raise ModelError(
            f"the model takes {channels} channels, normalisation has {len(mean)} means and {len(std)} stds"
        )
    image = ir.Value(name=IMAGE, shape=ir.Shape([shape[0], 1, *shape[2:]]), type=ir.TensorType(ir.DataType.UINT8))
    deviation = np.asarray(std, dtype=np.float64)
    scale = _constant(graph, "normalise/scale", 1 / (255 * deviation))
    shift = _constant(graph, "normalise/shift", -np.asarray(mean, dtype=np.float64) / deviation)
    cast = ir.node("Cast", [image], attributes={"to": int(ir.DataType.FLOAT)}, name="normalise/cast")
    scaled = ir.node("Mul", [cast.outputs[0], scale], name="normalise/mul")
    shifted = ir.node("Add", [scaled.outputs[0], shift], name="normalise/add")
    for node, label, depth in ((cast, "float", 1), (scaled, "scaled", channels), (shifted, "input", channels)):
        value = node.outputs[0]
        value.name = f"normalise/{label}"
        value.shape = ir.Shape([shape[0], depth, *shape[2:]])
        value.dtype = ir.DataType.FLOAT
    pixels.replace_all_uses_with(shifted.outputs[0])
    graph.inputs[0] = image
    graph.insert_before(graph[0], [cast, scaled, shifted])


def _constant(graph: ir.Graph, name: str, values: np.ndarray) -> ir.Value:
    array = values.astype(np.float32).reshape(1, -1, 1, 1)
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name), shape=ir.Shape(array.shape))
    value.dtype = ir.DataType.FLOAT
    graph.register_initializer(value)
    return value
