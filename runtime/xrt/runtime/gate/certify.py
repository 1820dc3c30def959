"""Certificates for a file under one back end, and the replay of known answers when a session opens."""

from __future__ import annotations

from datetime import datetime, timezone

from xrt.runtime.backends.base import Backend, Session
from xrt.runtime.bundle.known_answers import KnownAnswers
from xrt.runtime.bundle.manifest import Certificate, Evidence, Manifest, Variant
from xrt.runtime.errors import KnownAnswersFailed
from xrt.runtime.gate.answers import Answers, answer
from xrt.runtime.gate.figures import Figures, measure
from xrt.runtime.gate.limits import LIMITS, MIN_DECISIONS, judge


def certificate_of(
    variant: Variant,
    backend: Backend,
    reference: Answers,
    candidate: Answers,
    manifest: Manifest,
    *,
    source: str,
    reference_name: str,
    min_decisions: int = MIN_DECISIONS,
) -> Certificate:
    """Measure, judge and record. `source` says which images were used, `reference_name` who answered for them."""
    figures = measure(reference, candidate, manifest)
    limits = LIMITS[variant.precision]
    verdict, reasons = judge(figures, limits, min_decisions=min_decisions)
    return Certificate(
        file_sha256=variant.sha256,
        backend=backend.name,
        backend_version=backend.version(),
        execution_precision=backend.execution_precision if variant.precision == "fp32" else variant.precision,
        device_class=backend.device_class(),
        verdict=verdict,
        figures=figures.as_dict(),
        limits=limits,
        reasons=reasons,
        evidence=Evidence(source=source, images=figures.images, decisions=figures.decisions, reference=reference_name),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def replay(session: Session, known: KnownAnswers, manifest: Manifest, variant: Variant) -> Figures:
    """Run the known answers and hold them against the variant's limits.

    There are too few decisions here to certify anything; what they prove is that this machine computes what was
    certified. Raises KnownAnswersFailed with the figures that missed their limits.
    """
    try:
        figures = measure(Answers(known.logits, known.cams), answer(session, known.images), manifest)
    except ValueError as error:
        raise KnownAnswersFailed(
            f"{variant.file} does not fit its manifest: {error}; export the bundle anew"
        ) from error
    verdict, reasons = judge(figures, LIMITS[variant.precision], min_decisions=0)
    if verdict != "passed":
        raise KnownAnswersFailed(
            f"{variant.file} does not reproduce its known answers on this machine ({'; '.join(reasons)}): "
            "nothing was scored; run `xrt doctor` with this bundle, or export it anew"
        )
    return figures
