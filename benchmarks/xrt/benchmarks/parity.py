"""Parity: a bundle against the checkpoint it was made from, on the user's images. Needs the extra `torch`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from xrt.benchmarks.speed.contenders import unscaled_cams
from xrt.export.cams.explained_logits import ExplainedLogits
from xrt.export.compile import ExplainedModel, Request, compile_source
from xrt.export.references.reference import Reference
from xrt.export.references.torch_reference import TorchReference
from xrt.export.sources import Source, reopen_source
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.errors import UsageError
from xrt.runtime.gate import LIMITS, Figures, judge, measure
from xrt.runtime.outputs import ModelOutputs
from xrt.runtime.progress import SILENT, Progress
from xrt.runtime.session import OpenedSession

MIN_NONZERO = 0.5
"""A comparison counts only if at least this fraction of the reference's maps is not zero; else it proves nothing."""


@dataclass(frozen=True)
class ParityRow:
    """One comparison: with which reference, at which batch size, the figures, and the verdict."""

    reference: str
    batch_size: int
    figures: Figures
    verdict: str
    reasons: tuple[str, ...]


def source_of(bundle: Bundle, checkpoint: str | None = None, weights: str | None = None) -> Source:
    """The model that the bundle was made from: `checkpoint`, as for `xrt export`, or the one on record.

    Raises UsageError when it is not there, or when it has other weights.
    """
    record = bundle.manifest.provenance
    spec = checkpoint or record.source
    if checkpoint is None and ":" not in spec and not Path(spec).exists():
        raise UsageError(f"{bundle.path} was made from {spec}, which is not here: name it with --checkpoint")
    source = reopen_source(spec, weights or record.weights, bundle.manifest)
    expected = record.checkpoint_sha256
    if expected and source.sha256 and source.sha256 != expected:
        raise UsageError(
            f"{spec} has weights {source.sha256[:12]}…, the bundle was made from {expected[:12]}…: "
            "name its own with --checkpoint"
        )
    return source


def compile_for(bundle: Bundle, source: Source) -> ExplainedModel:
    """The source compiled once more as the bundle was, for its outputs at the bundle's own target layers."""
    graph, signs = bundle.manifest.graph, source.signs
    request = Request(
        target_layers=tuple(dict.fromkeys(cam.tensor for cam in graph.cams)),
        methods=tuple(dict.fromkeys(cam.method for cam in graph.cams)),
        classes=ExplainedLogits(signs, graph.explained, graph.top_k),
    )
    return compile_source(source, request)


def compare(
    opened: OpenedSession,
    reference: Reference,
    images: UInt8[np.ndarray, "n 1 h w"],
    batch_sizes: Sequence[int] = (1, 7),
    *,
    progress: Progress = SILENT,
) -> list[ParityRow]:
    """Compare the bundle with torch autograd and with pytorch-grad-cam, at every batch size.

    An ONNX file is compared with its own graph, whose gradients are checked by float64 derivatives.

    The limits are those of the variant's precision; a comparison in which fewer than half of the reference's maps
    are non-zero fails as vacuous.
    """
    references = _reference_outputs(reference, images, progress)
    limits = LIMITS[opened.variant.precision]
    rows = []
    for batch_size in batch_sizes:
        candidate = opened.session.infer_all(images, batch_size)
        for name, expected in references.items():
            figures = measure(expected, candidate, opened.manifest)
            verdict, reasons = judge(figures, limits, enough=False)
            if figures.maps_nonzero < MIN_NONZERO:
                verdict = "failed"
                reasons += (f"vacuous: {figures.maps_nonzero:.0%} of the reference's maps are non-zero",)
            if not figures.reference_varies:
                verdict = "failed"
                reasons += ("vacuous: the reference's maps do not change with the image",)
            rows.append(ParityRow(name, batch_size, figures, verdict, reasons))
    return rows


def _reference_outputs(
    reference: Reference, images: UInt8[np.ndarray, "n 1 h w"], progress: Progress
) -> dict[str, ModelOutputs]:
    """The outputs by the name of what computed them."""
    progress.step(f"the reference's outputs for {len(images)} images")
    expected = reference.outputs(images)
    if not isinstance(reference, TorchReference):
        return {"own graph": expected}
    maps = expected.cams[reference.cams[0].output].shape[1]
    progress.step(f"pytorch-grad-cam on {len(images)} images, {maps} classes each")
    batches = range(0, len(images), 8)
    cams = {
        spec.output: np.concatenate([unscaled_cams(reference, images[i : i + 8], k) for i in batches])
        for k, spec in enumerate(reference.cams)
    }
    return {"torch autograd": expected, "pytorch-grad-cam": replace(expected, cams=cams)}
