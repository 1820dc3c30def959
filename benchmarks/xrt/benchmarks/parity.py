"""Parity: a bundle against the checkpoint it was made from, on given images. Needs the extra `torch`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from xrt.benchmarks.contenders import unscaled_grad_cams
from xrt.export.pipeline import ExplainedModel, compile_source
from xrt.export.reference import TorchReference
from xrt.export.source import Source, from_checkpoint
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


def checkpoint_of(bundle: Bundle, given: Path | None) -> Source:
    """The checkpoint that the bundle was made from: `given`, or the path on record.

    Raises UsageError when neither is there, or when it is another checkpoint.
    """
    path = given or Path(bundle.manifest.provenance.source)
    if given is None and not path.exists():
        raise UsageError(f"{bundle.path} was made from {path}, which is not here: name it with --checkpoint")
    source = from_checkpoint(path)
    recorded = bundle.manifest.provenance.checkpoint_sha256
    if recorded and source.sha256 and source.sha256 != recorded:
        raise UsageError(
            f"{path} has weights {source.sha256[:12]}…, the bundle was made from {recorded[:12]}…: "
            "name its own checkpoint with --checkpoint"
        )
    return source


def compile_for(bundle: Bundle, source: Source) -> ExplainedModel:
    """The source compiled once more at the bundle's own target layers, for PyTorch's answers there."""
    return compile_source(source, [cam.tensor for cam in bundle.manifest.graph.cams])


def compare(
    bundle: Bundle,
    opened: OpenedSession,
    reference: TorchReference,
    images: UInt8[np.ndarray, "n 1 h w"],
    batch_sizes: Sequence[int] = (1, 7),
    *,
    progress: Callable[[str], None] = lambda message: None,
) -> list[ParityRow]:
    """Hold the bundle against torch autograd and against pytorch-grad-cam, at every batch size.

    The limits are those of the variant's precision; a comparison in which fewer than half of the reference's maps
    are non-zero fails as vacuous.
    """
    progress(f"torch autograd on {len(images)} images")
    autograd = reference.answer(images)
    progress(f"pytorch-grad-cam on {len(images)} images, {len(reference.explained)} classes")
    cams = {
        spec.output: np.concatenate(
            [unscaled_grad_cams(reference, images[i : i + 8], k) for i in range(0, len(images), 8)]
        )
        for k, spec in enumerate(reference.cams)
    }
    references = {"torch autograd": autograd, "pytorch-grad-cam": Answers(autograd.logits, cams)}
    limits = LIMITS[opened.variant.precision]
    rows = []
    for batch_size in batch_sizes:
        candidate = answer(opened.session, images, batch_size)
        for name, expected in references.items():
            figures = measure(expected, candidate, bundle.manifest)
            verdict, reasons = judge(figures, limits, min_decisions=0)
            if figures.maps_nonzero < MIN_NONZERO:
                verdict = "failed"
                reasons += (f"vacuous: {figures.maps_nonzero:.0%} of the reference's maps are non-zero",)
            rows.append(ParityRow(name, batch_size, figures, verdict, reasons))
    return rows
