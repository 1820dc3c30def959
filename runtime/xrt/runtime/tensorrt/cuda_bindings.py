"""CUDA through NVIDIA's `cuda.bindings`."""

from __future__ import annotations

import ctypes
import importlib
from typing import Any

import numpy as np

from xrt.runtime.errors import BackendError
from xrt.runtime.tensorrt.cuda_base import Cuda, Pinned


class CudaBindings(Cuda):
    """The runtime API: every call returns its error first. Raises BackendError where there is no device."""

    def __init__(self) -> None:
        runtime: Any = importlib.import_module("cuda.bindings.runtime")
        self._cuda = runtime
        try:
            count = self._call(runtime.cudaGetDeviceCount())
        except BackendError as error:
            raise BackendError(f"no GPU can be used: {error}; `nvidia-smi` must list one") from error
        except Exception as error:  # the bindings raise what they like where the driver's library is absent
            reason = " ".join(str(error).split())
            raise BackendError(f"no GPU can be used: {reason}; install NVIDIA's driver") from error
        if not count:
            raise BackendError("no GPU can be used: the driver lists none")

    def _call(self, result: tuple[Any, ...]) -> Any:
        error, *values = result
        if int(error):
            _, text = self._cuda.cudaGetErrorString(error)
            text = text.decode() if isinstance(text, bytes) else str(text)
            raise BackendError(f"CUDA: {text} ({error.name})")
        return values[0] if values else None

    def compute_capability(self) -> str:  # noqa: D102
        attributes = self._cuda.cudaDeviceAttr
        major, minor = (
            self._call(self._cuda.cudaDeviceGetAttribute(attribute, 0))
            for attribute in (
                attributes.cudaDevAttrComputeCapabilityMajor,
                attributes.cudaDevAttrComputeCapabilityMinor,
            )
        )
        return f"sm{major}{minor}"

    def allocate(self, size: int) -> int:  # noqa: D102
        return int(self._call(self._cuda.cudaMalloc(size)))

    def free(self, address: int) -> None:  # noqa: D102
        self._call(self._cuda.cudaFree(address))

    def pin(self, size: int) -> Pinned:  # noqa: D102
        address = int(self._call(self._cuda.cudaMallocHost(size)))
        return Pinned(address, np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address)))

    def unpin(self, pinned: Pinned) -> None:  # noqa: D102
        self._call(self._cuda.cudaFreeHost(pinned.address))

    def stream(self) -> Any:  # noqa: D102
        # It does not wait for the legacy default stream, which another library in the process may use.
        return self._call(self._cuda.cudaStreamCreateWithFlags(self._cuda.cudaStreamNonBlocking))

    def handle(self, stream: Any) -> int:  # noqa: D102
        return int(stream)

    def destroy_stream(self, stream: Any) -> None:  # noqa: D102
        self._call(self._cuda.cudaStreamDestroy(stream))

    def upload(self, device: int, host: Pinned, size: int, stream: Any) -> None:  # noqa: D102
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call(self._cuda.cudaMemcpyAsync(device, host.address, size, kind, stream))

    def download(self, host: Pinned, device: int, size: int, stream: Any) -> None:  # noqa: D102
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call(self._cuda.cudaMemcpyAsync(host.address, device, size, kind, stream))

    def synchronise(self, stream: Any) -> None:  # noqa: D102
        self._call(self._cuda.cudaStreamSynchronize(stream))

    def begin_capture(self, stream: Any) -> bool:  # noqa: D102
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call(self._cuda.cudaStreamBeginCapture(stream, mode))
        return True

    def end_capture(self, stream: Any) -> Any:  # noqa: D102
        graph = self._call(self._cuda.cudaStreamEndCapture(stream))
        try:
            return self._call(self._cuda.cudaGraphInstantiate(graph, 0))
        finally:
            self._call(self._cuda.cudaGraphDestroy(graph))

    def launch(self, graph: Any, stream: Any) -> None:  # noqa: D102
        self._call(self._cuda.cudaGraphLaunch(graph, stream))

    def destroy_graph(self, graph: Any) -> None:  # noqa: D102
        self._call(self._cuda.cudaGraphExecDestroy(graph))
