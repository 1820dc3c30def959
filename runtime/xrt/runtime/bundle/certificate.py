"""Certificates as a bundle records them."""

from __future__ import annotations

from typing import Literal

from xrt.runtime.bundle.part import Part, Sha256

ExecutionPrecision = Literal["fp32", "tf32", "bf16", "fp16", "int8"]


class Evidence(Part):
    """What a certificate rests on: `images` from `source`, giving `decisions` (image, class) pairs.

    `labelled` says whether the truth was known, so that AUROCs could be compared.
    """

    source: str
    images: int
    decisions: int
    reference: str
    labelled: bool = False


class WorstCase(Part):
    """Where a candidate differs most: a validation image and a class, by one figure."""

    figure: str
    image: str
    class_name: str
    value: float


class Certificate(Part):
    """Proof that a file, run by one back end in one execution precision on one device class, agrees with the reference.

    `figures` and `limits` use the names of `xrt.runtime.gate.figures.Figures`. `decisions_sha256` is the digest of
    what turns logits into decisions (`Manifest.decisions_sha256`) as it was then; bundles of schema 1 have none.
    """

    file_sha256: Sha256
    decisions_sha256: Sha256 | None = None
    backend: str
    backend_version: str
    execution_precision: ExecutionPrecision
    device_class: str
    verdict: Literal["passed", "failed", "insufficient"]
    forced: bool = False
    figures: dict[str, bool | int | float | None]
    limits: dict[str, float]
    reasons: tuple[str, ...] = ()
    worst: tuple[WorstCase, ...] = ()
    evidence: Evidence
    created: str
