"""ONNX Runtime on the CPU."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from jaxtyping import UInt8

from xrt.runtime.backends.base import Backend, Outputs, Session, SessionOptions
from xrt.runtime.backends.pruning import keep_output
from xrt.runtime.bundle.manifest import GraphSpec, Preprocessing
from xrt.runtime.device import cpu_class
from xrt.runtime.errors import BackendError


class OnnxRuntimeCpu(Backend):
    """ONNX Runtime's CPU provider; fp32 files run in fp32."""

    name = "onnxruntime"

    def lacks(self) -> str | None:  # noqa: D102
        if importlib.util.find_spec("onnxruntime") is None:
            return "the package onnxruntime is not installed: pip install 'xrt-runtime[cpu]'"
        import onnxruntime

        if not hasattr(onnxruntime, "InferenceSession"):
            return "onnxruntime is damaged (two of its wheels overwrite each other): see `xrt doctor`"
        return None

    def version(self) -> str:  # noqa: D102
        import onnxruntime

        return onnxruntime.__version__

    def device_class(self) -> str:  # noqa: D102
        return cpu_class()

    def open(self, model: bytes, graph: GraphSpec, preprocessing: Preprocessing, options: SessionOptions) -> Session:
        """Compile the graph in `model` with all of ONNX Runtime's optimisations."""
        return _OnnxRuntimeSession(model, graph, preprocessing, options)


class _OnnxRuntimeSession(Session):
    def __init__(self, model: bytes, graph: GraphSpec, preprocessing: Preprocessing, options: SessionOptions) -> None:
        super().__init__(graph, preprocessing)
        self._model, self._options = model, options
        self._session: Any = _open(model, options)
        self._logits_only: Any = None

    def _infer(self, images: UInt8[np.ndarray, "n 1 height width"], cams: bool) -> Outputs:
        graph = self.graph
        names = [graph.logits]
        if cams:
            names += [cam.output for cam in graph.cams]
            if graph.cam_classes:
                names.append(graph.cam_classes)
        elif self._logits_only is None:
            self._logits_only = _open(keep_output(self._model, graph.logits), self._options)
        session = self._session if cams else self._logits_only
        try:
            values = session.run(names, {graph.image: images})
        except Exception as error:
            raise BackendError(f"ONNX Runtime failed while running: {first_line(error)}") from error
        results = dict(zip(names, values, strict=True))
        return Outputs(
            logits=results[graph.logits],
            cams={cam.output: results[cam.output] for cam in graph.cams if cams},
            # ONNX Runtime's int64 is numpy's `longlong`, another type of the same size.
            cam_classes=results[graph.cam_classes].astype(np.int64) if cams and graph.cam_classes else None,
        )

    def close(self) -> None:
        self._session = self._logits_only = None


def _open(model: bytes, options: SessionOptions) -> Any:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.log_severity_level = 3
    settings.add_session_config_entry("session.intra_op.allow_spinning", "1" if options.spinning else "0")
    # Weights outside the file would escape its hash; ONNX Runtime would look for them in the working directory.
    settings.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(Path(tempfile.gettempdir(), uuid4().hex))
    )
    try:
        return onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        raise BackendError(f"ONNX Runtime refuses the graph: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """What an exception of ONNX Runtime says, without its stack."""
    return str(error).strip().splitlines()[0]
