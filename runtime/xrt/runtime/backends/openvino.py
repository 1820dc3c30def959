"""OpenVINO on the CPU, the fastest on x86 for int8."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
from jaxtyping import UInt8

from xrt.runtime.backends.base import Backend, Outputs, Session, SessionOptions
from xrt.runtime.backends.pruning import keep_output
from xrt.runtime.bundle.manifest import ExecutionPrecision, GraphSpec, Preprocessing
from xrt.runtime.device import cpu_class
from xrt.runtime.errors import BackendError

_HINTS = {"fp32": "f32", "bf16": "bf16"}


class OpenVino(Backend):
    """OpenVINO's CPU plug-in. Left to itself it runs fp32 files in bf16 where it can, so the precision is asked for.

    bf16 is an execution precision of its own: certificates of fp32 do not speak for it.
    """

    name = "openvino"

    def __init__(self, precision: ExecutionPrecision = "fp32") -> None:
        self.execution_precision = precision

    def lacks(self) -> str | None:  # noqa: D102
        if importlib.util.find_spec("openvino") is None:
            return "the package openvino is not installed: pip install 'xrt-runtime[openvino]'"
        return None

    def version(self) -> str:  # noqa: D102
        import openvino

        return openvino.__version__.partition("-")[0]

    def device_class(self) -> str:  # noqa: D102
        return cpu_class()

    def open(self, model: bytes, graph: GraphSpec, preprocessing: Preprocessing, options: SessionOptions) -> Session:
        """Compile the graph in `model` for this CPU. Raises BackendError when OpenVINO chose another precision."""
        return _OpenVinoSession(model, graph, preprocessing, options, _HINTS[self.execution_precision])


class _OpenVinoSession(Session):
    def __init__(
        self, model: bytes, graph: GraphSpec, preprocessing: Preprocessing, options: SessionOptions, hint: str
    ) -> None:
        super().__init__(graph, preprocessing)
        self._model, self._options, self._hint = model, options, hint
        self._request: Any = _compiled(model, options, hint)
        self._logits_only: Any = None

    def _infer(self, images: UInt8[np.ndarray, "n 1 height width"], cams: bool) -> Outputs:
        graph = self.graph
        if not cams and self._logits_only is None:
            self._logits_only = _compiled(keep_output(self._model, graph.logits), self._options, self._hint)
        request = self._request if cams else self._logits_only
        try:
            # A copy: the request writes its next results into the same memory.
            results = {port.any_name: np.array(value) for port, value in request.infer({graph.image: images}).items()}
        except RuntimeError as error:
            raise BackendError(f"OpenVINO failed while running: {_first_line(error)}") from error
        return Outputs(
            logits=results[graph.logits],
            cams={cam.output: results[cam.output] for cam in graph.cams if cams},
            cam_classes=results[graph.cam_classes] if cams and graph.cam_classes else None,
        )

    def close(self) -> None:
        self._request = self._logits_only = None


def _compiled(model: bytes, options: SessionOptions, hint: str) -> Any:
    import openvino

    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
    if options.threads:
        settings["INFERENCE_NUM_THREADS"] = options.threads
    core = openvino.Core()
    try:
        compiled = core.compile_model(core.read_model(model), "CPU", settings)
    except RuntimeError as error:
        raise BackendError(f"OpenVINO refuses the graph: {_first_line(error)}") from error
    found = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if found != hint:
        raise BackendError(f"OpenVINO computes in {found} where {hint} was asked for: this CPU cannot do it")
    return compiled.create_infer_request()


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
