"""The pointing game: does the maximum of a finding's heatmap lie in a box that a reader drew for it?

(Zhang et al. 2018, Top-down Neural Attention by Excitation Backprop.) Beside the rate stand two baselines: chance,
which is the share of the image that the boxes cover, and the same maps dealt to other images of the same class,
which is what a map would score that knows where a lesion usually is but not where it is in this image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32
from PIL import Image

from xrt.benchmarks.scoring import Scores
from xrt.runtime.bundle.manifest import Preprocessing
from xrt.runtime.cases.case import Box

_GRID = 256
Point = tuple[float, float]


@dataclass(frozen=True)
class Pointing:
    """Shares in 0..1 over `count` findings of one class; None where there is nothing to count."""

    name: str
    count: int
    hits: float | None
    chance: float | None
    shuffled: float | None


@dataclass(frozen=True)
class _Finding:
    """A finding's peak and boxes (x0, y0, x1, y1), all as shares of the stored image."""

    peak: Point | None
    boxes: tuple[tuple[float, float, float, float], ...]

    def hit_by(self, peak: Point | None) -> bool:
        return peak is not None and any(x0 <= peak[0] <= x1 and y0 <= peak[1] <= y1 for x0, y0, x1, y1 in self.boxes)

    @property
    def area(self) -> float:
        """The share of the image inside any box."""
        grid = (np.arange(_GRID) + 0.5) / _GRID
        inside = np.zeros((_GRID, _GRID), dtype=bool)
        for x0, y0, x1, y1 in self.boxes:
            inside |= ((grid >= y0) & (grid <= y1))[:, None] & (grid >= x0) & (grid <= x1)
        return float(inside.mean())


def pointing_game(
    scores: Scores, positive: Bool[np.ndarray, "n logits"], explained: Sequence[int], spec: Preprocessing
) -> list[Pointing]:
    """The pointing game over findings (`positive`) that have a box: a row for each class, and a last one for all.

    `explained` are the logits that the maps of `scores.cams` explain, in order.
    """
    assert scores.cams is not None
    names = scores.table.logit_classes
    by_class = []
    for m, c in enumerate(explained):
        found = []
        for i, case in enumerate(scores.table.cases):
            boxes = [box for box in case.boxes if box.label == names[c]]
            if boxes and positive[i, c]:
                size = scores.sizes[i]
                peak = _peak(scores.cams[i, m], spec)
                if peak is not None:
                    x, y = scores.placements[i].to_stored(*peak)
                    peak = x / size[1], y / size[0]
                found.append(_Finding(peak, tuple(_relative(box, size) for box in boxes)))
        by_class.append(found)
    rows = [_summarise(names[c], [found]) for c, found in zip(explained, by_class, strict=True)]
    return [*rows, _summarise("all", by_class)]


def _peak(cam: Float32[np.ndarray, "h w"], spec: Preprocessing) -> Point | None:
    """Where the map, interpolated as overlays are, is highest, in pixels of the graph's input; None if it is empty."""
    if not cam.max(initial=0.0) > 0:
        return None
    fine = np.asarray(Image.fromarray(cam).resize((_GRID, _GRID), Image.Resampling.BICUBIC))
    row, column = np.unravel_index(fine.argmax(), fine.shape)
    return (float(column) + 0.5) * spec.width / _GRID, (float(row) + 0.5) * spec.height / _GRID


def _relative(box: Box, size: tuple[int, int]) -> tuple[float, float, float, float]:
    height, width = size
    return box.x / width, box.y / height, (box.x + box.width) / width, (box.y + box.height) / height


def _summarise(name: str, groups: Sequence[Sequence[_Finding]]) -> Pointing:
    findings = [finding for group in groups for finding in group]
    if not findings:
        return Pointing(name, 0, None, None, None)
    # Every map is dealt to every other image of its class, so the baseline has no randomness of its own.
    dealt = [a.hit_by(b.peak) for group in groups for a in group for b in group if a is not b]
    return Pointing(
        name=name,
        count=len(findings),
        hits=float(np.mean([finding.hit_by(finding.peak) for finding in findings])),
        chance=float(np.mean([finding.area for finding in findings])),
        shuffled=float(np.mean(dealt)) if dealt else None,
    )
