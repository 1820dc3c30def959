"""What a CUDA device has to offer: memory, streams and recorded graphs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from jaxtyping import UInt8


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
