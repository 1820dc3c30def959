"""From a CAM to a box: Otsu's threshold, then the connected region around the maximum."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32, Int
from PIL import Image

from xrt.runtime.geometry import Box, Placement

_GRID = 128
"""Maps are interpolated, bicubically as overlays are, to this many cells a side before they are thresholded."""


def box_of_map(
    cam: Float32[np.ndarray, "h w"], placement: Placement, input_size: tuple[int, int], stored_size: tuple[int, int]
) -> Box | None:
    """The box of a map's hottest region in stored-image pixels; None for an empty map. Sizes are (height, width)."""
    if not cam.max(initial=0.0) > 0:
        return None
    fine = np.asarray(Image.fromarray(cam).resize((_GRID, _GRID), Image.Resampling.BICUBIC))
    region = _region_around_maximum(fine, fine > otsu(fine))
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    input_height, input_width = input_size
    x0, y0 = placement.to_stored(columns[0] * input_width / _GRID, rows[0] * input_height / _GRID)
    x1, y1 = placement.to_stored((columns[-1] + 1) * input_width / _GRID, (rows[-1] + 1) * input_height / _GRID)
    stored_height, stored_width = stored_size
    x0, x1 = np.clip((x0, x1), 0, stored_width)
    y0, y1 = np.clip((y0, y1), 0, stored_height)
    return Box(float(x0), float(y0), float(x1 - x0), float(y1 - y0)) if x1 > x0 and y1 > y0 else None


def otsu(values: Float32[np.ndarray, "h w"], bins: int = 256) -> float:
    """Otsu's threshold (1979): the one that maximises the variance between the two classes."""
    counts, edges = np.histogram(values, bins=bins)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = values.size - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums[:-1] / below - (sums[-1] - sums[:-1]) / above) ** 2
    return float(edges[1:-1][np.nan_to_num(between).argmax()])


def _region_around_maximum(
    values: Float32[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"]
) -> Bool[np.ndarray, "h w"]:
    """The 4-connected part of the mask that holds the maximum: whole runs of rows and columns, until none is new."""
    row_runs = _runs(mask)
    column_runs = np.ascontiguousarray(_runs(np.ascontiguousarray(mask.T)).T)
    region = np.zeros_like(mask)
    region[np.unravel_index(values.argmax(), values.shape)] = True
    size = 0
    while (grown := int(np.count_nonzero(region))) != size:
        size = grown
        for runs in (row_runs, column_runs):
            reached = np.zeros(mask.size + 1, dtype=bool)
            reached[runs[region]] = True
            reached[0] = False
            region |= reached[runs]
    return region


def _runs(mask: Bool[np.ndarray, "h w"]) -> Int[np.ndarray, "h w"]:
    """The number of the run of a row to which each cell belongs, from 1; 0 outside."""
    starts = mask.copy()
    starts[:, 1:] &= ~mask[:, :-1]
    return np.where(mask, starts.cumsum(axis=None).reshape(mask.shape), 0)
