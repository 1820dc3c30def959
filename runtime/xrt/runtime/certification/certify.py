"""One loop that makes certificates: a file is run by every back end, compared with the reference, and judged."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from xrt.runtime.backends import Execution, Session, SessionOptions, cpu_backends
from xrt.runtime.bundle.certificate import Certificate
from xrt.runtime.bundle.known_answers import KnownAnswers
from xrt.runtime.bundle.manifest import Manifest, Variant
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.certification.comparison import ReferenceOutputs, certificate_of
from xrt.runtime.certification.inputs import ValidationInputs
from xrt.runtime.certification.known_answers import certify_known_answers, reproduced
from xrt.runtime.certification.optimiser_fault import optimiser_at_fault
from xrt.runtime.certification.stress import StressInputs
from xrt.runtime.errors import BackendError
from xrt.runtime.outputs import ModelOutputs
from xrt.runtime.progress import SILENT, Progress


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
        return any(c.usable for c in self.certificates)

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
    stress: StressInputs | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> CertifiedVariant:
    """Run a variant on `inputs` and on the known answers with every CPU back end, and certify each.

    With `stress`, every output for these must be a number, and no image's logits may depend on its batch.
    A GPU's file is certified on the CPU as a file; the machine with the GPU certifies its execution. With `force` a
    certificate that did not pass says that it is published all the same. Raises BackendError when no back end can run
    here, or when all refuse the file.
    """

    def result_of(session: Session[Any], execution: Execution) -> BackendResult:
        outputs = session.infer_all(inputs.images, progress=progress)
        count = len(known.images)
        same = np.array_equal(inputs.images[:count], known.images)
        answers = outputs.first(count) if same else session.infer_all(known.images)
        checked = certify_known_answers(answers, execution, known, manifest)
        certificate = make_certificate(execution, outputs, checked)
        if stress is not None:
            certificate = stress.measure(session, inputs.images).entered_in(certificate)
        return BackendResult(built.variant, certificate, outputs)

    results: list[BackendResult] = []
    refusals: list[BackendError] = []
    for backend in cpu_backends():
        progress.step(f"certifying {built.variant.file} on {backend.name}")
        execution = Execution(built.variant, backend)
        try:
            with backend.open(built.data, manifest.interface, SessionOptions()) as session:
                result = result_of(session, execution)
        except BackendError as error:
            progress.note(str(error))
            refusals.append(error)
            continue
        certificate = result.certificate
        if certificate.verdict == "failed":
            fault = optimiser_at_fault(
                backend,
                built.data,
                manifest.interface,
                lambda session, execution=execution: result_of(session, execution).certificate.passed,
            )
            if fault is not None:
                certificate = certificate.model_copy(update={"reasons": (*certificate.reasons, fault)})
        if force and not certificate.passed:
            certificate = certificate.model_copy(update={"forced": True})
        results.append(replace(result, certificate=certificate))
    if not results:
        raise refusals[0]
    return CertifiedVariant(built, tuple(results))


def against_reference(built: BuiltVariant, reference: ReferenceOutputs, manifest: Manifest) -> CertificateMaker:
    """Certificates by comparison with a reference. The figures of the known answers are what sessions must reproduce.

    They are too few, and phantoms, to judge a variant by the limits of its precision; but what they show must be
    finite, and fp32 keeps its limits on any image.
    """

    def certificate(execution: Execution, outputs: ModelOutputs, checked: Certificate) -> Certificate:
        result = certificate_of(execution, reference, outputs, manifest, peak=built.peak)
        result = result.model_copy(update={"known_answers": reproduced(checked)})
        if checked.passed or (execution.variant.precision != "fp32" and checked.figures["finite"]):
            return result
        reasons = (*result.reasons, *(f"on the known answers {reason}" for reason in checked.reasons))
        return result.model_copy(update={"verdict": "failed", "reasons": reasons})

    return certificate
