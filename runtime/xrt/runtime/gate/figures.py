"""The figures of the gate: how far a candidate's outputs are from the reference's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Float32

from xrt.runtime.decisions import positives, probabilities
from xrt.runtime.gate.auroc import auroc, auroc_interval, mean_auroc
from xrt.runtime.gate.evidence import deciding_classes, open_decisions
from xrt.runtime.gate.maps import VARIATION, MapFigures, align, compare_maps, empty_maps, highest, maps_vary, shown_maps
from xrt.runtime.outputs import ModelOutputs

if TYPE_CHECKING:
    from xrt.runtime.bundle.manifest import Manifest


@dataclass(frozen=True)
class Figures:
    """All figures of one comparison. Lower is better for errors, higher for `map_correlation`.

    images, different_images: how many were compared, and how many of them show something else than those before.
    comparisons: decisions on different images, of classes with a threshold.
    decisions: those of them that could be another (`open_decisions`), on which the two sides may differ.
    logit_error, logit_error_p95: max and 95th percentile of |Δ logit| / (1 + max |reference logit|).
    probability_change_p95, probability_change_max: of |Δ probability| over all (image, class) pairs.
    flips, flips_upper: fraction of the counted decisions that differ; and of the images that hold any, which alone are
    independent of each other, the 95 % upper bound of those with a difference (Clopper & Pearson 1934).
    map_correlation: 5th percentile of Pearson's r over the maps of findings and top-1 classes that are not empty.
    map_difference: median relative L2 norm of the difference over the same maps; both are None when all are empty.
    maps_nonzero: fraction of the reference's maps that are not negligible: how much the map figures prove.
    finite: no NaN or infinity. reference_varies: the reference's maps change with the image.
    maps_vary: so do the candidate's, wherever the reference's do.
    reference_logits_vary, logits_vary: the same of the logits.
    auroc_drop: the reference's mean AUROC less the candidate's; None without labels.
    peak: the largest magnitude that the fp32 graph has where the candidate computes in fp16; None elsewhere.
    """

    images: int
    different_images: int
    comparisons: int
    decisions: int
    logit_error: float
    logit_error_p95: float
    probability_change_p95: float
    probability_change_max: float
    flips: float
    flips_upper: float
    map_correlation: float | None
    map_difference: float | None
    maps_nonzero: float
    finite: bool
    maps_vary: bool
    reference_varies: bool
    logits_vary: bool
    reference_logits_vary: bool
    auroc_drop: float | None = None
    peak: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """The figures by name, for certificates and tables."""
        return asdict(self)


@dataclass(frozen=True)
class Comparison:
    """The figures of both sides, where they are worst, and what the images cannot prove.

    `empty_maps` are (CAM output, index along its maps) whose reference is empty on every image; `unvarying_logits` the
    logits that are the same on every image. `aurocs` are the reference's own by logit, with their 95 % intervals.
    """

    figures: Figures
    worst: tuple[Worst, ...]
    empty_maps: tuple[tuple[str, int], ...] = ()
    unvarying_logits: tuple[int, ...] = ()
    aurocs: Mapping[int, tuple[float, float, float]] = field(default_factory=dict)


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
    distinct: Bool[np.ndarray, " n"] | None = None,
    labels: Float[np.ndarray, "n logits"] | None = None,
    peak: float | None = None,
) -> Figures:
    """Compare a candidate's outputs for some images with the reference's outputs for the same ones.

    Every CAM output of the reference is compared. `distinct` says which images count, because they show something else
    than those before (`distinct_images`); without it all do. `labels` are the truth, 0 or 1, where it is known. Raises
    ValueError when shapes differ.
    """
    return compare(reference, candidate, manifest, distinct=distinct, labels=labels, peak=peak).figures


def compare(
    reference: ModelOutputs,
    candidate: ModelOutputs,
    manifest: Manifest,
    *,
    distinct: Bool[np.ndarray, " n"] | None = None,
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
        distinct = np.ones(len(expected), dtype=bool) if distinct is None else distinct
        counted = (open_decisions(reference.logits, manifest).T & distinct).T | wrong
        drift = np.abs(candidate.logits - reference.logits) / (1 + np.abs(reference.logits).max())
        varying, reference_varying = (_varying(a.logits) for a in (candidate, reference))
        reference, candidate, pairs = align(reference, candidate, manifest, shown_maps(truth, expected))
        maps = compare_maps(reference, candidate, pairs)
    varies = {name: maps_vary(cams) for name, cams in reference.cams.items()}
    trials, events = (a.reshape(len(a), -1).any(axis=1).sum() for a in (counted, wrong))
    correlations = np.concatenate([m.correlations[m.proved] for m in maps])
    differences = np.concatenate([m.differences[m.proved] for m in maps])
    figures = Figures(
        images=len(expected),
        different_images=int(distinct.sum()),
        comparisons=int(distinct.sum()) * deciding_classes(manifest),
        decisions=int(counted.sum()),
        logit_error=float(drift.max()),
        logit_error_p95=float(np.percentile(drift, 95)),
        probability_change_p95=float(np.percentile(change, 95)),
        probability_change_max=float(change.max()),
        flips=float(wrong.sum() / max(counted.sum(), 1)),
        flips_upper=upper_bound(int(events), int(trials)),
        map_correlation=float(np.percentile(correlations, 5)) if len(correlations) else None,
        map_difference=float(np.median(differences)) if len(differences) else None,
        maps_nonzero=float(np.mean([m.nonzero for m in maps])),
        finite=finite,
        maps_vary=all(maps_vary(candidate.cams[name]) for name, does in varies.items() if does),
        reference_varies=all(varies.values()),
        logits_vary=bool(varying) or not reference_varying,
        reference_logits_vary=bool(reference_varying),
        auroc_drop=_auroc_drop(labels, expected, actual),
        peak=peak,
    )
    image, logit = (int(i) for i in np.unravel_index(np.nan_to_num(change, nan=np.inf).argmax(), change.shape))
    worst = [Worst("probability_change_max", image, logit, float(change[image, logit]))]
    return Comparison(
        figures,
        (*worst, _worst_map(maps, reference, manifest)),
        tuple((name, int(k)) for name, cams in reference.cams.items() for k in empty_maps(cams, manifest)),
        tuple(sorted(set(range(change.shape[1])) - set(reference_varying))),
        {} if labels is None else _aurocs(labels, expected),
    )


def _aurocs(
    labels: Float[np.ndarray, "n logits"], scores: Float[np.ndarray, "n logits"]
) -> dict[int, tuple[float, float, float]]:
    """By logit the AUROC and its interval, where there are positives and negatives."""
    areas = {}
    for i in range(labels.shape[1]):
        if (area := auroc(labels[:, i], scores[:, i])) is not None:
            count = int((labels[:, i] > 0.5).sum())
            areas[i] = (area, *auroc_interval(area, count, len(labels) - count))
    return areas


def _varying(logits: Float32[np.ndarray, "n logits"]) -> list[int]:
    """The logits that differ between images by more than rounding. One image cannot show it."""
    if len(logits) < 2:
        return list(range(logits.shape[1]))
    spread = logits.max(axis=0) - logits.min(axis=0)
    return np.flatnonzero(spread > VARIATION * (1 + np.abs(logits).max(axis=0))).tolist()


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


def _worst_map(figures: list[MapFigures], reference: ModelOutputs, manifest: Manifest) -> Worst:
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
