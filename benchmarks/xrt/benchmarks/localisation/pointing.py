"""The pointing game: does the maximum of a finding's heatmap lie in a box that a reader drew for it?

(Zhang et al. 2018, Top-down Neural Attention by Excitation Backprop.) Beside the rate stand two baselines: chance,
which is the share of the image that the boxes cover, and the same maps dealt to other images of the same class,
which is what a map would score that knows where a lesion usually is but not where it is in this image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from xrt.benchmarks.localisation.findings import BoxedFinding, boxed_finding
from xrt.benchmarks.scoring import Scores
from xrt.runtime.bundle.manifest import Preprocessing


@dataclass(frozen=True)
class Pointing:
    """Shares in 0..1 over `count` findings of one class; None where there is nothing to count."""

    name: str
    count: int
    hits: float | None
    chance: float | None
    shuffled: float | None


def pointing_game(
    scores: Scores, positive: Bool[np.ndarray, "n logits"], explained: Sequence[int], spec: Preprocessing
) -> list[Pointing]:
    """The pointing game over findings (`positive`) that have a box: a row for each class, and a last one for all.

    `explained` are the logits that the maps of `scores.cams` explain, in order.
    """
    assert scores.cams is not None
    names = scores.table.logit_classes
    by_class: list[list[BoxedFinding]] = []
    for m, c in enumerate(explained):
        found = []
        for i, case in enumerate(scores.table.cases):
            boxes = [box for box in case.boxes if box.label == names[c]]
            if boxes and positive[i, c]:
                place, size = scores.placements[i], scores.sizes[i]
                cam = scores.cams[i, m]
                found.append(boxed_finding(i, names[c], cam, boxes, place, (spec.height, spec.width), size))
        by_class.append(found)
    rows = [_summarise(names[c], [found]) for c, found in zip(explained, by_class, strict=True)]
    return [*rows, _summarise("all", by_class)]


def _summarise(name: str, groups: Sequence[Sequence[BoxedFinding]]) -> Pointing:
    findings = [finding for group in groups for finding in group]
    if not findings:
        return Pointing(name, 0, None, None, None)
    # Every map is dealt to every other image of its class, so the baseline has no randomness of its own.
    dealt = [a.hit_by(b.peak) for group in groups for a in group for b in group if a.case != b.case]
    return Pointing(
        name=name,
        count=len(findings),
        hits=float(np.mean([finding.hit_by(finding.peak) for finding in findings])),
        chance=float(np.mean([finding.area for finding in findings])),
        shuffled=float(np.mean(dealt)) if dealt else None,
    )
