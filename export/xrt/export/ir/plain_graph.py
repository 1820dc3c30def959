"""Looking into graphs by running them as they are written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xrt.runtime.backends.onnxruntime import OnnxRuntimeCpu, first_line
from xrt.runtime.errors import BackendError


class PlainGraph:
    """Any graph, run by ONNX Runtime as it is written, unoptimised. Raises BackendError when that cannot be."""

    def __init__(self, model: bytes) -> None:
        if reason := OnnxRuntimeCpu().lacks():
            raise BackendError(reason)
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        settings.log_severity_level = 4
        try:
            self._session: Any = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise BackendError(f"ONNX Runtime refuses the graph: {first_line(error)}") from error

    def run(self, inputs: dict[str, np.ndarray], outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """The outputs of these names."""
        try:
            return dict(zip(outputs, self._session.run(list(outputs), inputs), strict=True))
        except Exception as error:
            raise BackendError(f"ONNX Runtime failed while running: {first_line(error)}") from error
