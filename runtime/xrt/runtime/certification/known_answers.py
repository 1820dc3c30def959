"""Replaying the known answers: what a session must reproduce before anything is scored."""

from __future__ import annotations

import numpy as np

from xrt.runtime.backends import Execution
from xrt.runtime.bundle.certificate import Certificate
from xrt.runtime.bundle.known_answers import KnownAnswers
from xrt.runtime.bundle.manifest import Manifest, Variant
from xrt.runtime.certification.comparison import ReferenceOutputs, certificate_of
from xrt.runtime.certification.inputs import ValidationInputs
from xrt.runtime.errors import KnownAnswersFailed
from xrt.runtime.gate import AT_LEAST, LIMITS, open_decisions
from xrt.runtime.outputs import ModelOutputs

_MAP_DRIFT = 0.5
"""Free: relative distance of a map from its reference beyond which one answer does not stand for all of them. int8 has
up to 0.25 at the median."""


def certify_known_answers(
    outputs: ModelOutputs, execution: Execution, known: KnownAnswers, manifest: Manifest
) -> Certificate:
    """Compare a session's outputs for the known answers with the variant's limits; the certificate has the verdict.

    There are too few decisions here to certify a file; what they prove is that this machine computes what was
    certified. Raises KnownAnswersFailed when they do not fit the graph.
    """
    names = tuple(f"known answer {i}" for i in range(len(known.images)))
    limits = known_answer_limits(execution.variant, known, manifest)
    reference = ReferenceOutputs(
        ValidationInputs(known.images, "known answers", names), known.outputs, _reference_of(manifest)
    )
    try:
        return certificate_of(execution, reference, outputs, manifest, limits=limits, enough=False)
    except ValueError as error:
        raise KnownAnswersFailed(
            f"{execution.variant.file} does not fit its manifest: {error}; export the bundle again"
        ) from error


def verify_known_answers(
    outputs: ModelOutputs, execution: Execution, known: KnownAnswers, manifest: Manifest
) -> Certificate:
    """Require that a session reproduced the known answers.

    Raises KnownAnswersFailed with the figures that missed their limits.
    """
    certificate = certify_known_answers(outputs, execution, known, manifest)
    if not certificate.passed:
        raise KnownAnswersFailed(
            f"{execution.variant.file} does not reproduce its known answers on this machine "
            f"({'; '.join(certificate.reasons)}): nothing was scored; run `xrt doctor` with this bundle, or export it "
            "again"
        )
    return certificate


def repeats_one(outputs: ModelOutputs, execution: Execution, known: KnownAnswers, manifest: Manifest) -> bool:
    """Whether a session gives the first known answer within the limits, where it has given all of them before."""
    limits = known_answer_limits(execution.variant, known, manifest)
    logits, expected = outputs.logits[0], known.logits[0]
    drift = np.abs(logits - expected).max() / (1 + np.abs(expected).max())
    maps = [(outputs.cams[name][0], cams[0]) for name, cams in known.cams.items() if name in outputs.cams]
    apart = [np.linalg.norm(got - wanted) / max(float(np.linalg.norm(wanted)), 1e-30) for got, wanted in maps]
    finite = all(np.isfinite(values).all() for values in (logits, *(got for got, _ in maps)))
    few = outputs.cam_classes is not None  # which classes are explained may change, by a hair, with the machine
    return bool(finite and drift <= limits["logit_error"] and (few or max(apart, default=0.0) <= _MAP_DRIFT))


def known_answer_limits(variant: Variant, known: KnownAnswers, manifest: Manifest) -> dict[str, float]:
    """The limits of a replay: the figures that the usable executions of this very file had, and some room.

    What a file says of 24 phantoms is known when it is certified; another machine must say the same, and not just
    stay within what its precision may do to radiographs. The room for the rounding of other kernels is half the limit
    of the precision; the value is free. Without certificates of that kind the limits are the precision's own.
    """
    limits = dict(LIMITS[variant.precision])
    certificates = (c for c in manifest.certificates if c.file_sha256 == variant.sha256 and c.usable)
    certified = [c.known_answers for c in certificates if c.known_answers]
    for name, limit in limits.items():
        values = [figures[name] for figures in certified if name in figures]
        if not values:
            continue
        limits[name] = min(values) - (1 - limit) / 2 if name in AT_LEAST else max(values) + limit / 2
    if limits["flips"]:
        # The least that so few decisions can show: a precision that may flip some may flip one more of these.
        one = 1 / max(1, int(open_decisions(known.logits, manifest).sum()))
        limits["flips"] = max(limits["flips"], one + max((f.get("flips", 0.0) for f in certified), default=0.0))
    return limits


def reproduced(checked: Certificate) -> dict[str, float]:
    """The figures of the known answers that a replay is compared with."""
    return {name: float(v) for name in checked.limits if (v := checked.figures.get(name)) is not None}


def _reference_of(manifest: Manifest) -> str:
    """The reference that gave the known answers: the one that the bundle's own certificates name."""
    return next((c.evidence.reference for c in manifest.certificates), manifest.known_answers.source)
