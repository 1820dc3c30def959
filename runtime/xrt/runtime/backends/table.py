"""The table of back ends, in the order in which `auto` prefers them."""

from __future__ import annotations

from xrt.runtime._selection import choose
from xrt.runtime.backends.base import Backend
from xrt.runtime.backends.onnxruntime import OnnxRuntimeCpu
from xrt.runtime.backends.openvino import OpenVino
from xrt.runtime.backends.tensorrt import TensorRtBackend
from xrt.runtime.errors import BackendError
from xrt.runtime.tensorrt.distributions import DISTRIBUTIONS

# TensorRT comes last: opening it may build an engine, and what has run is preferred to what has not.
BACKENDS: dict[str, Backend] = {
    backend.name: backend
    for backend in (OnnxRuntimeCpu(), OpenVino(), *(TensorRtBackend(distribution) for distribution in DISTRIBUTIONS))
}


def choose_backend(name: str = "auto") -> Backend:
    """The back end called `name`, or the first that can run here for `auto`.

    There is no silent fall-back: a back end that was named and cannot run raises BackendError with the reason;
    an unknown name raises UsageError.
    """
    return choose(name, BACKENDS.values(), "run")


def available_backends() -> list[Backend]:
    """All back ends that can run here."""
    return [backend for backend in BACKENDS.values() if backend.unavailable_reason() is None]


def cpu_backends() -> list[Backend]:
    """Those of the CPU that can run here. Raises BackendError with every reason when none can."""
    if available := [backend for backend in available_backends() if backend.family == "cpu"]:
        return available
    reasons = (f"{b.name}: {b.unavailable_reason()}" for b in BACKENDS.values() if b.family == "cpu")
    raise BackendError("; ".join(reasons))
