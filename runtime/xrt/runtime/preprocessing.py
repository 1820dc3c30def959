"""From a decoded radiograph to the graph's uint8 input, in training and in screening alike.

Training calls this very function, so that the two cannot drift apart. Normalisation and grey-to-RGB are inside the
graph.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from xrt.runtime.bundle.manifest import InputStatistics, Preprocessing
from xrt.runtime.geometry import Placement

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "area": Image.Resampling.BOX,
}


def preprocess(
    image: UInt8[np.ndarray, "stored_height stored_width"], spec: Preprocessing
) -> tuple[UInt8[np.ndarray, "height width"], Placement]:
    """Crop the border, invert, equalise and resize one grey image as `spec` says.

    Returns the uint8 input [spec.height, spec.width] and its placement in the stored image. Deterministic.
    """
    stored_height, stored_width = image.shape
    left, top = round(stored_width * spec.border_crop), round(stored_height * spec.border_crop)
    image = image[top : stored_height - top, left : stored_width - left]
    if spec.invert:
        image = 255 - image
    if spec.equalisation == "histogram":
        image = equalise(image)
    window = _source_window(image.shape[1], image.shape[0], spec)
    x0, y0, x1, y1 = window
    scale = (x1 - x0) / spec.width, (y1 - y0) / spec.height
    placement = Placement((left + x0, top + y0), scale)
    return _resample(image, window, spec), placement


def input_statistics(mean: Float[np.ndarray, " n"], std: Float[np.ndarray, " n"]) -> InputStatistics:
    """The 0.5th and 99.5th percentiles, over images, of each input's mean and deviation, in grey levels 0..255."""
    ranges = [tuple(float(v) for v in np.percentile(values, [0.5, 99.5])) for values in (mean, std)]
    return InputStatistics(mean=(ranges[0][0], ranges[0][1]), std=(ranges[1][0], ranges[1][1]))


def equalise(image: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Histogram equalisation over all 256 grey levels (Gonzalez & Woods, Digital Image Processing, 3.3.1).

    The darkest level present maps to 0 and the brightest to 255; an image of one level stays as it is.
    """
    histogram = np.bincount(image.ravel(), minlength=256)
    cumulative = histogram.cumsum()
    lowest = cumulative[np.flatnonzero(histogram)[0]]
    if lowest == image.size:
        return image
    table = np.rint((cumulative - lowest).clip(0) * (255.0 / (image.size - lowest))).astype(np.uint8)
    return table[image]


def _source_window(width: int, height: int, spec: Preprocessing) -> tuple[float, float, float, float]:
    """The rectangle (x0, y0, x1, y1) of the image that fills the input: its centre is kept."""
    if spec.fit == "stretch":
        return 0.0, 0.0, float(width), float(height)
    choose = min if spec.fit == "crop" else max
    factor = choose(width / spec.width, height / spec.height)
    across, down = factor * spec.width, factor * spec.height
    if spec.fit == "crop":
        # Without a fraction, one of the two equals the image's side, and rounding must not push it outside.
        across, down = min(across, float(width)) * spec.crop, min(down, float(height)) * spec.crop
    x0, y0 = (width - across) / 2, (height - down) / 2
    return x0, y0, x0 + across, y0 + down


def _resample(
    image: UInt8[np.ndarray, "h w"], window: tuple[float, float, float, float], spec: Preprocessing
) -> UInt8[np.ndarray, "height width"]:
    source = Image.fromarray(np.ascontiguousarray(image))
    resample = _FILTERS[spec.interpolation]
    x0, y0, x1, y1 = window
    if not spec.antialias:
        # Pillow's resize always widens its filter when it shrinks; an affine transform samples without.
        matrix = ((x1 - x0) / spec.width, 0, x0, 0, (y1 - y0) / spec.height, y0)
        if resample is Image.Resampling.LANCZOS:
            resample = Image.Resampling.BICUBIC
        return np.asarray(source.transform((spec.width, spec.height), Image.Transform.AFFINE, matrix, resample))
    if spec.fit != "pad":
        return np.asarray(source.resize((spec.width, spec.height), resample, box=window))
    # `resize` cannot read outside the image, so the image is shrunk alone and laid on black.
    factor = (x1 - x0) / spec.width
    inner = max(1, round(source.width / factor)), max(1, round(source.height / factor))
    canvas = Image.new("L", (spec.width, spec.height))
    canvas.paste(source.resize(inner, resample), ((spec.width - inner[0]) // 2, (spec.height - inner[1]) // 2))
    return np.asarray(canvas)
