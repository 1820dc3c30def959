"""What counts as evidence: images that differ in fact, and decisions that could be another.

A hundred uniform greys, the same radiograph saved again, or a class that never comes near its threshold give many
comparisons and prove next to nothing. Bounds are computed for what is counted here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

if TYPE_CHECKING:  # numpy alone at run time
    from xrt.runtime.bundle.manifest import Manifest

SAME = 0.995
"""Two images whose Pearson correlation at SIDE x SIDE is over this show the same thing. Frontal radiographs of
different patients reach 0.95, a radiograph and its JPEG 0.9999."""
SIDE = 32
UNIFORM = 1.0
"""Grey levels: an image that deviates less at SIDE x SIDE shows nothing; all of these count once. The value is free:
below one level a correlation is one of rounding."""
REACH = 0.25
"""A decision could be another within this error of its logit, as a fraction of (1 + the largest): int8's limit, the
widest."""


def distinct_images(images: UInt8[np.ndarray, "n 1 height width"]) -> Bool[np.ndarray, " n"]:
    """Which images show something that none before them shows."""
    vectors = _vectors(images)
    distinct, count, uniform = np.zeros(len(images), dtype=bool), 0, False
    kept = np.empty_like(vectors)
    for i, vector in enumerate(vectors):
        if not vector.any():
            distinct[i], uniform = not uniform, True
        elif not (kept[:count] @ vector > SAME).any():
            distinct[i], kept[count], count = True, vector, count + 1
    return distinct


def shown_in(
    images: UInt8[np.ndarray, "n 1 height width"], others: UInt8[np.ndarray, "m 1 height width"]
) -> Bool[np.ndarray, " n"]:
    """Which images show what one of `others` shows too. Uniform ones show the same."""
    vectors, known = _vectors(images), _vectors(others)
    same = np.array([(known @ vector > SAME).any() for vector in vectors], dtype=bool)
    return same | (~vectors.any(axis=1) & (not known.any(axis=1).all()))


def open_decisions(
    logits: Float32[np.ndarray, "n logits"], manifest: Manifest
) -> Bool[np.ndarray, "n logits"] | Bool[np.ndarray, " n"]:
    """Which decisions could be another: [n, logits]; [n] for a multiclass task, which makes one for each image.

    A class without a threshold, or with one at 0 or 1, decides nothing. A logit that lies farther from its threshold
    than the whole range of its class over the images, and than REACH, is settled.
    """
    values = logits.astype(np.float64)
    widest = REACH * (1 + np.abs(values).max())
    if manifest.task == "multiclass":
        highest = np.sort(values, axis=1)
        if values.shape[1] < 2:
            return np.zeros(len(values), dtype=bool)
        margins = highest[:, -1] - highest[:, -2]
        return margins <= max(margins.max() - margins.min(), widest)
    margins = np.abs(values - threshold_logits(manifest))
    return margins <= np.maximum(values.max(axis=0) - values.min(axis=0), widest)


def deciding_classes(manifest: Manifest) -> int:
    """How many decisions are made for an image: one for a multiclass task, else those of classes with a threshold."""
    if manifest.task == "multiclass":
        return int(len(manifest.logit_classes) > 1)
    return int(np.isfinite(threshold_logits(manifest)).sum())


def threshold_logits(manifest: Manifest) -> Float[np.ndarray, " logits"]:
    """The logit of every class at its threshold: NaN without one, infinite for a threshold of 0 or 1."""
    thresholds = np.array([c.threshold for c in manifest.logit_classes], dtype=np.float64)
    temperatures = np.array([c.temperature for c in manifest.logit_classes])
    with np.errstate(divide="ignore", invalid="ignore"):
        return temperatures * np.log(thresholds / (1 - thresholds))


def _vectors(images: UInt8[np.ndarray, "n 1 height width"]) -> Float32[np.ndarray, "n pixels"]:
    """Every image averaged to SIDE x SIDE, centred, of length 1; zeros where it is uniform."""
    rows, columns = (_averages(side) for side in images.shape[2:])
    small = np.stack([(rows @ image[0] @ columns.T).ravel() for image in images])
    small -= small.mean(axis=1, keepdims=True)
    small[small.std(axis=1) < UNIFORM] = 0
    return (small / np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def _averages(side: int) -> Float32[np.ndarray, "small side"]:
    """The matrix that averages `side` pixels to SIDE: the part of each pixel that lies under each average."""
    edges = np.linspace(0, side, SIDE + 1)
    starts, ends = np.maximum(edges[:-1, None], np.arange(side)), np.minimum(edges[1:, None], np.arange(side) + 1)
    return (np.maximum(ends - starts, 0) * (SIDE / side)).astype(np.float32)
