"""CUDA through pycuda, which records no graphs. Untested: it installs only where CUDA's compiler is."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from xrt.runtime.errors import BackendError
from xrt.runtime.tensorrt.cuda_base import Cuda, Pinned


class PyCuda(Cuda):
    """The driver API, in the first device's primary context. Raises BackendError without a device."""

    def __init__(self) -> None:
        self._cuda: Any = importlib.import_module("pycuda.driver")
        try:
            # The primary context is the one that TensorRT uses; this module enters it, and leaves it at exit.
            self._device = importlib.import_module("pycuda.autoprimaryctx").device
        except self._cuda.Error as error:
            raise BackendError(f"no GPU can be used: {error}; `nvidia-smi` must list one") from error
        self._allocations: dict[int, Any] = {}

    def compute_capability(self) -> str:  # noqa: D102
        return "sm{}{}".format(*self._device.compute_capability())

    def allocate(self, size: int) -> int:  # noqa: D102
        allocation = self._checked(self._cuda.mem_alloc, size)
        # pycuda frees what nothing refers to.
        self._allocations[int(allocation)] = allocation
        return int(allocation)

    def free(self, address: int) -> None:  # noqa: D102
        self._allocations.pop(address).free()

    def pin(self, size: int) -> Pinned:  # noqa: D102
        array = self._checked(self._cuda.pagelocked_empty, size, np.uint8)
        return Pinned(array.ctypes.data, array, owner=array)

    def unpin(self, pinned: Pinned) -> None:  # noqa: D102
        pinned.owner.base.free()

    def stream(self) -> Any:  # noqa: D102
        return self._checked(self._cuda.Stream)

    def handle(self, stream: Any) -> int:  # noqa: D102
        return stream.handle

    def destroy_stream(self, stream: Any) -> None:  # noqa: D102
        del stream  # it goes with its last reference

    def upload(self, device: int, host: Pinned, size: int, stream: Any) -> None:  # noqa: D102
        self._checked(self._cuda.memcpy_htod_async, device, host.bytes[:size], stream)

    def download(self, host: Pinned, device: int, size: int, stream: Any) -> None:  # noqa: D102
        self._checked(self._cuda.memcpy_dtoh_async, host.bytes[:size], device, stream)

    def synchronise(self, stream: Any) -> None:  # noqa: D102
        self._checked(stream.synchronize)

    def begin_capture(self, stream: Any) -> bool:  # noqa: D102
        return False

    def end_capture(self, stream: Any) -> Any:  # noqa: D102
        raise BackendError("pycuda records no CUDA graphs: install cuda-bindings")

    def launch(self, graph: Any, stream: Any) -> None:  # noqa: D102
        raise BackendError("pycuda records no CUDA graphs: install cuda-bindings")

    def destroy_graph(self, graph: Any) -> None:  # noqa: D102
        return None

    def _checked(self, function: Any, *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except self._cuda.Error as error:
            raise BackendError(f"CUDA: {error}") from error
