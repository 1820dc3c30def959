"""TensorRT and TensorRT for RTX: one back end, its flavour a value."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from xrt.runtime.backends.base import Backend, Outputs, Session, SessionOptions
from xrt.runtime.backends.pruning import keep_output
from xrt.runtime.bundle.manifest import GraphSpec, Preprocessing
from xrt.runtime.errors import BackendError
from xrt.runtime.tensorrt.building import build_engine, outputs_of
from xrt.runtime.tensorrt.engines import EngineCache, key_of, load_or_build
from xrt.runtime.tensorrt.execution import RunningEngine
from xrt.runtime.tensorrt.flavours import Flavour, open_library
from xrt.runtime.tensorrt.memory import cuda_lack, open_cuda
from xrt.runtime.tensorrt.precheck import check_file


class TensorRtBackend(Backend):
    """A flavour of TensorRT on the first GPU. fp32 files run in fp32: TF32 is off.

    `cache` is the folder of engines, by default this machine's own.
    """

    family = "gpu"

    def __init__(self, flavour: Flavour, cache: Path | None = None) -> None:
        self.flavour, self.name, self._cache = flavour, flavour.name, cache

    def lacks(self) -> str | None:  # noqa: D102
        # The driver is asked before the library is loaded, which takes a second and hundreds of megabytes.
        lack = self.flavour.missing() or cuda_lack() or self.flavour.lacks()
        if lack is None:
            known, here = open_library(self.flavour).compute_capabilities, open_cuda().compute_capability()
            if known and here not in known:
                lack = f"{self.flavour.title} does not know this GPU ({here}), only {', '.join(known)}: use tensorrt"
        return lack

    def version(self) -> str:  # noqa: D102
        return open_library(self.flavour).version

    def device_class(self) -> str:  # noqa: D102
        return f"gpu-{open_cuda().compute_capability()}"

    def open(self, model: bytes, graph: GraphSpec, preprocessing: Preprocessing, options: SessionOptions) -> Session:
        """Load the engine of `model` from this machine's cache, or build it and keep it there.

        Raises BackendError when the engine in the cache does not fit, or none can be built.
        """
        return _TensorRtSession(self, model, graph, preprocessing)

    def run_engine(self, model: bytes, graph: GraphSpec, preprocessing: Preprocessing, outputs: list[str]) -> _Opened:
        """The running engine of `model` that gives `outputs`."""
        precision = check_file(model)
        library, cuda, cache = open_library(self.flavour), open_cuda(), EngineCache(self._cache)
        here = cuda.compute_capability()
        key = key_of(self.name, library.version, here, precision, model)
        build = partial(build_engine, self.flavour, model, graph, preprocessing, compute_capability=here)
        stored = load_or_build(cache, key, lambda timings: build(precision=precision, timing_cache=timings))
        kernels = f"{key.stem}.kernels"
        engine = RunningEngine(
            library, cuda, stored.plan, graph.image, outputs, stored.batch_most, cache.read_scratch(kernels)
        )
        return _Opened(engine, cache, kernels)


class _Opened:
    """A running engine and where the kernels that it compiles are kept."""

    def __init__(self, engine: RunningEngine, cache: EngineCache, kernels: str) -> None:
        self.engine, self._cache, self._kernels = engine, cache, kernels

    def close(self) -> None:
        try:
            if compiled := self.engine.runtime_cache():
                self._cache.write_scratch(self._kernels, compiled)
        finally:
            self.engine.close()


class _TensorRtSession(Session):
    """Two engines: the whole graph, and, from the first time that logits alone are asked for, what they need."""

    def __init__(self, backend: TensorRtBackend, model: bytes, graph: GraphSpec, preprocessing: Preprocessing) -> None:
        super().__init__(graph, preprocessing)
        self._backend, self._model, self._preprocessing = backend, model, preprocessing
        self._everything: _Opened | None = backend.run_engine(model, graph, preprocessing, outputs_of(graph))
        self._logits_only: _Opened | None = None

    def _infer(self, images: UInt8[np.ndarray, "n 1 height width"], cams: bool) -> Outputs:
        graph = self.graph
        if self._everything is None:
            raise BackendError("the session is closed")
        opened = self._everything
        if not cams:
            if self._logits_only is None:
                pruned = keep_output(self._model, graph.logits)
                self._logits_only = self._backend.run_engine(pruned, graph, self._preprocessing, [graph.logits])
            opened = self._logits_only
        results = opened.engine.run(images)
        return Outputs(
            logits=results[graph.logits],
            cams={cam.output: results[cam.output] for cam in graph.cams if cams},
            cam_classes=results[graph.cam_classes] if cams and graph.cam_classes else None,
        )

    def close(self) -> None:
        for opened in (self._everything, self._logits_only):
            if opened is not None:
                opened.close()
        self._everything = self._logits_only = None
