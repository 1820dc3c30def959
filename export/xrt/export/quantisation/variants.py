"""The variants of a bundle: the float32 graph, and what was asked for besides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from xrt.export.graphs.limits import MAX_IR_VERSION
from xrt.export.precision.calibration import cached
from xrt.export.precision.grafting import grafted, trunk_alone
from xrt.export.precision.half import half_nodes, to_half, with_scaled_norms
from xrt.export.precision.quantisers import QUANTISERS, Quantiser, Target
from xrt.export.precision.ranges import peaks
from xrt.export.precision.trunk import opened, trunk_of
from xrt.runtime.bundle.manifest import GraphSpec, Precision, Variant
from xrt.runtime.bundle.writer import sha256_of
from xrt.runtime.gate.evidence import EvidenceImages

CHOSEN: dict[Target, str] = {"cpu": "percentile", "gpu": "percentile"}
"""By the table of docs/precision.md."""

_SCHEME = "2"
"""To be raised when the same libraries are asked for something else: what was cached is then made again."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Made:
    """One file of a bundle. `scan` gives its fp16 peak on some images: the name of the tensor, and the magnitude."""

    variant: Variant
    data: bytes
    scan: Callable[[EvidenceImages], tuple[str, float]] | None = None


def made_variants(
    data: bytes,
    spec: GraphSpec,
    precisions: Sequence[Precision],
    calibration: EvidenceImages | None,
    progress: Progress = lambda message: None,
    targets: Sequence[Target] = tuple(CHOSEN),
) -> Iterator[Made]:
    """The files for these precisions, made one after another from the float32 graph `data`.

    int8 needs `calibration` and gives a file for each of `targets`. Raises MissingDependency.
    """
    for precision in precisions:
        if precision == "fp32":
            yield Made(_variant(data, "fp32"), data)
        elif precision == "fp16":
            progress("casting to fp16")
            yield _half(data, spec)
        else:
            assert calibration is not None
            for target in targets:
                quantiser = QUANTISERS[CHOSEN[target]]
                progress(f"calibrating int8 for a {target} on {len(calibration.images)} images ({quantiser.name})")
                quantised = quantised_file(data, spec, quantiser, target, calibration)
                yield Made(_variant(quantised, "int8", target), quantised)


def quantised_file(
    data: bytes, spec: GraphSpec, quantiser: Quantiser, target: Target, calibration: EvidenceImages
) -> bytes:
    """The int8 file of a graph, calibrated before or now."""

    def make() -> bytes:
        model = opened(data)
        trunk = [str(node.name) for node in trunk_of(model, spec)]
        proto = ir.to_proto(model)
        alone = trunk_alone(proto, trunk)
        quantised = grafted(proto, trunk, quantiser.quantise(alone, trunk, calibration.images, target))
        quantised.ir_version = min(quantised.ir_version, MAX_IR_VERSION)
        onnx.checker.check_model(quantised, full_check=True)
        return quantised.SerializeToString()

    return cached([sha256_of(data), _SCHEME, quantiser.version(), target, onnx.__version__, *calibration.digests], make)


def _half(data: bytes, spec: GraphSpec) -> Made:
    model = with_scaled_norms(data, spec)
    half = to_half(model, spec)

    def scan(evidence: EvidenceImages) -> tuple[str, float]:
        found = peaks(model, half_nodes(model, spec), evidence.images)
        # A NaN is the worst of all.
        return max(found.items(), key=lambda item: (item[1] != item[1], item[1]))

    return Made(_variant(half, "fp16"), half, scan)


def _variant(data: bytes, precision: Precision, target: Target | None = None) -> Variant:
    name = f"model.{target}.{precision}.onnx" if target else f"model.{precision}.onnx"
    return Variant(file=name, sha256=sha256_of(data), precision=precision, target=target or "any")
