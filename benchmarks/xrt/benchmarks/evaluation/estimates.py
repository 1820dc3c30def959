"""A figure with its 95 % interval, and the interval of a share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

CONFIDENCE = 0.95
_Z = 1.959963984540054
"""The 97.5th percentile of the normal distribution."""
MIN_USABLE = 0.9
"""An interval needs a figure in this share of the resamples: where fewer have one, those that do are a selection."""


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval. None stands for what is not defined: the interval alone, or all three."""

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


UNDEFINED = Estimate(None)


def wilson(hits: Bool[np.ndarray, " n"], among: Bool[np.ndarray, " n"], patient: Int[np.ndarray, " n"]) -> Estimate:
    """The share of `hits` in the cases that `among` selects, with Wilson's score interval (JASA 1927).

    `patient` numbers the patient of each case. Images of one patient are not independent: both counts are divided by
    the design effect d = Σ (x_i - n_i p)² / (n p (1 - p)) over patients i (Rao & Scott, Biometrics 1992), at least 1;
    it is exactly 1 where every image is its own patient. Where all or none are hits, which hides how alike a
    patient's images are, patients are counted in place of images. Not defined without a case.
    """
    n = int(among.sum())
    if not n:
        return UNDEFINED
    found, of_patient = np.unique(patient[among], return_inverse=True)
    images = np.bincount(of_patient)
    x = np.bincount(of_patient, weights=hits[among])
    p = float(x.sum() / n)
    effect = n / len(found) if p in (0.0, 1.0) else max(1.0, float(((x - images * p) ** 2).sum() / (n * p * (1 - p))))
    return Estimate(p, *_score_interval(p, n / effect))


def _score_interval(p: float, n: float) -> tuple[float, float]:
    centre = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * float(np.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2)))
    # At the ends the interval reaches 0 or 1 exactly; rounding must not say 1.1e-17.
    return (0.0 if p == 0 else max(0.0, centre - half)), (1.0 if p == 1 else min(1.0, centre + half))


def percentile(value: float | None, resampled: Float[np.ndarray, " r"]) -> Estimate:
    """A figure with the percentile interval of its resamples (Efron & Tibshirani 1993, chapter 13).

    NaN marks a resample in which the figure is not defined; the interval is not defined when more than 1 -
    MIN_USABLE of them are, nor without resamples. Nor is it when all resamples agree, as those of an AUROC of 1 do:
    resampling cannot see beyond what was sampled, and such an interval would claim certainty.
    """
    if value is None or np.isnan(value):
        return UNDEFINED
    usable = resampled[~np.isnan(resampled)]
    if not len(usable) or len(usable) < MIN_USABLE * len(resampled) or usable.min() == usable.max():
        return Estimate(float(value))
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(usable, [tail, 100 - tail])
    return Estimate(float(value), float(low), float(high))


def shown(estimate: Estimate, spec: str = "z.3f") -> str:
    """An estimate that breaks over two lines before its interval, and nowhere else."""
    return f"{estimate:{spec}}".replace(", ", ",\u00a0").replace("[not ", "[not\u00a0")
