"""Parity: a bundle against the checkpoint it was made from, on given images. Needs the extra `torch`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from xrt.benchmarks.speed.contenders import unscaled_cams
from xrt.export.cams.explain import Explained
from xrt.export.compilation import ExplainedModel, Request, compile_source
from xrt.export.references.reference import Reference
from xrt.export.references.torch_reference import TorchReference
from xrt.export.sources import Source, reopen_source
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.errors import UsageError
from xrt.runtime.gate import LIMITS, Answers, Figures, answer, judge, measure
from xrt.runtime.opening import OpenedSession

MIN_NONZERO = 0.5
"""A comparison counts only if at least this share of the reference's maps is not zero; else it proves nothing."""


@dataclass(frozen=True)
class ParityRow:
    """One comparison: who answered the reference, at which batch size, how far apart, and the verdict."""

    reference: str
    batch_size: int
    figures: Figures
    verdict: str
    reasons: tuple[str, ...]


def source_of(bundle: Bundle, given: str | None = None, weights: str | None = None) -> Source:
    """The model that the bundle was made from: `given`, as for `xrt export`, or the one on record.

    Raises UsageError when it is not there, or when it has other weights.
    """
    record = bundle.manifest.provenance
    spec = given or record.source
    if given is None and ":" not in spec and not Path(spec).exists():
        raise UsageError(f"{bundle.path} was made from {spec}, which is not here: name it with --checkpoint")
    source = reopen_source(spec, weights or record.weights, bundle.manifest)
    recorded = record.checkpoint_sha256
    if recorded and source.sha256 and source.sha256 != recorded:
        raise UsageError(
            f"{spec} has weights {source.sha256[:12]}…, the bundle was made from {recorded[:12]}…: "
            "name its own with --checkpoint"
        )
    return source


def compile_for(bundle: Bundle, source: Source) -> ExplainedModel:
    """The source compiled once more as the bundle was, for its answers at the bundle's own target layers."""
    graph, signs = bundle.manifest.graph, source.signs
    request = Request(
        target_layers=tuple(dict.fromkeys(cam.tensor for cam in graph.cams)),
        methods=tuple(dict.fromkeys(cam.method for cam in graph.cams)),
        classes=Explained(signs, graph.explained, graph.top_k),
    )
    return compile_source(source, request)


def compare(
    bundle: Bundle,
    opened: OpenedSession,
    reference: Reference,
    images: UInt8[np.ndarray, "n 1 h w"],
    batch_sizes: Sequence[int] = (1, 7),
    *,
    progress: Callable[[str], None] = lambda message: None,
) -> list[ParityRow]:
    """Hold the bundle against torch autograd and against pytorch-grad-cam, at every batch size.

    An ONNX file is held against its own graph, its gradients proved by float64 derivatives.

    The limits are those of the variant's precision; a comparison in which fewer than half of the reference's maps
    are non-zero fails as vacuous.
    """
    progress(f"the reference's answers to {len(images)} images")
    expected = reference.answer(images)
    references = {"torch autograd" if isinstance(reference, TorchReference) else "own graph": expected}
    if isinstance(reference, TorchReference):
        maps = expected.cams[reference.cams[0].output].shape[1]
        progress(f"pytorch-grad-cam on {len(images)} images, {maps} classes each")
        cams = {
            spec.output: np.concatenate(
                [unscaled_cams(reference, images[i : i + 8], k) for i in range(0, len(images), 8)]
            )
            for k, spec in enumerate(reference.cams)
        }
        references["pytorch-grad-cam"] = Answers(expected.logits, cams, expected.cam_classes)
    limits = LIMITS[opened.variant.precision]
    rows = []
    for batch_size in batch_sizes:
        candidate = answer(opened.session, images, batch_size)
        for name, answers in references.items():
            figures = measure(answers, candidate, bundle.manifest)
            verdict, reasons = judge(figures, limits, min_decisions=0)
            if figures.maps_nonzero < MIN_NONZERO:
                verdict = "failed"
                reasons += (f"vacuous: {figures.maps_nonzero:.0%} of the reference's maps are non-zero",)
            if not figures.reference_varies:
                verdict = "failed"
                reasons += ("vacuous: the reference's maps do not change with the image",)
            rows.append(ParityRow(name, batch_size, figures, verdict, reasons))
    return rows
