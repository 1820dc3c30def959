"""TensorRT and TensorRT for RTX: one back end, its distribution a value."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from xrt.runtime.backends.base import Backend, Session, SessionOptions
from xrt.runtime.bundle.manifest import GraphInterface
from xrt.runtime.tensorrt.builder import build_engine
from xrt.runtime.tensorrt.cuda import cuda_unavailable_reason, open_cuda
from xrt.runtime.tensorrt.distributions import Distribution, open_library
from xrt.runtime.tensorrt.engine_cache import EngineCache, key_of, load_or_build
from xrt.runtime.tensorrt.onnx_support import check_file
from xrt.runtime.tensorrt.runner import EngineRunner


class TensorRtBackend(Backend):
    """A distribution of TensorRT on the first GPU. fp32 files run in fp32: TF32 is off.

    `cache` is the folder of engines, by default this machine's own.
    """

    family = "gpu"

    def __init__(self, distribution: Distribution, cache: Path | None = None) -> None:
        self.distribution, self.name, self.cache = distribution, distribution.name, cache

    def unavailable_reason(self) -> str | None:  # noqa: D102
        # The driver is asked before the library is loaded, which takes a second and hundreds of megabytes.
        reason = self.distribution.missing() or cuda_unavailable_reason() or self.distribution.unavailable_reason()
        if reason is None:
            known, here = open_library(self.distribution).compute_capabilities, open_cuda().compute_capability()
            if known and here not in known:
                title = self.distribution.title
                reason = f"{title} does not know this GPU ({here}), only {', '.join(known)}: use tensorrt"
        return reason

    def version(self) -> str:  # noqa: D102
        return open_library(self.distribution).version

    def device_class(self) -> str:  # noqa: D102
        return f"gpu-{open_cuda().compute_capability()}"

    def open(self, model: bytes, interface: GraphInterface, options: SessionOptions) -> Session[OpenedEngine]:
        """Load the engine of `model` from this machine's cache, or build it and keep it there.

        Raises BackendError when the engine in the cache does not fit, or none can be built.
        """
        return _TensorRtSession(self, model, interface, options)


class OpenedEngine:
    """A running engine and where the kernels that it compiles are kept."""

    def __init__(self, engine: EngineRunner, cache: EngineCache, kernels: str) -> None:
        self.engine, self._cache, self._kernels = engine, cache, kernels

    def close(self) -> None:
        """Keep the kernels, and give the engine back."""
        try:
            if compiled := self.engine.runtime_cache():
                self._cache.write_scratch(self._kernels, compiled)
        finally:
            self.engine.close()


class _TensorRtSession(Session[OpenedEngine]):
    """Two engines: the whole graph, and, from the first time that logits alone are asked for, what they need."""

    def __init__(
        self, backend: TensorRtBackend, model: bytes, interface: GraphInterface, options: SessionOptions
    ) -> None:
        self._backend = backend
        super().__init__(model, interface, options)

    def _open(self, model: bytes, outputs: Sequence[str]) -> OpenedEngine:
        distribution = self._backend.distribution
        precision = check_file(model)
        library, cuda, cache = open_library(distribution), open_cuda(), EngineCache(self._backend.cache)
        here = cuda.compute_capability()
        key = key_of(distribution.name, library.version, here, precision, model)
        build = partial(build_engine, distribution, model, self.interface, compute_capability=here)
        stored = load_or_build(cache, key, lambda timings: build(precision=precision, timing_cache=timings))
        kernels = f"{key.stem}.kernels"
        engine = EngineRunner(library, cuda, stored, self.interface.graph.image, outputs, cache.read_scratch(kernels))
        return OpenedEngine(engine, cache, kernels)

    def _run(
        self, opened: OpenedEngine, images: UInt8[np.ndarray, "n 1 height width"], outputs: Sequence[str]
    ) -> dict[str, np.ndarray]:
        return opened.engine.run(images)

    def _release(self, opened: OpenedEngine) -> None:
        opened.close()
