"""The cluster bootstrap: whole patients, or whole images, are drawn with replacement (Field & Welsh, JRSS B 2007).

A resample draws as many clusters as there are, and takes everything of each. It is the same thing as giving every
image a whole-numbered weight, so a figure of all resamples is a few cumulative sums over one sorted array: 14 classes
of 25,000 images are resampled 1,000 times in seconds. All classes, subgroups and models are resampled jointly, by the
same weights, so that means and differences have their proper intervals. Resamples are not stratified by class, since
an image has many: where a rare class loses its last positive or negative image, its figure is NaN there
(`estimate.percentile` says what follows).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from xrt.benchmarks.statistics.estimate import UNDEFINED, Estimate
from xrt.benchmarks.statistics.ranking import RankedImages

MEAN_RESAMPLES = 2000
"""Resamples of `mean_estimates`."""
_CHUNK = 1_000_000
"""Weights held at once: a chunk stays near the processor's caches."""


@dataclass(frozen=True)
class Resamples:
    """Whole-numbered weights of every image, or cluster of findings, in every resample: [resamples, images]."""

    weights: Integer[np.ndarray, "r n"]

    @classmethod
    def draw(cls, patient: Int[np.ndarray, " n"], count: int, seed: int) -> Resamples:
        """`count` resamples of the patients that `patient` numbers from 0 without gaps: a weight for every image."""
        rng = np.random.default_rng(seed)
        patients = int(patient.max(initial=-1)) + 1
        weights = np.empty((count, len(patient)), dtype=np.uint16)
        for row in weights:
            row[:] = np.bincount(rng.integers(0, patients, patients), minlength=patients)[patient]
        return cls(weights)

    @classmethod
    def of_clusters(cls, clusters: int, count: int, seed: int) -> Resamples:
        """`count` resamples of so many clusters: a weight for every cluster, without drawing them one by one."""
        probability = np.full(clusters, 1 / clusters)
        return cls(np.random.default_rng(seed).multinomial(clusters, probability, count))

    @classmethod
    def original(cls, images: int) -> Resamples:
        """The images themselves as the only resample: each has weight 1."""
        return cls(np.ones((1, images), dtype=np.uint16))

    def of(self, member: Bool[np.ndarray, " n"]) -> Resamples:
        """The same resamples, of some of the images."""
        return Resamples(self.weights[:, member])

    def sums(self, values: Float[np.ndarray, "n k"] | Bool[np.ndarray, "n k"]) -> Float[np.ndarray, "r k"]:
        """Σ weight × value over the images, in every resample."""
        parts = [chunk.astype(np.float64) @ values.astype(np.float64) for chunk in self._chunks()]
        return np.concatenate(parts) if parts else np.empty((0, values.shape[1]))

    def rankings(
        self, truth: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"]
    ) -> tuple[Float[np.ndarray, " r"], Float[np.ndarray, " r"]]:
        """AUROC and average precision of every resample; NaN where one kind of case is missing."""
        # Where the table itself lacks one kind, nothing can be resampled: spare the sorting.
        if truth.all() or not truth.any():
            return np.full(len(self.weights), np.nan), np.full(len(self.weights), np.nan)
        images = RankedImages.of(truth, scores)
        parts = [images.rankings(chunk) for chunk in self._chunks()]
        empty = np.empty(0)
        areas, averages = zip(*parts, strict=True) if parts else ([empty], [empty])
        return np.concatenate(areas), np.concatenate(averages)

    def _chunks(self) -> Iterator[Integer[np.ndarray, "c n"]]:
        rows = max(1, _CHUNK // max(1, self.weights.shape[1]))
        for start in range(0, len(self.weights), rows):
            yield self.weights[start : start + rows]


def mean_estimates(
    values: Float[np.ndarray, "n figures"], images: Int[np.ndarray, " n"], *, seed: int = 0
) -> list[Estimate]:
    """The mean over findings of every column of `values`, with percentile intervals from resampled images.

    `images` says which image each finding belongs to: findings of one image are not independent. NaN is a figure that
    is not defined for a finding; it is left out of its column. All columns share their resamples. There is no
    interval where resamples cannot differ: for findings of one image alone, and where all findings agree.
    """
    if not len(values):
        return [UNDEFINED] * values.shape[1]
    defined = ~np.isnan(values)
    labels, cluster = np.unique(images, return_inverse=True)
    sums, counts = np.zeros((2, len(labels), values.shape[1]))
    np.add.at(sums, cluster, np.where(defined, values, 0.0))
    np.add.at(counts, cluster, defined)
    weights = Resamples.of_clusters(len(labels), MEAN_RESAMPLES, seed).weights
    with np.errstate(invalid="ignore"):
        means = (weights @ sums) / (weights @ counts)
    estimates = []
    for j, total in enumerate(counts.sum(axis=0)):
        if not total:
            estimates.append(UNDEFINED)
            continue
        mean, column = float(sums[:, j].sum() / total), values[defined[:, j], j]
        if (counts[:, j] > 0).sum() == 1 or column.min() == column.max():
            estimates.append(Estimate(mean))
        else:
            # A resample without any finding of a rare figure says nothing about its mean.
            low, high = np.nanpercentile(means[:, j], [2.5, 97.5])
            estimates.append(Estimate(mean, float(low), float(high)))
    return estimates
