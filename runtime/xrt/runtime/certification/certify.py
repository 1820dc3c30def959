"""One loop that makes certificates: a file is run by every back end, compared with the reference, and judged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xrt.runtime._io import utc_now
from xrt.runtime.backends import Execution, Session, SessionOptions, cpu_backends
from xrt.runtime.bundle.certificate import Certificate, Evidence, WorstCase
from xrt.runtime.bundle.known_answers import KnownAnswers
from xrt.runtime.bundle.manifest import Manifest, Variant
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.certification.inputs import ValidationInputs
from xrt.runtime.errors import BackendError, KnownAnswersFailed
from xrt.runtime.gate import LIMITS, MIN_DECISIONS, compare, judge
from xrt.runtime.outputs import ModelOutputs
from xrt.runtime.progress import SILENT, Progress


@dataclass(frozen=True)
class ReferenceOutputs:
    """What variants are compared with: inputs, the reference's outputs for them, and which reference it was."""

    inputs: ValidationInputs
    outputs: ModelOutputs
    name: str


@dataclass(frozen=True)
class BuiltVariant:
    """One file of a bundle to be. `peak` is the largest magnitude that it computes in fp16, where it does."""

    variant: Variant
    data: bytes = field(repr=False)
    peak: float | None = None


@dataclass(frozen=True)
class BackendResult:
    """The outputs of one back end for a variant, and the certificate made of them."""

    variant: Variant
    certificate: Certificate
    outputs: ModelOutputs


@dataclass(frozen=True)
class CertifiedVariant:
    """A variant and its results, one for each back end that took the file."""

    built: BuiltVariant
    results: tuple[BackendResult, ...]

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        """One for each result."""
        return tuple(result.certificate for result in self.results)

    @property
    def accepted(self) -> bool:
        """Whether it passed on one back end at least, or is published by force."""
        return any(c.verdict == "passed" or c.forced for c in self.certificates)

    @property
    def refusal(self) -> str:
        """The verdicts in one line."""
        verdicts = [f"{c.backend}: {c.verdict}, {'; '.join(c.reasons)}" for c in self.certificates]
        return f"{self.built.variant.file} ({' | '.join(verdicts)})"


@dataclass(frozen=True)
class Certification:
    """Which variants were accepted, and which refused."""

    accepted: tuple[CertifiedVariant, ...] = ()
    refused: tuple[CertifiedVariant, ...] = ()

    @classmethod
    def of(cls, certified: Iterable[CertifiedVariant]) -> Certification:
        """Sort variants by their verdict; their order stays."""
        every = tuple(certified)
        return cls(tuple(c for c in every if c.accepted), tuple(c for c in every if not c.accepted))

    def entered_in(self, manifest: Manifest) -> Manifest:
        """The manifest with the accepted variants and their certificates, and no others."""
        certificates = tuple(c for variant in self.accepted for c in variant.certificates)
        variants = tuple(variant.built.variant for variant in self.accepted)
        return manifest.model_copy(update={"variants": variants, "certificates": certificates})

    @property
    def files(self) -> dict[str, bytes]:
        """The accepted variants' files by name."""
        return {c.built.variant.file: c.built.data for c in self.accepted}


@dataclass(frozen=True)
class Publication:
    """A bundle that was written, with what its certification accepted and refused."""

    bundle: Bundle
    certification: Certification

    @property
    def refusal(self) -> str | None:
        """What was refused, in one line; None when nothing was."""
        if not self.certification.refused:
            return None
        files = ", ".join(self.certification.files)
        refused = " and ".join(c.refusal for c in self.certification.refused)
        return f"{self.bundle.path} is published with {files}; the gate refuses {refused}"


CertificateMaker = Callable[[Execution, ModelOutputs, Certificate], Certificate]
"""Makes a certificate of an execution, its outputs, and its certificate of the known answers."""


def certify_variant(
    built: BuiltVariant,
    inputs: ValidationInputs,
    known: KnownAnswers,
    manifest: Manifest,
    make_certificate: CertificateMaker,
    *,
    force: bool = False,
    progress: Progress = SILENT,
) -> CertifiedVariant:
    """Run a variant on `inputs` and on the known answers with every CPU back end, and certify each.

    A GPU's file is certified on the CPU as a file; the machine with the GPU certifies its execution. With `force` a
    certificate that did not pass says that it is published all the same. Raises BackendError when no back end can run
    here, or when all refuse the file.
    """
    results: list[BackendResult] = []
    refusals: list[BackendError] = []
    for backend in cpu_backends():
        progress.step(f"certifying {built.variant.file} on {backend.name}")
        execution = Execution(built.variant, backend)
        try:
            with backend.open(built.data, manifest.interface, SessionOptions()) as session:
                outputs = session.infer_all(inputs.images)
                checked = certify_known_answers(session, execution, known, manifest)
        except BackendError as error:
            progress.note(str(error))
            refusals.append(error)
            continue
        certificate = make_certificate(execution, outputs, checked)
        if certificate.verdict != "passed" and force:
            certificate = certificate.model_copy(update={"forced": True})
        results.append(BackendResult(built.variant, certificate, outputs))
    if not results:
        raise refusals[0]
    return CertifiedVariant(built, tuple(results))


