"""How far a candidate's maps are from the reference's.

A map's error scale is the largest CAM value of its image over all classes. Two maps that both stay under
NEGLIGIBLE of it are empty: they agree, and prove nothing. If only one does, that is a mismatch (r = 0, difference 1). A
fifth of a DenseNet's maps are all zero after the ReLU, so this is no corner case.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float32, Int64

from xrt.runtime.outputs import ModelOutputs

if TYPE_CHECKING:
    from xrt.runtime.bundle.manifest import Manifest

NEGLIGIBLE = 1e-6
TIE = 1e-3
"""Two logits closer than this fraction of (1 + the largest) may swap places in a top-K choice."""
VARIATION = 1e-4
"""Maps, and logits, of different images must differ by this fraction of their scale, and a map over its places: by
rounding alone they differ by about 1e-7."""


def shown_maps(truth: Bool[np.ndarray, "n logits"], probability: np.ndarray) -> Bool[np.ndarray, "n logits"]:
    """The (image, class) pairs whose maps a person would look at: findings, and the top class of every image."""
    top = np.arange(probability.shape[1]) == probability.argmax(axis=1)[:, None]
    return truth | top


def align(
    reference: ModelOutputs, candidate: ModelOutputs, manifest: Manifest, shown: Bool[np.ndarray, "n logits"]
) -> tuple[ModelOutputs, ModelOutputs, Bool[np.ndarray, "n maps"]]:
    """Both outputs with maps of the same classes in the same places, and which of those maps are looked at.

    With top-K each side has chosen its own classes. The candidate's maps are brought into the reference's order; a
    class that only the reference chose has a map of NaN, a mismatch, unless the choice was a tie within TIE.
    """
    explained = manifest.graph.explained
    if explained is not None:
        return reference, candidate, shown[:, list(explained)]
    k = manifest.graph.top_k or 0
    expected_classes = highest(reference.logits, k) if reference.cam_classes is None else reference.cam_classes
    actual_classes = highest(candidate.logits, k) if candidate.cam_classes is None else candidate.cam_classes
    match = expected_classes[:, :, None] == actual_classes[:, None, :]
    present, place = match.any(axis=2), match.argmax(axis=2)
    rows = np.arange(len(expected_classes))[:, None]
    scores = np.take_along_axis(reference.logits, expected_classes, axis=1)
    tied = scores - np.take_along_axis(reference.logits, actual_classes, axis=1).min(axis=1, keepdims=True)
    tolerated = ~present & (tied <= TIE * (1 + np.abs(reference.logits).max()))
    cams = {
        name: np.where(present[:, :, None, None], maps[rows, place], np.float32(np.nan))
        for name, maps in candidate.cams.items()
    }
    pairs = np.take_along_axis(shown, expected_classes, axis=1) & ~tolerated
    pairs[:, 0] |= ~tolerated[:, 0]
    return reference, ModelOutputs(candidate.logits, cams, expected_classes), pairs


def highest(logits: Float32[np.ndarray, "n logits"], k: int) -> Int64[np.ndarray, "n k"]:
    """The k highest logits of each image, highest first, the lower index first among equals."""
    return np.argsort(-logits, axis=1, kind="stable")[:, :k].astype(np.int64)


@dataclass(frozen=True)
class MapFigures:
    """One CAM output: figures of the (image, map) pairs looked at, and the fraction of maps that are not empty.

    `proved` are those of the pairs that are neither both empty nor both the same number everywhere.
    """

    output: str
    images: np.ndarray
    maps: np.ndarray
    correlations: np.ndarray
    differences: np.ndarray
    proved: np.ndarray
    nonzero: float


def compare_maps(
    reference: ModelOutputs, candidate: ModelOutputs, pairs: Bool[np.ndarray, "n maps"]
) -> list[MapFigures]:
    """The figures of every CAM output for the (image, map) pairs. Raises ValueError when shapes differ."""
    if not pairs.any():
        # No explained class is a finding or an image's highest: then every map is looked at.
        pairs = np.ones_like(pairs)
    images, maps = np.nonzero(pairs)
    results = []
    for name, expected in reference.cams.items():
        actual = candidate.cams[name]
        if expected.shape != actual.shape:
            raise ValueError(f"{name}: maps {expected.shape} against {actual.shape}")
        scale = np.maximum(expected.max(axis=(1, 2, 3), initial=0.0), np.finfo(np.float32).tiny)
        nonzero = float((expected.max(axis=(2, 3)) > NEGLIGIBLE * scale[:, None]).mean())
        r, difference, proved = _compare_pairs(expected[pairs], actual[pairs], scale[images])
        results.append(MapFigures(name, images, maps, r, difference, proved, nonzero))
    return results


def empty_maps(cams: Float32[np.ndarray, "n maps h w"], manifest: Manifest) -> list[int]:
    """The maps of one output that are empty on every image; with top-K, a place belongs to no class."""
    if manifest.graph.explained is None:
        return []
    peaks = cams.max(axis=(2, 3))
    scale = np.maximum(peaks.max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return np.flatnonzero((peaks <= NEGLIGIBLE * scale).all(axis=0)).tolist()


def _compare_pairs(
    expected: Float32[np.ndarray, "m h w"], actual: Float32[np.ndarray, "m h w"], scale: Float32[np.ndarray, " m"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pearson's r and the relative L2 difference of each pair of maps, in float64, and which of them prove something.

    Two empty maps prove nothing, nor do two that are the same number everywhere.
    """
    a = expected.reshape(len(expected), -1).astype(np.float64)
    b = actual.reshape(len(actual), -1).astype(np.float64)
    bound = NEGLIGIBLE * scale
    a_empty, b_empty = a.max(axis=1) <= bound, b.max(axis=1) <= bound
    difference = np.linalg.norm(a - b, axis=1) / np.maximum(np.linalg.norm(a, axis=1), 1e-300)
    a_centred, b_centred = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    spread = np.linalg.norm(a_centred, axis=1) * np.linalg.norm(b_centred, axis=1)
    # A map that varies over its places by rounding alone has no correlation: there the relative difference counts.
    flat = np.linalg.norm(a_centred, axis=1) <= VARIATION * np.linalg.norm(a, axis=1)
    r = np.where(flat, 1 - difference, (a_centred * b_centred).sum(axis=1) / np.maximum(spread, 1e-300))
    mismatch = a_empty ^ b_empty
    agree = (a_empty & b_empty) | (flat & ~mismatch & (difference <= VARIATION))
    r = np.select([agree, mismatch], [1.0, 0.0], r)
    difference = np.select([agree, mismatch], [0.0, 1.0], difference)
    # NaN in a candidate's map must count against it, not vanish from a percentile.
    return np.nan_to_num(r, nan=-1.0), np.nan_to_num(difference, nan=np.inf), ~agree


def maps_vary(cams: Float32[np.ndarray, "n maps h w"]) -> bool:
    """Whether any class's map differs between images by more than rounding. One image cannot show it."""
    if len(cams) < 2:
        return True
    # Maps of a class that one side alone chose for its top-K are NaN here.
    scale = np.nanmax(cams, initial=0.0)
    spread = np.nanmax(cams, axis=0, initial=0.0) - np.nanmin(cams, axis=0, initial=scale)
    return bool(scale > 0 and spread.max() > VARIATION * scale)
