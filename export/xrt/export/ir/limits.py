"""What one ONNX file of a bundle may be: operator set, IR version, size; and writing one."""

from __future__ import annotations

from xrt.runtime.errors import ModelError

OPSET = 18
"""The operator set of every graph that is written."""
MAX_IR_VERSION = 10
"""The newest that TensorRT 10.3 reads."""
MAX_WEIGHT_BYTES = 2**31 - 2**20
"""Protobuf's limit, less room for everything that is no weight."""


def check_weights(size: int, whose: str) -> None:
    """Raise ModelError when the weights of `whose` model, in bytes, do not fit into one file."""
    if size >= MAX_WEIGHT_BYTES:
        raise ModelError(f"the weights of {whose} take {size / 2**30:.1f} GiB; one ONNX file holds 2 GiB")
