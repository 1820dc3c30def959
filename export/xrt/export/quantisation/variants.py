"""The variants of a bundle: the float32 graph, and the requested faster ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np
import onnx
import onnx_ir as ir

from xrt.export.ir.limits import MAX_IR_VERSION
from xrt.export.ir.serialisation import parse
from xrt.export.ir.trunk import trunk_of
from xrt.export.passes.base import run_passes
from xrt.export.passes.float16 import half_nodes
from xrt.export.passes.order import float16_passes, scale_passes
from xrt.export.quantisation.activation_range import peaks
from xrt.export.quantisation.calibration import load_or_make
from xrt.export.quantisation.quantisers import QUANTISERS, DeviceFamily, Quantiser
from xrt.export.quantisation.subgraph import extract, insert
from xrt.runtime._io import sha256_of
from xrt.runtime.bundle.manifest import GraphSpec, Precision, Variant
from xrt.runtime.certification.certify import BuiltVariant
from xrt.runtime.certification.inputs import ValidationInputs
from xrt.runtime.errors import UsageError
from xrt.runtime.phantoms import stress_images
from xrt.runtime.progress import SILENT, Progress

DEFAULT_QUANTISERS: dict[DeviceFamily, str] = {"cpu": "percentile", "gpu": "percentile"}
"""The quantiser of each kind of processor, chosen by the measurements in docs/precision.md."""

_SCHEME = "2"
"""Increase it when the options for the same libraries change: cached files are then made again."""


@dataclass(frozen=True)
class VariantRequest:
    """Which variants a bundle will have.

    int8 needs `calibration` and gives a file for each of `families`. Where there are `inputs`, the largest number that
    fp16 has to hold is measured on them.
    """

    precisions: Sequence[Precision] = ("fp32",)
    calibration: ValidationInputs | None = None
    inputs: ValidationInputs | None = None
    families: Sequence[DeviceFamily] = tuple(DEFAULT_QUANTISERS)


def build_variants(
    data: bytes, spec: GraphSpec, request: VariantRequest, *, progress: Progress = SILENT
) -> Iterator[BuiltVariant]:
    """Build the requested files one after another from the float32 graph `data`.

    Raises MissingDependency, and UsageError for int8 without images to calibrate on.
    """
    for precision in request.precisions:
        if precision == "fp32":
            yield BuiltVariant(_variant(data, "fp32"), data)
        elif precision == "fp16":
            progress.step("casting to fp16")
            yield _float16(data, spec, request.inputs, progress)
        elif request.calibration is None:
            raise UsageError("int8 is calibrated on radiographs: give some")
        else:
            for family in request.families:
                quantiser, count = QUANTISERS[DEFAULT_QUANTISERS[family]], len(request.calibration.images)
                progress.step(f"calibrating int8 for {family.upper()}s on {count} images ({quantiser.name})")
                file = quantised_file(data, spec, quantiser, family, request.calibration)
                yield BuiltVariant(_variant(file, "int8", family), file)


def quantised_file(
    data: bytes, spec: GraphSpec, quantiser: Quantiser, family: DeviceFamily, calibration: ValidationInputs
) -> bytes:
    """The int8 file of a graph, from the cache or calibrated now."""

    def make() -> bytes:
        model = parse(data)
        trunk = [str(node.name) for node in trunk_of(model, spec)]
        proto = ir.to_proto(model)
        result = insert(proto, trunk, quantiser.quantise(extract(proto, trunk), trunk, calibration.images, family))
        result.ir_version = min(result.ir_version, MAX_IR_VERSION)
        onnx.checker.check_model(result, full_check=True)
        return result.SerializeToString()

    return load_or_make(
        [sha256_of(data), _SCHEME, quantiser.version(), family, onnx.__version__, *calibration.digests], make
    )


def _float16(data: bytes, spec: GraphSpec, inputs: ValidationInputs | None, progress: Progress) -> BuiltVariant:
    """The fp16 file; its peak is measured in float32, because a CPU cannot show an overflow of fp16."""
    model = parse(data)
    run_passes(model, scale_passes(spec))
    half_model = model.clone()
    run_passes(half_model, float16_passes(spec))
    cast = ir.to_proto(half_model).SerializeToString()
    variant = _variant(cast, "fp16")
    if inputs is None:
        return BuiltVariant(variant, cast)
    images = np.concatenate([inputs.images, stress_images(*inputs.images.shape[2:])])
    magnitudes = peaks(model, half_nodes(model, spec), images)
    # A NaN counts as the largest.
    name, peak = max(magnitudes.items(), key=lambda item: (isnan(item[1]), item[1]))
    progress.note(f"range scan: the largest number that {variant.file} computes in fp16 is {peak:.4g}, at {name}")
    return BuiltVariant(variant, cast, peak)


def _variant(data: bytes, precision: Precision, family: DeviceFamily | None = None) -> Variant:
    name = f"model.{family}.{precision}.onnx" if family else f"model.{precision}.onnx"
    return Variant(file=name, sha256=sha256_of(data), precision=precision, target=family or "any")
