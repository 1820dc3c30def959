"""From a CAM to a box: Otsu's threshold, then the connected region around the maximum."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32
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
    top, bottom, left, right = _extent_around_maximum(fine, fine > otsu(fine))
    input_height, input_width = input_size
    x0, y0 = placement.to_stored(left * input_width / _GRID, top * input_height / _GRID)
    x1, y1 = placement.to_stored(right * input_width / _GRID, bottom * input_height / _GRID)
    stored_height, stored_width = stored_size
    x0, x1 = (min(max(x, 0.0), float(stored_width)) for x in (x0, x1))
    y0, y1 = (min(max(y, 0.0), float(stored_height)) for y in (y0, y1))
    return Box(x0, y0, x1 - x0, y1 - y0) if x1 > x0 and y1 > y0 else None


def otsu(values: Float32[np.ndarray, "h w"], bins: int = 256) -> float:
    """Otsu's threshold (1979): the one that maximises the variance between the two classes."""
    low, high = float(values.min()), float(values.max())
    if not high > low:
        return low
    width = (high - low) / bins
    index = ((values.ravel() - low) * (1 / width)).astype(np.intp)
    counts = np.bincount(np.minimum(index, bins - 1), minlength=bins)
    centres = low + width * (np.arange(bins) + 0.5)
    below = np.cumsum(counts)[:-1]
    above = values.size - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums[:-1] / below - (sums[-1] - sums[:-1]) / above) ** 2
    return low + width * (1 + int(np.nan_to_num(between).argmax()))


def _extent_around_maximum(
    values: Float32[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"]
) -> tuple[int, int, int, int]:
    """Top, bottom, left and right (ends exclusive) of the 4-connected part of the mask that holds the maximum.

    Found run by run: what touches a run of a row that is reached, in the row above or below, is reached.
    """
    height, width = mask.shape
    peak_row, peak_column = divmod(int(values.argmax()), width)
    # A column of False at the end of every row keeps its last run from going on in the next one.
    padded = np.zeros((height, width + 1), dtype=np.int8)
    padded[:, :width] = mask
    padded[peak_row, peak_column] = 1
    flat = padded.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat[0]:
        edges = np.concatenate(([0], edges))
    starts_at, ends_at = edges[::2], edges[1::2]
    # The runs of row r are those from first[r] to first[r + 1].
    first = np.searchsorted(starts_at, np.arange(height + 1) * (width + 1)).tolist()
    row_of = starts_at // (width + 1)
    starts, ends = (starts_at - row_of * (width + 1)).tolist(), (ends_at - row_of * (width + 1)).tolist()
    rows = row_of.tolist()
    waiting = [r for r in range(first[peak_row], first[peak_row + 1]) if starts[r] <= peak_column < ends[r]]
    reached = set(waiting)
    while waiting:
        run = waiting.pop()
        row, start, end = rows[run], starts[run], ends[run]
        above = range(first[row - 1], first[row]) if row else ()
        below = range(first[row + 1], first[row + 2]) if row + 1 < height else ()
        for near in above, below:
            for other in near:
                if starts[other] < end and start < ends[other] and other not in reached:
                    reached.add(other)
                    waiting.append(other)
    return (
        rows[min(reached)],
        rows[max(reached)] + 1,
        min([starts[run] for run in reached]),
        max([ends[run] for run in reached]),
    )
