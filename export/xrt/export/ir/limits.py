"""The limits of an ONNX file in a bundle: operator set, IR version and size."""

from __future__ import annotations

from xrt.runtime.errors import ModelError

OPSET = 18
"""The operator set of every graph that is written."""
MAX_IR_VERSION = 10
"""The newest IR version that TensorRT 10.3 reads."""
MAX_WEIGHT_BYTES = 2**31 - 2**20
"""Protobuf's limit of 2 GiB, minus 1 MiB for everything except weights."""


def check_weights(size: int, owner: str) -> None:
    """Raise ModelError when weights of `size` bytes do not fit into one file; `owner` names the model."""
    if size >= MAX_WEIGHT_BYTES:
        raise ModelError(f"the weights of {owner} take {size / 2**30:.1f} GiB; one ONNX file holds 2 GiB")
