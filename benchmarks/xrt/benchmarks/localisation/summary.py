"""How well maps find lesions: the pointing game, and the box that screening draws against the reader's boxes.

Screening draws a box around the region of the map's maximum above Otsu's threshold (Otsu 1979); its overlap with the
reader's boxes is intersection over union of areas. Two baselines: `chance`, a map that is the same everywhere, which
points into the boxes as often as they cover the image and whose box is the whole image, so that both figures are the
covered fraction; and `shuffled`, the maps of all other images of the same class, which is what a map scores that
knows where such lesions usually are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from xrt.benchmarks.localisation.findings import BoxedFinding, coverage
from xrt.benchmarks.localisation.groups import group_findings
from xrt.benchmarks.localisation.pointing import ClassHits
from xrt.benchmarks.statistics import Estimate, mean_estimates

SMALL = 0.15
"""Smaller boxes, as a fraction of the image, have rows of their own: a heart is hard to miss."""


@dataclass(frozen=True)
class Localisation:
    """Figures over `count` findings with boxes; differences are paired, of the map over the shuffled maps."""

    kind: str
    name: str
    count: int
    chance: Estimate
    hits: Estimate
    hits_shuffled: Estimate
    hits_difference: Estimate
    iou: Estimate
    iou_shuffled: Estimate
    iou_difference: Estimate


def localise(names: Sequence[str], findings: Sequence[BoxedFinding], *, seed: int = 0) -> list[Localisation]:
    """Figures over all findings, each class of `names`, boxes under and over 15 % of the image, and contrasts.

    A finding whose class has boxes in no other image has no shuffled baseline, and counts in the other figures alone.
    """
    figures = _figures(findings)
    images = np.array([f.case for f in findings], dtype=np.int64)
    sizes = [f"boxes {'under' if f.area < SMALL else 'of at least'} {SMALL:.0%} of the image" for f in findings]
    rows = []
    for group in group_findings(names, findings, {"area": sizes}):
        means = mean_estimates(figures[group.rows], images[group.rows], seed=seed)
        rows.append(Localisation(group.kind, group.name, len(group.rows), *means))
    return rows


def _figures(findings: Sequence[BoxedFinding]) -> Float[np.ndarray, "n 7"]:
    """Columns as in `Localisation`; NaN in the shuffled ones where there is no other image of the class."""
    figures = np.full((len(findings), 7), np.nan)
    for name in {f.name for f in findings}:
        rows = [i for i, f in enumerate(findings) if f.name == name]
        group = [findings[i] for i in rows]
        pointing = ClassHits.of(group)
        hits, others = pointing.hits.astype(float), pointing.others.astype(float)
        overlaps = _overlaps(group)
        pairs = others.sum(axis=1)
        for i, row in enumerate(rows):
            with np.errstate(invalid="ignore"):
                shuffled = (hits[i] @ others[i]) / pairs[i], (overlaps[i] @ others[i]) / pairs[i]
            own = hits[i, i], overlaps[i, i]
            figures[row] = (
                group[i].area,
                own[0],
                shuffled[0],
                own[0] - shuffled[0],
                own[1],
                shuffled[1],
                own[1] - shuffled[1],
            )
    return figures


def _overlaps(group: Sequence[BoxedFinding]) -> Float[np.ndarray, "n n"]:
    """Intersection over union of finding a's boxes with the box of b's map, [a, b]; 0 for an empty map."""
    readers = np.stack([coverage(f.boxes).ravel() for f in group]).astype(np.float32)
    regions = np.stack([coverage([f.region] if f.region else []).ravel() for f in group]).astype(np.float32)
    shared = (readers @ regions.T).astype(np.float64)
    union = readers.sum(axis=1)[:, None] + regions.sum(axis=1)[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
