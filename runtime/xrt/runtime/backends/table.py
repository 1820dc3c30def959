"""The table of back ends, in the order in which `auto` prefers them."""

from __future__ import annotations

from xrt.runtime.backends.base import Backend
from xrt.runtime.backends.onnxruntime import OnnxRuntimeCpu
from xrt.runtime.backends.openvino import OpenVino
from xrt.runtime.backends.tensorrt import TensorRtBackend
from xrt.runtime.errors import BackendError, UsageError
from xrt.runtime.tensorrt.flavours import FLAVOURS

# TensorRT comes last: opening it may build an engine, and what has run is preferred to what has not.
BACKENDS: dict[str, Backend] = {
    backend.name: backend
    for backend in (OnnxRuntimeCpu(), OpenVino(), *(TensorRtBackend(flavour) for flavour in FLAVOURS))
}


def choose_backend(name: str = "auto") -> Backend:
    """The back end called `name`, or the first that can run here for `auto`.

    There is no silent fall-back: a back end that was named and cannot run raises BackendError with what it lacks;
    an unknown name raises UsageError.
    """
    if name != "auto":
        if name not in BACKENDS:
            raise UsageError(f"there is no back end {name!r}: choose auto, {', '.join(BACKENDS)}")
        if (lack := BACKENDS[name].lacks()) is not None:
            raise BackendError(f"back end {name} cannot run here: {lack}")
        return BACKENDS[name]
    lacks = {backend.name: backend.lacks() for backend in BACKENDS.values()}
    for backend in BACKENDS.values():
        if lacks[backend.name] is None:
            return backend
    raise BackendError("no back end can run here: " + "; ".join(f"{name}: {why}" for name, why in lacks.items()))
