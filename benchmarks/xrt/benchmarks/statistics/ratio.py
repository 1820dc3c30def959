"""How many times as long one contender takes as another, from paired times."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

_RESAMPLES = 2000


@dataclass(frozen=True)
class Ratio:
    """A ratio of paired times with its 95 % bootstrap interval."""

    point: float
    low: float
    high: float
    rounds: int

    def within(self, bound: float) -> bool:
        """Whether "≤ bound" holds: the interval reaches the bound, and the point exceeds it by at most 0.02."""
        return self.low <= bound and self.point <= bound + 0.02

    def __str__(self) -> str:
        digits = 3 if self.point < 10 else 1
        return f"{self.point:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


def ratio(a: Float64[np.ndarray, " rounds"], b: Float64[np.ndarray, " rounds"], *, seed: int = 0) -> Ratio:
    """How many times as long a takes as b: the median over rounds of a / b."""
    paired = a / b
    picks = np.random.default_rng(seed).integers(0, len(paired), (_RESAMPLES, len(paired)))
    medians = np.median(paired[picks], axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return Ratio(float(np.median(paired)), float(low), float(high), len(paired))
