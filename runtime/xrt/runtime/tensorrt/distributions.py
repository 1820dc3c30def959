"""The two distributions of TensorRT: how each is found and loaded, and what each can do that the other cannot."""

from __future__ import annotations

import ctypes
import importlib
import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from xrt.runtime.errors import BackendError

OLDEST = (10, 3)
"""TensorRT of JetPack 6. Older ones lack strong typing of the operators that are emitted."""
_RTX_SDK, _RTX_BINDINGS, _RTX_LIBRARIES = "tensorrt_rtx", "tensorrt_rtx_bindings", "onnxruntime_ep_nv_tensorrt_rtx"
# In this order: each needs the symbols of the ones before.
_RTX_PRELOADED = ("libcudart", "libtensorrt_rtx", "libtensorrt_onnxparser_rtx")


@dataclass(frozen=True)
class Distribution:
    """One distribution of TensorRT.

    `ahead_of_time`: it builds for a GPU that is named, on a machine without one. `runtime_cache`: it compiles its
    kernels when an engine runs, keeps them in a runtime cache, and captures CUDA graphs itself; the other picks its
    kernels when it builds and keeps their timings in a timing cache.
    """

    name: str
    title: str
    ahead_of_time: bool
    runtime_cache: bool
    missing: Callable[[], str | None]
    load: Callable[[], ModuleType]

    def unavailable_reason(self) -> str | None:
        """What is missing to build with it, and how to get it, in one line; None when nothing is."""
        if (reason := self.missing()) is not None:
            return reason
        try:
            open_library(self)
        except BackendError as error:
            return str(error)
        return None


@dataclass(frozen=True)
class Library:
    """A loaded distribution: its module, version and the one logger that it may have in a process."""

    distribution: Distribution
    module: Any
    version: str
    logger: Any

    @property
    def compute_capabilities(self) -> tuple[str, ...]:
        """The GPUs that it compiles for by name, such as `sm86`; empty when it only builds for the GPU it is on."""
        if not self.distribution.ahead_of_time:
            return ()
        names = self.module.ComputeCapability.__members__
        return tuple(name.lower() for name in names if name.startswith("SM"))

    def start(self, factory: Any) -> Any:
        """A new Builder or Runtime. Raises BackendError when it cannot start, above all without a driver.

        What fails to start is a null pointer. Some bindings raise a TypeError then, others return it, and its first
        use ends the process: so what was logged decides.
        """
        self.logger.clear()
        try:
            instance = factory(self.logger)
        except (RuntimeError, TypeError) as error:
            raise BackendError(f"{self.distribution.title} does not start: {self.failure(str(error))}") from error
        if self.logger.errors:
            raise BackendError(f"{self.distribution.title} does not start: {self.failure('')}")
        return instance

    def failure(self, otherwise: str = "it gave no reason") -> str:
        """The first error that was logged since the last start, in one line; `otherwise` when there was none."""
        return self.logger.errors[0] if self.logger.errors else " ".join(otherwise.split())


@cache
def open_library(distribution: Distribution) -> Library:
    """Load a distribution, once per process. Raises BackendError when it is absent, damaged or too old."""
    if (reason := distribution.missing()) is not None:
        raise BackendError(reason)
    try:
        module = distribution.load()
    except (ImportError, OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BackendError(f"{distribution.title} is installed but does not load ({reason}): reinstall it") from error
    version = str(module.__version__)
    if not distribution.ahead_of_time and tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise BackendError(f"TensorRT {version} is too old, {oldest} is the oldest that is supported: update it")
    return Library(distribution, module, version, _logger_of(module))


def _logger_of(module: Any) -> Any:
    # The libraries keep the first logger that they are given, so there is one, and it collects instead of printing.
    class CollectingLogger(module.ILogger):
        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (module.ILogger.ERROR, module.ILogger.INTERNAL_ERROR):
                self.errors.append(" ".join(message.split()))

        def clear(self) -> None:
            self.errors.clear()

    return CollectingLogger()


def _tensorrt_missing() -> str | None:
    if find_spec("tensorrt") is None:
        return (
            "the package tensorrt is not installed: pip install 'xrt-runtime[tensorrt]' "
            "(a Jetson has it from JetPack: apt install python3-libnvinfer)"
        )
    return _onnx_missing("tensorrt")


def _rtx_missing() -> str | None:
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return f"TensorRT for RTX is made for x86-64 alone, this is {platform.machine()}: use the back end tensorrt"
    if find_spec(_RTX_SDK) is None:
        for module in (_RTX_BINDINGS, _RTX_LIBRARIES):
            if find_spec(module) is None:
                return f"the package with {module} is not installed: pip install 'xrt-runtime[tensorrt-rtx]'"
    return _onnx_missing("tensorrt-rtx")


def _onnx_missing(extra: str) -> str | None:
    if find_spec("onnx") is None:
        return (
            f"the package onnx, which reads a file before TensorRT does, is missing: pip install 'xrt-runtime[{extra}]'"
        )
    return None


def _load_tensorrt() -> ModuleType:
    return importlib.import_module("tensorrt")


def _load_rtx() -> ModuleType:
    """The SDK's own package where it is installed, else the bindings with the libraries of ONNX Runtime's plugin."""
    if find_spec(_RTX_SDK) is not None:
        return importlib.import_module(_RTX_SDK)
    spec = find_spec(_RTX_LIBRARIES)
    if spec is None or spec.origin is None:
        raise ImportError(f"the package {_RTX_LIBRARIES} has no folder")
    # That package is not imported: its import writes links into site-packages and sets LD_LIBRARY_PATH.
    folder = Path(spec.origin).parent
    for stem in _RTX_PRELOADED:
        libraries = sorted(folder.glob(f"{stem}.so.*"), key=lambda path: -len(path.name))
        if not libraries:
            raise OSError(f"{folder} holds no {stem}.so")
        ctypes.CDLL(str(libraries[0]), mode=ctypes.RTLD_GLOBAL)
    return importlib.import_module(_RTX_BINDINGS)


TENSORRT = Distribution("tensorrt", "TensorRT", False, False, _tensorrt_missing, _load_tensorrt)
TENSORRT_RTX = Distribution("tensorrt-rtx", "TensorRT for RTX", True, True, _rtx_missing, _load_rtx)
DISTRIBUTIONS = (TENSORRT, TENSORRT_RTX)
