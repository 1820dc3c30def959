"""Operating thresholds from scores of cases whose truth is known: the only module with these rules.

A case is called positive at or above its threshold. Candidates are the midpoints between adjacent distinct scores, so
that no case of the set sits on a threshold, where the last digit of an executor would decide. A threshold must beat
calling everything positive, or everything negative; where none does, the rule gives none. Criteria are whole numbers:
rounding must not break ties.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from xrt.runtime.errors import UsageError


@dataclass(frozen=True)
class _Cuts:
    """The errors of each cut between adjacent distinct scores: what lies below it is called negative."""

    values: Float[np.ndarray, " distinct"]
    false_negatives: Int[np.ndarray, " cuts"]
    true_negatives: Int[np.ndarray, " cuts"]
    positives: int
    negatives: int

    def best(
        self, criterion: Float[np.ndarray, " cuts"] | Int[np.ndarray, " cuts"], allowed: Bool[np.ndarray, " cuts"]
    ):
        """The midpoint of the best allowed cut, of equally good ones that in the widest gap; None if none is."""
        if not allowed.any():
            return None
        best = np.flatnonzero(allowed & (criterion == criterion[allowed].max()))
        cut = best[np.argmax((self.values[1:] - self.values[:-1])[best])]
        return float((self.values[cut] + self.values[cut + 1]) / 2)


def _cuts(scores: Float[np.ndarray, " n"], positive: Shaped[np.ndarray, " n"]) -> _Cuts | None:
    positive = np.asarray(positive, dtype=bool)
    values, places = np.unique(np.asarray(scores, dtype=np.float64), return_inverse=True)
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if len(values) < 2 or not positives or not negatives:
        return None
    false_negatives = np.bincount(places[positive], minlength=len(values)).cumsum()[:-1]
    true_negatives = np.bincount(places[~positive], minlength=len(values)).cumsum()[:-1]
    return _Cuts(values, false_negatives, true_negatives, positives, negatives)


def youden_threshold(scores: Float[np.ndarray, " n"], positive: Shaped[np.ndarray, " n"]) -> float | None:
    """The threshold that maximises Youden's J = sensitivity + specificity - 1 (Youden, Cancer 1950).

    `scores` are probabilities, `positive` is true or 1 for positive cases. Returns None if only one class is present,
    all scores are equal, or no threshold has a J above 0.
    """
    if (cuts := _cuts(scores, positive)) is None:
        return None
    criterion = cuts.true_negatives * cuts.positives - cuts.false_negatives * cuts.negatives
    return cuts.best(criterion, criterion > 0)


def sensitivity_threshold(
    scores: Float[np.ndarray, " n"], positive: Shaped[np.ndarray, " n"], target: float
) -> float | None:
    """The threshold of the highest specificity among those with a sensitivity of at least `target`, in (0, 1].

    Returns None if only one class is present, or if no threshold with a true negative keeps the sensitivity.
    """
    if (cuts := _cuts(scores, positive)) is None:
        return None
    reaches_target = cuts.positives - cuts.false_negatives >= target * cuts.positives - 1e-9
    criterion = cuts.true_negatives * (cuts.positives + 1) - cuts.false_negatives
    return cuts.best(criterion, reaches_target & (cuts.true_negatives > 0))


def specificity_threshold(
    scores: Float[np.ndarray, " n"], positive: Shaped[np.ndarray, " n"], target: float
) -> float | None:
    """The threshold of the highest sensitivity among those with a specificity of at least `target`, in (0, 1].

    Returns None if only one class is present, or if no threshold with a true positive keeps the specificity.
    """
    if (cuts := _cuts(scores, positive)) is None:
        return None
    reaches_target = cuts.true_negatives >= target * cuts.negatives - 1e-9
    criterion = cuts.true_negatives - cuts.false_negatives * (cuts.negatives + 1)
    return cuts.best(criterion, reaches_target & (cuts.false_negatives < cuts.positives))


def f1_threshold(scores: Float[np.ndarray, " n"], positive: Shaped[np.ndarray, " n"]) -> float | None:
    """The threshold that maximises F1 = 2 TP / (2 TP + FP + FN) (van Rijsbergen 1979).

    Returns None if only one class is present, or if calling everything positive is as good as any threshold.
    """
    if (cuts := _cuts(scores, positive)) is None:
        return None
    hits = cuts.positives - cuts.false_negatives
    called = hits + cuts.negatives - cuts.true_negatives
    f1 = 2 * hits / (called + cuts.positives)
    everything = 2 * cuts.positives / (2 * cuts.positives + cuts.negatives)
    return cuts.best(f1, f1 > everything)


_FORM = re.compile(r"(youden|f1)|(sensitivity|specificity):(0?\.\d+|1(?:\.0+)?)")


@dataclass(frozen=True)
class ThresholdRule:
    """How an operating threshold is chosen. `target` is the fraction, in (0, 1], that a fixed figure must reach."""

    kind: Literal["youden", "f1", "sensitivity", "specificity"]
    target: float | None = None

    @classmethod
    def parse(cls, text: str) -> ThresholdRule:
        """A rule from `youden`, `f1`, `sensitivity:0.95` or `specificity:0.9`. Raises UsageError."""
        match = _FORM.fullmatch(text.strip())
        if match is None or (match[3] and float(match[3]) == 0):
            raise UsageError(
                f"{text!r} is no rule for thresholds: give youden, f1, sensitivity:SHARE or specificity:SHARE, with a "
                "share above 0 and up to 1"
            )
        return cls(match[1] or match[2], float(match[3]) if match[3] else None)  # pyright: ignore[reportArgumentType]

    def __str__(self) -> str:
        return self.kind if self.target is None else f"{self.kind}:{self.target:g}"

    def threshold(self, scores: Float[np.ndarray, " n"], positive: Shaped[np.ndarray, " n"]) -> float | None:
        """The threshold for these scores; None where the rule gives none."""
        if self.kind == "youden":
            return youden_threshold(scores, positive)
        if self.kind == "f1":
            return f1_threshold(scores, positive)
        choose = sensitivity_threshold if self.kind == "sensitivity" else specificity_threshold
        return choose(scores, positive, self.target or 0.0)
