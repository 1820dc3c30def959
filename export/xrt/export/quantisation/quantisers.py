"""The quantisers that can make an int8 file: ONNX Runtime's static quantisation with three ways to choose ranges, and
NNCF. Each takes a float graph and images and returns a graph with explicit Q/DQ around the trunk's products alone.

The CPU family has unsigned activations, as x86 VNNI wants them. The GPU family has signed symmetric ones and float
biases: TensorRT reads uint8 zero points as int8, and rejects the int32 bias after a DequantizeLinear.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TextIO

import numpy as np
import onnx
from jaxtyping import UInt8

from xrt.export.silence import silence
from xrt.runtime.errors import MissingDependency

DeviceFamily = Literal["cpu", "gpu"]
Images = UInt8[np.ndarray, "n 1 height width"]
PRODUCTS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
_BATCH = 4
"""Images observed at once: for each of them, every tensor of the trunk is in memory."""


class Quantiser(ABC):
    """One way to make an int8 file. `targets` are the kinds of processors that its files are for."""

    name: str
    families: tuple[DeviceFamily, ...]

    @abstractmethod
    def quantise(
        self,
        model: onnx.ModelProto,
        trunk: Sequence[str],
        images: Images,
        family: DeviceFamily,
    ) -> onnx.ModelProto:
        """Quantise the products among the nodes called `trunk`, with ranges from `images`."""

    @abstractmethod
    def version(self) -> str:
        """The library and its version, on which the numbers depend."""


class OnnxRuntimeStatic(Quantiser):
    """ONNX Runtime's static quantisation; `ranges` is how it turns observed values into a range."""

    families = ("cpu", "gpu")

    def __init__(self, ranges: Literal["MinMax", "Entropy", "Percentile"]) -> None:
        self.name = ranges.lower()
        self._ranges = ranges

    def version(self) -> str:  # noqa: D102
        return f"onnxruntime {version('onnxruntime')} {self._ranges}"

    def quantise(  # noqa: D102
        self,
        model: onnx.ModelProto,
        trunk: Sequence[str],
        images: Images,
        family: DeviceFamily,
    ) -> onnx.ModelProto:
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

        names = set(trunk)
        products = [node.name for node in model.graph.node if node.name in names and node.op_type in PRODUCTS]
        # Every tensor of a batch is in memory while it is observed: one batch at a time. Entropy's histograms would
        # grow with each range that they get, and its search with their square: all batches at once.
        stride = 1
        if self._ranges == "Entropy":
            images = images[: len(images) // _BATCH * _BATCH]
            stride = len(images) // _BATCH
        options: dict[str, Any] = {
            "OpTypesToExcludeOutputQuantization": sorted(PRODUCTS),
            "QuantizeBias": False,
            "CalibStridedMinMax": stride,
        }
        if family == "gpu":
            options |= {"ActivationSymmetric": True, "WeightSymmetric": True}
        with tempfile.TemporaryDirectory() as folder, silence(_terminal()):
            out = Path(folder) / "quantised.onnx"
            quantize_static(
                model,
                out,
                _reader(model.graph.input[0].name, images),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QInt8 if family == "gpu" else QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_quantize=products,
                calibrate_method=CalibrationMethod[self._ranges],
                extra_options=options,
            )
            return onnx.load(out)


class Nncf(Quantiser):
    """NNCF's post-training quantisation with fast bias correction. Its telemetry is switched off."""

    name = "nncf"
    families = ("cpu",)

    def version(self) -> str:  # noqa: D102
        return f"nncf {version('nncf')}"

    def quantise(  # noqa: D102
        self,
        model: onnx.ModelProto,
        trunk: Sequence[str],
        images: Images,
        family: DeviceFamily,
    ) -> onnx.ModelProto:
        if importlib.util.find_spec("nncf") is None:
            raise MissingDependency("this quantiser is not installed: pip install 'xrt-export[nncf]'")
        with _without_telemetry(), silence(_terminal()):
            import nncf

            names = set(trunk)
            operators = {node.op_type for node in model.graph.node if node.name in names}
            dataset = nncf.Dataset(list(_batches(images)), lambda batch: {model.graph.input[0].name: batch})
            return nncf.quantize(
                model,
                dataset,
                subset_size=-(-len(images) // _BATCH),
                model_type=nncf.ModelType.TRANSFORMER if "LayerNormalization" in operators else None,
                ignored_scope=nncf.IgnoredScope(names=[n.name for n in model.graph.node if n.name not in names]),
            )


QUANTISERS: dict[str, Quantiser] = {
    quantiser.name: quantiser
    for quantiser in (
        OnnxRuntimeStatic("MinMax"), OnnxRuntimeStatic("Entropy"), OnnxRuntimeStatic("Percentile"), Nncf(),
    )
}  # fmt: skip


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """NNCF reads the variable when it is imported. No data leave the computer."""
    before = os.environ.get("NNCF_CI")
    os.environ["NNCF_CI"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["NNCF_CI"]
        else:
            os.environ["NNCF_CI"] = before


def _reader(name: str, images: Images) -> Any:
    """Batches of images as ONNX Runtime's calibrators ask for them: here one range of batches after another."""
    from onnxruntime.quantization import CalibrationDataReader

    batches = list(_batches(images))

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.set_range(0, len(batches))

        def __len__(self) -> int:
            return len(batches)

        def set_range(self, start_index: int, end_index: int) -> None:
            self._remaining = iter(batches[start_index:end_index])

        def get_next(self) -> Any:
            return next(({name: batch} for batch in self._remaining), None)

    return Reader()


def _batches(images: Images) -> Iterator[np.ndarray]:
    return (images[start : start + _BATCH] for start in range(0, len(images), _BATCH))


def _terminal() -> TextIO | None:
    """The terminal for the libraries' own progress bars; None where standard error is not a terminal."""
    return sys.stderr if sys.stderr.isatty() else None
