"""CUDA as far as running an engine needs it: memory, a stream, copies, graphs; through the binding that is installed.

`cuda.bindings` is NVIDIA's own; pycuda is what older machines, Jetsons above all, have. Both sit behind `Cuda`. Errors
become BackendError. Addresses are integers, as TensorRT takes them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib.util import find_spec
from typing import Any

import numpy as np
from jaxtyping import UInt8

from xrt.runtime.errors import BackendError

INSTALL = "pip install 'xrt-runtime[tensorrt]'"


class Pinned:
    """Page-locked host memory, which the GPU copies from and to while the processor goes on.

    `bytes` is a numpy view of all of it; it must not be used after `free`.
    """

    def __init__(self, address: int, view: UInt8[np.ndarray, " size"], owner: Any = None) -> None:
        self.address, self.bytes, self.owner = address, view, owner


class Cuda(ABC):
    """The first CUDA device. Streams and graphs are opaque; `handle` gives a stream as the integer TensorRT takes."""

    @abstractmethod
    def compute_capability(self) -> str:
        """The device's, such as `sm86`."""

    @abstractmethod
    def allocate(self, size: int) -> int:
        """`size` bytes of device memory: their address."""

    @abstractmethod
    def free(self, address: int) -> None:
        """Give device memory back."""

    @abstractmethod
    def pin(self, size: int) -> Pinned:
        """`size` bytes of page-locked host memory."""

    @abstractmethod
    def unpin(self, pinned: Pinned) -> None:
        """Give page-locked memory back."""

    @abstractmethod
    def stream(self) -> Any:
        """A new stream, on which work is done in order."""

    @abstractmethod
    def handle(self, stream: Any) -> int:
        """The integer that TensorRT knows a stream by."""

    @abstractmethod
    def destroy_stream(self, stream: Any) -> None:
        """Give a stream back."""

    @abstractmethod
    def upload(self, device: int, host: Pinned, size: int, stream: Any) -> None:
        """Copy the first `size` bytes to the device, when the stream comes to it."""

    @abstractmethod
    def download(self, host: Pinned, device: int, size: int, stream: Any) -> None:
        """Copy `size` bytes from the device, when the stream comes to it."""

    @abstractmethod
    def synchronise(self, stream: Any) -> None:
        """Wait until a stream has done all its work."""

    @abstractmethod
    def begin_capture(self, stream: Any) -> bool:
        """Record what follows on the stream instead of doing it; False where this binding cannot."""

    @abstractmethod
    def end_capture(self, stream: Any) -> Any:
        """What was recorded, as a graph that can be launched. Raises BackendError when something could not be."""

    @abstractmethod
    def launch(self, graph: Any, stream: Any) -> None:
        """Do on the stream what was recorded."""

    @abstractmethod
    def destroy_graph(self, graph: Any) -> None:
        """Give a graph back."""


def cuda_unavailable_reason() -> str | None:
    """What is missing to use a GPU, and how to get it, in one line; None when nothing is."""
    try:
        open_cuda()
    except BackendError as error:
        return str(error)
    return None


def open_cuda() -> Cuda:
    """The first CUDA device through `cuda.bindings` or pycuda. Raises BackendError with what is missing."""
    if _has("cuda.bindings"):
        from xrt.runtime.tensorrt.cuda_bindings import CudaBindings

        return CudaBindings()
    if _has("pycuda"):
        from xrt.runtime.tensorrt.cuda_pycuda import PyCuda

        return PyCuda()
    raise BackendError(f"neither cuda.bindings nor pycuda is installed: {INSTALL}")


def _has(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it is absent
        return False
