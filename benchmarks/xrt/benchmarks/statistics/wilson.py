"""The interval of a fraction of cases: Wilson's score interval, adjusted for several images of one patient."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int

from xrt.benchmarks.statistics.estimate import UNDEFINED, Estimate

_Z = 1.959963984540054
"""The 97.5th percentile of the normal distribution."""


def wilson(hits: Bool[np.ndarray, " n"], among: Bool[np.ndarray, " n"], patient: Int[np.ndarray, " n"]) -> Estimate:
    """The fraction of `hits` in the cases that `among` selects, with Wilson's score interval (JASA 1927).

    `patient` numbers the patient of each case. Images of one patient are not independent: both counts are divided by
    the design effect d = Σ (x_i - n_i p)² / (n p (1 - p)) over patients i (Rao & Scott, Biometrics 1992), at least 1;
    it is exactly 1 where every image is its own patient. Where all or none are hits, which hides how alike a
    patient's images are, patients are counted in place of images. Not defined without a case.
    """
    n = int(among.sum())
    if not n:
        return UNDEFINED
    patients, of_patient = np.unique(patient[among], return_inverse=True)
    images = np.bincount(of_patient)
    x = np.bincount(of_patient, weights=hits[among])
    p = float(x.sum() / n)
    if p in (0.0, 1.0):
        effect = n / len(patients)
    else:
        effect = max(1.0, float(((x - images * p) ** 2).sum() / (n * p * (1 - p))))
    return Estimate(p, *score_interval(p, n / effect))


def score_interval(p: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a fraction `p` of `n` independent cases."""
    centre = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * float(np.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2)))
    # At the ends the interval reaches 0 or 1 exactly; rounding must not give 1.1e-17.
    return (0.0 if p == 0 else max(0.0, centre - half)), (1.0 if p == 1 else min(1.0, centre + half))
