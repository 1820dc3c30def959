"""Holding every variant against the reference, on every back end that can run here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xrt.export.precision.variants import Made
from xrt.runtime.backends import BACKENDS, SessionOptions
from xrt.runtime.bundle.known_answers import KnownAnswers
from xrt.runtime.bundle.manifest import Certificate, Manifest
from xrt.runtime.errors import BackendError
from xrt.runtime.gate import Answers, answer, certificate_of
from xrt.runtime.gate.certify import replayed, with_replay
from xrt.runtime.gate.evidence import EvidenceImages
from xrt.runtime.gate.report import Trial


@dataclass(frozen=True)
class Judged:
    """A variant and its trials, one on each back end."""

    made: Made
    trials: tuple[Trial, ...]

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        """What came of the trials."""
        return tuple(trial.certificate for trial in self.trials)

    @property
    def publishable(self) -> bool:
        """Whether it passed on one back end at least, or is published by force."""
        return any(c.verdict == "passed" or c.forced for c in self.certificates)

    @property
    def refusal(self) -> str:
        """The verdicts in one line."""
        found = [f"{c.backend}: {c.verdict}, {'; '.join(c.reasons)}" for c in self.certificates]
        return f"{self.made.variant.file} ({' | '.join(found)}); --force publishes it with this verdict on record"


def judge_variant(
    made: Made,
    manifest: Manifest,
    evidence: EvidenceImages,
    expected: Answers,
    reference_name: str,
    *,
    known: KnownAnswers,
    force: bool = False,
    progress: Callable[[str], None] = lambda message: None,
) -> Judged:
    """Run a variant on the evidence, and on the known answers, with every CPU back end installed, and judge each.

    A GPU's file is judged on the CPU as a file; the machine with the GPU certifies its execution. Raises BackendError
    when no back end can run here, or when all refuse the file.
    """
    peak = None
    if made.scan is not None:
        name, peak = made.scan(evidence)
        progress(f"range scan: the largest number that {made.variant.file} computes in fp16 is {peak:.4g}, at {name}")
    running = [b for b in BACKENDS.values() if b.family == "cpu" and b.lacks() is None]
    if not running:
        raise BackendError("; ".join(f"{name}: {b.lacks()}" for name, b in BACKENDS.items() if b.family == "cpu"))
    trials, failures = [], []
    for backend in running:
        progress(f"certifying {made.variant.file} on {backend.name}")
        try:
            with backend.open(made.data, manifest.graph, manifest.preprocessing, SessionOptions()) as session:
                found = answer(session, evidence.images)
                vouched = replayed(session, known, manifest, made.variant, backend)
        except BackendError as error:
            progress(f"note: {error}")
            failures.append(error)
            continue
        certificate = certificate_of(
            made.variant,
            backend,
            expected,
            found,
            manifest,
            evidence=evidence,
            reference_name=reference_name,
            peak=peak,
        )
        certificate = with_replay(certificate, vouched)
        if certificate.verdict != "passed" and force:
            certificate = certificate.model_copy(update={"forced": True})
        trials.append(Trial(made.variant, certificate, found))
    if not trials:
        raise failures[0]
    return Judged(made, tuple(trials))
