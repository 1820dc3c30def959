"""Certificates as a bundle records them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from xrt.runtime.bundle.part import Part, Sha256

ExecutionPrecision = Literal["fp32", "tf32", "bf16", "fp16", "int8"]


SYNTHETIC = "synthetic"
"""The source of phantoms."""


class Evidence(Part):
    """What a certificate rests on: `images` from `source`, giving `decisions` (image, class) pairs.

    `synthetic` says that all of them are phantoms. `different_images` is how many show something of their own;
    certificates before schema 5 counted every one. `labelled` says whether the truth was known, so that AUROCs could be
    compared: `auroc` has the reference's own by class, with the 95 % interval. `accepted` names the classes whose
    labels the user accepted although the gate objected to them. `original` says which images were compared with what
    the pipeline made of them that the model comes from.
    """

    source: str
    images: int
    decisions: int
    reference: str
    labelled: bool = False
    synthetic: bool = False
    different_images: int | None = None
    auroc: dict[str, tuple[float, float, float]] = {}
    accepted: tuple[str, ...] = ()
    original: str | None = None


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
    `known_answers` are the figures that this execution had on the known answers: what other machines must reproduce.
    `unproved` names the outputs of which the images prove nothing.
    """

    file_sha256: Sha256
    decisions_sha256: Sha256 | None = None
    backend: str
    backend_version: str
    execution_precision: ExecutionPrecision
    device_class: str
    verdict: Literal["passed", "passed (synthetic only)", "failed", "insufficient"]
    forced: bool = False
    figures: dict[str, bool | int | float | None]
    limits: dict[str, float]
    known_answers: dict[str, float] = {}
    unproved: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    worst: tuple[WorstCase, ...] = ()
    evidence: Evidence
    created: str

    @model_validator(mode="before")
    @classmethod
    def _name_synthetic(cls, data: Any) -> Any:
        """Before schema 5, what passed on phantoms alone was called passed like the rest."""
        evidence = data.get("evidence") if isinstance(data, dict) else None
        if not isinstance(evidence, dict) or "synthetic" in evidence or evidence.get("source") != SYNTHETIC:
            return data
        verdict = "passed (synthetic only)" if data.get("verdict") == "passed" else data.get("verdict")
        return {**data, "verdict": verdict, "evidence": {**evidence, "synthetic": True}}

    @property
    def passed(self) -> bool:
        """Whether every limit was kept, be it on phantoms alone."""
        return self.verdict in ("passed", "passed (synthetic only)")

    @property
    def usable(self) -> bool:
        """Whether the execution may score: it passed, or somebody published it by force."""
        return self.passed or self.forced

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """What this certificate says nothing about, each in a few words."""
        gaps = []
        if self.evidence.synthetic:
            gaps.append("radiographs: only synthetic phantoms were asked")
        if self.evidence.different_images is None:
            gaps.append("how many of the images differ in fact")
        if not self.evidence.auroc:
            gaps.append("whether classes are named right: no labels gave the model's own AUROC")
        if not any(name in self.figures for name in ("input_change_max", "source_change_max")):
            gaps.append("preprocessing: it was not compared with the pipeline that the model comes from")
        if "logit_error" not in self.limits:
            gaps.append("logits: their error had no limit")
        return (*gaps, *(f"{output}: nothing is proved" for output in self.unproved))
