"""AUROC and average precision of weighted images: of many resamples at once, or of the images themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Integer


def ranking(truth: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"]) -> tuple[float | None, float | None]:
    """AUROC (ties count half) and average precision (no interpolation); None where one kind of case is missing."""
    if truth.all() or not truth.any():
        return None, None
    areas, averages = RankedImages.of(truth, scores).rankings(np.ones((1, len(truth)), dtype=np.uint16))
    return float(areas[0]), float(averages[0])


@dataclass(frozen=True)
class RankedImages:
    """The images in order of falling score, and where each group of equal scores starts."""

    order: Int[np.ndarray, " n"]
    positive: Bool[np.ndarray, " n"]
    starts: Int[np.ndarray, " g"]

    @classmethod
    def of(cls, truth: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"]) -> RankedImages:
        """Sort images by their scores."""
        order = np.argsort(-scores, kind="stable")
        ranked = scores[order]
        starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
        return cls(order, truth[order], starts)

    def rankings(self, weights: Integer[np.ndarray, "c n"]) -> tuple[Float[np.ndarray, " c"], Float[np.ndarray, " c"]]:
        """AUROC and average precision under each row of weights; NaN where one kind of case has no weight."""
        ranked = weights[:, self.order].astype(np.int32)
        hits, alarms = ranked * self.positive, ranked * ~self.positive
        if len(self.starts) < len(self.order):
            hits, alarms = (np.add.reduceat(part, self.starts, axis=1) for part in (hits, alarms))
        above, spared = (np.cumsum(part, axis=1, dtype=np.int32) for part in (hits, alarms))
        positives, negatives = above[:, -1].astype(np.float64), spared[:, -1].astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            # A negative lies below the positives of the groups above it, and ties with half of its own group.
            won = np.einsum("cg,cg->c", alarms.astype(np.float64), above - hits / 2.0)
            area = won / (positives * negatives)
            called = above + spared
            precision = above / np.maximum(called, 1)
            average = np.einsum("cg,cg->c", hits.astype(np.float64), precision) / positives
        average[negatives == 0] = np.nan
        return area, average