def against_reference(built: BuiltVariant, reference: ReferenceOutputs, manifest: Manifest) -> CertificateMaker:
    """Certificates by comparison with a reference, which must reproduce the known answers as well.

    Every session checks them: a file that cannot reproduce them would be published and never open.
    """

    def certificate(execution: Execution, outputs: ModelOutputs, checked: Certificate) -> Certificate:
        result = certificate_of(execution, reference, outputs, manifest, peak=built.peak)
        if checked.verdict == "passed":
            return result
        reasons = (*result.reasons, *(f"on the known answers {reason}" for reason in checked.reasons))
        return result.model_copy(update={"verdict": "failed", "reasons": reasons})

    return certificate


def certificate_of(
    execution: Execution,
    reference: ReferenceOutputs,
    outputs: ModelOutputs,
    manifest: Manifest,
    *,
    peak: float | None = None,
    limits: Mapping[str, float] | None = None,
    min_decisions: int = MIN_DECISIONS,
) -> Certificate:
    """Measure `outputs` against the reference, judge and record.

    `peak` is the figure of that name; `limits` are the precision's own by default. Raises ValueError when shapes
    differ.
    """
    inputs, variant, backend = reference.inputs, execution.variant, execution.backend
    comparison = compare(reference.outputs, outputs, manifest, labels=inputs.labels, peak=peak)
    figures, limits = comparison.figures, LIMITS[variant.precision] if limits is None else dict(limits)
    # The same image again proves nothing more.
    different = len(set(inputs.digests)) / len(inputs.images)
    verdict, reasons = judge(figures, limits, min_decisions=min_decisions, different=different)
    worst = tuple(
        WorstCase(
            figure=w.figure,
            image=inputs.names[w.image],
            class_name=manifest.map_class(w.logit) if w.output else manifest.logit_classes[w.logit].name,
            value=w.value if np.isfinite(w.value) else -1.0,
        )
        for w in comparison.worst
    )
    return Certificate(
        file_sha256=variant.sha256,
        decisions_sha256=manifest.decisions_sha256,
        backend=backend.name,
        backend_version=backend.version(),
        execution_precision=execution.precision,
        device_class=backend.device_class(),
        verdict=verdict,
        figures={name: _recorded(value) for name, value in figures.as_dict().items()},
        limits=limits,
        reasons=reasons,
        worst=worst,
        evidence=Evidence(
            source=inputs.source,
            images=figures.images,
            decisions=figures.decisions,
            reference=reference.name,
            labelled=figures.auroc_drop is not None,
        ),
        created=utc_now(),
    )


def certify_known_answers(
    session: Session[Any], execution: Execution, known: KnownAnswers, manifest: Manifest
) -> Certificate:
    """Run the known answers and compare them with the variant's limits; the certificate says whether they passed.

    There are too few decisions here to certify a file; what they prove is that this machine computes what was
    certified. Raises KnownAnswersFailed when they do not fit the graph.
    """
    names = tuple(f"known answer {i}" for i in range(len(known.images)))
    limits = dict(LIMITS[execution.variant.precision])
    if limits["flips"]:
        # The least that so few decisions can show: a precision that may flip some may flip one of these.
        limits["flips"] = max(limits["flips"], 1 / (len(known.images) * manifest.decisions_per_image))
    reference = ReferenceOutputs(
        ValidationInputs(known.images, "known answers", names), known.outputs, _reference_of(manifest)
    )
    try:
        return certificate_of(
            execution, reference, session.infer_all(known.images), manifest, limits=limits, min_decisions=0
        )
    except ValueError as error:
        raise KnownAnswersFailed(
            f"{execution.variant.file} does not fit its manifest: {error}; export the bundle again"
        ) from error


def verify_known_answers(
    session: Session[Any], execution: Execution, known: KnownAnswers, manifest: Manifest
) -> Certificate:
    """Run the known answers, and require that the session reproduces them.

    Raises KnownAnswersFailed with the figures that missed their limits.
    """
    certificate = certify_known_answers(session, execution, known, manifest)
    if certificate.verdict != "passed":
        raise KnownAnswersFailed(
            f"{execution.variant.file} does not reproduce its known answers on this machine "
            f"({'; '.join(certificate.reasons)}): nothing was scored; run `xrt doctor` with this bundle, or export it "
            "again"
        )
    return certificate


def _reference_of(manifest: Manifest) -> str:
    """The reference that gave the known answers: the one that the bundle's own certificates name."""
    return next((c.evidence.reference for c in manifest.certificates), manifest.known_answers.source)


def _recorded(value: Any) -> Any:
    """JSON knows no infinity: a figure that is none is recorded as absent, and the reasons name it."""
    return None if isinstance(value, float) and not np.isfinite(value) else value
