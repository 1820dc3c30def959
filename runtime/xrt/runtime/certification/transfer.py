"""What a certified logit error says about decisions under other rules than it was certified under."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from xrt.runtime.bundle.certificate import Certificate
from xrt.runtime.bundle.manifest import Manifest
from xrt.runtime.certification.inputs import ValidationInputs
from xrt.runtime.certification.known_answers import reproduced
from xrt.runtime.gate import MIN_DECISIONS, SYNTHETIC_ONLY, open_decisions, upper_bound
from xrt.runtime.gate.evidence import deciding_classes, threshold_logits


def transfer_certificate(
    checked: Certificate,
    logits: Float32[np.ndarray, "n logits"],
    before: tuple[Certificate, ...],
    manifest: Manifest,
    inputs: ValidationInputs,
) -> Certificate:
    """The certificate `checked`, of the known answers, with the decisions that the certified logit error leaves open.

    `logits` are the file's for `inputs`, `before` the certificates that it passed with. Every open
    decision counts as a flip: the reference may decide it the other way.
    """
    strongest = max(before, key=lambda c: c.evidence.decisions)
    errors = [float(c.figures["logit_error"] or 0.0) for c in (*before, checked)]
    wrong = undecided(logits, max(errors) * (1 + float(np.abs(logits).max())), manifest)
    distinct = inputs.distinct
    counted = (open_decisions(logits, manifest).T & distinct).T | wrong
    synthetic = inputs.synthetic or strongest.evidence.synthetic
    count, decisions = int(wrong.sum()), int(counted.sum())
    enough = int(distinct.sum()) * deciding_classes(manifest) if synthetic else decisions
    trials, events = (int(a.reshape(len(a), -1).any(axis=1).sum()) for a in (counted, wrong))
    verdict, reasons = checked.verdict, list(checked.reasons)
    if count:
        verdict = "failed"
        reasons.append(
            f"{count} of {decisions} decisions lie within the certified logit error of a threshold and could flip, the "
            "limit is 0"
        )
    elif checked.passed and enough < MIN_DECISIONS:
        verdict = "insufficient"
        reasons.append(f"{enough} decisions on different images are insufficient evidence, {MIN_DECISIONS} are needed")
    elif checked.passed and synthetic:
        verdict = SYNTHETIC_ONLY
    inputs_drift = {name: value for name, value in strongest.figures.items() if name.startswith("input_change")}
    flips = {
        "decisions": decisions,
        "different_images": int(distinct.sum()),
        "flips": count / max(decisions, 1),
        "flips_upper": upper_bound(events, trials),
    }
    source = (
        f"known answers under new decision rules, and how near {inputs.source} comes to the thresholds; logits "
        f"and maps passed before on {strongest.evidence.source} ({strongest.evidence.decisions} decisions)"
    )
    rests_on = strongest.evidence.model_copy(
        update={
            "source": source,
            "synthetic": synthetic,
            "images": len(logits),
            "different_images": int(distinct.sum()),
            "decisions": decisions,
            "labelled": False,
        }
    )
    return checked.model_copy(
        update={
            "verdict": verdict,
            "reasons": tuple(reasons),
            "known_answers": reproduced(checked),
            # The certified error goes along, or a chain of bundles would forget all but the known answers'.
            "figures": {**checked.figures, **inputs_drift, **flips, "images": len(logits), "logit_error": max(errors)},
            "evidence": rests_on,
        }
    )


def undecided(logits: Float32[np.ndarray, "n logits"], error: float, manifest: Manifest) -> np.ndarray:
    """Which decisions could be another if every logit were off by up to `error`.

    Bool [n, logits]; [n] for a multiclass task, which makes one decision per image.
    """
    if manifest.task == "multiclass":
        highest = np.sort(logits, axis=1)[:, -2:]
        return highest[:, -1] - highest[:, 0] <= 2 * error if logits.shape[1] > 1 else np.zeros(len(logits), dtype=bool)
    # A class without a threshold (NaN), or with one at 0 or 1, cannot flip.
    return np.abs(logits - threshold_logits(manifest)) <= error
