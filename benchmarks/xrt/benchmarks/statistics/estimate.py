"""A figure with its 95 % interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

CONFIDENCE = 0.95
MIN_USABLE = 0.9
"""An interval needs a figure in this fraction of the resamples: where fewer have one, those are a selection."""


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval. None is what is not defined: the interval alone, or all three."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        return f"{self:z.3f}"

    def __format__(self, spec: str) -> str:
        """The three numbers, each formatted by `spec`."""
        if self.value is None:
            return "not defined"
        if self.low is None or self.high is None:
            return f"{self.value:{spec}} [not defined]"
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"

    @property
    def text(self) -> str:
        """As `str` gives it, with the value alone where there is no interval."""
        return str(self).removesuffix(" [not defined]")


UNDEFINED = Estimate(None)


def percentile(value: float | None, resampled: Float[np.ndarray, " r"]) -> Estimate:
    """A figure with the percentile interval of its resamples (Efron & Tibshirani 1993, chapter 13).

    NaN marks a resample in which the figure is not defined; the interval is not defined when more than 1 -
    MIN_USABLE of them are, nor without resamples. Nor is it when all resamples agree, as those of an AUROC of 1 do:
    such an interval would state a certainty that the cases do not give.
    """
    if value is None or np.isnan(value):
        return UNDEFINED
    usable = resampled[~np.isnan(resampled)]
    if not len(usable) or len(usable) < MIN_USABLE * len(resampled) or usable.min() == usable.max():
        return Estimate(float(value))
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(usable, [tail, 100 - tail])
    return Estimate(float(value), float(low), float(high))


def interval_text(estimate: Estimate, spec: str = "z.3f") -> str:
    """An estimate as text that may break before its interval, and nowhere else."""
    return f"{estimate:{spec}}".replace(", ", ",\u00a0").replace("[not ", "[not\u00a0")
