"""OpenVINO on the CPU, the fastest on x86 for int8."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import numpy as np
from jaxtyping import UInt8

from xrt.runtime._io import first_line
from xrt.runtime.backends.base import Backend, Session, SessionOptions
from xrt.runtime.bundle.certificate import ExecutionPrecision
from xrt.runtime.bundle.manifest import GraphInterface
from xrt.runtime.device import cpu_class
from xrt.runtime.errors import BackendError

_HINTS = {"fp32": "f32", "bf16": "bf16"}
_PLACES = (
    "Exception from", "Check '", "FrontEnd API failed", "Model wasn't fully converted", "-- ", "While validating",
    "Summary",
)  # fmt: skip
"""How lines of OpenVINO's messages start that name a place in its source, or announce the lines that follow."""


class OpenVino(Backend):
    """OpenVINO's CPU plug-in. Left to itself it runs fp32 files in bf16 where it can, so the precision is asked for.

    bf16 is an execution precision of its own: certificates of fp32 do not cover it.
    """

    name = "openvino"

    def __init__(self, precision: ExecutionPrecision = "fp32") -> None:
        self.execution_precision = precision

    def unavailable_reason(self) -> str | None:  # noqa: D102
        if importlib.util.find_spec("openvino") is None:
            return "the package openvino is not installed: pip install 'xrt-runtime[openvino]'"
        return None

    def version(self) -> str:  # noqa: D102
        import openvino

        return openvino.__version__.partition("-")[0]

    def device_class(self) -> str:  # noqa: D102
        return cpu_class()

    def open(self, model: bytes, interface: GraphInterface, options: SessionOptions) -> Session[Any]:
        """Compile the graph in `model` for this CPU. Raises BackendError when OpenVINO chose another precision."""
        return _OpenVinoSession(model, interface, options, _HINTS[self.execution_precision])


class _OpenVinoSession(Session[Any]):
    def __init__(self, model: bytes, interface: GraphInterface, options: SessionOptions, hint: str) -> None:
        self._hint = hint
        super().__init__(model, interface, options)

    def _open(self, model: bytes, outputs: Sequence[str]) -> Any:
        import openvino

        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": self._hint, "PERFORMANCE_HINT": "LATENCY"}
        streams = self._options.streams
        if streams > 1:
            settings["NUM_STREAMS"] = streams
            settings["INFERENCE_NUM_THREADS"] = streams * self._options.threads_per_stream()
        elif self._options.threads:
            settings["INFERENCE_NUM_THREADS"] = self._options.threads
        core = openvino.Core()
        with openvino_errors("refuses the graph"):
            compiled = core.compile_model(core.read_model(model), "CPU", settings)
        precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if precision != self._hint:
            raise BackendError(
                f"OpenVINO computes in {precision} where {self._hint} was asked for: this CPU cannot do it"
            )
        requests: SimpleQueue[Any] = SimpleQueue()
        for _ in range(streams):
            requests.put(compiled.create_infer_request())
        return requests

    @property
    def streams(self) -> int:
        """As many as there are requests."""
        return self._options.streams

    def _run(
        self, opened: Any, images: UInt8[np.ndarray, "n 1 height width"], outputs: Sequence[str]
    ) -> dict[str, np.ndarray]:
        request = opened.get()
        try:
            with openvino_errors("failed while running"):
                results = request.infer({self.interface.graph.image: images})
            # Copies, because the request writes its next results into the same memory. A port has all the names that
            # its tensor has in the graph: an identity gives it a second one.
            arrays = [(port.get_names(), np.array(value)) for port, value in results.items()]
        finally:
            opened.put(request)
        return {name: array for names, array in arrays for name in names}


@contextmanager
def openvino_errors(what: str) -> Iterator[None]:
    """Turns OpenVINO's exceptions into BackendError: `OpenVINO WHAT: …`, without places in its source."""
    try:
        yield
    except RuntimeError as error:
        raise BackendError(f"OpenVINO {what}: {first_line(error, skip=_PLACES)}") from error
