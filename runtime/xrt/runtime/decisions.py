"""From logits to calibrated probabilities and findings. The only module that decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Float32

if TYPE_CHECKING:  # numpy alone at run time, for the gate
    from xrt.runtime.bundle.manifest import Manifest, Task


def probabilities(logits: Float32[np.ndarray, "n logits"], manifest: Manifest) -> Float[np.ndarray, "n logits"]:
    """Calibrated probabilities in float64 as the bundle has them: see `calibrated`."""
    return calibrated(logits, manifest.task, [c.temperature for c in manifest.logit_classes])


def calibrated(
    logits: Float[np.ndarray, "n logits"], task: Task, temperatures: Sequence[float]
) -> Float[np.ndarray, "n logits"]:
    """Sigmoid, or softmax for a multiclass task, of logit / temperature, in float64 (Guo et al. 2017)."""
    scaled = logits.astype(np.float64) / np.asarray(temperatures, dtype=np.float64)
    if task == "multiclass":
        shifted = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return shifted / shifted.sum(axis=1, keepdims=True)
    # The form that cannot overflow: exp of a non-positive number only.
    tail = np.exp(-np.abs(scaled))
    return np.where(scaled >= 0, 1 / (1 + tail), tail / (1 + tail))


def positives(probability: Float[np.ndarray, "n logits"], manifest: Manifest) -> Bool[np.ndarray, "n logits"]:
    """Which (image, class) pairs are findings of the bundle: see `decided`."""
    return decided(probability, manifest.task, [c.threshold for c in manifest.logit_classes])


def decided(
    probability: Float[np.ndarray, "n logits"], task: Task, thresholds: Sequence[float | None]
) -> Bool[np.ndarray, "n logits"]:
    """Which (image, class) pairs are findings: at or above the class threshold; the argmax for multiclass.

    A class without a threshold is never a finding.
    """
    if task == "multiclass":
        return np.arange(probability.shape[1]) == probability.argmax(axis=1)[:, None]
    return probability >= np.array(thresholds, dtype=np.float64)


def excess(probability: Float[np.ndarray, "n logits"], manifest: Manifest) -> Float[np.ndarray, "n logits"]:
    """How far each probability lies from its threshold, as a fraction of the way to certainty, in [-1, 1].

    (p - t) / (1 - t) above the threshold t and (p - t) / t below it, so that classes with different thresholds
    compare. A multiclass model has p for the argmax class and p - 1 for the others, and p - 1 is also the excess of a
    class without a threshold.
    """
    if manifest.task == "multiclass":
        return np.where(positives(probability, manifest), probability, probability - 1)
    threshold = np.array([c.threshold for c in manifest.logit_classes], dtype=np.float64)
    above = (probability - threshold) / np.maximum(1 - threshold, 1e-12)
    below = (probability - threshold) / np.maximum(threshold, 1e-12)
    result = np.where(probability >= threshold, above, below)
    return np.where(np.isnan(threshold), probability - 1, result)
