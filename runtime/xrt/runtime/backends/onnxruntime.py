"""ONNX Runtime on the CPU."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from jaxtyping import UInt8

from xrt.runtime._io import first_line
from xrt.runtime.backends.base import Backend, Session, SessionOptions
from xrt.runtime.bundle.manifest import GraphInterface
from xrt.runtime.device import cpu_class
from xrt.runtime.errors import BackendError

WRONG_PASSES = ("Pad_Fusion",)
"""Optimisations of ONNX Runtime that change results: Pad_Fusion (1.31) lets a MaxPool after a padding with zeros pad
with -inf."""


class OnnxRuntimeCpu(Backend):
    """ONNX Runtime's CPU provider; fp32 files run in fp32.

    `without` names optimisations that are left out, None leaves out all.
    """

    name = "onnxruntime"

    def __init__(self, without: tuple[str, ...] | None = WRONG_PASSES) -> None:
        self._without = without

    def unavailable_reason(self) -> str | None:  # noqa: D102
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

    def open(self, model: bytes, interface: GraphInterface, options: SessionOptions) -> Session[Any]:
        """Compile the graph in `model` with ONNX Runtime's optimisations."""
        return _OnnxRuntimeSession(model, interface, options, self._without)


class _OnnxRuntimeSession(Session[Any]):
    def __init__(
        self, model: bytes, interface: GraphInterface, options: SessionOptions, without: tuple[str, ...] | None
    ) -> None:
        self._without = without
        super().__init__(model, interface, options)

    def _open(self, model: bytes, outputs: Sequence[str]) -> Any:
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        options = self._options
        settings.intra_op_num_threads = options.threads if options.streams == 1 else options.threads_per_stream()
        settings.log_severity_level = 3
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Weights outside the file would escape its hash; ONNX Runtime would look for them in the working directory.
        settings.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(Path(tempfile.gettempdir(), uuid4().hex))
        )
        if self._without is None:
            settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        with onnxruntime_errors("refuses the graph"):
            return onnxruntime.InferenceSession(
                model, settings, providers=["CPUExecutionProvider"], disabled_optimizers=list(self._without or ())
            )

    @property
    def streams(self) -> int:
        """A session of ONNX Runtime may be run by several threads at a time."""
        return self._options.streams

    def _run(
        self, opened: Any, images: UInt8[np.ndarray, "n 1 height width"], outputs: Sequence[str]
    ) -> dict[str, np.ndarray]:
        with onnxruntime_errors("failed while running"):
            values = opened.run(list(outputs), {self.interface.graph.image: images})
        return dict(zip(outputs, values, strict=True))


@contextmanager
def onnxruntime_errors(what: str) -> Iterator[None]:
    """Turns ONNX Runtime's exceptions, which have no common base, into BackendError: `ONNX Runtime WHAT: …`."""
    try:
        yield
    except Exception as error:
        raise BackendError(f"ONNX Runtime {what}: {first_line(error)}") from error
