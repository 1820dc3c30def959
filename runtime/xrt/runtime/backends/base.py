"""The back-end interface. The base validates and assembles; a back end opens a graph and runs it."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from jaxtyping import UInt8

from xrt.runtime.backends.graph_content import require_self_contained
from xrt.runtime.backends.pruning import keep_output
from xrt.runtime.bundle.certificate import ExecutionPrecision
from xrt.runtime.bundle.manifest import GraphInterface, Variant
from xrt.runtime.device import usable_cores
from xrt.runtime.errors import BackendError
from xrt.runtime.outputs import ModelOutputs, in_batches
from xrt.runtime.progress import SILENT, Progress

Opened = TypeVar("Opened")


@dataclass(frozen=True)
class SessionOptions:
    """How a session may use the machine. `threads` = 0 takes every core.

    `streams` batches are run at a time, each by its share of the threads, where the back end can: several batches of
    one thread each wait for each other less than one of several threads.

    Idle threads sleep between operators: those that spin are a little faster alone and slow down whatever runs beside.
    """

    threads: int = 0
    streams: int = 1

    def threads_per_stream(self) -> int:
        """The threads of each of several streams, one at least."""
        return max(1, (self.threads or usable_cores()) // self.streams)


DEFAULT_SESSION = SessionOptions()


class Backend(ABC):
    """One way to execute a graph on this machine.

    `family` says which variants are made for it, `execution_precision` how it computes files of fp32.
    """

    name: str
    family: Literal["cpu", "gpu"] = "cpu"
    execution_precision: ExecutionPrecision = "fp32"

    @abstractmethod
    def unavailable_reason(self) -> str | None:
        """What is missing to run here and how to get it, in one line; None when nothing is."""

    @abstractmethod
    def version(self) -> str:
        """The version of the library that decides the numbers."""

    @abstractmethod
    def device_class(self) -> str:
        """The class of device whose kernels decide the numbers, such as `cpu-x86_64-avx512vnni`."""

    @abstractmethod
    def open(self, model: bytes, interface: GraphInterface, options: SessionOptions) -> Session[Any]:
        """Compile the graph in `model`. Raises BackendError when the library refuses it."""


@dataclass(frozen=True)
class Execution:
    """A variant's file as one back end executes it on this machine."""

    variant: Variant
    backend: Backend

    @property
    def precision(self) -> ExecutionPrecision:
        """The precision in which the file is executed: the back end's own for fp32 files, else the file's."""
        return self.backend.execution_precision if self.variant.precision == "fp32" else self.variant.precision

    @property
    def key(self) -> tuple[str, ...]:
        """What a certificate belongs to: file hash, back end and version, execution precision, device class."""
        backend = self.backend
        return self.variant.sha256, backend.name, backend.version(), self.precision, backend.device_class()


class Session(ABC, Generic[Opened]):
    """An opened graph. Use it as a context manager; `infer` checks what goes in and what comes out.

    A back end gives `_open`, which compiles a file for some of its outputs, `_run` and `_release`. The whole graph is
    opened immediately; a graph that is cut down to its logits, when logits alone are asked for the first time.
    """

    def __init__(self, model: bytes, interface: GraphInterface, options: SessionOptions) -> None:
        self.interface = interface
        self._model, self._options = model, options
        require_self_contained(model)
        self._whole: Opened | None = self._open(model, interface.outputs)
        self._logits_only: Opened | None = None
        self._opening = threading.Lock()

    def __enter__(self) -> Session[Opened]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def streams(self) -> int:
        """How many threads may call `infer` at a time."""
        return 1

    def infer(self, images: UInt8[np.ndarray, "n 1 height width"], *, cams: bool = True) -> ModelOutputs:
        """Run a batch. With `cams=False` only the operators that the logits need are executed.

        Raises BackendError when the batch does not fit the graph, the library fails, or the session is closed.
        """
        shape = self.interface.input_shape
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != shape or not len(images):
            raise BackendError(
                f"the graph takes uint8 [n, {', '.join(map(str, shape))}], given {images.dtype} {list(images.shape)}"
            )
        names = self.interface.outputs if cams else (self.interface.graph.logits,)
        return self._assemble(self._run(self._opened(cams), np.ascontiguousarray(images), names), len(images), cams)

    def infer_all(
        self, images: UInt8[np.ndarray, "n 1 height width"], batch_size: int = 8, *, progress: Progress = SILENT
    ) -> ModelOutputs:
        """Run any number of images in batches."""
        return in_batches(self.infer, images, batch_size, progress, "session")

    def close(self) -> None:
        """Release the graph. Closing twice does nothing."""
        opened, self._whole, self._logits_only = (self._whole, self._logits_only), None, None
        for each in opened:
            if each is not None:
                self._release(each)

    @abstractmethod
    def _open(self, model: bytes, outputs: Sequence[str]) -> Opened:
        """Compile a file for these outputs. Raises BackendError."""

    @abstractmethod
    def _run(
        self, opened: Opened, images: UInt8[np.ndarray, "n 1 height width"], outputs: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """The outputs by name for a batch that is known to fit. Raises BackendError."""

    def _release(self, opened: Opened) -> None:
        """Give back what `_open` took, where that does more than forget it."""

    def _opened(self, cams: bool) -> Opened:
        if self._whole is None:
            raise BackendError("the session is closed")
        if cams:
            return self._whole
        with self._opening:
            if self._logits_only is None:
                logits = self.interface.graph.logits
                self._logits_only = self._open(keep_output(self._model, logits), (logits,))
            return self._logits_only

    def _assemble(self, results: dict[str, np.ndarray], images: int, cams: bool) -> ModelOutputs:
        graph = self.interface.graph
        if missing := [name for name in (self.interface.outputs if cams else (graph.logits,)) if name not in results]:
            raise BackendError(f"the graph gives no output {missing[0]!r}: export the bundle again")
        logits = results[graph.logits]
        if logits.ndim != 2 or len(logits) != images:
            raise BackendError(f"{images} images went in, logits {list(logits.shape)} came out")
        for spec in graph.cams if cams else ():
            expected = (images, self.interface.maps, spec.height, spec.width)
            if results[spec.output].shape != expected:
                raise BackendError(
                    f"{spec.output} has shape {list(results[spec.output].shape)}, the manifest says {list(expected)}: "
                    "export the bundle again"
                )
        return ModelOutputs(
            logits=logits,
            cams={spec.output: results[spec.output] for spec in graph.cams if cams},
            # ONNX Runtime's int64 is numpy's `longlong`, another type of the same size.
            cam_classes=results[graph.cam_classes].astype(np.int64) if cams and graph.cam_classes else None,
        )
