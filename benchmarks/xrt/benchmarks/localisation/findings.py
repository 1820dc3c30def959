"""A finding whose place is known: where its map points, and where it lies. All as shares of the stored image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32
from PIL import Image

from xrt.runtime.cases.case import Box
from xrt.runtime.preprocessing import Placement
from xrt.runtime.screening.boxes import box_of_map

Point = tuple[float, float]
Rectangle = tuple[float, float, float, float]
"""x0, y0, x1, y1."""

_FINE = 256  # cells a side to which maps are interpolated for their maximum
_GRID = 128  # cells a side on which areas are measured


@dataclass(frozen=True)
class BoxedFinding:
    """One finding of case `case`: the boxes drawn for it, its map's maximum, and the box that screening would draw.

    `peak` and `region` are None for an empty map.
    """

    case: int
    name: str
    boxes: tuple[Rectangle, ...]
    peak: Point | None
    region: Rectangle | None
    contrast: float | None = None

    def hit_by(self, peak: Point | None) -> bool:
        """Whether the point lies in one of the boxes."""
        return peak is not None and any(x0 <= peak[0] <= x1 and y0 <= peak[1] <= y1 for x0, y0, x1, y1 in self.boxes)

    @property
    def area(self) -> float:
        """The share of the image inside any box."""
        return float(coverage(self.boxes).mean())


def boxed_finding(
    case: int,
    name: str,
    cam: Float32[np.ndarray, "h w"],
    boxes: Sequence[Box],
    placement: Placement,
    input_size: tuple[int, int],
    stored_size: tuple[int, int],
    contrast: float | None = None,
) -> BoxedFinding:
    """The finding of class `name`, from its raw map and the boxes (stored-image pixels). Sizes are (height, width)."""
    height, width = stored_size
    peak, region = _peak(cam, input_size), box_of_map(cam, placement, input_size, stored_size)
    if peak is not None:
        x, y = placement.to_stored(*peak)
        peak = x / width, y / height
    return BoxedFinding(
        case=case,
        name=name,
        boxes=tuple(_relative(*box[1:], stored_size) for box in boxes),
        peak=peak,
        region=None if region is None else _relative(*region, stored_size),
        contrast=contrast,
    )


def _relative(x: float, y: float, width: float, height: float, size: tuple[int, int]) -> Rectangle:
    return x / size[1], y / size[0], (x + width) / size[1], (y + height) / size[0]


def coverage(boxes: Sequence[Rectangle]) -> Float[np.ndarray, "128 128"]:
    """How much of every cell of a grid over the image lies in any of the boxes, 0..1."""
    edges = np.arange(_GRID + 1) / _GRID
    covered = np.zeros((_GRID, _GRID))
    for x0, y0, x1, y1 in boxes:
        across, down = (np.diff(np.clip(edges, low, max(low, high))) * _GRID for low, high in ((x0, x1), (y0, y1)))
        covered = np.maximum(covered, down[:, None] * across)
    return covered


def _peak(cam: Float32[np.ndarray, "h w"], input_size: tuple[int, int]) -> Point | None:
    """Where the map, interpolated as overlays are, is highest, in pixels of the graph's input; None if it is empty."""
    if not cam.max(initial=0.0) > 0:
        return None
    fine = np.asarray(Image.fromarray(cam).resize((_FINE, _FINE), Image.Resampling.BICUBIC))
    row, column = np.unravel_index(fine.argmax(), fine.shape)
    return (float(column) + 0.5) * input_size[1] / _FINE, (float(row) + 0.5) * input_size[0] / _FINE
