"""The back-end interface: `lacks`, `open`, `infer`, `close`. The base validates; a back end fills in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from xrt.runtime.bundle.manifest import ExecutionPrecision, GraphSpec, Preprocessing
from xrt.runtime.errors import BackendError


@dataclass(frozen=True)
class Outputs:
    """What one run of a graph gives. `cams` is empty when only logits were asked for."""

    logits: Float32[np.ndarray, "n logits"]
    cams: dict[str, Float32[np.ndarray, "n maps h w"]] = field(default_factory=dict)
    cam_classes: Int64[np.ndarray, "n maps"] | None = None


@dataclass(frozen=True)
class SessionOptions:
    """How a session may use the machine. `threads` = 0 takes every core.

    `spinning` keeps idle threads awake between operators: a little faster alone, slower for whoever runs beside.
    """

    threads: int = 0
    spinning: bool = False


class Backend(ABC):
    """One way to execute a graph on this machine.

    `family` says which variants are made for it, `execution_precision` how it computes files of fp32.
    """

    name: str
    family: Literal["cpu", "gpu"] = "cpu"
    execution_precision: ExecutionPrecision = "fp32"

    @abstractmethod
    def lacks(self) -> str | None:
        """What is missing to run here and how to get it, in one line; None when nothing is."""

    @abstractmethod
    def version(self) -> str:
        """The version of the library that decides the numbers."""

    @abstractmethod
    def device_class(self) -> str:
        """The class of device whose kernels decide the numbers, such as `cpu-x86_64-avx512vnni`."""

    @abstractmethod
    def open(self, model: bytes, graph: GraphSpec, preprocessing: Preprocessing, options: SessionOptions) -> Session:
        """Compile the graph in `model`. Raises BackendError when the library refuses it."""


class Session(ABC):
    """An opened graph. Use it as a context manager; `infer` checks what goes in and what comes out."""

    def __init__(self, graph: GraphSpec, preprocessing: Preprocessing) -> None:
        self.graph = graph
        self.input_shape = (1, preprocessing.height, preprocessing.width)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def infer(self, images: UInt8[np.ndarray, "n 1 height width"], *, cams: bool = True) -> Outputs:
        """Run a batch. With `cams=False` only the operators that the logits need are executed.

        Raises BackendError when the batch does not fit the graph or the library fails.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != self.input_shape or not len(images):
            raise BackendError(
                f"the graph takes uint8 [n, {', '.join(map(str, self.input_shape))}], "
                f"given {images.dtype} {list(images.shape)}"
            )
        outputs = self._infer(np.ascontiguousarray(images), cams)
        if outputs.logits.ndim != 2 or len(outputs.logits) != len(images):
            raise BackendError(f"{len(images)} images went in, logits {list(outputs.logits.shape)} came out")
        for spec in self.graph.cams if cams else ():
            maps = self.graph.top_k or len(self.graph.explained or ())
            if outputs.cams[spec.output].shape != (len(images), maps, spec.height, spec.width):
                raise BackendError(
                    f"{spec.output} has shape {list(outputs.cams[spec.output].shape)}, the manifest says "
                    f"[n, {maps}, {spec.height}, {spec.width}]: export the bundle anew"
                )
        return outputs

    @abstractmethod
    def _infer(self, images: UInt8[np.ndarray, "n 1 height width"], cams: bool) -> Outputs:
        """Run a batch that is known to fit."""

    @abstractmethod
    def close(self) -> None:
        """Release the graph."""
