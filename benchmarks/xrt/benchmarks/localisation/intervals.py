"""Means over findings with 95 % bootstrap intervals over images.

Findings of one image are not independent, so whole images are drawn (the cluster bootstrap, Field and Welsh 2007).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A mean with its interval. All None without findings; no interval where resamples cannot differ.

    They cannot for findings of one image alone, nor where all findings agree: an interval from 1 to 1 would claim
    certainty.
    """

    point: float | None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.point is None:
            return "not defined"
        # z: a difference of -0.0001 is 0.000, not -0.000.
        return f"{self.point:z.3f}" + ("" if self.low is None else f" [{self.low:z.3f}, {self.high:z.3f}]")


def mean_intervals(
    values: Float[np.ndarray, "n figures"], images: Int[np.ndarray, " n"], *, seed: int = 0
) -> list[Interval]:
    """The mean of every column of `values`, with percentile intervals; all columns share their resamples.

    `images` says which image each finding belongs to. NaN is a figure that is not defined for a finding; it is left
    out of its column.
    """
    if not len(values):
        return [Interval(None)] * values.shape[1]
    defined = ~np.isnan(values)
    labels, cluster = np.unique(images, return_inverse=True)
    sums, counts = np.zeros((2, len(labels), values.shape[1]))
    np.add.at(sums, cluster, np.where(defined, values, 0.0))
    np.add.at(counts, cluster, defined)
    # How often each image is drawn decides everything, so no index is drawn one by one.
    share = np.full(len(labels), 1 / len(labels))
    drawn = np.random.default_rng(seed).multinomial(len(labels), share, RESAMPLES)
    with np.errstate(invalid="ignore"):
        means = (drawn @ sums) / (drawn @ counts)
    intervals = []
    for j, total in enumerate(counts.sum(axis=0)):
        if not total:
            intervals.append(Interval(None))
            continue
        point = float(sums[:, j].sum() / total)
        found = values[defined[:, j], j]
        if (counts[:, j] > 0).sum() == 1 or found.min() == found.max():
            intervals.append(Interval(point))
        else:
            # A resample without any finding of a rare figure says nothing about its mean.
            low, high = np.nanpercentile(means[:, j], [2.5, 97.5])
            intervals.append(Interval(point, float(low), float(high)))
    return intervals
