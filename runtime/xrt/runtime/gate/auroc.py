"""The area under the receiver operating characteristic, by ranks, and its interval (Hanley & McNeil 1982)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

_NORMAL_95 = 1.959964


def auroc(labels: Float[np.ndarray, " n"], scores: Float[np.ndarray, " n"]) -> float | None:
    """The probability that a positive scores above a negative, ties counting half; None without one of each."""
    positive = labels > 0.5
    count = int(positive.sum())
    if count in (0, len(labels)):
        return None
    _, place, size = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(size) - (size - 1) / 2)[place]
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(labels) - count)))


def mean_auroc(labels: Float[np.ndarray, "n logits"], scores: Float[np.ndarray, "n logits"]) -> float | None:
    """The mean over the classes for which it is defined; None when it is for none."""
    areas = [auroc(labels[:, i], scores[:, i]) for i in range(labels.shape[1])]
    defined = [value for value in areas if value is not None]
    return float(np.mean(defined)) if defined else None


def auroc_interval(area: float, positives: int, negatives: int) -> tuple[float, float]:
    """The 95 % interval of an area by the normal approximation, within 0..1.

    Its standard error is Hanley & McNeil's, or that of a score that tells nothing if this is larger: near 0 and 1
    theirs vanishes, however few the cases.
    """
    above, below = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (positives - 1) * (above - area**2) + (negatives - 1) * (below - area**2)
    variance = max(variance, (positives + negatives + 1) / 12) / (positives * negatives)
    half = _NORMAL_95 * float(np.sqrt(variance))
    return max(0.0, area - half), min(1.0, area + half)
