"""A finding with reader's boxes: where its map points, and where it lies. All as fractions of the stored image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32
from PIL import Image

from xrt.runtime.geometry import Box, Placement
from xrt.runtime.heatmaps.boxes import box_of_map

Point = tuple[float, float]

_FINE = 256  # cells a side to which maps are interpolated for their maximum
_GRID = 128  # cells a side on which areas are measured


@dataclass(frozen=True)
class ImageFrame:
    """Where a graph's input lies in its stored image. Sizes are (height, width) in pixels."""

    placement: Placement
    input_size: tuple[int, int]
    stored_size: tuple[int, int]

    def relative(self, box: Box) -> Box:
        """A box in pixels of the stored image as fractions of its width and height."""
        height, width = self.stored_size
        left, top = box.x / width, box.y / height
        # By its far corner: the sum of two quotients may differ from it in the last digit.
        return Box(left, top, (box.x + box.width) / width - left, (box.y + box.height) / height - top)


@dataclass(frozen=True)
class BoxedFinding:
    """One finding of case `case`: the boxes drawn for it, its map's maximum, and the box that screening would draw.

    `peak` and `region` are None for an empty map.
    """

    case: int
    name: str
    boxes: tuple[Box, ...]
    peak: Point | None
    region: Box | None
    contrast: float | None = None

    def hit_by(self, peak: Point | None) -> bool:
        """Whether the point lies in one of the boxes."""
        return peak is not None and any(box.contains(*peak) for box in self.boxes)

    @property
    def area(self) -> float:
        """The fraction of the image inside any box."""
        return float(coverage(self.boxes).mean())


def boxed_finding(
    case: int,
    name: str,
    cam: Float32[np.ndarray, "h w"],
    boxes: Sequence[Box],
    frame: ImageFrame,
    contrast: float | None = None,
) -> BoxedFinding:
    """The finding of class `name`, from its raw map and the reader's boxes (pixels of the stored image)."""
    peak, region = _peak(cam, frame), box_of_map(cam, frame.placement, frame.input_size, frame.stored_size)
    return BoxedFinding(
        case=case,
        name=name,
        boxes=tuple(map(frame.relative, boxes)),
        peak=peak,
        region=None if region is None else frame.relative(region),
        contrast=contrast,
    )


def coverage(boxes: Sequence[Box]) -> Float[np.ndarray, "128 128"]:
    """How much of every cell of a grid over the image lies in any of the boxes, 0..1."""
    edges = np.arange(_GRID + 1) / _GRID
    total = np.zeros((_GRID, _GRID))
    for box in boxes:
        sides = ((box.x, box.x + box.width), (box.y, box.y + box.height))
        across, down = (np.diff(np.clip(edges, low, max(low, high))) * _GRID for low, high in sides)
        total = np.maximum(total, down[:, None] * across)
    return total


def _peak(cam: Float32[np.ndarray, "h w"], frame: ImageFrame) -> Point | None:
    """Where the map, interpolated as overlays are, is highest; None if it is empty."""
    if not cam.max(initial=0.0) > 0:
        return None
    fine = np.asarray(Image.fromarray(cam).resize((_FINE, _FINE), Image.Resampling.BICUBIC))
    row, column = np.unravel_index(fine.argmax(), fine.shape)
    input_height, input_width = frame.input_size
    x, y = frame.placement.to_stored(
        (float(column) + 0.5) * input_width / _FINE, (float(row) + 0.5) * input_height / _FINE
    )
    stored_height, stored_width = frame.stored_size
    return x / stored_width, y / stored_height
