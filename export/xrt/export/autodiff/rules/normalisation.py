"""Normalisation layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xrt.export.autodiff.emitter import Tensor
from xrt.export.autodiff.table import Call, vjp
from xrt.runtime.errors import ModelError


@vjp("BatchNormalization")
def _batch_normalization(call: Call) -> Sequence[Tensor | None]:
    """Inference form: a per-channel factor, scale / sqrt(variance + epsilon), known at export time."""
    scale, variance = call.x(1).array, call.x(4).array
    if scale is None or variance is None:
        raise ModelError(f"node {call.node.name!r}: batch normalisation must have constant statistics")
    factor = scale / np.sqrt(variance + np.float32(call.attribute("epsilon", 1e-5)))
    shape = (-1,) + (1,) * (len(call.input_shape()) - 2)
    return [call.emit("Mul", call.g, call.emit.constant(factor.reshape(shape), scale.dtype))]
