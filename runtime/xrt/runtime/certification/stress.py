"""What a session does at the ends of its input, and whether an image's answer depends on the others in its batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from xrt.runtime.backends import Session
from xrt.runtime.bundle.certificate import Certificate
from xrt.runtime.gate import LIMITS

_COMPANIONS = 4
"""Images that are run alone, and again among the stress inputs."""


@dataclass(frozen=True)
class Stress:
    """`finite`: every output for the stress inputs is a number.

    `batch_change`: of images that are run alone, and in one batch with the stress inputs, max |Δ logit| / (1 + max
    |logit|).
    """

    finite: bool
    batch_change: float

    def entered_in(self, certificate: Certificate) -> Certificate:
        """The certificate with these figures: failed where an output is no number, or images depend on each other."""
        limit = batch_limit(certificate)
        reasons = list(certificate.reasons)
        if not self.finite:
            reasons.append("an output for the darkest or brightest input, noise or strips is NaN or infinity")
        if not self.batch_change <= limit:
            reasons.append(
                f"batch_change is {self.batch_change:.3g}, the limit is {limit:g}: an image's logits depend on the "
                "others in its batch"
            )
        change = self.batch_change if np.isfinite(self.batch_change) else None
        return certificate.model_copy(
            update={
                "verdict": certificate.verdict if tuple(reasons) == certificate.reasons else "failed",
                "reasons": tuple(reasons),
                "figures": {**certificate.figures, "stress_finite": self.finite, "batch_change": change},
                "limits": {**certificate.limits, "batch_change": limit},
            }
        )


def batch_limit(certificate: Certificate) -> float:
    """The limit of `batch_change`: what the precision may do to a logit."""
    limits = {precision: limit["logit_error"] for precision, limit in LIMITS.items()}
    return limits.get(certificate.execution_precision, limits["fp16"])


@dataclass(frozen=True)
class StressInputs:
    """Stress inputs, uint8 [n, 1, height, width]: those for which the model itself gives numbers."""

    images: UInt8[np.ndarray, "n 1 height width"]

    def measure(self, session: Session[Any], images: UInt8[np.ndarray, "m 1 height width"]) -> Stress:
        """Run the stress inputs, and some of `images` alone and among them."""
        companions = images[:_COMPANIONS]
        together = session.infer(np.concatenate([self.images, companions]))
        alone = np.concatenate([session.infer(companions[i : i + 1]).logits for i in range(len(companions))])
        with np.errstate(all="ignore"):
            change = np.abs(together.logits[len(self.images) :] - alone).max() / (1 + np.abs(alone).max())
        finite = bool(np.isfinite(together.logits).all()) and all(np.isfinite(c).all() for c in together.cams.values())
        return Stress(finite, float(change))
