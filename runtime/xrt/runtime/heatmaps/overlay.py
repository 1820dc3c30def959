"""Drawing a CAM over its radiograph."""

from __future__ import annotations

from functools import cache

import numpy as np
from jaxtyping import Float, Float32, UInt8
from PIL import Image, ImageDraw

from xrt.runtime.geometry import Box, Placement

# From transparent through orange to pale yellow: lightness rises with the heat, so it reads without colour vision.
_COLOURS = np.array([(60, 8, 90), (150, 35, 105), (215, 70, 60), (250, 140, 10), (250, 220, 60)], dtype=np.float32)
MAX_OPACITY = 0.6
_REACH = 2  # cells
BOX_COLOUR = (90, 220, 255)


def align_map(
    cam: Float32[np.ndarray, "h w"],
    placement: Placement,
    input_size: tuple[int, int],
    stored_size: tuple[int, int],
    size: tuple[int, int],
) -> Float32[np.ndarray, "height width"]:
    """The map interpolated onto a copy of the stored image of the given size. Sizes are (height, width).

    Bicubic, so that a peak between two cells is drawn between them; what overshoots below 0 is cut off. Parts of
    the image that the model did not see (cropped borders) get 0.
    """
    return _aligned(cam, placement, input_size, stored_size, size).clip(0)


def _aligned(
    cam: Float32[np.ndarray, "h w"] | UInt8[np.ndarray, "h w"],
    placement: Placement,
    input_size: tuple[int, int],
    stored_size: tuple[int, int],
    size: tuple[int, int],
) -> Float32[np.ndarray, "height width"] | UInt8[np.ndarray, "height width"]:
    height, width = size
    # Edges are replicated as far as the filter reaches.
    padded = Image.fromarray(np.pad(cam, _REACH, mode="edge"))
    per_x = stored_size[1] / width / placement.scale[0] * cam.shape[1] / input_size[1]
    per_y = stored_size[0] / height / placement.scale[1] * cam.shape[0] / input_size[0]
    start_x, start_y = placement.to_input(0, 0)
    x0 = start_x * cam.shape[1] / input_size[1] + _REACH
    y0 = start_y * cam.shape[0] / input_size[0] + _REACH
    ends = x0 + per_x * width, y0 + per_y * height
    if x0 >= 0 and y0 >= 0 and ends[0] <= padded.width and ends[1] <= padded.height and per_x <= 1 and per_y <= 1:
        # Row by row and column by column, which takes a fraction of the time.
        aligned = padded.resize((width, height), Image.Resampling.BICUBIC, box=(x0, y0, *ends))
    else:
        matrix = (per_x, 0, x0, 0, per_y, y0)
        aligned = padded.transform((width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
    heat = np.array(aligned)
    x, y = x0 + per_x * (np.arange(width) + 0.5), y0 + per_y * (np.arange(height) + 0.5)
    heat[:, (x < _REACH) | (x > cam.shape[1] + _REACH)] = 0
    heat[(y < _REACH) | (y > cam.shape[0] + _REACH)] = 0
    return heat


def colour(heat: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w 3"]:
    """Colours (0..255) of heat in 0..1."""
    position = heat.clip(0, 1) * (len(_COLOURS) - 1)
    lower = np.minimum(position.astype(np.intp), len(_COLOURS) - 2)
    share = (position - lower)[..., None]
    return _COLOURS[lower] * (1 - share) + _COLOURS[lower + 1] * share


PALETTE = np.rint(colour(np.linspace(0, 1, 256)[None])[0]).astype(np.uint8)
"""The colours in 256 steps."""


@cache
def _blending_table(opacity: float) -> UInt8[np.ndarray, "65536 3"]:
    """The colour of every level of heat (times 256) over every grey: a look-up is what a pixel costs."""
    share = np.arange(256, dtype=np.float32)[:, None, None] / 255 * opacity
    grey = np.arange(256, dtype=np.float32)[None, :, None]
    blended = PALETTE[:, None].astype(np.float32) * share + grey * (1 - share)
    return np.rint(blended).astype(np.uint8).reshape(65536, 3)


def overlay(
    preview: UInt8[np.ndarray, "h w"],
    cam: Float32[np.ndarray, "cam_h cam_w"],
    placement: Placement,
    input_size: tuple[int, int],
    stored_size: tuple[int, int],
    box: Box | None = None,
    peak: float | None = None,
    opacity: float = MAX_OPACITY,
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw a map over the preview and outline the box (stored-image pixels).

    The map is scaled to its own maximum, or to `peak` where maps are to be compared. Opacity rises with the heat, to
    `opacity` (0..1) at the top of the scale.
    """
    most = max(float(cam.max(initial=0.0)) if peak is None else peak, 1e-30)
    levels = np.rint((cam / most).clip(0, 1) * 255).astype(np.uint8)
    level = _aligned(levels, placement, input_size, stored_size, preview.shape)
    drawn = _blending_table(opacity)[(level.astype(np.uint16) << 8) | preview]
    if box is None:
        return drawn
    image = Image.fromarray(drawn)
    per_x, per_y = preview.shape[1] / stored_size[1], preview.shape[0] / stored_size[0]
    x, y = box.x * per_x, box.y * per_y
    corners = (x, y, max(x, x + box.width * per_x - 1), max(y, y + box.height * per_y - 1))
    ImageDraw.Draw(image).rectangle(corners, outline=BOX_COLOUR, width=2)
    return np.asarray(image)
