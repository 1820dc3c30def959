"""Running an engine: two slots with pinned buffers, so that copies of one batch overlap with the kernels of the other.

A slot has its own stream, execution context and buffers. The first run of a batch size in a slot enqueues copies and
kernels one by one, as TensorRT requires before a capture; the second in a row records them as a CUDA graph, and every
later one launches it. Another batch size changes the context, after which TensorRT leaves a graph recorded from it
undefined: it is dropped, and recorded again when sizes repeat. TensorRT for RTX compiles kernels while it runs and
replaces them, so a graph recorded from outside would keep provisional ones: there the runtime captures by itself.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from xrt.runtime.errors import BackendError
from xrt.runtime.tensorrt.cuda_base import Cuda, Pinned
from xrt.runtime.tensorrt.distributions import Library
from xrt.runtime.tensorrt.engine_cache import StoredEngine

log = logging.getLogger(__name__)

SLOTS = 2
_TYPES = {"FLOAT": np.float32, "INT64": np.int64, "INT32": np.int32, "UINT8": np.uint8}


@dataclass(frozen=True)
class _Tensor:
    """An input or output: its type, and its shape for one image."""

    name: str
    dtype: Any
    shape: tuple[int, ...]

    def size(self, batch: int) -> int:
        """Its bytes for that many images."""
        return int(np.prod(self.shape, dtype=np.int64)) * batch * np.dtype(self.dtype).itemsize


class EngineRunner:
    """A deserialised engine with its slots. `close` gives everything back.

    `run` takes uint8 [n, 1, H, W], any n, in pieces of at most `batch_most`, and returns every output by name. Raises
    BackendError when the plan does not deserialise here, memory is short, or a run fails.
    """

    def __init__(
        self,
        library: Library,
        cuda: Cuda,
        stored: StoredEngine,
        image: str,
        outputs: Sequence[str],
        runtime_cache: bytes = b"",
    ) -> None:
        self._library, self._cuda, self.batch_most = library, cuda, stored.batch_most
        library.logger.clear()
        self._runtime = library.start(library.module.Runtime)
        self._engine: Any = self._runtime.deserialize_cuda_engine(stored.plan)
        if self._engine is None:
            reason = library.failure()
            raise BackendError(
                f"{library.distribution.title} {library.version} cannot load the engine ({reason}): "
                "run `xrt build` again"
            )
        self._input, *self._outputs = (self._tensor(name) for name in (image, *outputs))
        self._config = self._runtime_config(runtime_cache) if library.distribution.runtime_cache else None
        self._slots: list[_Slot] = []
        try:
            for _ in range(SLOTS):
                self._slots.append(_Slot(self._context(), library, cuda, self._input, self._outputs, self.batch_most))
        except BaseException:
            self.close()
            raise

    def run(self, images: UInt8[np.ndarray, "n 1 h w"]) -> dict[str, np.ndarray]:
        """All outputs for all images. See the class."""
        pieces = [images[i : i + self.batch_most] for i in range(0, len(images), self.batch_most)]
        results: list[dict[str, np.ndarray]] = []
        for i, piece in enumerate(pieces):
            slot = self._slots[i % SLOTS]
            if i >= SLOTS:
                results.append(slot.collect())
            slot.start(piece)
        first = max(0, len(pieces) - SLOTS)
        results += [self._slots[i % SLOTS].collect() for i in range(first, len(pieces))]
        return {t.name: np.concatenate([result[t.name] for result in results]) for t in self._outputs}

    def runtime_cache(self) -> bytes:
        """The kernels compiled while running, for the next time; empty for a distribution that compiles none."""
        cache = self._config.get_runtime_cache() if self._config is not None else None
        return b"" if cache is None else bytes(cache.serialize())

    def close(self) -> None:
        """Give back slots, contexts and engine, in this order."""
        for slot in self._slots:
            slot.close()
        self._slots = []
        self._config = self._engine = self._runtime = None

    def _tensor(self, name: str) -> _Tensor:
        engine = self._engine
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        if name not in names:
            raise BackendError(f"the engine has no tensor {name!r}, only {', '.join(names)}: run `xrt build` again")
        kind = engine.get_tensor_dtype(name).name
        if kind not in _TYPES:
            raise BackendError(
                f"{name} is {kind.lower()}, which is none of {', '.join(_TYPES).lower()}: export the bundle again"
            )
        return _Tensor(name, _TYPES[kind], tuple(engine.get_tensor_shape(name))[1:])

    def _context(self) -> Any:
        context = self._engine.create_execution_context(*([] if self._config is None else [self._config]))
        if context is None:
            reason = self._library.failure()
            raise BackendError(f"no execution context for batches of {self.batch_most} ({reason}): use a smaller one")
        return context

    def _runtime_config(self, runtime_cache: bytes) -> Any:
        config = self._engine.create_runtime_config()
        cache = config.create_runtime_cache()
        if runtime_cache and not cache.deserialize(runtime_cache):
            log.info("the runtime cache is of another version and starts empty")
        config.set_runtime_cache(cache)
        config.cuda_graph_strategy = self._library.module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        return config


class _Slot:
    def __init__(
        self, context: Any, library: Library, cuda: Cuda, image: _Tensor, outputs: list[_Tensor], batch_most: int
    ) -> None:
        self._context: Any = context
        self._library, self._cuda = library, cuda
        self._image, self._outputs = image, outputs
        self._device: dict[str, int] = {}
        self._host: dict[str, Pinned] = {}
        self._stream: Any = None
        self._batch, self._busy = 0, False
        # Of the batch size that ran last: not recorded yet (None), the graph, or not to be recorded (False).
        self._graph: Any = None
        try:
            self._stream = cuda.stream()
            for tensor in (image, *outputs):
                size = tensor.size(batch_most)
                self._device[tensor.name] = cuda.allocate(size)
                self._host[tensor.name] = cuda.pin(size)
                self._require(context.set_tensor_address(tensor.name, self._device[tensor.name]), tensor.name)
        except BaseException:
            self.close()
            raise

    def start(self, images: UInt8[np.ndarray, "n 1 h w"]) -> None:
        """Put a batch on its way. `collect` must be called before the next."""
        if self._busy:
            # A batch before failed halfway: its copy may still be reading the buffer.
            self._cuda.synchronise(self._stream)
        self._busy = True
        self._host[self._image.name].bytes[: images.nbytes] = images.reshape(-1)
        same_size, self._batch = len(images) == self._batch, len(images)
        if not same_size:
            self._drop_graph()
        elif self._graph is None:
            self._graph = self._record()
        if self._graph:
            self._cuda.launch(self._graph, self._stream)
        else:
            self._enqueue()

    def collect(self) -> dict[str, np.ndarray]:
        """Wait for the batch and copy its outputs out of the buffers."""
        self._cuda.synchronise(self._stream)
        self._busy = False
        results = {}
        for tensor in self._outputs:
            view = self._host[tensor.name].bytes[: tensor.size(self._batch)]
            results[tensor.name] = view.view(tensor.dtype).reshape(self._batch, *tensor.shape).copy()
        return results

    def close(self) -> None:
        """Give everything back."""
        if self._stream is not None:
            self._cuda.synchronise(self._stream)
        self._drop_graph()
        for pinned in self._host.values():
            self._cuda.unpin(pinned)
        for address in self._device.values():
            self._cuda.free(address)
        if self._stream is not None:
            self._cuda.destroy_stream(self._stream)
        self._host, self._device = {}, {}
        self._stream = self._context = None

    def _enqueue(self) -> None:
        image, batch = self._image, self._batch
        self._require(self._context.set_input_shape(image.name, (batch, *image.shape)), image.name)
        self._cuda.upload(self._device[image.name], self._host[image.name], image.size(batch), self._stream)
        if not self._context.execute_async_v3(self._cuda.handle(self._stream)):
            reason = self._library.failure()
            raise BackendError(f"{self._library.distribution.title} failed while running: {reason}")
        for tensor in self._outputs:
            self._cuda.download(self._host[tensor.name], self._device[tensor.name], tensor.size(batch), self._stream)

    def _record(self) -> Any:
        """A run of this batch size as a CUDA graph; False where there is none, which costs time but no accuracy."""
        if self._library.distribution.runtime_cache or not self._cuda.begin_capture(self._stream):
            return False
        graph, failure = None, None
        try:
            self._enqueue()
        except BackendError as error:
            failure = error
        # A recording that was begun must be ended, or the stream stays unusable.
        try:
            graph = self._cuda.end_capture(self._stream)
        except BackendError as error:
            failure = failure or error
        if failure is None:
            return graph
        if graph is not None:
            self._cuda.destroy_graph(graph)
        log.info("batches of %d run without a CUDA graph: %s", self._batch, failure)
        return False

    def _drop_graph(self) -> None:
        if self._graph:
            self._cuda.destroy_graph(self._graph)
        self._graph = None

    def _require(self, success: bool, name: str) -> None:
        if not success:
            reason = self._library.failure()
            raise BackendError(f"{self._library.distribution.title} refuses the tensor {name}: {reason}")
