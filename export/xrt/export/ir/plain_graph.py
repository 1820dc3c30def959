"""Running a graph without optimisation, so that any of its tensors can be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xrt.runtime.backends.onnxruntime import OnnxRuntimeCpu, onnxruntime_errors
from xrt.runtime.errors import BackendError


class PlainGraph:
    """A graph, run by ONNX Runtime on the CPU without optimisation. Raises BackendError when that fails."""

    def __init__(self, model: bytes) -> None:
        if reason := OnnxRuntimeCpu().unavailable_reason():
            raise BackendError(reason)
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        settings.log_severity_level = 4
        with onnxruntime_errors("refuses the graph"):
            self._session: Any = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])

    def run(self, inputs: dict[str, np.ndarray], outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """The outputs of these names. Raises BackendError when the run fails."""
        with onnxruntime_errors("failed while running"):
            return dict(zip(outputs, self._session.run(list(outputs), inputs), strict=True))
