"""Figures of a raw map, by which layers are compared.

They are of the CAM, not of the layer's activations, which no bundle puts out: mean and maximum in the map's own units
(the logit's change per unit of activation, times activation, so that they do not compare between layers), the fraction
of cells that are zero, and the entropy of the map taken as a distribution over its cells, over its largest possible
value: 0 for one hot cell, 1 for a map that is the same everywhere. These two do compare between layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32


@dataclass(frozen=True)
class MapStatistics:
    """Figures of one map, or means over several; `entropy` is None for maps that are all zero."""

    mean: float
    maximum: float
    zero_share: float
    entropy: float | None


def map_statistics(cam: Float32[np.ndarray, "h w"]) -> MapStatistics:
    """Figures of one map, non-negative as CAMs are."""
    values = cam.astype(np.float64).ravel()
    total = values.sum()
    entropy = None
    if total > 0 and values.size > 1:
        fraction = values[values > 0] / total
        entropy = float(-(fraction * np.log(fraction)).sum() / np.log(values.size)) + 0.0
    return MapStatistics(float(values.mean()), float(values.max()), float((values == 0).mean()), entropy)


def mean_statistics(statistics: Sequence[MapStatistics]) -> MapStatistics | None:
    """The mean of each figure over maps, of the entropy over those that have one; None without maps."""
    if not statistics:
        return None
    entropies = [s.entropy for s in statistics if s.entropy is not None]
    return MapStatistics(
        mean=float(np.mean([s.mean for s in statistics])),
        maximum=float(np.mean([s.maximum for s in statistics])),
        zero_share=float(np.mean([s.zero_share for s in statistics])),
        entropy=float(np.mean(entropies)) if entropies else None,
    )
