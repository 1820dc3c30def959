"""OpenVINO on the CPU, the fastest on x86 for int8."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from jaxtyping import UInt8

from xrt.runtime._io import first_line, sha256_of
from xrt.runtime.backends.base import Backend, Session, SessionOptions
from xrt.runtime.bundle.certificate import ExecutionPrecision
from xrt.runtime.bundle.manifest import GraphInterface
from xrt.runtime.cache import cache_folder, read_private, write_private
from xrt.runtime.device import cpu_class
from xrt.runtime.errors import BackendError

log = logging.getLogger(__name__)
_MOST_KEPT = 2**29
"""Bytes of a compiled graph that is kept at most."""
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
        self._hint, self._restored = hint, False
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
        place = _place(model, settings) if self._options.keep else None
        compiled = None if place is None else _restored(core, place, settings)
        self._restored = self._restored or compiled is not None
        if compiled is None:
            with openvino_errors("refuses the graph"):
                compiled = core.compile_model(core.read_model(model), "CPU", settings)
            if place is not None:
                _keep(compiled, place)
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

    @property
    def restored(self) -> bool:
        """Whether a graph came from the cache."""
        return self._restored

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


def _place(model: bytes, settings: Mapping[str, Any]) -> Path:
    """Where the compiled form of a file is kept: it belongs to this library, processor and these settings."""
    import openvino

    asked = " ".join(f"{name}={value}" for name, value in sorted(settings.items()))
    return cache_folder("openvino") / sha256_of("\0".join((sha256_of(model), openvino.__version__, cpu_class(), asked)))


def _restored(core: Any, place: Path, settings: Mapping[str, Any]) -> Any:
    """The compiled graph that is kept at `place`; None where there is none, or OpenVINO does not take it."""
    kept = read_private(place)
    if kept is None:
        return None
    try:
        return core.import_model(kept, "CPU", dict(settings))
    except RuntimeError as error:
        log.info("a compiled graph that was kept is not used: %s", first_line(error, skip=_PLACES))
        return None


def _keep(compiled: Any, place: Path) -> None:
    """Keep a compiled graph for the next session; where OpenVINO cannot export it, nothing is kept."""
    try:
        blob = compiled.export_model().getvalue()
    except RuntimeError as error:
        log.info("OpenVINO cannot export the compiled graph: %s", first_line(error, skip=_PLACES))
        return
    if len(blob) <= _MOST_KEPT:
        write_private(place, blob)


@contextmanager
def openvino_errors(what: str) -> Iterator[None]:
    """Turns OpenVINO's exceptions into BackendError: `OpenVINO WHAT: …`, without places in its source."""
    try:
        yield
    except RuntimeError as error:
        raise BackendError(f"OpenVINO {what}: {first_line(error, skip=_PLACES)}") from error
