"""The input of every exported graph: uint8 [n, 1, H, W], with normalisation and grey-to-RGB inside.

With mean m_c and standard deviation s_c in units of full scale, channel c of the float model's input is
(x / 255 - m_c) / s_c = x · 1/(255 s_c) - m_c/s_c. Broadcasting [n, 1, H, W] against [1, C, 1, 1] repeats the grey
channel, so there is no Expand and no Concat.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import PassResult
from onnx_ir.tape import Tape

from xrt.export.ir.constants import initializer
from xrt.export.ir.names import IMAGE, NORMALISE
from xrt.export.passes.base import GraphPass
from xrt.runtime.errors import ModelError
from xrt.train.models import Normalisation


class Uint8Input(GraphPass):
    """Replace the float input [n, C, H, W] by the uint8 input `image`; `normalisation` has C means and deviations."""

    def __init__(self, normalisation: Normalisation) -> None:
        self._mean = np.asarray(normalisation.mean, dtype=np.float64)
        self._std = np.asarray(normalisation.std, dtype=np.float64)

    def requires(self, model: ir.Model) -> None:
        """The input is a map of as many channels as the normalisation has. Raises ModelError."""
        shape = list(model.graph.inputs[0].shape or ())
        if len(shape) != 4 or not all(isinstance(d, int) for d in shape[1:]):
            raise ModelError(f"the model's input must be [n, C, H, W] with fixed C, H, W; it is {shape}")
        if shape[1] != len(self._mean):
            raise ModelError(
                f"the model takes {shape[1]} channels, normalisation has {len(self._mean)} means and"
                f" {len(self._std)} stds"
            )

    def call(self, model: ir.Model) -> PassResult:  # noqa: D102
        graph = model.graph
        pixels = graph.inputs[0]
        batch, channels, *sides = list(pixels.shape or ())
        image = ir.val(IMAGE, ir.DataType.UINT8, ir.Shape([batch, 1, *sides]))
        scale, shift = (
            initializer(graph, f"{NORMALISE}{name}", array.astype(np.float32).reshape(1, -1, 1, 1))
            for name, array in (("scale", 1 / (255 * self._std)), ("shift", -self._mean / self._std))
        )
        tape = Tape()
        cast = tape.op("Cast", [image], {"to": ir.DataType.FLOAT.value}, name=f"{NORMALISE}cast")
        product = tape.op("Mul", [cast, scale], name=f"{NORMALISE}mul")
        total = tape.op("Add", [product, shift], name=f"{NORMALISE}add")
        for value, label, depth in ((cast, "float", 1), (product, "scaled", channels), (total, "input", channels)):
            value.name = f"{NORMALISE}{label}"
            value.shape = ir.Shape([batch, depth, *sides])
            value.dtype = ir.DataType.FLOAT
        pixels.replace_all_uses_with(total)
        graph.inputs[0] = image
        graph.insert_before(graph[0], tape.nodes)
        return PassResult(model, True)

    def ensures(self, model: ir.Model) -> None:
        """The one input is a grey uint8 image."""
        (image,) = model.graph.inputs
        if image.dtype != ir.DataType.UINT8 or image.shape is None or image.shape[1] != 1:
            raise ValueError(f"the input is {image}")
