"""Inputs at the ends of what a graph may be given: they drive activations further than any radiograph does."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

_STRIP = 8
"""Pixels: the width of a strip, and the side of a square."""


def stress_images(height: int, width: int) -> UInt8[np.ndarray, "n 1 height width"]:
    """The darkest and the brightest input, noise of all greys and of black and white, strips, squares, and an edge."""
    rng = np.random.default_rng(0)
    rows, columns = np.indices((height, width))
    images = [
        np.zeros((height, width)),
        np.full((height, width), 255),
        rng.integers(0, 256, size=(height, width)),
        rng.integers(0, 2, size=(height, width)) * 255,
        columns // _STRIP % 2 * 255,
        rows // _STRIP % 2 * 255,
        (rows // _STRIP + columns // _STRIP) % 2 * 255,
        (columns >= width // 2) * 255,
    ]
    return np.stack(images)[:, None].astype(np.uint8)
