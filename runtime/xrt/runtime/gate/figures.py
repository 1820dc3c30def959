"""The figures of the gate: how far a candidate's outputs are from the reference's.

A map's error scale is the largest CAM value of its image over all classes. Two maps that both stay under
NEGLIGIBLE of it agree; if only one does, that is a mismatch (r = 0, difference 1). A fifth of a DenseNet's maps are
all zero after the ReLU, so this is no corner case.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from xrt.runtime.decisions import positives, probabilities
from xrt.runtime.gate.auroc import mean_auroc
from xrt.runtime.outputs import ModelOutputs

if TYPE_CHECKING:
    from xrt.runtime.bundle.manifest import Manifest

NEGLIGIBLE = 1e-6
TIE = 1e-3
"""Two logits closer than this fraction of (1 + the largest) may swap places in a top-K choice."""
VARIATION = 1e-4
"""Maps of different images must differ by this fraction of their scale; rounding alone differs by about 1e-7."""


@dataclass(frozen=True)
class Figures:
    """All figures of one comparison. Lower is better for errors, higher for `map_correlation`.

    logit_error: max |Δ logit| / (1 + max |reference logit|).
    probability_change_p95, probability_change_max: of |Δ probability| over all (image, class) pairs.
    flips, flips_upper: fraction of decisions that differ, and its 95 % upper bound (Clopper & Pearson 1934).
    map_correlation: 5th percentile of Pearson's r over the maps of findings and top-1 classes.
    map_difference: median relative L2 norm of the difference over the same maps.
    maps_nonzero: fraction of the reference's maps that are not negligible: how much the map figures prove.
    finite: no NaN or infinity. reference_varies: the reference's maps change with the image.
    maps_vary: so do the candidate's, wherever the reference's do.
    auroc_drop: the reference's mean AUROC less the candidate's; None without labels.
    peak: the largest magnitude that the fp32 graph has where the candidate computes in fp16; None elsewhere.
    """

    images: int
    decisions: int
    logit_error: float
    probability_change_p95: float
    probability_change_max: float
    flips: float
    flips_upper: float
    map_correlation: float
    map_difference: float
    maps_nonzero: float
    finite: bool
    maps_vary: bool
    reference_varies: bool
    auroc_drop: float | None = None
    peak: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """The figures by name, for certificates and tables."""
        return asdict(self)


@dataclass(frozen=True)
class Comparison:
    """The figures of both sides, and where they are worst."""

    figures: Figures
    worst: tuple[Worst, ...]


@dataclass(frozen=True)
class Worst:
    """The image and logit where one figure is worst. `map_index` counts along the maps axis, for map figures."""

    figure: str
    image: int
    logit: int
    value: float
    output: str | None = None
    map_index: int | None = None


def measure(
    reference: ModelOutputs,
    candidate: ModelOutputs,
    manifest: Manifest,
    *,
    labels: Float[np.ndarray, "n logits"] | None = None,
    peak: float | None = None,
) -> Figures:
    """Compare a candidate's outputs for some images with the reference's outputs for the same ones.

    Every CAM output of the reference is compared; `labels` are the truth, 0 or 1, where it is known. Raises
    ValueError when shapes differ.
    """
    return compare(reference, candidate, manifest, labels=labels, peak=peak).figures


def compare(
    reference: ModelOutputs,
    candidate: ModelOutputs,
    manifest: Manifest,
    *,
    labels: Float[np.ndarray, "n logits"] | None = None,
    peak: float | None = None,
) -> Comparison:
    """What `measure` gives, and where it is worst."""
    if reference.logits.shape != candidate.logits.shape:
        raise ValueError(f"logits {reference.logits.shape} against {candidate.logits.shape}")
    finite = bool(np.isfinite(candidate.logits).all()) and all(np.isfinite(c).all() for c in candidate.cams.values())
    with np.errstate(all="ignore"):
        expected, actual = (probabilities(a.logits, manifest) for a in (reference, candidate))
        change = np.abs(actual - expected)
        truth, decided = positives(expected, manifest), positives(actual, manifest)
        # A multiclass model makes one decision per image; the others make one for each class.
        wrong = (truth != decided).any(axis=1) if manifest.task == "multiclass" else truth != decided
        reference, candidate, pairs = _aligned(reference, candidate, manifest, _shown(truth, expected))
        maps = _compare_all(reference, candidate, pairs)
        logit_error = np.abs(candidate.logits - reference.logits).max() / (1 + np.abs(reference.logits).max())
    varies = {name: _varies(cams) for name, cams in reference.cams.items()}
    figures = Figures(
        images=len(expected),
        decisions=wrong.size,
        logit_error=float(logit_error),
        probability_change_p95=float(np.percentile(change, 95)),
        probability_change_max=float(change.max()),
        flips=float(wrong.mean()),
        flips_upper=upper_bound(int(wrong.sum()), wrong.size),
        map_correlation=float(np.percentile(np.concatenate([m.correlations for m in maps]), 5)),
        map_difference=float(np.median(np.concatenate([m.differences for m in maps]))),
        maps_nonzero=float(np.mean([m.nonzero for m in maps])),
        finite=finite,
        maps_vary=all(_varies(candidate.cams[name]) for name, does in varies.items() if does),
        reference_varies=all(varies.values()),
        auroc_drop=_auroc_drop(labels, expected, actual),
        peak=peak,
    )
    image, logit = (int(i) for i in np.unravel_index(np.nan_to_num(change, nan=np.inf).argmax(), change.shape))
    worst = [Worst("probability_change_max", image, logit, float(change[image, logit]))]
    return Comparison(figures, (*worst, _worst_map(maps, reference, manifest)))


def _auroc_drop(labels: Float[np.ndarray, "n logits"] | None, expected: np.ndarray, actual: np.ndarray) -> float | None:
    before, after = (None if labels is None else mean_auroc(labels, scores) for scores in (expected, actual))
    return None if before is None or after is None else before - after


def upper_bound(events: int, trials: int, confidence: float = 0.95) -> float:
    """One-sided upper confidence bound of a proportion (Clopper & Pearson 1934), by bisection."""
    if events >= trials:
        return 1.0
    log_choose = np.cumsum(np.log(np.arange(trials, trials - events, -1)) - np.log(np.arange(1, events + 1)))
    log_choose = np.concatenate([[0.0], log_choose])
    k = np.arange(events + 1)
    low, high = events / trials, 1.0
    for _ in range(60):
        p = (low + high) / 2
        at_most = np.exp(log_choose + k * np.log(p or 1e-300) + (trials - k) * np.log1p(-p)).sum()
        low, high = (p, high) if at_most > 1 - confidence else (low, p)
    return float(high)


def _shown(truth: Bool[np.ndarray, "n logits"], probability: np.ndarray) -> Bool[np.ndarray, "n logits"]:
    """The (image, class) pairs whose maps a person would look at: findings, and the top class of every image."""
    top = np.arange(probability.shape[1]) == probability.argmax(axis=1)[:, None]
    return truth | top


def _aligned(
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
class _MapFigures:
    """One CAM output: figures of the (image, map) pairs looked at, and the fraction of maps that are not empty."""

    output: str
    images: np.ndarray
    maps: np.ndarray
    correlations: np.ndarray
    differences: np.ndarray
    nonzero: float


def _compare_all(
    reference: ModelOutputs, candidate: ModelOutputs, pairs: Bool[np.ndarray, "n maps"]
) -> list[_MapFigures]:
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
        r, difference = _compare_maps(expected[pairs], actual[pairs], scale[images])
        results.append(_MapFigures(name, images, maps, r, difference, nonzero))
    return results


def _worst_map(figures: list[_MapFigures], reference: ModelOutputs, manifest: Manifest) -> Worst:
    lowest = min(figures, key=lambda figures: figures.correlations.min())
    k = int(lowest.correlations.argmin())
    image, index = int(lowest.images[k]), int(lowest.maps[k])
    if manifest.graph.explained is not None:
        logit = manifest.graph.explained[index]
    else:
        chosen = reference.cam_classes
        classes = highest(reference.logits, manifest.graph.top_k or 1) if chosen is None else chosen
        logit = int(classes[image, index])
    return Worst("map_correlation", image, logit, float(lowest.correlations[k]), lowest.output, index)


def _compare_maps(
    expected: Float32[np.ndarray, "m h w"], actual: Float32[np.ndarray, "m h w"], scale: Float32[np.ndarray, " m"]
) -> tuple[np.ndarray, np.ndarray]:
    """Pearson's r and the relative L2 difference of each pair of maps, in float64."""
    a = expected.reshape(len(expected), -1).astype(np.float64)
    b = actual.reshape(len(actual), -1).astype(np.float64)
    bound = NEGLIGIBLE * scale
    a_empty, b_empty = a.max(axis=1) <= bound, b.max(axis=1) <= bound
    difference = np.linalg.norm(a - b, axis=1) / np.maximum(np.linalg.norm(a, axis=1), 1e-300)
    a_centred, b_centred = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    spread = np.linalg.norm(a_centred, axis=1) * np.linalg.norm(b_centred, axis=1)
    # A flat map has no correlation: there the relative difference alone counts.
    flat = np.linalg.norm(a_centred, axis=1) <= NEGLIGIBLE * np.linalg.norm(a, axis=1)
    r = np.where(flat, 1 - difference, (a_centred * b_centred).sum(axis=1) / np.maximum(spread, 1e-300))
    agree, mismatch = a_empty & b_empty, a_empty ^ b_empty
    r = np.select([agree, mismatch], [1.0, 0.0], r)
    difference = np.select([agree, mismatch], [0.0, 1.0], difference)
    # NaN in a candidate's map must count against it, not vanish from a percentile.
    return np.nan_to_num(r, nan=-1.0), np.nan_to_num(difference, nan=np.inf)


def _varies(cams: Float32[np.ndarray, "n maps h w"]) -> bool:
    """Whether any class's map differs between images by more than rounding. One image cannot show it."""
    if len(cams) < 2:
        return True
    # Maps of a class that one side alone chose for its top-K are NaN here.
    scale = np.nanmax(cams, initial=0.0)
    spread = np.nanmax(cams, axis=0, initial=0.0) - np.nanmin(cams, axis=0, initial=scale)
    return bool(scale > 0 and spread.max() > VARIATION * scale)
