"""Operating thresholds from validation scores."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Shaped


def youden_threshold(scores: Float[np.ndarray, " n"], positive: Shaped[np.ndarray, " n"]) -> float | None:
    """The threshold that maximises Youden's J = sensitivity + specificity - 1 (Youden, Cancer 1950).

    `scores` are probabilities, `positive` is true or 1 for positive cases; a case is called positive at or
    above the threshold. Candidates are the midpoints between adjacent distinct scores, so that no image of
    the set sits on the threshold, where the last digit of an executor would decide. Of equally good ones the
    one in the widest gap wins. Returns None if only one class is present, all scores are equal, or no
    threshold beats calling everything positive.
    """
    positive = np.asarray(positive, dtype=bool)
    values, places = np.unique(np.asarray(scores, dtype=np.float64), return_inverse=True)
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if len(values) < 2 or not positives or not negatives:
        return None
    # Below the cut after value k lie all scores up to it.
    missed = np.bincount(places[positive], minlength=len(values)).cumsum()[:-1]
    spared = np.bincount(places[~positive], minlength=len(values)).cumsum()[:-1]
    # In whole numbers, J × positives × negatives: floating point must not break ties.
    merit = spared * positives - missed * negatives
    if merit.max() <= 0:
        return None
    best = np.flatnonzero(merit == merit.max())
    cut = best[np.argmax((values[1:] - values[:-1])[best])]
    return float((values[cut] + values[cut + 1]) / 2)
