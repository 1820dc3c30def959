"""A simulated GPU: streams that work only when they are waited for, and an engine that doubles its image.

What is queued too early, read too late, or freed too soon shows here without a GPU.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from xrt.runtime.errors import BackendError
from xrt.runtime.tensorrt.cuda_base import Cuda, Pinned
from xrt.runtime.tensorrt.distributions import Distribution


class FakeStream:
    def __init__(self) -> None:
        self.queue: list[Callable[[], None]] = []
        self.recording: list[Callable[[], None]] | None = None

    def put(self, work: Callable[[], None]) -> None:
        (self.queue if self.recording is None else self.recording).append(work)


class FakeCuda(Cuda):
    """Device memory is host memory; `held` is what was not given back, `log` the calls that tests look at."""

    def __init__(self, capability: str = "sm86", *, memory: int = 1 << 30, records: bool = True) -> None:
        self.capability, self.memory, self.records = capability, memory, records
        self.held: dict[int, Any] = {}
        self.log: list[str] = []
        self.streams: dict[int, FakeStream] = {}

    def compute_capability(self) -> str:
        return self.capability

    def allocate(self, size: int) -> int:
        if size > self.memory:
            raise BackendError("CUDA: out of memory (cudaErrorMemoryAllocation)")
        buffer = (ctypes.c_uint8 * size)()
        self.held[ctypes.addressof(buffer)] = buffer
        return ctypes.addressof(buffer)

    def free(self, address: int) -> None:
        del self.held[address]

    def pin(self, size: int) -> Pinned:
        address = self.allocate(size)
        return Pinned(address, np.ctypeslib.as_array(self.held[address]))

    def unpin(self, pinned: Pinned) -> None:
        self.free(pinned.address)

    def stream(self) -> FakeStream:
        stream = FakeStream()
        self.held[id(stream)] = self.streams[id(stream)] = stream
        return stream

    def handle(self, stream: FakeStream) -> int:
        return id(stream)

    def destroy_stream(self, stream: FakeStream) -> None:
        del self.held[id(stream)]

    def upload(self, device: int, host: Pinned, size: int, stream: FakeStream) -> None:
        stream.put(lambda: ctypes.memmove(device, host.address, size))

    def download(self, host: Pinned, device: int, size: int, stream: FakeStream) -> None:
        stream.put(lambda: ctypes.memmove(host.address, device, size))

    def synchronise(self, stream: FakeStream) -> None:
        for work in stream.queue:
            work()
        stream.queue.clear()

    def begin_capture(self, stream: FakeStream) -> bool:
        if self.records:
            stream.recording = []
        return self.records

    def end_capture(self, stream: FakeStream) -> Any:
        work, stream.recording = stream.recording, None
        graph = SimpleNamespace(work=work)
        self.held[id(graph)] = graph
        self.log.append("record")
        return graph

    def launch(self, graph: Any, stream: FakeStream) -> None:
        self.log.append("launch")
        stream.queue.extend(graph.work)

    def destroy_graph(self, graph: Any) -> None:
        del self.held[id(graph)]


class FakeContext:
    """`logits` [n, 2] are an image's sum and largest value; `cams` [n, 1, 2, 2] twice its upper left corner."""

    def __init__(self, cuda: FakeCuda, config: Any, *, works: Callable[[], bool]) -> None:
        self.cuda, self.config, self.works = cuda, config, works
        self.addresses: dict[str, int] = {}
        self.shape: tuple[int, ...] = ()

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return shape[0] <= 4

    def execute_async_v3(self, handle: int) -> bool:
        self.cuda.log.append("execute")
        if not self.works():
            return False
        shape, addresses = self.shape, dict(self.addresses)

        def work() -> None:
            def view(name: str, kind: Any, sizes: tuple[int, ...]) -> np.ndarray:
                buffer = (ctypes.c_uint8 * (int(np.prod(sizes)) * np.dtype(kind).itemsize)).from_address(
                    addresses[name]
                )
                return np.frombuffer(buffer, kind).reshape(sizes)

            image = view("image", np.uint8, shape)
            logits = view("logits", np.float32, (shape[0], 2))
            logits[:, 0], logits[:, 1] = image.sum(axis=(1, 2, 3)), image.max(axis=(1, 2, 3))
            if "cams" in addresses:
                view("cams", np.float32, (shape[0], 1, 2, 2))[:] = 2.0 * image[:, :, :2, :2]

        self.cuda.streams[handle].put(work)
        return True


def fake_distribution(
    cuda: FakeCuda, *, runtime_cache: bool = False, loads: bool = True, works=lambda: True
) -> Distribution:
    """A distribution whose module runs `FakeContext`s on `cuda`."""
    types = {"image": "UINT8", "logits": "FLOAT", "cams": "FLOAT", "odd": "BF16"}
    shapes = {"image": (-1, 1, 4, 4), "logits": (-1, 2), "cams": (-1, 1, 2, 2), "odd": (-1,)}
    kernels = SimpleNamespace(
        deserialize=lambda data: cuda.log.append(f"kernels {data.decode()}") or True, serialize=lambda: b"compiled"
    )
    config = SimpleNamespace(
        create_runtime_cache=lambda: kernels,
        set_runtime_cache=lambda cache: None,
        get_runtime_cache=lambda: kernels,
        cuda_graph_strategy=None,
    )
    engine = SimpleNamespace(
        num_io_tensors=len(types),
        get_tensor_name=lambda i: list(types)[i],
        get_tensor_dtype=lambda name: SimpleNamespace(name=types[name]),
        get_tensor_shape=lambda name: shapes[name],
        create_execution_context=lambda *configs: FakeContext(cuda, *(configs or (None,)), works=works),
        create_runtime_config=lambda: config,
    )

    class ILogger:
        ERROR, INTERNAL_ERROR, WARNING = "error", "internal", "warning"

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def deserialize_cuda_engine(self, plan: bytes) -> Any:
            if not loads:
                self.logger.log("warning", "never mind")
                self.logger.log("error", "the plan is for\n another version")
                return None
            return engine

    module: Any = SimpleNamespace(
        __version__="11.4.0",
        ILogger=ILogger,
        Runtime=Runtime,
        CudaGraphStrategy=SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole"),
        config=config,
    )
    return Distribution("tensorrt", "TensorRT", False, runtime_cache, lambda: None, lambda: module)
