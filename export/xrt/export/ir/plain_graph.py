"""Running a graph without optimisation, so that any of its tensors can be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xrt.export.ir.skeleton import Skeleton
from xrt.runtime.backends.onnxruntime import OnnxRuntimeCpu, onnxruntime_errors
from xrt.runtime.errors import BackendError


class PlainGraph:
    """A graph, run by ONNX Runtime on the CPU without optimisation. Raises BackendError when that fails.

    Its weights are inputs, so ONNX Runtime makes no copy of them.
    """

    def __init__(self, skeleton: Skeleton) -> None:
        if reason := OnnxRuntimeCpu().unavailable_reason():
            raise BackendError(reason)
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        settings.log_severity_level = 4
        # Shapes are read as soon as a tensor is there: otherwise all tensors whose shape is asked for stay to the end.
        settings.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
        settings.enable_mem_pattern = settings.enable_cpu_mem_arena = False
        model = skeleton.proto.SerializeToString()
        with onnxruntime_errors("refuses the graph"):
            self._session: Any = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
        names = {value.name for value in self._session.get_inputs()}
        self._weights = {name: weight for name, weight in skeleton.weights.items() if name in names}

    def run(self, inputs: dict[str, np.ndarray], outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """The outputs of these names. Raises BackendError when the run fails."""
        with onnxruntime_errors("failed while running"):
            values = self._session.run(list(outputs), {**self._weights, **inputs})
        return dict(zip(outputs, values, strict=True))
