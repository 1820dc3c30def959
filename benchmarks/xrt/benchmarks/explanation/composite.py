"""Several findings over one radiograph, a hue each.

Hues can be distinguished with any colour vision, and are never the only sign: each finding's number is drawn at
its peak and in the key.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, UInt8
from matplotlib.font_manager import FontProperties, findfont
from PIL import Image, ImageDraw, ImageFont

from xrt.benchmarks.explanation.palette import CLASS_COLOURS

_OPACITY = 0.75  # more than for one finding: hues are paler than heat


def composite(
    preview: UInt8[np.ndarray, "h w"],
    heats: Sequence[Float32[np.ndarray, "h w"]],
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw aligned heats (0..1, the first six) over the preview in the order of `CLASS_COLOURS`, and number the peaks.

    Where heats meet, their hues mix in proportion to their squares, so that the hotter decides; opacity follows
    the hottest.
    """
    stack = np.stack(heats[: len(CLASS_COLOURS)]).clip(0, 1) if heats else np.zeros((1, *preview.shape), np.float32)
    weights = stack**2
    hue = np.tensordot(weights, np.array(CLASS_COLOURS[: len(stack)], np.float32), ((0,), (0,)))
    hue /= np.maximum(weights.sum(axis=0), 1e-12)[..., None]
    # Squared, so that the faint border of one map does not cover the peak of another.
    opacity = (stack.max(axis=0) ** 2 * _OPACITY)[..., None]
    image = Image.fromarray(np.rint(preview[..., None] * (1 - opacity) + hue * opacity).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    size = max(12, preview.shape[0] // 24)
    font = ImageFont.truetype(findfont(FontProperties(family="DejaVu Sans")), size)
    for number, heat in enumerate(stack[: len(heats)], 1):
        row, column = np.unravel_index(heat.argmax(), heat.shape)
        # Kept inside the image.
        row, column = np.clip((row, column), size, np.subtract(heat.shape, size))
        draw.text(
            (int(column), int(row)), str(number), (255, 255, 255), font, "mm", stroke_width=2, stroke_fill=(0, 0, 0)
        )
    return np.asarray(image)
