"""Certificates for a file under one back end, and the replay of known answers when a session opens."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import numpy as np

from xrt.runtime.backends.base import Backend, Session
from xrt.runtime.bundle.known_answers import KnownAnswers
from xrt.runtime.bundle.manifest import (
    Certificate,
    Evidence,
    ExecutionPrecision,
    Manifest,
    Variant,
    WorstCase,
)
from xrt.runtime.errors import KnownAnswersFailed
from xrt.runtime.gate.answers import Answers, answer
from xrt.runtime.gate.evidence import EvidenceImages
from xrt.runtime.gate.figures import compare
from xrt.runtime.gate.limits import LIMITS, MIN_DECISIONS, judge


def certificate_of(
    variant: Variant,
    backend: Backend,
    reference: Answers,
    candidate: Answers,
    manifest: Manifest,
    *,
    evidence: EvidenceImages,
    reference_name: str,
    peak: float | None = None,
    limits: Mapping[str, float] | None = None,
    min_decisions: int = MIN_DECISIONS,
) -> Certificate:
    """Measure, judge and record.

    `evidence` are the images that both sides answered for, `reference_name` says who answered as the reference;
    `peak` is the figure of that name; `limits` are the precision's own by default.
    """
    comparison = compare(reference, candidate, manifest, labels=evidence.labels, peak=peak)
    figures, limits = comparison.figures, LIMITS[variant.precision] if limits is None else dict(limits)
    # The same image again proves nothing more.
    different = len(set(evidence.digests)) / len(evidence.images)
    verdict, reasons = judge(figures, limits, min_decisions=min_decisions, different=different)
    worst = tuple(
        WorstCase(
            figure=w.figure,
            image=evidence.names[w.image],
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
        execution_precision=execution_precision(backend, variant),
        device_class=backend.device_class(),
        verdict=verdict,
        figures={name: _recorded(value) for name, value in figures.as_dict().items()},
        limits=limits,
        reasons=reasons,
        worst=worst,
        evidence=Evidence(
            source=evidence.source,
            images=figures.images,
            decisions=figures.decisions,
            reference=reference_name,
            labelled=figures.auroc_drop is not None,
        ),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def execution_precision(backend: Backend, variant: Variant) -> ExecutionPrecision:
    """The precision in which a back end executes a variant: its own for fp32 files, else the file's."""
    return backend.execution_precision if variant.precision == "fp32" else variant.precision


def _reference_of(manifest: Manifest) -> str:
    """Who gave the known answers: the reference that the bundle's own certificates name."""
    return next((c.evidence.reference for c in manifest.certificates), manifest.known_answers.source)


def _recorded(value: Any) -> Any:
    """JSON knows no infinity: a figure that is none is recorded as absent, and the reasons name it."""
    return None if isinstance(value, float) and not np.isfinite(value) else value


def replayed(
    session: Session, known: KnownAnswers, manifest: Manifest, variant: Variant, backend: Backend
) -> Certificate:
    """Run the known answers and hold them against the variant's limits, whatever comes of it.

    There are too few decisions here to certify a file; what they prove is that this machine computes what was
    certified. Raises KnownAnswersFailed when they do not fit the graph.
    """
    names = tuple(f"known answer {i}" for i in range(len(known.images)))
    evidence = EvidenceImages(known.images, "known answers", names)
    limits = dict(LIMITS[variant.precision])
    if limits["flips"]:
        # The least that so few decisions can show: a precision that may flip some may flip one of these.
        decisions = len(known.images) * (1 if manifest.task == "multiclass" else len(manifest.logit_classes))
        limits["flips"] = max(limits["flips"], 1 / decisions)
    try:
        return certificate_of(
            variant,
            backend,
            Answers(known.logits, known.cams),
            answer(session, known.images),
            manifest,
            evidence=evidence,
            reference_name=_reference_of(manifest),
            limits=limits,
            min_decisions=0,
        )
    except ValueError as error:
        raise KnownAnswersFailed(
            f"{variant.file} does not fit its manifest: {error}; export the bundle anew"
        ) from error


def with_replay(certificate: Certificate, vouched: Certificate) -> Certificate:
    """A certificate that also asks for the known answers, as `replayed` found them.

    Every session replays them: a file that cannot reproduce them would be published and never open.
    """
    if vouched.verdict == "passed":
        return certificate
    reasons = (*certificate.reasons, *(f"on the known answers {reason}" for reason in vouched.reasons))
    return certificate.model_copy(update={"verdict": "failed", "reasons": reasons})


def replay(
    session: Session, known: KnownAnswers, manifest: Manifest, variant: Variant, backend: Backend
) -> Certificate:
    """Run the known answers, and require that they come out.

    Raises KnownAnswersFailed with the figures that missed their limits.
    """
    certificate = replayed(session, known, manifest, variant, backend)
    if certificate.verdict != "passed":
        raise KnownAnswersFailed(
            f"{variant.file} does not reproduce its known answers on this machine ({'; '.join(certificate.reasons)}): "
            "nothing was scored; run `xrt doctor` with this bundle, or export it anew"
        )
    return certificate
